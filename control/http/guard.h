// Who may talk to the server while requests carry no signature: programs on this machine.
//
// Everything that keeps an unsigned server from being reached from elsewhere is here: it binds
// loopback only, it answers only requests that name this machine (which stops DNS rebinding), and
// it answers none that a web page sent.
#pragma once

#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "control/http/message.h"

namespace penstock::http {

// Accepts 127.0.0.0/8, ::1 (brackets allowed) and localhost. The error is one line for people.
[[nodiscard]] std::expected<void, std::string> check_bind_address(std::string_view host);

// The answer that refuses `request`, or nothing when it may pass. `bound_host` is what the server
// was told to bind.
[[nodiscard]] std::optional<HttpResponse> refuse(const HttpRequest& request,
                                                 std::string_view bound_host);

}  // namespace penstock::http
