// Publishes records to one NATS JetStream stream, asynchronously with many under way, and counts
// those that the server acknowledged.
//
// The time measured ends when the last acknowledgement has come. Prints one line of JSON.
#include <CLI/CLI.hpp>
#include <nats/nats.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

namespace {

using SteadyClock = std::chrono::steady_clock;

struct Options {
    std::string url = "nats://127.0.0.1:4222";
    std::string stream = "bench";
    unsigned connections = 2;
    std::int64_t in_flight = 2048;
    unsigned record_bytes = 1024;
    double seconds = 5;
    double warm_seconds = 1;
};

std::atomic<std::uint64_t> refused{0};

void on_refused(jsCtx*, jsPubAckErr* error, void*) {
    if (refused.fetch_add(1) == 0) {
        std::fprintf(stderr, "nats_put: refused: %s\n",
                     error->ErrText != nullptr ? error->ErrText : natsStatus_GetText(error->Err));
    }
}

bool good(natsStatus status, const char* what) {
    if (status != NATS_OK) {
        std::fprintf(stderr, "nats_put: %s: %s\n", what, natsStatus_GetText(status));
    }
    return status == NATS_OK;
}

class Publisher {
public:
    explicit Publisher(const Options& options)
        : options_(options), payload_(options.record_bytes, '\0') {
        std::mt19937_64 random(20260101);
        for (char& c : payload_) {
            c = static_cast<char>(random());
        }
    }
    ~Publisher() {
        jsCtx_Destroy(context_);
        natsConnection_Destroy(connection_);
    }
    Publisher(const Publisher&) = delete;
    Publisher& operator=(const Publisher&) = delete;

    bool open() {
        jsOptions js;
        if (!good(natsConnection_ConnectTo(&connection_, options_.url.c_str()), "connect") ||
            !good(jsOptions_Init(&js), "options")) {
            return false;
        }
        js.PublishAsync.MaxPending = options_.in_flight;
        js.PublishAsync.ErrHandler = &on_refused;
        js.PublishAsync.StallWait = 30'000;  // ms until a full window counts as an error
        return good(natsConnection_JetStream(&context_, connection_, &js), "JetStream");
    }

    bool make_stream() {
        jsStreamConfig config;
        jsErrCode code{};
        const char* subjects[] = {options_.stream.c_str()};
        if (!good(jsStreamConfig_Init(&config), "stream options")) {
            return false;
        }
        config.Name = options_.stream.c_str();
        config.Subjects = subjects;
        config.SubjectsLen = 1;
        config.Storage = js_FileStorage;
        config.Replicas = 1;
        return good(js_AddStream(nullptr, context_, &config, nullptr, &code), "add the stream");
    }

    // Publishes until `end` and waits for all acknowledgements.
    bool publish_until(SteadyClock::time_point end, std::uint64_t& published) {
        while (SteadyClock::now() < end) {
            for (int i = 0; i < 32; ++i) {
                const natsStatus status =
                    js_PublishAsync(context_, options_.stream.c_str(), payload_.data(),
                                    static_cast<int>(payload_.size()), nullptr);
                if (!good(status, "publish")) {
                    return false;
                }
                ++published;
            }
        }
        jsPubOptions wait;
        jsPubOptions_Init(&wait);
        wait.MaxWait = 60'000;  // ms
        return good(js_PublishAsyncComplete(context_, &wait), "wait for acknowledgements");
    }

private:
    const Options& options_;
    std::string payload_;
    natsConnection* connection_ = nullptr;
    jsCtx* context_ = nullptr;
};

// All publishers at once, for so long; false when one failed.
bool publish(std::vector<std::unique_ptr<Publisher>>& publishers, double seconds,
             std::uint64_t& published) {
    std::atomic<std::uint64_t> total{0};
    std::atomic<bool> failed{false};
    const auto end = SteadyClock::now() + std::chrono::duration_cast<SteadyClock::duration>(
                                              std::chrono::duration<double>(seconds));
    std::vector<std::thread> threads;
    for (auto& publisher : publishers) {
        threads.emplace_back([&, own = publisher.get()] {
            std::uint64_t count = 0;
            failed = !own->publish_until(end, count) || failed;
            total += count;
        });
    }
    for (std::thread& thread : threads) {
        thread.join();
    }
    published = total;
    return !failed;
}

bool run(const Options& options) {
    std::vector<std::unique_ptr<Publisher>> publishers;
    for (unsigned i = 0; i < options.connections; ++i) {
        publishers.push_back(std::make_unique<Publisher>(options));
        if (!publishers.back()->open()) {
            return false;
        }
    }
    std::uint64_t published = 0;
    if (!publishers.front()->make_stream() ||
        !publish(publishers, options.warm_seconds, published)) {
        return false;
    }
    const auto begin = SteadyClock::now();
    refused = 0;
    if (!publish(publishers, options.seconds, published)) {
        return false;
    }
    const double took = std::chrono::duration<double>(SteadyClock::now() - begin).count();
    const std::uint64_t acknowledged = published - refused;
    const double per_s = static_cast<double>(acknowledged) / took;
    std::printf(
        "{\"seconds\":%.3f,\"records\":%llu,\"failed_records\":%llu,\"records_per_s\":%.0f,"
        "\"payload_bytes_per_s\":%.0f}\n",
        took, static_cast<unsigned long long>(acknowledged),
        static_cast<unsigned long long>(refused.load()), per_s, per_s * options.record_bytes);
    return true;
}

}  // namespace

int main(int argc, char** argv) {
    Options options;
    CLI::App app{
        "Publishes to a JetStream stream and prints what was acknowledged as one line of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--url", options.url, "Of the server");
    app.add_option("--stream", options.stream, "Stream and subject; is made");
    app.add_option("--connections", options.connections, "Each publishes from a thread of its own")
        ->check(CLI::Range(1, 64));
    app.add_option("--in-flight", options.in_flight, "Unacknowledged records of a connection")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--seconds", options.seconds, "Time measured");
    app.add_option("--warm", options.warm_seconds, "Time before that");
    CLI11_PARSE(app, argc, argv);
    const bool done = run(options);
    nats_Close();
    return done ? 0 : 1;
}
