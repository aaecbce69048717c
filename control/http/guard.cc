#include "control/http/guard.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

namespace penstock::http {
namespace {

std::string_view without_brackets(std::string_view host) noexcept {
    if (host.size() >= 2 && host.front() == '[' && host.back() == ']') {
        host = host.substr(1, host.size() - 2);
    }
    return host;
}

bool is_loopback(std::string_view host) {
    const std::string bare(without_brackets(host));
    in_addr v4{};
    if (host == bare && inet_pton(AF_INET, bare.c_str(), &v4) == 1) {
        return (ntohl(v4.s_addr) >> 24) == 127;
    }
    in6_addr v6{};
    return inet_pton(AF_INET6, bare.c_str(), &v6) == 1 && IN6_IS_ADDR_LOOPBACK(&v6);
}

// "host:port" or "host" without its port; nothing when the port is not a number.
std::optional<std::string_view> without_port(std::string_view authority) noexcept {
    const std::size_t bracket = authority.rfind(']');
    const std::size_t colon = authority.rfind(':');
    if (colon == std::string_view::npos || (bracket != std::string_view::npos && colon < bracket)) {
        return authority;
    }
    const std::string_view port = authority.substr(colon + 1);
    const bool digits =
        std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
    if (!digits || port.size() > 5) {
        return std::nullopt;
    }
    return authority.substr(0, colon);
}

bool names_this_machine(std::string_view authority, std::string_view bound_host) noexcept {
    const std::optional<std::string_view> host = without_port(authority);
    if (!host || host->empty()) {
        return false;
    }
    return equals_ignoring_case(*host, "localhost") || *host == "127.0.0.1" || *host == "[::1]" ||
           equals_ignoring_case(without_brackets(*host), without_brackets(bound_host));
}

HttpResponse forbidden(std::string_view line) {
    return HttpResponse::text(403, line);
}

// A peer's text as part of an answer: short, and nothing but printable ASCII.
std::string quoted(std::string_view text) {
    std::string shown = "\"";
    for (const char c : text.substr(0, 80)) {
        shown.push_back(c >= ' ' && c <= '~' ? c : '?');
    }
    return shown + (text.size() > 80 ? "...\"" : "\"");
}

}  // namespace

std::expected<void, std::string> check_bind_address(std::string_view host) {
    if (equals_ignoring_case(host, "localhost") || is_loopback(host)) {
        return {};
    }
    return std::unexpected(
        "the HTTP address must be a loopback address while requests are not "
        "signed: found " +
        quoted(host) + ", use 127.0.0.1, [::1] or localhost");
}

std::optional<HttpResponse> refuse(const HttpRequest& request, std::string_view bound_host) {
    if (request.has_header("Origin")) {
        return forbidden("Requests from web pages are refused: remove the Origin header.");
    }
    // Browsers leave Origin out of some requests, but say here that a page of another site is
    // behind them; what the user typed into the address bar is "none".
    const std::string_view site = request.header("Sec-Fetch-Site");
    if (!site.empty() && site != "none" && site != "same-origin") {
        return forbidden("Requests from web pages are refused: Sec-Fetch-Site is " + quoted(site) +
                         ".");
    }
    const std::string_view host = request.host();
    if (request.count_header("Host") > 1 || !names_this_machine(host, bound_host)) {
        return forbidden("The Host header must be localhost, 127.0.0.1 or [::1]: found " +
                         quoted(host) + "; use http://127.0.0.1 as the endpoint.");
    }
    if (!request.authority.empty() && !names_this_machine(request.authority, bound_host)) {
        return forbidden("The request target must name localhost, 127.0.0.1 or [::1]: found " +
                         quoted(request.authority) + ".");
    }
    return std::nullopt;
}

}  // namespace penstock::http
