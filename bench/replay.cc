// Reads a shard's history as GetRecords does, without HTTP and JSON: a plan from the group, the
// segment reader on the thread that wants the records, every frame verified, every record seen.
//
// The log is written first and kept with --keep, so that the next run finds it. Readers take turns
// on one thread and one segment reader, as the requests of one control thread do, each at a place
// of its own; one that has come to the end begins again at the oldest record.
//
// Runs on: one thread, pinned with --cpu. It owns the group too; a plan costs the lane
// microseconds.
#include <CLI/CLI.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "bench/one_group.h"
#include "storage/segment/reader.h"

namespace penstock::bench {
namespace {

constexpr std::int64_t retention_ms = 7LL * 24 * 3600 * 1000;
constexpr std::uint64_t turn_bytes_max = 1U << 20;

struct Options {
    OneGroup::Options group;
    double gib = 4;
    unsigned readers = 1;
    std::uint32_t record_bytes = 1024;
    std::uint32_t plan_mib = 11;  // as GetRecords plans a full answer
    double seconds = 5;
    double warm_seconds = 0.5;
    bool keep = false;
};

struct Times {
    std::uint64_t user_ns = 0;
    std::uint64_t system_ns = 0;
};

Times thread_times() noexcept {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    const auto ns = [](const timeval& t) {
        return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000 +
               static_cast<std::uint64_t>(t.tv_usec) * 1000;
    };
    return {ns(usage.ru_utime), ns(usage.ru_stime)};
}

struct Totals {
    std::uint64_t bytes = 0;  // data and keys
    std::uint64_t records = 0;
    std::uint64_t plans = 0;
    std::uint64_t laps = 0;  // ends reached
    std::uint64_t bad_copies = 0;
};

class Replay {
public:
    explicit Replay(const Options& options) : options_(options) {}

    bool open(std::string& why) {
        if (!node_.open(options_.group, why)) {
            return false;
        }
        files_ = open_container_files(node_.set().paths());
        reader_ = std::make_unique<SegmentReader>(*files_, node_.set().geometry().set_id);
        return find_log() || (node_.drop_all(why) && write_log(why));
    }

    bool measure(Totals& out, double& seconds, Times& used, std::string& why) {
        ShardStatus status;
        if (!node_.group().shard_status(shard_, status)) {
            why = "the shard is gone";
            return false;
        }
        const std::uint64_t length = status.end_sequence - status.trim_sequence;
        for (unsigned i = 0; i < options_.readers; ++i) {
            at_.push_back(status.trim_sequence + length / options_.readers * i);
        }
        if (!run_for(options_.warm_seconds, why)) {
            return false;
        }
        totals_ = {};
        const Times before = thread_times();
        const std::uint64_t begin = node_.clock().monotonic_ns();
        if (!run_for(options_.seconds, why)) {
            return false;
        }
        seconds = static_cast<double>(node_.clock().monotonic_ns() - begin) / 1e9;
        const Times after = thread_times();
        used = {after.user_ns - before.user_ns, after.system_ns - before.system_ns};
        out = totals_;
        return true;
    }

    bool close(std::string& why) {
        if (!options_.keep && !node_.drop_all(why)) {
            return false;
        }
        reader_.reset();
        files_.reset();
        node_.close();
        return true;
    }
    [[nodiscard]] std::uint64_t stored_bytes() {
        ShardStatus status;
        return node_.group().shard_status(shard_, status) ? status.stored_bytes : 0;
    }

private:
    [[nodiscard]] std::uint64_t wanted_bytes() const noexcept {
        return static_cast<std::uint64_t>(options_.gib * (1U << 30));
    }

    // What an earlier run kept.
    bool find_log() {
        for (const ShardUid shard : node_.shards()) {
            ShardStatus status;
            if (node_.group().shard_status(shard, status) &&
                status.stored_bytes >= wanted_bytes()) {
                shard_ = shard;
                return true;
            }
        }
        return false;
    }

    bool write_log(std::string& why) {
        shard_ = ShardUid{node_.first_uid() + 1};
        if (!node_.add_shard(shard_, retention_ms, why)) {
            return false;
        }
        std::vector<std::byte> source(4U << 20);
        std::mt19937_64 random(20260101);
        for (std::size_t i = 0; i < source.size(); i += 8) {
            store(source.data() + i, random());
        }
        ShardLog* log = node_.group().find(shard_);
        std::uint64_t key = 0;
        std::uint64_t written = 0;
        std::size_t from = 0;
        while (written < wanted_bytes()) {
            for (std::uint64_t turn = 0; turn < turn_bytes_max; turn += options_.record_bytes) {
                from = from + options_.record_bytes > source.size() ? 0 : from;
                std::array<char, 16> name{};
                for (std::uint64_t n = key, i = 0; i < name.size(); ++i, n >>= 4) {
                    name[i] = "0123456789abcdef"[n & 15];
                }
                RecordIn record;
                record.partition_key = as_bytes({name.data(), name.size()});
                record.data = {source.data() + from, options_.record_bytes};
                Appended appended;
                if (node_.group().append(*log, record, AckLevel::quorum, appended) !=
                    AppendVerdict::accepted) {
                    break;
                }
                ++key;
                from += options_.record_bytes;
                written += options_.record_bytes;
            }
            node_.turn();
            if (node_.group().gauges().disk_full) {
                why = "the directory has no room for three times " + std::to_string(options_.gib) +
                      " GiB; lower --gib";
                return false;
            }
        }
        return node_.drain(why);
    }

