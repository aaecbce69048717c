// Subscribes many consumers to one shard over HTTP/1.1, puts records into it, and says when they
// came.
//
// One thread, epoll. Each PutRecords request carries its number in every record, so that a record
// seen by a subscriber is matched with when its request was sent and when that was answered. The
// consumers app-0, app-1, … must be registered. Signatures are not made: for a node with
// --unsigned.
#include <CLI/CLI.hpp>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace {

struct Options {
    std::uint16_t port = 4567;
    std::string stream;
    std::string consumers;  // a file with their ARNs, a line each
    unsigned record_bytes = 1024;
    unsigned records = 10;  // per request
    unsigned writers = 4;   // connections that put
    double rate = 1000;     // records a second; 0: as fast as they are answered
    double seconds = 5;
    double warm = 1;
};

std::int64_t now_ns() {
    timespec now{};
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * std::int64_t{1'000'000'000} + now.tv_nsec;
}

// 8 characters of base64 for 48 bits, which is what a record's data begins with.
std::string number_text(std::uint64_t number) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text(8, 'A');
    for (std::size_t i = 8; i-- > 0; number >>= 6) {
        text[i] = digits[number & 63];
    }
    return text;
}

std::uint64_t text_number(std::string_view text) {
    std::uint64_t number = 0;
    for (const char c : text) {
        const unsigned value = c >= 'A' && c <= 'Z'   ? static_cast<unsigned>(c - 'A')
                               : c >= 'a' && c <= 'z' ? static_cast<unsigned>(c - 'a') + 26
                               : c >= '0' && c <= '9' ? static_cast<unsigned>(c - '0') + 52
                               : c == '+'             ? 62U
                                                      : 63U;
        number = number << 6 | value;
    }
    return number;
}

struct Peer {
    int fd = -1;
    bool is_writer = false;
    bool is_taken = false;     // a subscriber whose answer began with 200
    bool busy = false;         // a writer whose request is not answered
    std::uint64_t number = 0;  // of that request
    // A subscriber's last request of which a record came: its others are not timed.
    std::uint64_t last_seen = ~std::uint64_t{0};
    std::string in;
};

struct Seen {
    std::uint64_t number = 0;
    std::int64_t at_ns = 0;
};

class Bench {
public:
    explicit Bench(Options options) : options_(std::move(options)) {}

    bool run() {
        epoll_ = epoll_create1(0);
        std::ifstream file(options_.consumers);
        for (std::string arn; std::getline(file, arn);) {
            Peer peer;
            const std::string body =
                R"({"ConsumerARN":")" + arn +
                R"(","ShardId":"shardId-000000000000","StartingPosition":{"Type":"LATEST"}})";
            if (!connect_to(peer) || !send_all(peer, request_of("SubscribeToShard", body))) {
                return false;
            }
            peers_.push_back(std::move(peer));
        }
        subscribers_ = peers_.size();
        for (unsigned i = 0; i < options_.writers; ++i) {
            Peer peer;
            peer.is_writer = true;
            if (!connect_to(peer)) {
                return false;
            }
            peers_.push_back(std::move(peer));
        }
        for (std::size_t i = 0; i < peers_.size(); ++i) {
            epoll_event event{};
            event.events = EPOLLIN;
            event.data.u64 = i;
            epoll_ctl(epoll_, EPOLL_CTL_ADD, peers_[i].fd, &event);
        }
        make_request();
        return measure();
    }

    void print() const {
        std::vector<double> to_ack;
        std::vector<double> to_callback;
        std::vector<double> after_ack;
        for (std::size_t i = 0; i < sent_ns_.size(); ++i) {
            if (acked_ns_[i] != 0 && sent_ns_[i] >= counted_from_ns_) {
                to_ack.push_back(ms(acked_ns_[i] - sent_ns_[i]));
            }
        }
        for (const Seen& seen : seen_) {
            if (seen.number < sent_ns_.size() && acked_ns_[seen.number] != 0 &&
                sent_ns_[seen.number] >= counted_from_ns_) {
                to_callback.push_back(ms(seen.at_ns - sent_ns_[seen.number]));
                after_ack.push_back(ms(seen.at_ns - acked_ns_[seen.number]));
            }
        }
        std::printf(
            "{\"subscribers\":%zu,\"seconds\":%.3f,\"records_put\":%llu,\"refused\":%llu,"
            "\"records_seen\":%llu,\"delays\":%zu,\"delays_expected\":%zu,",
            subscribers_, seconds_, static_cast<unsigned long long>(put_),
            static_cast<unsigned long long>(refused_),
            static_cast<unsigned long long>(records_seen_), after_ack.size(),
            to_ack.size() * subscribers_);
        std::printf("\"payload_bytes_per_s\":%.0f,",
                    static_cast<double>(records_seen_) * options_.record_bytes / seconds_);
        show("put_to_answer_ms", to_ack);
        std::printf(",");
        show("put_to_callback_ms", to_callback);
        std::printf(",");
        show("answer_to_callback_ms", after_ack);
        std::printf("}\n");
    }

