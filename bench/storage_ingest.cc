// Drives the storage layer alone, as one lane does: records go into one shard group as fast as it
// takes them, or at a fixed rate, and every committed record is counted on its way out.
//
// It opens a real replica set, so what is measured is what a node writes: three directories, the
// flush the drive was measured to need, recovery at start. Space that was written before is made
// ready first, since first writes into new space are slower and a node pays for them once.
//
// With --rate the load is open: record i is due at start + i / rate whatever the drive does, and
// its latency counts from that moment, so a stall is charged to every record that was due during
// it.
//
// Runs on: one thread, pinned with --cpu.
#include <CLI/CLI.hpp>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "bench/one_group.h"
#include "storage/base/histogram.h"

namespace penstock::bench {
namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;
constexpr std::int64_t day_ms = 24LL * 3600 * 1000;
constexpr std::size_t source_bytes = 4U << 20;  // payloads come from memory, not from one hot line
// What one turn may append before it looks at completions, as a lane's budget (LaneBudgets).
constexpr std::uint64_t turn_bytes_max = 1U << 20;
// A lane that finds no memory leaves its packets in the port's ring until something completed; so
// many shards may refuse before this one does.
constexpr std::size_t refused_max = 16;

struct Options {
    OneGroup::Options node;
    double seconds = 5;
    double warm_seconds = 1;
    unsigned shards = 1;
    std::uint32_t record_bytes = 1024;
    std::uint64_t ready_gib = 4;
    std::uint32_t direct_threshold_kib = GroupOptions{}.direct_threshold_bytes >> 10;
    std::uint64_t linger_us = GroupOptions{}.linger_ns / 1000;
    std::int64_t retention_ms = 1500;
    double rate = 0;  // records a second; 0: as many as it takes
};

struct Measured {
    HistogramSnapshot latency;
    std::uint64_t records = 0;
    std::uint64_t frames = 0;
    std::uint64_t elapsed_ns = 0;
    std::uint64_t cpu_ns = 0;
    std::uint64_t system_ns = 0;
    std::uint64_t turns = 0;
    std::uint64_t refused_turns = 0;
    std::uint64_t behind_ns_max = 0;  // paced: how far appending fell behind its schedule
    GroupCounters before;
    GroupCounters after;
    std::uint64_t segment_bytes_before = 0;
    std::uint64_t segment_bytes_after = 0;
};

std::uint64_t thread_cpu_ns(std::uint64_t* system_ns) noexcept {
    rusage usage{};
    getrusage(RUSAGE_THREAD, &usage);
    const auto ns = [](const timeval& t) {
        return static_cast<std::uint64_t>(t.tv_sec) * second_ns +
               static_cast<std::uint64_t>(t.tv_usec) * 1000;
    };
    *system_ns = ns(usage.ru_stime);
    return ns(usage.ru_utime) + ns(usage.ru_stime);
}

class Ingest {
public:
    explicit Ingest(Options options) : options_(std::move(options)), source_(source_bytes) {
        std::mt19937_64 random(20260101);
        for (std::size_t i = 0; i < source_.size(); i += 8) {
            store(source_.data() + i, random());
        }
    }

    bool open(std::string& why) {
        if (!node_.open(options_.node, why)) {
            return false;
        }
        node_.group().observe_commits(&Ingest::on_commit, this);
        return true;
    }
    bool make_ready(std::string& why);
    bool measure(Measured& out, std::string& why);
    bool close(std::string& why);
    [[nodiscard]] const DurabilityReport& durability(unsigned r) const {
        return node_.set().durability(r);
    }
    [[nodiscard]] const UringEngine& engine() const noexcept { return node_.engine(); }

private:
    // A shard of the measurement and the schedule its records follow.
    struct Target {
        ShardLog* log = nullptr;
        std::uint64_t committed = 0;
    };

    AppendVerdict append(ShardLog& shard) noexcept;
    void append_what_fits() noexcept;
    void append_what_is_due() noexcept;
    void run_until(std::uint64_t end_ns) noexcept;
    static void on_commit(void* self, ShardUid shard, std::uint64_t latency_ns,
                          std::uint32_t records, std::uint64_t bytes) noexcept;

    Options options_;
    OneGroup node_;
    std::vector<std::byte> source_;
    std::size_t source_at_ = 0;
    std::vector<Target> targets_;
    std::size_t next_target_ = 0;
    std::uint64_t key_ = 0;

