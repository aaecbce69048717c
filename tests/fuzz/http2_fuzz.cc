// Feeds arbitrary bytes, after the preface, to an HTTP/2 connection. In two cuts, both handed to
// the connection before it is asked for anything, the requests must be the same; with answers given
// and time passing in between, it must keep its promises about memory and ends.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "control/http/connection.h"
#include "control/http/guard.h"

namespace {

using namespace penstock::http;

constexpr std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

void demand(bool holds) {
    if (!holds) {
        std::abort();
    }
}

void set_limits(ConnectionContext& context) {
    context.limits.header_bytes_max = 1024;
    context.limits.body_bytes_max = 4096;
    context.limits.outstanding_max = 3;
    context.limits.streams_max = 8;
}

std::size_t take_output(Connection& connection) {
    std::size_t all = 0;
    std::array<std::string_view, 4> pieces;
    while (const std::size_t count = connection.next_output(pieces)) {
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < count; ++i) {
            bytes += pieces[i].size();
        }
        connection.output_sent(bytes);
        all += bytes;
    }
    return all;
}

void tell(std::string& seen, const HttpRequest& request) {
    seen.append(request.method).append(request.path).append(request.query);
    for (const HeaderField& field : request.headers) {
        seen.append(field.name).append(field.value);
    }
    seen.append(request.body());
    for (std::size_t i = 0; i < body_padding_bytes; ++i) {
        demand(request.body().data()[request.body().size() + i] == 0);
    }
}

// `ended`: the connection takes no more, whether or not all of it was there.
std::string requests_of(std::string_view input, std::size_t step_bytes, bool& ended) {
    ConnectionContext context;
    set_limits(context);
    context.limits.outstanding_max = 1000;
    const auto connection = make_clear_connection(context);
    connection->feed(preface);
    while (!input.empty() && connection->wants_input()) {
        input.remove_prefix(connection->feed(input.substr(0, step_bytes)));
    }
    ended = !input.empty() || !connection->wants_input();
    std::string seen;
    while (const auto incoming = connection->next_request()) {
        tell(seen, *incoming->request);
    }
    return seen;
}

class Counted final : public BodyStream {
public:
    explicit Counted(int pieces) : left_(pieces) {}
    Next next(BodyPiece& piece) override {
        if (left_-- <= 0) {
            return Next::end;
        }
        piece = std::make_shared<const std::string>(1500, 'p');
        return left_ % 3 == 0 ? Next::later : Next::piece;
    }

private:
    int left_;
};

void converse(std::string_view input, std::size_t step_bytes) {
    ConnectionContext context;
    set_limits(context);
    std::string ignored;
    {
        const auto connection = make_clear_connection(context);
        connection->feed(preface);
        StreamId last{};
        const auto drain = [&] {
            while (auto incoming = connection->next_request()) {
                tell(ignored, *incoming->request);
                auto refusal = refuse(*incoming->request, "127.0.0.1");
                HttpResponse response =
                    refusal ? std::move(*refusal) : HttpResponse::text(200, "ok");
                if (incoming->request->body().size() % 2 != 0) {
                    response.stream = std::make_unique<Counted>(9);
                }
                last = incoming->stream;
                connection->respond(incoming->stream, std::move(response));
            }
            take_output(*connection);
            connection->resume(last);
        };
        while (!input.empty() && connection->wants_input()) {
            input.remove_prefix(connection->feed(input.substr(0, step_bytes)));
            drain();
            context.now_ms += 777;
            if (connection->check_time() == Overdue::close) {
                return;
            }
        }
        demand(connection->outstanding() == 0);
        connection->begin_shutdown();
        drain();
        connection->input_ended();
        drain();
        take_output(*connection);
        demand(connection->wants_close());
    }
    demand(context.body_budget->used_bytes == 0);
}

// Most bytes are no frames, so half of the inputs say in four bytes each what frame is to be made:
// type, flags, stream, length; a flag that HTTP/2 does not know puts a good head before the
// payload.
std::string made_frames(std::string_view recipe) {
    static constexpr std::string_view head = "\x83\x84\x86\x41\x09localhost";
    std::string out{"\0\0\0\4\0\0\0\0\0", 9};  // the SETTINGS that must come first
    while (recipe.size() >= 4) {
        const auto at = [recipe](std::size_t i) { return static_cast<unsigned char>(recipe[i]); };
        const bool with_head = (at(1) & 0x40) != 0;
        std::string payload(with_head ? head : std::string_view{});
        payload.append(recipe.substr(4, at(3)));
        const std::array<char, 9> frame{0,
                                        static_cast<char>(payload.size() >> 8),
                                        static_cast<char>(payload.size() & 0xff),
                                        static_cast<char>(at(0) % 12),
                                        static_cast<char>(at(1) & 0x3f),
                                        0,
                                        0,
                                        0,
                                        static_cast<char>(at(2) % 32)};
        out.append(frame.data(), frame.size()).append(payload);
        recipe.remove_prefix(std::min(recipe.size(), std::size_t{4} + at(3)));
    }
    return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) {
        return 0;
    }
    const std::string_view bytes(reinterpret_cast<const char*>(data) + 1, size - 1);
    const std::string input = (data[0] & 0x80) != 0 ? made_frames(bytes) : std::string(bytes);
    const std::size_t step_bytes = std::size_t{data[0] % 32U} + 1;
    // A peer that says GOAWAY and has no stream open is let go before its next bytes are looked at;
    // what came with the GOAWAY is served. And nghttp2 counts a CONTINUATION for each piece that
    // its header comes in, and ends the connection after eight: a request before that may be lost.
    bool ended = false;
    const std::string stepwise = requests_of(input, step_bytes, ended);
    bool whole_ended = false;
    const std::string whole = requests_of(input, input.size() + 1, whole_ended);
    demand(ended ? whole.starts_with(stepwise) : whole == stepwise);
    converse(input, step_bytes);
    return 0;
}
