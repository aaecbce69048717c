// An HTTP/2 client without a socket, for tests: requests in, bytes out; bytes in, answers out.
#pragma once

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/http/connection.h"

namespace penstock::http {

class Http2Client {
public:
    using Headers = std::vector<std::pair<std::string, std::string>>;

    struct Answer {
        std::vector<int> statuses;  // the informational ones too
        Headers headers;
        std::string body;
        bool complete = false;
        bool closed = false;
        std::uint32_t error = 0;  // of its RST_STREAM

        [[nodiscard]] int status() const { return statuses.empty() ? 0 : statuses.back(); }
        [[nodiscard]] std::string header(std::string_view name) const {
            for (const auto& [own, value] : headers) {
                if (own == name) {
                    return value;
                }
            }
            return {};
        }
    };

    // With `window_bytes`, that is what it lets the server send of each stream, and of all.
    explicit Http2Client(bool takes_data = true, std::int32_t window_bytes = 0) {
        nghttp2_session_callbacks* callbacks = nullptr;
        nghttp2_session_callbacks_new(&callbacks);
        set_callbacks(callbacks);
        nghttp2_option* option = nullptr;
        nghttp2_option_new(&option);
        nghttp2_option_set_no_auto_window_update(option, takes_data ? 0 : 1);
        nghttp2_option_set_peer_max_concurrent_streams(option, 10'000);
        nghttp2_session_client_new2(&session_, callbacks, this, option);
        nghttp2_option_del(option);
        nghttp2_session_callbacks_del(callbacks);
        const nghttp2_settings_entry window{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE,
                                            static_cast<std::uint32_t>(window_bytes)};
        nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, &window, window_bytes == 0 ? 0 : 1);
        if (window_bytes != 0) {
            nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, window_bytes);
        }
    }
    ~Http2Client() { nghttp2_session_del(session_); }
    Http2Client(const Http2Client&) = delete;
    Http2Client& operator=(const Http2Client&) = delete;

    // A POST, unless `headers` begin otherwise. Without `ends` the body stays open.
    std::int32_t ask(std::string_view path, std::string_view body = {}, Headers more = {},
                     bool ends = true) {
        Headers all{{":method", "POST"},
                    {":scheme", "http"},
                    {":authority", "localhost:4567"},
                    {":path", std::string(path)}};
        for (auto& field : more) {
            const auto found = std::ranges::find(all, field.first, [](auto& f) { return f.first; });
            if (found != all.end() && field.first.starts_with(':')) {
                *found = std::move(field);
            } else {
                all.push_back(std::move(field));
            }
        }
        std::erase_if(all, [](auto& f) { return f.first.starts_with(':') && f.second == "none"; });
        std::vector<nghttp2_nv> fields;
        for (auto& [name, value] : all) {
            fields.push_back({reinterpret_cast<std::uint8_t*>(name.data()),
                              reinterpret_cast<std::uint8_t*>(value.data()), name.size(),
                              value.size(), NGHTTP2_NV_FLAG_NONE});
        }
        nghttp2_data_provider provider{};
        provider.read_callback = [](nghttp2_session*, std::int32_t id, std::uint8_t* to,
                                    std::size_t room, std::uint32_t* flags, nghttp2_data_source*,
                                    void* user) -> ssize_t {
            auto& [rest, last] = static_cast<Http2Client*>(user)->bodies_[id];
            const std::size_t count = std::min(room, rest.size());
            std::copy_n(rest.begin(), count, to);
            rest.erase(0, count);
            if (rest.empty() && last) {
                *flags |= NGHTTP2_DATA_FLAG_EOF;
            } else if (count == 0) {
                return NGHTTP2_ERR_DEFERRED;
            }
            return static_cast<ssize_t>(count);
        };
        const bool has_body = !body.empty() || !ends;
        const std::int32_t id =
            nghttp2_submit_request(session_, nullptr, fields.data(), fields.size(),
                                   has_body ? &provider : nullptr, nullptr);
        bodies_[id] = {std::string(body), ends};
        return id;
    }
    void more_body(std::int32_t id, std::string_view body, bool ends) {
        bodies_[id].first.append(body);
        bodies_[id].second = ends;
        nghttp2_session_resume_data(session_, id);
    }
    void reset(std::int32_t id, std::uint32_t code = NGHTTP2_CANCEL) {
        nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, id, code);
    }
    void ping() { nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr); }
    void settings() { nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0); }
    // Takes body bytes it held back, which opens the windows again.
    void take_data(std::int32_t id, std::size_t count) {
        nghttp2_session_consume(session_, id, count);
    }

    [[nodiscard]] std::string output() {
        std::string all;
        const std::uint8_t* bytes = nullptr;
        for (ssize_t count = 0; (count = nghttp2_session_mem_send(session_, &bytes)) > 0;) {
            all.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(count));
        }
        return all;
    }
    void input(std::string_view bytes) {
        failed_ = failed_ || nghttp2_session_mem_recv(
                                 session_, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                 bytes.size()) < 0;
    }

    [[nodiscard]] const Answer& answer(std::int32_t id) { return answers_[id]; }
    [[nodiscard]] std::size_t pongs() const noexcept { return pongs_; }
    [[nodiscard]] bool failed() const noexcept { return failed_; }
    struct Goaway {
        std::int32_t last_stream = 0;
        std::uint32_t code = 0;
        std::string why;
    };
    [[nodiscard]] const std::vector<Goaway>& goaways() const noexcept { return goaways_; }
    [[nodiscard]] std::uint32_t setting(nghttp2_settings_id id) const {
        return nghttp2_session_get_remote_settings(session_, id);
    }

