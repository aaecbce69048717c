// The command line of `penstock consume`.
//
// Runs on: the main thread.
#pragma once

#include <string>

#include "tools/penstock/consume_command.h"

namespace CLI {
class App;
}

namespace penstock {

// Adds the command; what it is told goes to `to`, which outlives it.
[[nodiscard]] CLI::App* add_consume_command(CLI::App& app, ConsumeArguments& to);

// What does not go together, in one line; empty if everything does.
[[nodiscard]] std::string check_consume(const ConsumeArguments& arguments);

}  // namespace penstock
