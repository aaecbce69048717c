// Requests to a running node's HTTP interface, for the commands that look at one.
//
// A node whose requests are signed is reached through its local socket, where the kernel says who
// we are, and who it is: a name in the abstract namespace must be root's or our own user's. Where
// there is none, requests are signed with AWS_ACCESS_KEY_ID and its companions from
// the environment.
//
// Runs on: one thread. Blocks.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "storage/base/result.h"

namespace penstock {

struct NodeAnswer {
    int status = 0;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
};

class NodeClient {
public:
    // `address`: HOST:PORT as `serve --http` has it. Connections are kept between requests.
    // `local_socket` is the node's, if it is not named after its address.
    explicit NodeClient(std::string_view address, long answer_timeout_ms = 10'000,
                        std::string_view local_socket = {});
    ~NodeClient();
    NodeClient(const NodeClient&) = delete;
    NodeClient& operator=(const NodeClient&) = delete;

    // Any status is an answer. Errors: unavailable, with one line in `why`.
    [[nodiscard]] Result<NodeAnswer> ask(std::string_view method, std::string_view path,
                                         std::string_view body, std::string& why);

private:
    struct Handle;
    std::string base_;
    std::string local_socket_;  // empty: over the network
    long answer_timeout_ms_;
    std::unique_ptr<Handle> handle_;
};

}  // namespace penstock