    bool measuring_ = false;
    Histogram latency_;
    std::uint64_t records_ = 0;
    std::uint64_t frames_ = 0;
    std::uint64_t refused_turns_ = 0;
    // Open loop: record i of the schedule is due at start + i × interval and goes to shard i mod n.
    std::uint64_t schedule_start_ns_ = 0;
    double interval_ns_ = 0;
    std::uint64_t scheduled_ = 0;
    std::uint64_t behind_ns_max_ = 0;
};

void Ingest::on_commit(void* self, ShardUid shard, std::uint64_t latency_ns, std::uint32_t records,
                       std::uint64_t) noexcept {
    auto& own = *static_cast<Ingest*>(self);
    const std::uint64_t index = value(shard) - own.node_.first_uid();
    if (!own.measuring_ || index >= own.targets_.size()) {
        return;
    }
    own.records_ += records;
    ++own.frames_;
    Target& target = own.targets_[index];
    if (own.interval_ns_ == 0) {
        own.latency_.add(latency_ns, records);
        return;
    }
    const std::uint64_t now = own.node_.clock().monotonic_ns();
    for (std::uint32_t i = 0; i < records; ++i) {
        const std::uint64_t number = target.committed++ * own.targets_.size() + index;
        const std::uint64_t due =
            own.schedule_start_ns_ +
            static_cast<std::uint64_t>(static_cast<double>(number) * own.interval_ns_);
        own.latency_.add(now > due ? now - due : 0);
    }
}

AppendVerdict Ingest::append(ShardLog& shard) noexcept {
    std::array<char, 16> key{};
    for (std::uint64_t n = key_, i = 0; i < key.size(); ++i, n >>= 4) {
        key[i] = "0123456789abcdef"[n & 15];
    }
    if (source_at_ + options_.record_bytes > source_.size()) {
        source_at_ = 0;
    }
    RecordIn record;
    record.partition_key = as_bytes({key.data(), key.size()});
    record.data = {source_.data() + source_at_, options_.record_bytes};
    Appended appended;
    const AppendVerdict verdict = node_.group().append(shard, record, AckLevel::quorum, appended);
    if (verdict == AppendVerdict::accepted) {
        ++key_;
        source_at_ += options_.record_bytes;
    }
    return verdict;
}

void Ingest::append_what_fits() noexcept {
    std::uint64_t bytes = 0;
    std::size_t refused = 0;
    while (bytes < turn_bytes_max && refused < std::min(targets_.size(), refused_max)) {
        Target& target = targets_[next_target_];
        next_target_ = next_target_ + 1 == targets_.size() ? 0 : next_target_ + 1;
        if (append(*target.log) == AppendVerdict::accepted) {
            bytes += options_.record_bytes;
        } else {
            ++refused;
        }
    }
    refused_turns_ += refused != 0 ? 1 : 0;
}

void Ingest::append_what_is_due() noexcept {
    const std::uint64_t now = node_.clock().monotonic_ns();
    std::uint64_t bytes = 0;
    while (bytes < turn_bytes_max) {
        const std::uint64_t due =
            schedule_start_ns_ +
            static_cast<std::uint64_t>(static_cast<double>(scheduled_) * interval_ns_);
        if (due > now) {
            return;
        }
        behind_ns_max_ = std::max(behind_ns_max_, now - due);
        if (append(*targets_[scheduled_ % targets_.size()].log) != AppendVerdict::accepted) {
            ++refused_turns_;  // stays due: it waits, and its latency grows
            return;
        }
        ++scheduled_;
        bytes += options_.record_bytes;
    }
}

void Ingest::run_until(std::uint64_t end_ns) noexcept {
    while (node_.clock().monotonic_ns() < end_ns) {
        if (interval_ns_ == 0) {
            append_what_fits();
        } else {
            append_what_is_due();
        }
        node_.turn();
    }
}

// Frees what earlier runs left, and fills the set once so far that all space the measurement will
// use was written before.
bool Ingest::make_ready(std::string& why) {
    if (!node_.drop_all(why)) {
        return false;
    }
    const std::uint64_t filler = node_.first_uid() + (1U << 19);
    if (node_.group().gauges().segment_size_bytes < options_.ready_gib << 30) {
        if (!node_.add_shard(ShardUid{filler}, day_ms, why)) {
            return false;
        }
        ShardLog* log = node_.group().find(ShardUid{filler});
        const std::uint64_t deadline = node_.clock().monotonic_ns() + 600 * second_ns;
        while (node_.group().gauges().segment_size_bytes < options_.ready_gib << 30) {
            for (int i = 0; i < 512 && append(*log) == AppendVerdict::accepted; ++i) {
            }
            node_.turn();
            if (node_.group().gauges().disk_full || node_.clock().monotonic_ns() > deadline) {
                why = "the directory has no room for " + std::to_string(3 * options_.ready_gib) +
                      " GiB; lower --ready-gib";
                return false;
            }
        }
        if (!node_.drop_all(why)) {
            return false;
        }
    }
    for (unsigned i = 0; i < options_.shards; ++i) {
        const ShardUid uid{node_.first_uid() + i};
        if (!node_.add_shard(uid, options_.retention_ms, why)) {
            return false;
        }
        targets_.push_back({node_.group().find(uid), 0});
    }
    return true;
}

bool Ingest::measure(Measured& out, std::string& why) {
    run_until(node_.clock().monotonic_ns() +
              static_cast<std::uint64_t>(options_.warm_seconds * 1e9));
    if (options_.rate > 0) {
        // The schedule begins with nothing pending, so that committed record n is scheduled record
        // n.
        while (!node_.group().drain()) {
            node_.turn();
        }
        schedule_start_ns_ = node_.clock().monotonic_ns();
        interval_ns_ = 1e9 / options_.rate;
    }
    measuring_ = true;
    refused_turns_ = 0;
    const std::uint64_t turns_before = node_.turns();
    out.before = node_.group().counters();
    out.segment_bytes_before = node_.group().gauges().segment_size_bytes;
    std::uint64_t system_before = 0;
    const std::uint64_t cpu_before = thread_cpu_ns(&system_before);
    const std::uint64_t begin = node_.clock().monotonic_ns();
    run_until(begin + static_cast<std::uint64_t>(options_.seconds * 1e9));
    out.elapsed_ns = node_.clock().monotonic_ns() - begin;
    std::uint64_t system_after = 0;
    out.cpu_ns = thread_cpu_ns(&system_after) - cpu_before;
    out.system_ns = system_after - system_before;
    out.records = records_;
    out.frames = frames_;
    out.turns = node_.turns() - turns_before;
    out.refused_turns = refused_turns_;
    out.behind_ns_max = behind_ns_max_;
    out.after = node_.group().counters();
    out.segment_bytes_after = node_.group().gauges().segment_size_bytes;
    if (options_.rate > 0) {
        // What was appended and is not committed yet belongs to the distribution too.
        while (records_ < scheduled_) {
            node_.turn();
            if (node_.clock().monotonic_ns() > begin + out.elapsed_ns + 30 * second_ns) {
                why = "records appended were not committed within 30 s";
                return false;
            }
        }
    }
    measuring_ = false;
    out.latency = latency_.snapshot();
    return true;
}

bool Ingest::close(std::string& why) {
    if (!node_.drain(why)) {
        return false;
    }
    const bool dropped = node_.drop_all(why);
    node_.close();
    return dropped;
}

void print_json(const Options& options, const Ingest& ingest, const Measured& m) {
    const double seconds = static_cast<double>(m.elapsed_ns) / 1e9;
    const auto share = [&](std::uint64_t ns) {
        return static_cast<double>(ns) / static_cast<double>(m.elapsed_ns);
    };
    const auto us = [&](double p) { return static_cast<double>(m.latency.percentile(p)) / 1e3; };
    const DurabilityReport& drive = ingest.durability(0);
    std::printf(
        "{\"records\":%llu,\"seconds\":%.3f,\"records_per_s\":%.0f,\"payload_bytes_per_s\":%.0f,",
        static_cast<unsigned long long>(m.records), seconds,
        static_cast<double>(m.records) / seconds,
        static_cast<double>(m.records) * options.record_bytes / seconds);
    std::printf("\"shards\":%u,\"record_bytes\":%u,\"rate\":%.0f,", options.shards,
                options.record_bytes, options.rate);
    std::printf(
        "\"latency_us\":{\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f},",
        us(0.5), us(0.9), us(0.99), us(0.999), static_cast<double>(m.latency.largest) / 1e3);
    std::printf(
        "\"cpu_share\":%.3f,\"system_share\":%.3f,\"turns\":%llu,\"refused_turns\":%llu,"
        "\"behind_us_max\":%.1f,\"records_per_frame\":%.1f,",
        share(m.cpu_ns), share(m.system_ns), static_cast<unsigned long long>(m.turns),
        static_cast<unsigned long long>(m.refused_turns),
        static_cast<double>(m.behind_ns_max) / 1e3,
        m.frames == 0 ? 0.0 : static_cast<double>(m.records) / static_cast<double>(m.frames));
    const GroupCounters& a = m.after;
    const GroupCounters& b = m.before;
    std::printf(
        "\"frames_direct\":%llu,\"frames_journaled\":%llu,\"journal_blocks\":%llu,"
        "\"journal_bytes\":%llu,\"segment_bytes\":%llu,\"manifest_entries\":%llu,"
        "\"chunks_freed\":%llu,\"grown_bytes\":%llu,",
        static_cast<unsigned long long>(a.frames_direct - b.frames_direct),
        static_cast<unsigned long long>(a.frames_journaled - b.frames_journaled),
        static_cast<unsigned long long>(a.journal_blocks - b.journal_blocks),
        static_cast<unsigned long long>(a.journal_bytes - b.journal_bytes),
        static_cast<unsigned long long>(a.segment_bytes - b.segment_bytes),
        static_cast<unsigned long long>(a.manifest_entries - b.manifest_entries),
        static_cast<unsigned long long>(a.chunks_freed - b.chunks_freed),
        static_cast<unsigned long long>(m.segment_bytes_after - m.segment_bytes_before));
    std::printf(
        "\"flush\":\"%s\",\"huge_pages\":%s,\"buffers_registered\":%s,\"file_system\":\"%s\","
        "\"device\":\"%s\"}\n",
        options.node.flush.value_or(drive.mode) == FlushMode::dsync ? "dsync" : "flush",
        ingest.engine().huge_pages() ? "true" : "false",
        ingest.engine().buffers_registered() ? "true" : "false", drive.file_system.c_str(),
        drive.device.c_str());
}

int run(const Options& options) {
    Ingest ingest(options);
    Measured measured;
    std::string why;
    if (!ingest.open(why) || !ingest.make_ready(why) || !ingest.measure(measured, why)) {
        std::fprintf(stderr, "storage_ingest: %s\n", why.c_str());
        std::_Exit(1);  // I/O may be in flight
    }
    print_json(options, ingest, measured);
    std::fflush(stdout);
    if (!ingest.close(why)) {
        std::fprintf(stderr, "storage_ingest: %s\n", why.c_str());
        std::_Exit(1);
    }
    return 0;
}

}  // namespace
}  // namespace penstock::bench

