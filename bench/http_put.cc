// Puts records over HTTP/1.1 from several connections, each with one request under way, and counts
// what the server says it took. One thread, epoll, requests built beforehand, so that the client
// costs as little as it can and the same for every server. PutRecords, PutRecord, or for comparison
// a question that costs the server nothing; on connections that stay, or a fresh one for each
// request; in clear text or over TLS; as fast as it is answered, or at a rate, where a request's
// time counts from when it was due.
//
// Every record has its own partition key. With AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the
// environment the requests are signed, once and for five minutes; without, the signature is there,
// because emulators ask for one, and is not a real one.
#include <CLI/CLI.hpp>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/client_wire.h"

namespace {

using penstock::bench::ClientTls;
using penstock::bench::ClientWire;
using penstock::bench::Security;
using Step = ClientWire::Step;
using SteadyClock = std::chrono::steady_clock;

struct Options {
    std::string host = "127.0.0.1";
    std::uint16_t port = 4567;
    std::string stream;
    unsigned connections = 8;
    unsigned records = 500;
    unsigned record_bytes = 1024;
    double seconds = 5;
    double warm_seconds = 1;
    std::uint64_t bytes_max = 0;  // stop after so much payload instead
    unsigned bodies = 16;
    std::string operation = "PutRecords";
    bool fresh = false;
    Security security = Security::none;
    std::string authority;
    double rate = 0;  // requests a second; 0: as fast as they are answered
    bool idempotent = false;
};

// Where a request says which call of its connection it is, in as many digits.
constexpr std::string_view producer_header = "x-penstock-producer: bench-";
constexpr std::string_view call_mark = "; sequence=";
constexpr std::size_t call_digits = 16;

struct Totals {
    std::uint64_t requests = 0;
    std::uint64_t records = 0;
    std::uint64_t failed_records = 0;
    std::uint64_t failed_requests = 0;
    std::uint64_t resumed = 0;  // requests on connections that resumed a session
    std::vector<float> latency_ms;
};

std::string base64(const std::vector<unsigned char>& bytes) {
    static constexpr std::string_view digits =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    out.reserve((bytes.size() + 2) / 3 * 4);
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t left = std::min<std::size_t>(3, bytes.size() - i);
        std::uint32_t group = 0;
        for (std::size_t k = 0; k < 3; ++k) {
            group = group << 8 | (k < left ? bytes[i + k] : 0U);
        }
        for (std::size_t k = 0; k < 4; ++k) {
            out.push_back(k <= left ? digits[group >> (18 - 6 * k) & 63U] : '=');
        }
    }
    return out;
}

std::string sha256(std::string_view text) {
    std::array<unsigned char, 32> digest{};
    EVP_Digest(text.data(), text.size(), digest.data(), nullptr, EVP_sha256(), nullptr);
    return {digest.begin(), digest.end()};
}

std::string hmac(std::string_view key, std::string_view text) {
    std::array<unsigned char, 32> digest{};
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), nullptr);
    return {digest.begin(), digest.end()};
}

std::string hex(std::string_view bytes) {
    static constexpr std::string_view digits = "0123456789abcdef";
    std::string out;
    for (const char c : bytes) {
        out.push_back(digits[static_cast<unsigned char>(c) >> 4]);
        out.push_back(digits[static_cast<unsigned char>(c) & 15]);
    }
    return out;
}

