// `penstock keys`: the keys file of encrypted streams, made, listed and changed.
//
// It works on the file, and needs no node: a running one reads the file again on SIGHUP.
//
// Runs on: the main thread.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

namespace penstock {

enum class KeysAction : std::uint8_t { make, list, enable, disable, alias, remove };

struct KeysArguments {
    KeysAction action = KeysAction::list;
    std::string file;
    std::string id;                    // a key's id or one of its aliases
    std::vector<std::string> aliases;  // of make
    std::string alias;                 // of alias
    bool json = false;
};

// 0, or 1 when it was not done; one line on `err` says why.
[[nodiscard]] int run_keys(const KeysArguments& arguments, std::ostream& out, std::ostream& err);

}  // namespace penstock