int main(int argc, char** argv) {
    penstock::bench::Options options;
    CLI::App app{
        "Appends records to one shard group on the three replicas DIR/replica-0..2 and prints what "
        "was committed as one line of JSON. Keeps DIR, so that the next run finds its space "
        "written."};
    app.option_defaults()->always_capture_default();
    app.add_option("--dir", options.node.directory, "Where the replicas are")->required();
    app.add_option("--seconds", options.seconds, "Time measured")->check(CLI::PositiveNumber);
    app.add_option("--warm", options.warm_seconds, "Time before that");
    app.add_option("--shards", options.shards, "Filled in turn")->check(CLI::Range(1, 1 << 18));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--rate", options.rate, "Records a second, open loop; 0: all that is taken");
    app.add_option("--cpu", options.node.cpu, "CPU to run on; -1: any");
    app.add_option("--memory-mib", options.node.memory_mib, "The lane's buffers");
    app.add_option("--container-mib", options.node.container_mib,
                   "Segment files grow by one of these");
    app.add_option("--ready-gib", options.ready_gib, "Space written before measuring");
    app.add_option("--retention-ms", options.retention_ms, "After which space is used again");
    app.add_option("--direct-threshold-kib", options.direct_threshold_kib,
                   "From so much pending a shard writes to its segment directly");
    app.add_option("--in-flight", options.node.group.writes_in_flight_enough,
                   "While so many direct writes are under way, no shard starts another");
    app.add_option("--linger-us", options.linger_us, "Least time between journal blocks");
    std::string flush;
    app.add_option("--flush", flush, "Default: what each drive was measured to need")
        ->check(CLI::IsMember({"dsync", "flush"}));
    CLI11_PARSE(app, argc, argv);
    options.node.group.direct_threshold_bytes = options.direct_threshold_kib << 10;
    options.node.group.linger_ns = options.linger_us * 1000;
    if (!flush.empty()) {
        options.node.flush =
            flush == "dsync" ? penstock::FlushMode::dsync : penstock::FlushMode::write_then_flush;
    }
    return penstock::bench::run(options);
}