private:
    static Http2Client& self(void* user) { return *static_cast<Http2Client*>(user); }
    static void set_callbacks(nghttp2_session_callbacks* callbacks) {
        nghttp2_session_callbacks_set_on_header_callback(
            callbacks, [](nghttp2_session*, const nghttp2_frame* frame, const std::uint8_t* name,
                          std::size_t name_size, const std::uint8_t* value, std::size_t value_size,
                          std::uint8_t, void* user) {
                Answer& answer = self(user).answers_[frame->hd.stream_id];
                const std::string own(reinterpret_cast<const char*>(name), name_size);
                const std::string text(reinterpret_cast<const char*>(value), value_size);
                if (own == ":status") {
                    answer.statuses.push_back(std::stoi(text));
                } else {
                    answer.headers.emplace_back(own, text);
                }
                return 0;
            });
        nghttp2_session_callbacks_set_on_data_chunk_recv_callback(
            callbacks, [](nghttp2_session*, std::uint8_t, std::int32_t id, const std::uint8_t* data,
                          std::size_t size, void* user) {
                self(user).answers_[id].body.append(reinterpret_cast<const char*>(data), size);
                return 0;
            });
        nghttp2_session_callbacks_set_on_frame_recv_callback(
            callbacks, [](nghttp2_session*, const nghttp2_frame* frame, void* user) {
                Http2Client& own = self(user);
                if (frame->hd.type == NGHTTP2_GOAWAY) {
                    own.goaways_.push_back(
                        {frame->goaway.last_stream_id, frame->goaway.error_code,
                         std::string(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                                     frame->goaway.opaque_data_len)});
                } else if (frame->hd.type == NGHTTP2_PING) {
                    own.pongs_ += (frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 ? 1 : 0;
                } else if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
                           (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
                    own.answers_[frame->hd.stream_id].complete = true;
                }
                return 0;
            });
        nghttp2_session_callbacks_set_on_stream_close_callback(
            callbacks, [](nghttp2_session*, std::int32_t id, std::uint32_t error, void* user) {
                self(user).answers_[id].closed = true;
                self(user).answers_[id].error = error;
                return 0;
            });
    }

    nghttp2_session* session_ = nullptr;
    bool failed_ = false;
    std::size_t pongs_ = 0;
    std::map<std::int32_t, std::pair<std::string, bool>> bodies_;
    std::map<std::int32_t, Answer> answers_;
    std::vector<Goaway> goaways_;
};

}  // namespace penstock::http
