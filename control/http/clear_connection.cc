// The connection of a port that serves both HTTP/1 and HTTP/2: its first bytes tell which.
#include <array>
#include <cstring>

#include "control/http/connection.h"

namespace penstock::http {
namespace {

// No method begins like this: HTTP/1 sees "PRI" as one that it does not know (RFC 9113, 3.4).
constexpr std::string_view preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

class ClearConnection final : public Connection {
public:
    explicit ClearConnection(ConnectionContext& context)
        : context_(context), inner_(make_http1_connection(context)) {}

    std::span<char> input_space() override {
        return decided_ ? inner_->input_space() : std::span(first_).subspan(first_bytes_);
    }

    void input_received(std::size_t count_bytes) override {
        if (decided_) {
            inner_->input_received(count_bytes);
            return;
        }
        first_bytes_ += count_bytes;
        const std::string_view seen(first_.data(), first_bytes_);
        if (!preface.starts_with(seen)) {
            decide();
        } else if (seen.size() == preface.size()) {
            inner_ = make_http2_connection(context_);
            if (shutting_down_) {
                inner_->begin_shutdown();
            }
            decide();
        } else if (seen.size() == count_bytes) {
            begun_ms_ = context_.now_ms;
        }
    }

    void input_ended() override {
        decide();
        inner_->input_ended();
    }

    std::optional<IncomingRequest> next_request() override { return inner_->next_request(); }
    void respond(StreamId stream, HttpResponse&& response) override {
        inner_->respond(stream, std::move(response));
    }
    void resume(StreamId stream) override { inner_->resume(stream); }
    std::size_t next_output(std::span<std::string_view> pieces) override {
        return inner_->next_output(pieces);
    }
    void output_sent(std::size_t count_bytes) override { inner_->output_sent(count_bytes); }
    std::size_t unsent_bytes() const noexcept override { return inner_->unsent_bytes(); }
    bool wants_input() const noexcept override { return inner_->wants_input(); }
    bool wants_close() const noexcept override { return inner_->wants_close(); }
    std::size_t outstanding() const noexcept override { return inner_->outstanding(); }
    std::size_t refused() const noexcept override { return inner_->refused(); }
    std::uint64_t stall_ms() const noexcept override { return inner_->stall_ms(); }
    Protocol protocol() const noexcept override { return inner_->protocol(); }
    std::size_t request_bytes() const noexcept override { return inner_->request_bytes(); }
    bool is_busy() const noexcept override { return inner_->is_busy(); }
    Ending ending() const noexcept override { return slow_ ? Ending::slow : inner_->ending(); }
    void begin_shutdown() override {
        shutting_down_ = true;
        inner_->begin_shutdown();
    }

    Overdue check_time() override {
        // A preface that does not come to its end is a head that is too slow.
        if (!decided_ && first_bytes_ != 0) {
            if (context_.now_ms - begun_ms_ <= context_.times.header_ms) {
                return Overdue::nothing;
            }
            slow_ = true;
            return Overdue::close;
        }
        return inner_->check_time();
    }

private:
    // Hands on what has come so far, which is less than any connection has room for.
    void decide() {
        if (!decided_) {
            decided_ = true;
            inner_->feed({first_.data(), first_bytes_});
        }
    }

    ConnectionContext& context_;
    std::unique_ptr<Connection> inner_;
    std::array<char, preface.size()> first_{};
    std::size_t first_bytes_ = 0;
    std::uint64_t begun_ms_ = 0;
    bool decided_ = false;
    bool shutting_down_ = false;
    bool slow_ = false;
};

}  // namespace

std::unique_ptr<Connection> make_clear_connection(ConnectionContext& context) {
    return std::make_unique<ClearConnection>(context);
}

}  // namespace penstock::http