    bool run_for(double seconds, std::string& why) {
        const std::uint64_t end =
            node_.clock().monotonic_ns() + static_cast<std::uint64_t>(seconds * 1e9);
        while (node_.clock().monotonic_ns() < end) {
            for (Sequence& at : at_) {
                if (!read_one(at, why)) {
                    return false;
                }
            }
            node_.turn();
        }
        return true;
    }

    // One GetRecords, more or less.
    bool read_one(Sequence& at, std::string& why) {
        ReadStart start;
        start.from = at == 0 ? ReadFrom::trim_horizon : ReadFrom::sequence;
        start.sequence = at;
        if (const Status planned =
                node_.group().plan_read(shard_, start, options_.plan_mib << 20, plan_);
            !planned) {
            why = "no plan: " + describe(planned.error());
            return false;
        }
        ReadOutcome outcome;
        const Status done = reader_->read(
            plan_,
            [this](const RecordView& record) {
                totals_.bytes += record.data.size() + record.partition_key.size();
                return true;
            },
            outcome);
        node_.group().release(plan_);
        if (!done || outcome.stale) {
            why = done ? "a place was reused although nothing is deleted"
                       : "reading: " + describe(done.error());
            return false;
        }
        totals_.records += outcome.records;
        totals_.bad_copies += outcome.bad_copies;
        ++totals_.plans;
        at = outcome.next_sequence;
        if (at >= plan_.end_sequence) {
            at = 0;
            ++totals_.laps;
        } else if (outcome.records == 0) {
            why = "a plan led nowhere";
            return false;
        }
        return true;
    }

    const Options& options_;
    OneGroup node_;
    std::unique_ptr<ContainerFiles> files_;
    std::unique_ptr<SegmentReader> reader_;
    ShardUid shard_{};
    std::vector<Sequence> at_;  // of each reader; 0: the oldest record
    ReadPlan plan_;
    Totals totals_;
};

int run(const Options& options) {
    Replay replay(options);
    Totals totals;
    Times used;
    double seconds = 0;
    std::string why;
    if (!replay.open(why) || !replay.measure(totals, seconds, used, why)) {
        std::fprintf(stderr, "replay: %s\n", why.c_str());
        std::_Exit(1);  // I/O may be in flight
    }
    const auto per_s = [&](std::uint64_t count) { return static_cast<double>(count) / seconds; };
    std::printf(
        "{\"bytes_per_s\":%.0f,\"records_per_s\":%.0f,\"plans_per_s\":%.0f,\"laps\":%llu,"
        "\"bad_copies\":%llu,\"readers\":%u,\"user_share\":%.3f,\"system_share\":%.3f,"
        "\"stored_bytes\":%llu,\"seconds\":%.3f}\n",
        per_s(totals.bytes), per_s(totals.records), per_s(totals.plans),
        static_cast<unsigned long long>(totals.laps),
        static_cast<unsigned long long>(totals.bad_copies), options.readers,
        static_cast<double>(used.user_ns) / 1e9 / seconds,
        static_cast<double>(used.system_ns) / 1e9 / seconds,
        static_cast<unsigned long long>(replay.stored_bytes()), seconds);
    std::fflush(stdout);
    if (!replay.close(why)) {
        std::fprintf(stderr, "replay: %s\n", why.c_str());
        std::_Exit(1);
    }
    return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
    penstock::bench::Options options;
    CLI::App app{
        "Reads the history of one shard on the three replicas DIR/replica-0..2, which it writes "
        "first if it is not there, and prints what came out as one line of JSON."};
    app.option_defaults()->always_capture_default();
    app.add_option("--dir", options.group.directory, "Where the replicas are")->required();
    app.add_option("--gib", options.gib, "Length of the log")->check(CLI::PositiveNumber);
    app.add_option("--readers", options.readers, "At different places, in turn")
        ->check(CLI::Range(1, 1000));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--plan-mib", options.plan_mib, "Read for one call")->check(CLI::Range(1, 1024));
    app.add_option("--seconds", options.seconds, "Time measured")->check(CLI::PositiveNumber);
    app.add_option("--warm", options.warm_seconds, "Time before that");
    app.add_option("--cpu", options.group.cpu, "CPU to run on; -1: any");
    app.add_option("--memory-mib", options.group.memory_mib, "The lane's buffers");
    app.add_option("--container-mib", options.group.container_mib, "Segment files grow by one");
    app.add_flag("--keep", options.keep, "Leave the log for the next run");
    CLI11_PARSE(app, argc, argv);
    return penstock::bench::run(options);
}