private:
    static double ms(std::int64_t ns) { return static_cast<double>(ns) / 1e6; }
    static void show(const char* name, std::vector<double>& values) {
        std::sort(values.begin(), values.end());
        const auto at = [&](double part) {
            return values.empty() ? 0.0
                                  : values[static_cast<std::size_t>(
                                        part * static_cast<double>(values.size() - 1))];
        };
        std::printf("\"%s\":{\"p50\":%.3f,\"p99\":%.3f}", name, at(0.5), at(0.99));
    }

    [[nodiscard]] bool connect_to(Peer& peer) const {
        peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(options_.port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        const int on = 1;
        setsockopt(peer.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connect(peer.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            std::fprintf(stderr, "fan_out: cannot connect to port %u: %s\n", options_.port,
                         std::strerror(errno));
            return false;
        }
        return true;
    }
    [[nodiscard]] static std::string request_of(std::string_view operation, std::string_view body) {
        return "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/x-amz-json-1.1\r\n"
               "X-Amz-Target: Kinesis_20131202." +
               std::string(operation) + "\r\nContent-Length: " + std::to_string(body.size()) +
               "\r\n\r\n" + std::string(body);
    }
    // Blocks; the node reads requests as they come.
    [[nodiscard]] static bool send_all(const Peer& peer, std::string_view text) {
        while (!text.empty()) {
            const ssize_t sent = ::send(peer.fd, text.data(), text.size(), MSG_NOSIGNAL);
            if (sent <= 0) {
                std::fprintf(stderr, "fan_out: the node closed a connection\n");
                return false;
            }
            text.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }

    void make_request() {
        std::string body = R"({"StreamName":")" + options_.stream + R"(","Records":[)";
        // Whole groups of base64, so that no padding is needed.
        const std::size_t characters = std::max(options_.record_bytes / 3 * 4, 8U);
        for (unsigned i = 0; i < options_.records; ++i) {
            body += i == 0 ? R"({"PartitionKey":"k","ExplicitHashKey":"0","Data":")"
                           : R"(,{"PartitionKey":"k","ExplicitHashKey":"0","Data":")";
            marks_.push_back(body.size());
            body.append(characters, 'x');
            body += "\"}";
        }
        body += "]}";
        request_ = request_of("PutRecords", body);
        for (std::size_t& mark : marks_) {
            mark += request_.size() - body.size();
        }
    }

    [[nodiscard]] bool put(Peer& peer) {
        const std::uint64_t number = sent_ns_.size();
        const std::string text = number_text(number);
        for (const std::size_t mark : marks_) {
            request_.replace(mark, text.size(), text);
        }
        peer.busy = true;
        peer.number = number;
        peer.in.clear();
        sent_ns_.push_back(now_ns());
        acked_ns_.push_back(0);
        return send_all(peer, request_);
    }

    void read_answer(Peer& peer) {
        const std::size_t head = peer.in.find("\r\n\r\n");
        const std::size_t length = peer.in.find("Content-Length: ");
        if (head == std::string::npos || length == std::string::npos) {
            return;
        }
        if (peer.in.size() < head + 4 + std::strtoull(peer.in.c_str() + length + 16, nullptr, 10)) {
            return;
        }
        peer.busy = false;
        if (peer.in.find("\"FailedRecordCount\":0") == std::string::npos) {
            ++refused_;
            return;
        }
        acked_ns_[peer.number] = now_ns();
        put_ += options_.records;
    }

    void read_events(Peer& peer) {
        constexpr std::string_view mark = "\"Data\":\"";
        const std::int64_t at_ns = now_ns();
        std::size_t from = 0;
        for (;;) {
            const std::size_t found = peer.in.find(mark, from);
            if (found == std::string::npos || found + mark.size() + 8 > peer.in.size()) {
                peer.in.erase(0, found != std::string::npos ? found
                                 : peer.in.size() > mark.size()
                                     ? std::max(from, peer.in.size() - mark.size())
                                     : from);
                return;
            }
            const std::uint64_t number =
                text_number(std::string_view(peer.in).substr(found + mark.size(), 8));
            if (at_ns >= counted_from_ns_) {
                ++records_seen_;
                if (seen_.size() < seen_max && peer.last_seen != number) {
                    seen_.push_back({number, at_ns});
                    peer.last_seen = number;
                }
            }
            from = found + mark.size() + 8;
        }
    }

    [[nodiscard]] bool measure() {
        const std::int64_t begun_ns = now_ns();
        counted_from_ns_ = begun_ns + static_cast<std::int64_t>(options_.warm * 1e9);
        const std::int64_t end_ns =
            counted_from_ns_ + static_cast<std::int64_t>(options_.seconds * 1e9);
        const double gap_ns =
            options_.rate == 0 ? 0 : 1e9 * static_cast<double>(options_.records) / options_.rate;
        double due_ns = static_cast<double>(begun_ns) + 2e8;  // the subscriptions stand by then
        std::vector<char> room(256 * 1024);
        for (std::int64_t now = begun_ns; now < end_ns; now = now_ns()) {
            for (std::size_t i = subscribers_; i < peers_.size(); ++i) {
                if (!peers_[i].busy && static_cast<double>(now) >= due_ns) {
                    due_ns = std::max(due_ns + gap_ns, static_cast<double>(now) - 1e8);
                    if (!put(peers_[i])) {
                        return false;
                    }
                }
            }
            const double wait_ms = (due_ns - static_cast<double>(now_ns())) / 1e6;
            std::array<epoll_event, 64> events;
            const int count = epoll_wait(epoll_, events.data(), events.size(),
                                         wait_ms > 1   ? static_cast<int>(wait_ms)
                                         : wait_ms > 0 ? 0
                                                       : 1);
            for (int i = 0; i < count; ++i) {
                Peer& peer = peers_[events[static_cast<std::size_t>(i)].data.u64];
                const ssize_t got = ::recv(peer.fd, room.data(), room.size(), MSG_DONTWAIT);
                if (got <= 0) {
                    std::fprintf(stderr, "fan_out: the node closed a connection\n");
                    return false;
                }
                peer.in.append(room.data(), static_cast<std::size_t>(got));
                if (!peer.is_writer && !peer.is_taken) {
                    peer.is_taken = peer.in.starts_with("HTTP/1.1 200");
                    if (!peer.is_taken && peer.in.size() >= 12) {
                        std::fprintf(stderr, "fan_out: a subscription was refused: %.600s\n",
                                     peer.in.c_str());
                        return false;
                    }
                }
                peer.is_writer ? read_answer(peer) : read_events(peer);
            }
        }
        seconds_ = static_cast<double>(now_ns() - counted_from_ns_) / 1e9;
        return true;
    }

    static constexpr std::size_t seen_max = 20'000'000;
    const Options options_;
    int epoll_ = -1;
    std::size_t subscribers_ = 0;
    std::vector<Peer> peers_;
    std::string request_;
    std::vector<std::size_t> marks_;
    std::vector<std::int64_t> sent_ns_;
    std::vector<std::int64_t> acked_ns_;
    std::vector<Seen> seen_;
    std::uint64_t records_seen_ = 0;
    std::uint64_t put_ = 0;
    std::uint64_t refused_ = 0;
    std::int64_t counted_from_ns_ = 0;
    double seconds_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app("Delay and throughput of subscriptions to one shard, as JSON.");
    app.add_option("--port", options.port, "of the node, on 127.0.0.1")->required();
    app.add_option("--stream", options.stream)->required();
    app.add_option("--consumers", options.consumers, "file with ARNs")->required();
    app.add_option("--record-bytes", options.record_bytes);
    app.add_option("--records", options.records, "per request")->check(CLI::Range(1, 500));
    app.add_option("--writers", options.writers);
    app.add_option("--rate", options.rate, "records a second; 0: as fast as they are answered");
    app.add_option("--seconds", options.seconds);
    app.add_option("--warm", options.warm);
    CLI11_PARSE(app, argc, argv);
    Bench bench(options);
    if (!bench.run()) {
        return 1;
    }
    bench.print();
    return 0;
}
