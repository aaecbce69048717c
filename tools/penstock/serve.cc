#include "tools/penstock/serve.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <csignal>
#include <cstdio>
#include <set>

#include "control/node/node.h"
#include "dataplane/door/door.h"
#include "dataplane/wire/address.h"
#include "tools/penstock/data_directories.h"

namespace penstock {

namespace {

spdlog::level::level_enum level_of(LogLevel level) {
    switch (level) {
        case LogLevel::trace:
            return spdlog::level::trace;
        case LogLevel::debug:
            return spdlog::level::debug;
        case LogLevel::info:
            return spdlog::level::info;
        case LogLevel::warn:
            return spdlog::level::warn;
        case LogLevel::error:
            return spdlog::level::err;
    }
    return spdlog::level::info;
}

// The directories that exist of the three, by device: how many there are tells what one drive's
// death would take.
std::size_t devices_of(const std::array<std::string, replica_count>& directories) {
    std::set<dev_t> devices;
    for (std::string directory : directories) {
        struct stat info{};
        // A directory that does not exist yet will be made in its parent.
        while (::stat(directory.c_str(), &info) != 0) {
            const auto slash = directory.find_last_of('/');
            if (slash == std::string::npos) {
                directory = ".";
            } else if (slash == 0) {
                directory = "/";
            } else {
                directory.resize(slash);
            }
        }
        devices.insert(info.st_dev);
    }
    return devices.size();
}

bool node_options(const ServeOptions& serve, NodeOptions& node, std::string& why) {
    const auto directories = expand_data_directories(serve.data);
    if (!directories) {
        why = directories.error();
        return false;
    }
    node.directories = *directories;
    node.geometry_for_new = geometry_of(serve);
    node.existing = serve.existing;
    node.accept_loss = serve.accept_loss;
    const auto address = parse_http_address(serve.http);
    if (!address) {
        why = "--http: expected HOST:PORT, found '" + serve.http + "'";
        return false;
    }
    node.unsigned_requests = serve.unsigned_requests;
    node.key_file = serve.key_file;
    node.keys_file = serve.keys_file;
    node.data_roots = serve.data;
    node.local_socket = serve.local_socket;
    node.discard_credentials = serve.discard_credentials;
    node.http_host = address->host;
    node.http_port = address->port;
    if (!serve.https.empty()) {
        const auto secure = parse_http_address(serve.https);
        if (!secure) {
            why = "--https: expected HOST:PORT, found '" + serve.https + "'";
            return false;
        }
        node.https_host = secure->host;
        node.https_port = secure->port;
        node.tls_certificate = serve.tls_cert;
        node.tls_key = serve.tls_key;
    }
    node.http_threads = serve.http_threads;
    node.consumers_max = serve.consumers_max;
    for (const PortOption& port : serve.ports) {
        NodePort& own = node.ports.emplace_back();
        own.device = port.devargs;
        for (const std::string& text : port.addresses) {
            const auto prefix = parse_prefix(text);
            if (!prefix) {
                why = "--address: expected IP/PREFIX, found '" + text + "'";
                return false;
            }
            own.addresses.push_back(*prefix);
        }
        own.mtu = port.mtu;
        own.rss = port.rss.value_or(RssMode::automatic);
    }
    node.force_ports = serve.force;
    node.lane_cpus = serve.lane_cpus;
    for (const std::string& text : serve.doors) {
        auto door = parse_door(text, why);
        if (!door) {
            return false;
        }
        node.doors.push_back(std::move(*door));
    }
    node.ack_level = serve.ack_level;
    node.shard_quota = serve.shard_quota;
    node.on_demand = serve.on_demand;
    node.rate_limits = serve.rate_limits;
    node.poll = serve.poll;
    node.huge_pages = serve.hugepages;
    node.regions = serve.regions;
    node.account = serve.account;
    node.linger_ns = serve.linger_us * 1000;
    node.direct_threshold_bytes = static_cast<std::uint32_t>(serve.direct_threshold_bytes);
    node.replica_lag_bytes_max = serve.replica_lag_bytes;
    node.scrub_bytes_per_s = serve.scrub_bytes_per_s;
    node.scrub_interval_ns = std::uint64_t{serve.scrub_every_h} * 3'600'000'000'000;
    node.memory_bytes = serve.memory_bytes;
    node.version = PENSTOCK_VERSION;
    return true;
}

}  // namespace

int run_serve(const ServeOptions& options) {
    // Blocked here, before any thread exists, so that none but sigwait() below gets them.
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);

    auto logger = spdlog::stderr_color_mt("penstock");
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v");
    logger->set_level(level_of(options.log_level));

    NodeOptions node_options_;
    std::string why;
    if (!node_options(options, node_options_, why)) {
        std::fprintf(stderr, "penstock serve: %s\n", why.c_str());
        return 2;
    }
    if (devices_of(node_options_.directories) < replica_count) {
        logger->warn(
            "the three replica directories share a device: its failure would take all copies; "
            "give --data three times, on three drives");
    }
    node_options_.log = [logger](bool urgent, std::string_view line) {
        logger->log(urgent ? spdlog::level::warn : spdlog::level::info, line);
    };
    auto node = Node::start(std::move(node_options_), why);
    if (node == nullptr) {
        std::fprintf(stderr, "penstock serve: %s\n", why.c_str());
        return 1;
    }
    const auto url = [](std::string_view scheme, std::string_view address, std::uint16_t port) {
        return std::string(scheme) + std::string(address.substr(0, address.find_last_of(':'))) +
               ":" + std::to_string(port);
    };
    logger->info(
        "ready: Kinesis API on {}{}", url("http://", options.http, node->http_port()),
        options.https.empty() ? "" : url(" and https://", options.https, node->https_port()));
    int signal = 0;
    while (sigwait(&signals, &signal) == 0 && signal == SIGHUP) {
        node->reload_certificate();
        node->reload_keys();
    }
    logger->info("{}: draining", signal == SIGTERM ? "SIGTERM" : "SIGINT");
    // A second signal while draining ends the process at once; a SIGHUP is no such signal.
    std::signal(SIGHUP, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
    const StopReport report = node->stop();
    node.reset();
    if (report.drained) {
        logger->info("stopped: everything is in its segment");
    } else {
        // Still an orderly end: what was acknowledged is durable.
        logger->warn(
            "stopped: the drain did not finish within {} s; {} bytes of frames are not settled in "
            "their segments, the next start moves what was acknowledged of them",
            report.drain_deadline_ns / 1'000'000'000, report.left_bytes);
    }
    return 0;
}

}  // namespace penstock
