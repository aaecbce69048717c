// Feeds arbitrary bytes to an HTTP/1.1 connection in two different cuts: both must give the same
// requests and, but for "100 Continue", the same answers.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/http/connection.h"
#include "control/http/guard.h"

namespace {

using namespace penstock::http;

std::string take_output(Connection& connection) {
    std::string out;
    std::string_view pieces[4];
    while (const std::size_t count = connection.next_output(pieces)) {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i) {
            out.append(pieces[i]);
            bytes += pieces[i].size();
        }
        connection.output_sent(bytes);
    }
    return out;
}

std::string run(std::string_view input, std::size_t step_bytes) {
    ConnectionContext context;
    context.limits.header_bytes_max = 512;
    context.limits.body_bytes_max = 4096;
    context.limits.outstanding_max = 3;
    const auto connection = make_http1_connection(context);
    std::string seen;
    const auto drain = [&] {
        while (auto incoming = connection->next_request()) {
            const HttpRequest& request = *incoming->request;
            seen.append(request.method).append(request.path).append(request.query);
            for (const HeaderField& field : request.headers) {
                seen.append(field.name).append(field.value);
            }
            seen.append(request.body());
            for (std::size_t i = 0; i < penstock::http::body_padding_bytes; ++i) {
                if (request.body().data()[request.body().size() + i] != 0) {
                    std::abort();
                }
            }
            auto refusal = refuse(request, "127.0.0.1");
            connection->respond(incoming->stream,
                                refusal ? std::move(*refusal) : HttpResponse::text(200, "ok"));
            seen.append(take_output(*connection));
        }
        seen.append(take_output(*connection));
    };
    while (!input.empty() && connection->wants_input()) {
        const std::size_t taken = connection->feed(input.substr(0, step_bytes));
        input.remove_prefix(taken);
        drain();
    }
    connection->input_ended();
    drain();
    if (!connection->wants_close()) {
        std::abort();
    }
    for (std::size_t at = 0; (at = seen.find("HTTP/1.1 100 Continue\r\n\r\n", at)) != seen.npos;) {
        seen.erase(at, 25);
    }
    return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
    if (run(input, input.size() + 1) != run(input, std::size_t{data[0] % 16U} + 1)) {
        std::abort();
    }
    return 0;
}
