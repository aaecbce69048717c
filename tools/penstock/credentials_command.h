// `penstock credentials`: access keys of a running node, made, listed, rotated and revoked.
//
// Runs on: the main thread.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <string_view>

namespace penstock {

enum class CredentialsAction : std::uint8_t { make, list, show, rotate, revoke, policy, session };

struct CredentialsArguments {
    CredentialsAction action = CredentialsAction::list;
    std::string http = "127.0.0.1:4567";
    std::string local_socket;  // empty: named after the address
    std::string name;
    std::string policy;         // admin, read, write, metrics, or a file with a policy
    std::string streams = "*";  // the names that read and write mean
    std::int64_t keep_old_s = 24 * 3600;
    std::int64_t seconds = 3600;
    bool env = false;  // as lines for a shell
    bool json = false;
};

// Whether --streams says more of such a policy: others are not about streams, or say it themselves.
[[nodiscard]] bool takes_streams(std::string_view policy);

// The policy that a word stands for, or what is in the file of that name. False: `why` says what is
// wrong.
[[nodiscard]] bool policy_text(const std::string& word, const std::string& streams,
                               std::string& text, std::string& why);

// 0, or 1 when the node did not do it; one line on `err` says why.
[[nodiscard]] int run_credentials(const CredentialsArguments& arguments, std::ostream& out,
                                  std::ostream& err);

}  // namespace penstock
