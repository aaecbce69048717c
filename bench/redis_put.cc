// Appends records to one Redis stream with XADD, pipelined over several connections, and counts the
// ids that come back. Each connection sends a whole pipeline, then reads its answers: with
// `appendfsync always` the server answers after its file was synchronised, so several connections
// let it gather while it waits.
//
// Prints one line of JSON with what was answered within the time measured.
#include <CLI/CLI.hpp>
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using SteadyClock = std::chrono::steady_clock;

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 6379;
    std::string stream = "bench";
    unsigned connections = 50;
    unsigned pipeline = 64;
    unsigned record_bytes = 1024;
    double seconds = 5;
    double warm_seconds = 1;
};

struct Shared {
    std::atomic<std::uint64_t> answered{0};
    std::atomic<bool> stop{false};
    std::atomic<bool> failed{false};
};

std::string make_pipeline(const Options& options, unsigned seed) {
    std::mt19937_64 random(seed);
    std::string all;
    for (unsigned i = 0; i < options.pipeline; ++i) {
        std::string payload(options.record_bytes, '\0');
        for (char& c : payload) {
            c = static_cast<char>(random());
        }
        all += "*5\r\n$4\r\nXADD\r\n$" + std::to_string(options.stream.size()) + "\r\n" +
               options.stream + "\r\n$1\r\n*\r\n$1\r\nd\r\n$" + std::to_string(payload.size()) +
               "\r\n" + payload + "\r\n";
    }
    return all;
}

class Connection {
public:
    Connection(const Options& options, unsigned number)
        : options_(options), request_(make_pipeline(options, number + 1)) {}
    ~Connection() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    bool open() {
        fd_ = socket(AF_INET, SOCK_STREAM, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(options_.port);
        const int on = 1;
        if (inet_pton(AF_INET, options_.host.c_str(), &address.sin_addr) != 1 ||
            connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
            return complain("connect", std::strerror(errno));
        }
        setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        return true;
    }

    bool one_pipeline() {
        for (std::size_t sent = 0; sent < request_.size();) {
            const ssize_t n =
                ::send(fd_, request_.data() + sent, request_.size() - sent, MSG_NOSIGNAL);
            if (n <= 0) {
                return complain("send", std::strerror(errno));
            }
            sent += static_cast<std::size_t>(n);
        }
        // An answer is two lines, the length of an id and the id.
        unsigned lines = 0;
        while (lines < 2 * options_.pipeline) {
            std::array<char, 16384> buffer;
            const ssize_t n = ::recv(fd_, buffer.data(), buffer.size(), 0);
            if (n <= 0) {
                return complain("receive",
                                n == 0 ? "the server closed the connection" : std::strerror(errno));
            }
            for (ssize_t i = 0; i < n; ++i) {
                const char c = buffer[static_cast<std::size_t>(i)];
                if (line_begins_ && lines % 2 == 0 && c != '$') {
                    return complain("refused", std::string(&buffer[static_cast<std::size_t>(i)],
                                                           static_cast<std::size_t>(n - i))
                                                   .substr(0, 200)
                                                   .c_str());
                }
                line_begins_ = c == '\n';
                lines += line_begins_ ? 1U : 0U;
            }
        }
        return true;
    }

private:
    static bool complain(const char* what, const char* why) {
        std::fprintf(stderr, "redis_put: %s: %s\n", what, why);
        return false;
    }

    const Options& options_;
    std::string request_;
    int fd_ = -1;
    bool line_begins_ = true;
};

void serve(const Options& options, unsigned number, Shared& shared) {
    Connection connection(options, number);
    bool good = connection.open();
    while (good && !shared.stop.load(std::memory_order_relaxed)) {
        good = connection.one_pipeline();
        shared.answered.fetch_add(good ? options.pipeline : 0, std::memory_order_relaxed);
    }
    if (!good) {
        shared.failed = true;
    }
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{"Appends to a Redis stream and prints what was answered as one line of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--host", options.host, "IPv4 address of the server");
    app.add_option("--port", options.port, "TCP port of the server");
    app.add_option("--stream", options.stream, "Key of the stream");
    app.add_option("--connections", options.connections, "Each has one pipeline under way")
        ->check(CLI::Range(1, 256));
    app.add_option("--pipeline", options.pipeline, "Records sent before answers are awaited")
        ->check(CLI::Range(1, 4096));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--seconds", options.seconds, "Time measured");
    app.add_option("--warm", options.warm_seconds, "Time before that");
    CLI11_PARSE(app, argc, argv);
    Shared shared;
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < options.connections; ++i) {
        threads.emplace_back(serve, std::cref(options), i, std::ref(shared));
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(options.warm_seconds));
    const std::uint64_t before = shared.answered;
    const auto begin = SteadyClock::now();
    std::this_thread::sleep_for(std::chrono::duration<double>(options.seconds));
    const std::uint64_t after = shared.answered;
    const double took = std::chrono::duration<double>(SteadyClock::now() - begin).count();
    shared.stop = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    if (shared.failed) {
        return 1;
    }
    const double per_s = static_cast<double>(after - before) / took;
    std::printf(
        "{\"seconds\":%.3f,\"records\":%llu,\"records_per_s\":%.0f,"
        "\"payload_bytes_per_s\":%.0f}\n",
        took, static_cast<unsigned long long>(after - before), per_s, per_s * options.record_bytes);
    return 0;
}
