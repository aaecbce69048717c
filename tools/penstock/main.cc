// The program: one command line in, one command run, its exit code out.

#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <exception>
#include <iostream>
#include <string>
#include <vector>

#include "tools/penstock/capture_command.h"
#include "tools/penstock/certificate_command.h"
#include "tools/penstock/consume_command.h"
#include "tools/penstock/credentials_command.h"
#include "tools/penstock/doctor.h"
#include "tools/penstock/inspect_command.h"
#include "tools/penstock/keys_command.h"
#include "tools/penstock/options.h"
#include "tools/penstock/port_command.h"
#include "tools/penstock/replica_command.h"
#include "tools/penstock/serve.h"
#include "tools/penstock/top_command.h"
#include "tools/penstock/version.h"

namespace penstock {
namespace {

int run(const CommandLine& line) {
    switch (line.kind) {
        case CommandKind::none:
            break;
        case CommandKind::serve:
            return run_serve(line.serve);
        case CommandKind::inspect:
            return run_inspect(line.inspect);
        case CommandKind::doctor:
            return doctor({.data = line.arguments.data,
                           .ports = line.arguments.ports,
                           .lanes = line.arguments.lanes,
                           .key_file = line.arguments.key_file,
                           .keys_file = line.arguments.keys_file,
                           .json = line.arguments.json},
                          std::cout, std::cerr);
        case CommandKind::replica_status:
            return replica_status(line.arguments.data, line.arguments.json, std::cout);
        case CommandKind::replica_replace:
            if (const int done = replica_replace(line.arguments.data, line.arguments.directory,
                                                 std::cout, std::cerr);
                done != 0 || !line.arguments.wait) {
                return done;
            }
            [[fallthrough]];
        case CommandKind::replica_watch:
            return replica_watch(line.arguments.http, line.arguments.local_socket, std::cout,
                                 std::cerr);
        case CommandKind::certificate_make:
            return certificate_make(line.certificate, std::cout, std::cerr);
        case CommandKind::capture:
            return run_capture(line.capture, std::cerr);
        case CommandKind::consume:
            return run_consume(line.consume, STDOUT_FILENO, std::cerr);
        case CommandKind::top:
            return run_top(line.top);
        case CommandKind::credentials:
            return run_credentials(line.credentials, std::cout, std::cerr);
        case CommandKind::keys:
            return run_keys(line.keys, std::cout, std::cerr);
        case CommandKind::port_release:
            return port_release(line.arguments.ports, std::cout, std::cerr);
        case CommandKind::version:
            std::fputs(version_text(line.arguments.json).c_str(), stdout);
            return 0;
    }
    std::fputs(line.out.c_str(), stdout);
    std::fputs(line.err.c_str(), stderr);
    return line.exit_code;
}

}  // namespace
}  // namespace penstock

int main(int argc, char** argv) {
    try {
        const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
        return penstock::run(penstock::parse_command_line(arguments, penstock::allowed_cpus()));
    } catch (const std::exception& error) {
        std::fprintf(stderr, "penstock: %s\n", error.what());
        return 1;
    }
}
