#include "tools/penstock/consume_command.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <thread>

#include "storage/base/descriptor.h"
#include "tools/client/aws_settings.h"
#include "tools/consumer/stream_reader.h"
#include "tools/penstock/record_output.h"

namespace penstock {

namespace {

using consumer::Checkpoint;
using consumer::Delivery;
using consumer::StreamOutcome;
using consumer::StreamReader;

constexpr int exit_interrupted = 130;

// SIGINT and SIGTERM, taken by a thread of its own for as long as this lives.
class StopOnSignals {
public:
    explicit StopOnSignals(std::function<void()> stop)
        : stop_(std::move(stop)), end_(::eventfd(0, EFD_CLOEXEC)), signals_(-1) {
        sigset_t ours;
        sigemptyset(&ours);
        sigaddset(&ours, SIGINT);
        sigaddset(&ours, SIGTERM);
        pthread_sigmask(SIG_BLOCK, &ours, &before_);
        signals_ = Descriptor(::signalfd(-1, &ours, SFD_CLOEXEC));
        pipe_before_ = ::signal(SIGPIPE, SIG_IGN);
        thread_ = std::thread([this] { watch(); });
    }
    ~StopOnSignals() {
        const std::uint64_t one = 1;
        (void)!::write(end_.get(), &one, sizeof one);
        thread_.join();
        (void)::signal(SIGPIPE, pipe_before_);
        pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    }
    StopOnSignals(const StopOnSignals&) = delete;
    StopOnSignals& operator=(const StopOnSignals&) = delete;

private:
    void watch() {
        std::array<pollfd, 2> wait{{{signals_.get(), POLLIN, 0}, {end_.get(), POLLIN, 0}}};
        for (;;) {
            if (::poll(wait.data(), wait.size(), -1) < 0 && errno == EINTR) {
                continue;
            }
            if (wait[1].revents != 0) {
                return;
            }
            signalfd_siginfo info{};
            (void)!::read(signals_.get(), &info, sizeof info);
            stop_();
        }
    }

    const std::function<void()> stop_;
    Descriptor end_;
    Descriptor signals_;
    sigset_t before_{};
    void (*pipe_before_)(int) = SIG_DFL;
    std::thread thread_;
};

int refuse(std::ostream& err, const std::string& why) {
    err << "penstock consume: " << why << '\n';
    return 1;
}

// False: `why`.
bool endpoint_of(const ConsumeArguments& arguments, HttpEndpoint& out, std::string& why) {
    const auto settings = read_aws_settings(process_sources(arguments.profile), why);
    if (!settings) {
        return false;
    }
    out.url = !arguments.endpoint.empty()   ? arguments.endpoint
              : !settings->endpoint.empty() ? settings->endpoint
                                            : "http://127.0.0.1:4567";
    while (out.url.ends_with('/')) {
        out.url.pop_back();
    }
    out.credential = settings->credential;
    out.region = arguments.region.empty() ? settings->region : arguments.region;
    out.ca_bundle = arguments.ca.empty() ? settings->ca_bundle : arguments.ca;
    return true;
}

// Whether an earlier run's file is there; false: `why`.
bool find_checkpoint(const ConsumeArguments& arguments, Checkpoint& checkpoint, bool& is_there,
                     std::string& why) {
    is_there = false;
    if (arguments.checkpoint.empty()) {
        return true;
    }
    switch (read_checkpoint(arguments.checkpoint, checkpoint, why)) {
        case consumer::CheckpointFile::absent:
            return true;
        case consumer::CheckpointFile::bad:
            return false;
        case consumer::CheckpointFile::read:
            break;
    }
    if (checkpoint.stream != arguments.stream) {
        why = arguments.checkpoint + ": found a checkpoint of stream '" + checkpoint.stream +
              "'; expected '" + arguments.stream + "'";
        return false;
    }
    is_there = true;
    return true;
}

consumer::StreamReaderOptions reader_options(const ConsumeArguments& arguments) {
    consumer::StreamReaderOptions options;
    options.stream = arguments.stream;
    options.shards = arguments.shards;
    options.from = arguments.from;
    options.follow = arguments.follow;
    options.threads = arguments.threads;
    options.poll_ms = arguments.poll_ms;
    options.give_up_ms = arguments.give_up_s * 1000;
    if (arguments.limit != 0) {
        options.records_per_call =
            static_cast<unsigned>(std::min<std::uint64_t>(arguments.limit, 10'000));
    }
    return options;
}

}  // namespace

int run_consume(const ConsumeArguments& arguments, int out, std::ostream& err) {
    HttpEndpoint endpoint;
    Checkpoint checkpoint;
    bool resumes = false;
    std::string why;
    if (!endpoint_of(arguments, endpoint, why) ||
        !find_checkpoint(arguments, checkpoint, resumes, why)) {
        return refuse(err, why);
    }
    RecordOutput output(out, arguments.format);
    StreamReader reader(
        reader_options(arguments),
        [&] { return std::make_unique<consumer::HttpKinesisApi>(endpoint); },
        resumes ? &checkpoint : nullptr);
    const StopOnSignals signals([&] {
        output.stop();
        reader.stop();
    });
    if (resumes && arguments.from_given) {
        err << "penstock consume: --from: passed over, since " << arguments.checkpoint
            << " says where to go on\n";
    }
    StreamOutcome outcome = reader.outcome();
    if (reader.prepare()) {
        Checkpoint begun = checkpoint;
        begun.stream = arguments.stream;
        begun.start = reader.resumable_start();
        for (const std::string& gone : reader.gone()) {
            err << "penstock consume: " << gone << " of " << arguments.checkpoint
                << " is not in the stream any more; what it had behind the checkpoint is lost\n";
            begun.shards[gone].ended = true;
        }
        Delivery delivery(output,
                          {.limit = arguments.limit == 0 ? UINT64_MAX : arguments.limit,
                           .checkpoint_path = arguments.checkpoint},
                          std::move(begun));
        outcome = reader.run(delivery);
        if (!delivery.save(why)) {
            return refuse(err, why);
        }
    } else {
        outcome = reader.outcome();
    }
    switch (outcome) {
        case StreamOutcome::done:
        case StreamOutcome::limit_reached:
            return 0;
        case StreamOutcome::stopped:
            // A signal is how following ends.
            return arguments.follow && arguments.limit == 0 ? 0 : exit_interrupted;
        case StreamOutcome::failed:
            break;
    }
    return refuse(err, reader.why());
}

}  // namespace penstock