// The headers X-Amz-Date and Authorization, with line ends.
std::string signature_headers(std::string_view host, std::string_view operation,
                              std::string_view body) {
    const char* key_id = std::getenv("AWS_ACCESS_KEY_ID");
    const char* secret = std::getenv("AWS_SECRET_ACCESS_KEY");
    const std::string names = "content-type;host;x-amz-date;x-amz-target";
    if (key_id == nullptr || secret == nullptr) {
        return "X-Amz-Date: 20260101T000000Z\r\nAuthorization: AWS4-HMAC-SHA256 "
               "Credential=bench/20260101/us-east-1/kinesis/aws4_request, SignedHeaders=" +
               names + ", Signature=" + std::string(64, '0') + "\r\n";
    }
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    std::array<char, 20> text{};
    const std::string time(text.data(),
                           std::strftime(text.data(), text.size(), "%Y%m%dT%H%M%SZ", &parts));
    const std::string date = time.substr(0, 8);
    const std::string scope = date + "/us-east-1/kinesis/aws4_request";
    const std::string canonical =
        "POST\n/\n\ncontent-type:application/x-amz-json-1.1\nhost:" + std::string(host) +
        "\nx-amz-date:" + time + "\nx-amz-target:Kinesis_20131202." + std::string(operation) +
        "\n\n" + names + "\n" + hex(sha256(body));
    const std::string key =
        hmac(hmac(hmac(hmac("AWS4" + std::string(secret), date), "us-east-1"), "kinesis"),
             "aws4_request");
    return "X-Amz-Date: " + time + "\r\nAuthorization: AWS4-HMAC-SHA256 Credential=" + key_id +
           "/" + scope + ", SignedHeaders=" + names + ", Signature=" +
           hex(hmac(key,
                    "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + hex(sha256(canonical)))) +
           "\r\n";
}

// Each connection is a producer of its own, and has requests of its own.
std::string producer_headers(const Options& options, unsigned number) {
    return options.idempotent
               ? std::string(producer_header) + std::to_string(number % options.connections) +
                     std::string(call_mark) + std::string(call_digits, '0') + "\r\n"
               : "";
}

std::string make_request(const Options& options, unsigned number, std::mt19937_64& random) {
    const std::string host = options.host + ":" + std::to_string(options.port);
    if (options.operation == "health") {
        return "GET /healthz HTTP/1.1\r\nHost: " + host + "\r\n\r\n";
    }
    const bool many = options.operation == "PutRecords";
    std::string body = "{\"StreamName\":\"" + options.stream + (many ? "\",\"Records\":[" : "\",");
    std::vector<unsigned char> data(options.record_bytes);
    for (unsigned i = 0; i < options.records; ++i) {
        for (unsigned char& byte : data) {
            byte = static_cast<unsigned char>(random());
        }
        body += i == 0 ? "" : ",";
        body += many ? "{" : "";
        body += "\"PartitionKey\":\"key-" + std::to_string(number * options.records + i) +
                "\",\"Data\":\"" + base64(data) + "\"}";
    }
    body += many ? "]}" : "";
    return "POST / HTTP/1.1\r\nHost: " + host +
           "\r\nContent-Type: application/x-amz-json-1.1\r\n"
           "X-Amz-Target: Kinesis_20131202." +
           options.operation + "\r\n" + signature_headers(host, options.operation, body) +
           producer_headers(options, number) + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + body;
}

struct Connection {
    ClientWire wire;
    const std::string* request = nullptr;
    std::size_t sent = 0;
    std::string answer;
    std::size_t head_end = 0;  // 0: the head is not complete
    std::size_t body_length = 0;
    bool wants_write = false;
    SteadyClock::time_point started;
};

class Client {
public:
    explicit Client(Options options) : options_(std::move(options)) {
        std::mt19937_64 random(7);
        // A whole number for each connection, which then has them alone.
        unsigned bodies = std::max(1U, options_.bodies);
        if (options_.idempotent) {
            bodies =
                (bodies + options_.connections - 1) / options_.connections * options_.connections;
        }
        for (unsigned i = 0; i < bodies; ++i) {
            requests_.push_back(make_request(options_, i, random));
        }
        // Larger than any earlier one, also of a run before: a producer's numbers only grow.
        next_call_ = static_cast<std::uint64_t>(std::time(nullptr)) * 1'000'000;
    }
    ~Client() {
        if (epoll_ >= 0) {
            ::close(epoll_);
        }
    }
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    bool run() {
        epoll_ = epoll_create1(0);
        if (!tls_.open(options_.security, options_.authority)) {
            return false;
        }
        connections_.resize(options_.connections);
        for (Connection& connection : connections_) {
            if (!options_.fresh && !open(connection)) {
                return false;
            }
            idle_.push_back(&connection);
        }
        const auto start = SteadyClock::now();
        counted_from_ = start + to_duration(options_.warm_seconds);
        end_ = options_.bytes_max != 0 ? SteadyClock::time_point::max()
                                       : counted_from_ + to_duration(options_.seconds);
        if (options_.bytes_max != 0) {
            counted_from_ = start;
        }
        due_ = start;
        last_answer_ = start;
        begin_due();
        std::array<epoll_event, 64> events{};
        while ((busy_ != 0 || due_ < end_) && !broken_) {
            const int count = wait(events);
            if (busy_ != 0 && SteadyClock::now() - last_answer_ > std::chrono::seconds(10)) {
                std::fprintf(stderr, "http_put: no answer for 10 s\n");
                return false;
            }
            for (int i = 0; i < count; ++i) {
                handle(connections_[events[static_cast<std::size_t>(i)].data.u32],
                       events[static_cast<std::size_t>(i)].events);
            }
            begin_due();
        }
        finished_ = std::min(SteadyClock::now(), end_);
        return !broken_;
    }

    void print() {
        std::sort(totals_.latency_ms.begin(), totals_.latency_ms.end());
        const auto percentile = [this](double p) {
            return totals_.latency_ms.empty()
                       ? 0.0
                       : static_cast<double>(totals_.latency_ms[static_cast<std::size_t>(
                             p * static_cast<double>(totals_.latency_ms.size() - 1))]);
        };
        const double seconds = std::chrono::duration<double>(finished_ - counted_from_).count();
        const double records = static_cast<double>(totals_.records);
        rusage usage{};
        getrusage(RUSAGE_SELF, &usage);
        std::printf(
            "{\"seconds\":%.3f,\"requests\":%llu,\"records\":%llu,\"failed_records\":%llu,"
            "\"failed_requests\":%llu,\"requests_per_s\":%.0f,\"resumed\":%llu,"
            "\"body_bytes\":%zu,\"records_per_s\":%.0f,\"payload_bytes_per_s\":%.0f,\"latency_ms\":"
            "{\"p50\":%.2f,"
            "\"p99\":%.2f},\"client_cpu_s\":%.2f}\n",
            seconds, static_cast<unsigned long long>(totals_.requests),
            static_cast<unsigned long long>(totals_.records),
            static_cast<unsigned long long>(totals_.failed_records),
            static_cast<unsigned long long>(totals_.failed_requests),
            static_cast<double>(totals_.requests) / seconds,
            static_cast<unsigned long long>(totals_.resumed),
            requests_[0].size() - requests_[0].find("\r\n\r\n") - 4, records / seconds,
            records * options_.record_bytes / seconds, percentile(0.5), percentile(0.99),
            static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6);
    }

private:
    static SteadyClock::duration to_duration(double seconds) {
        return std::chrono::duration_cast<SteadyClock::duration>(
            std::chrono::duration<double>(seconds));
    }

    bool open(Connection& connection) {
        if (!connection.wire.open(options_.host, options_.port, tls_, serial_)) {
            fail("connect", std::strerror(errno));
            return false;
        }
        serial_ += options_.fresh ? 1 : 0;
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = static_cast<std::uint32_t>(&connection - connections_.data());
        connection.wants_write = false;
        return epoll_ctl(epoll_, EPOLL_CTL_ADD, connection.wire.fd(), &event) == 0;
    }

    int wait(std::array<epoll_event, 64>& events) const {
        const auto now = SteadyClock::now();
        auto until = now + std::chrono::seconds(1);
        if (options_.rate != 0 && !idle_.empty()) {
            until = std::clamp(due_, now, until);
        }
        const auto left = std::chrono::duration_cast<std::chrono::nanoseconds>(until - now).count();
        const timespec timeout{left / 1'000'000'000, left % 1'000'000'000};
        return epoll_pwait2(epoll_, events.data(), static_cast<int>(events.size()), &timeout,
                            nullptr);
    }

    void watch(Connection& connection, bool writes) {
        if (connection.wants_write == writes) {
            return;
        }
        connection.wants_write = writes;
        epoll_event event{};
        event.events = writes ? EPOLLIN | EPOLLOUT : EPOLLIN;
        event.data.u32 = static_cast<std::uint32_t>(&connection - connections_.data());
        epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.wire.fd(), &event);
    }

    // Starts what is due on connections that are free.
    void begin_due() {
        while (!idle_.empty() && !broken_) {
            const auto now = SteadyClock::now();
            const bool enough = options_.bytes_max != 0 &&
                                totals_.records * options_.record_bytes >= options_.bytes_max;
            if (now >= end_ || enough) {
                due_ = end_;
                return;
            }
            auto started = now;
            if (options_.rate != 0) {
                if (due_ > now) {
                    return;
                }
                started = due_;
                due_ += to_duration(1 / options_.rate);
            }
            Connection& connection = *idle_.back();
            idle_.pop_back();
            begin(connection, started);
        }
    }

    void begin(Connection& connection, SteadyClock::time_point started) {
        connection.started = started;
        connection.request = options_.idempotent ? &number_request(connection)
                                                 : &requests_[next_request_++ % requests_.size()];
        connection.sent = 0;
        connection.answer.clear();
        connection.head_end = 0;
        ++busy_;
        if (!options_.fresh || open(connection)) {
            write(connection);
        }
    }

    // The connection's next request, as a call that nobody has made before.
    const std::string& number_request(const Connection& connection) {
        const auto own = static_cast<std::size_t>(&connection - connections_.data());
        const std::size_t each = requests_.size() / connections_.size();
        std::string& request = requests_[own + connections_.size() * (next_request_++ % each)];
        const std::string digits = std::to_string(next_call_++);
        const std::size_t at = request.find(call_mark) + call_mark.size();
        request.replace(at, call_digits, digits);
        return request;
    }

    void write(Connection& connection) {
        while (connection.sent < connection.request->size()) {
            std::size_t count = 0;
            const Step step = connection.wire.send(
                std::string_view(*connection.request).substr(connection.sent), count);
            if (step == Step::ended) {
                fail("send", "the server closed the connection");
                return;
            }
            if (step != Step::moved) {
                watch(connection, step == Step::wait_write);
                return;
            }
            connection.sent += count;
        }
        watch(connection, false);
    }

    void handle(Connection& connection, std::uint32_t events) {
        // A TLS handshake may wait for either before it lets the request go.
        if ((events & (EPOLLOUT | EPOLLIN)) != 0 && connection.sent < connection.request->size()) {
            write(connection);
        }
        if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0 || broken_) {
            return;
        }
        std::array<char, 65536> buffer;
        for (;;) {
            std::size_t count = 0;
            const Step step = connection.wire.receive(buffer.data(), buffer.size(), count);
            if (step == Step::ended) {
                fail("receive", "the server closed the connection");
                return;
            }
            if (step != Step::moved) {
                return;
            }
            connection.answer.append(buffer.data(), count);
            if (answered(connection)) {
                finish(connection);
                return;
            }
        }
    }

    bool answered(Connection& connection) {
        if (connection.head_end == 0) {
            const std::size_t end = connection.answer.find("\r\n\r\n");
            if (end == std::string::npos) {
                return false;
            }
            connection.head_end = end + 4;
            std::string head = connection.answer.substr(0, end);
            std::transform(head.begin(), head.end(), head.begin(),
                           [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
            const std::size_t at = head.find("\r\ncontent-length:");
            if (at == std::string::npos) {
                fail("answer", "no Content-Length");
                return false;
            }
            connection.body_length = std::strtoull(head.c_str() + at + 17, nullptr, 10);
        }
        return connection.answer.size() >= connection.head_end + connection.body_length;
    }

    void finish(Connection& connection) {
        --busy_;
        const auto now = SteadyClock::now();
        const std::string_view body =
            std::string_view(connection.answer).substr(connection.head_end);
        const bool good = connection.answer.compare(0, 12, "HTTP/1.1 200") == 0;
        // A record the server took has a sequence number, one that it refused has an error code.
        std::uint64_t taken = 0;
        for (std::size_t at = body.find("\"SequenceNumber\""); good && at != std::string_view::npos;
             at = body.find("\"SequenceNumber\"", at + 16)) {
            ++taken;
        }
        if (now >= counted_from_ && now <= end_) {
            ++totals_.requests;
            totals_.records += taken;
            totals_.failed_requests += good ? 0 : 1;
            totals_.failed_records += options_.operation == "health" ? 0 : options_.records - taken;
            totals_.resumed += connection.wire.resumed() ? 1 : 0;
            totals_.latency_ms.push_back(
                std::chrono::duration<float, std::milli>(now - connection.started).count());
        }
        if (!good && !complained_) {
            complained_ = true;
            std::fprintf(stderr, "http_put: refused: %.300s\n", connection.answer.c_str());
        }
        last_answer_ = now;
        if (options_.fresh) {
            connection.wire.close();
        }
        idle_.push_back(&connection);
    }

    void fail(const char* what, const char* why) {
        if (!broken_) {
            std::fprintf(stderr, "http_put: %s: %s\n", what, why);
        }
        broken_ = true;
    }

    Options options_;
    std::vector<std::string> requests_;
    std::vector<Connection> connections_;
    ClientTls tls_;
    std::vector<Connection*> idle_;
    SteadyClock::time_point due_;
    SteadyClock::time_point last_answer_;
    std::uint64_t serial_ = 0;
    int epoll_ = -1;
    std::size_t next_request_ = 0;
    std::uint64_t next_call_ = 0;
    unsigned busy_ = 0;
    bool broken_ = false;
    bool complained_ = false;
    SteadyClock::time_point counted_from_;
    SteadyClock::time_point end_;
    SteadyClock::time_point finished_;
    Totals totals_;
};

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{"Puts records over HTTP/1.1 and prints what the server took as one line of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--stream", options.stream, "Stream to put to")->required();
    app.add_option("--host", options.host, "IPv4 address of the server");
    app.add_option("--port", options.port, "TCP port of the server");
    app.add_option("--connections", options.connections, "Each has one request under way")
        ->check(CLI::Range(1, 1024));
    app.add_option("--records", options.records, "Records per request")->check(CLI::Range(1, 500));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--seconds", options.seconds, "Time measured");
    app.add_option("--warm", options.warm_seconds, "Time before that");
    app.add_option("--bytes", options.bytes_max, "End after so much payload, not after a time");
    app.add_option("--bodies", options.bodies, "Different requests, sent in turn");
    app.add_option("--operation", options.operation, "PutRecord is one record a request")
        ->check(CLI::IsMember({"PutRecords", "PutRecord", "health"}));
    app.add_flag("--fresh", options.fresh, "A connection for each request");
    app.add_option("--tls", options.security, "Full handshakes, or sessions resumed")
        ->transform(CLI::CheckedTransformer(std::map<std::string, Security>{
            {"none", Security::none}, {"full", Security::full}, {"resumed", Security::resumed}}));
    app.add_option("--authority", options.authority, "PEM file of whom to trust with --tls");
    app.add_option("--rate", options.rate, "Requests a second; 0: as they are answered");
    app.add_flag("--idempotent", options.idempotent,
                 "Each call has a number, so that it could be repeated");
    CLI11_PARSE(app, argc, argv);
    if (options.operation != "PutRecords") {
        options.records = 1;
    }
    Client client(options);
    if (!client.run()) {
        return 1;
    }
    client.print();
    return 0;
}
