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
#include <sched.h>
#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "storage/base/clock.h"
#include "storage/base/histogram.h"
#include "storage/io/durability_probe.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/replica/set.h"

namespace penstock {
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
    std::string directory;
    double seconds = 5;
    double warm_seconds = 1;
    unsigned shards = 1;
    std::uint32_t record_bytes = 1024;
    std::uint64_t memory_mib = 128;
    std::uint64_t container_mib = 256;
    std::uint64_t ready_gib = 4;
    std::uint32_t direct_threshold_kib = GroupOptions{}.direct_threshold_bytes >> 10;
    std::uint64_t linger_us = GroupOptions{}.linger_ns / 1000;
    std::int64_t retention_ms = 1500;
    double rate = 0;                 // records a second; 0: as many as it takes
    std::optional<FlushMode> flush;  // none: what each drive was measured to need
    int cpu = -1;
    GroupOptions group;
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

    bool open(std::string& why);
    bool make_ready(std::string& why);
    bool measure(Measured& out, std::string& why);
    bool close(std::string& why);
    [[nodiscard]] const DurabilityReport& durability(unsigned r) const {
        return set_->durability(r);
    }
    [[nodiscard]] const UringEngine& engine() const noexcept { return *engine_; }

private:
    // A shard of the measurement and the schedule its records follow.
    struct Target {
        ShardLog* log = nullptr;
        std::uint64_t committed = 0;
    };

    void turn() noexcept;
    bool change(bool add, ShardUid shard, std::int64_t retention_ms, std::string& why);
    bool drop_all(std::string& why);
    AppendVerdict append(ShardLog& shard) noexcept;
    void append_what_fits() noexcept;
    void append_what_is_due() noexcept;
    void run_until(std::uint64_t end_ns) noexcept;
    static void on_commit(void* self, ShardUid shard, std::uint64_t latency_ns,
                          std::uint32_t records, std::uint64_t bytes) noexcept;

    Options options_;
    SystemClock clock_;
    std::vector<std::byte> source_;
    std::size_t source_at_ = 0;
    std::unique_ptr<ReplicaSet> set_;
    std::unique_ptr<UringEngine> engine_;
    std::unique_ptr<FramePool> pool_;
    std::unique_ptr<ShardGroup> group_;
    std::uint64_t first_uid_ = 0;
    std::vector<Target> targets_;
    std::size_t next_target_ = 0;
    std::uint64_t key_ = 0;

    bool measuring_ = false;
    Histogram latency_;
    std::uint64_t records_ = 0;
    std::uint64_t frames_ = 0;
    std::uint64_t turns_ = 0;
    std::uint64_t refused_turns_ = 0;
    // Open loop: record i of the schedule is due at start + i × interval and goes to shard i mod n.
    std::uint64_t schedule_start_ns_ = 0;
    double interval_ns_ = 0;
    std::uint64_t scheduled_ = 0;
    std::uint64_t behind_ns_max_ = 0;
};

bool Ingest::open(std::string& why) {
    ReplicaSetOptions set;
    for (unsigned r = 0; r < replica_count; ++r) {
        const auto place =
            std::filesystem::path(options_.directory) / ("replica-" + std::to_string(r));
        std::error_code error;
        std::filesystem::create_directories(place, error);
        set.directories[r] = place.string();
    }
    set.for_new.container_bytes = options_.container_mib << 20;
    set.for_new.data_groups = 1;
    auto opened = ReplicaSet::open(set, why);
    // The kernel takes a moment to end the ring of a run that has just exited, and the locks with
    // it.
    const std::uint64_t deadline = clock_.monotonic_ns() + 5 * second_ns;
    while (!opened && opened.error().code == Errc::locked && clock_.monotonic_ns() < deadline) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        why.clear();
        opened = ReplicaSet::open(set, why);
    }
    if (!opened) {
        why = why.empty() ? describe(opened.error()) : why;
        return false;
    }
    set_ = std::move(*opened);
    UringOptions engine;
    for (unsigned r = 0; r < replica_count; ++r) {
        const ReplicaPlace place = set_->directory(r);
        engine.directory_fds[r] = place.fd;
        engine.flush_modes[r] = options_.flush.value_or(set_->durability(r).mode);
        engine.lock_fds[r] = place.lock_fd;
    }
    engine.entries = 1024;
    engine.huge_pages = true;
    auto ring = UringEngine::open(engine);
    if (!ring) {
        why = UringEngine::explain_open_failure(ring.error());
        return false;
    }
    engine_ = std::move(*ring);
    auto pool = FramePool::open(*engine_, options_.memory_mib << 20);
    if (!pool) {
        why = "no memory for frames: " + describe(pool.error());
        return false;
    }
    pool_ = std::move(*pool);
    options_.group.group = GroupId{1};
    options_.group.epoch = set_->epoch();
    options_.group.geometry = set_->geometry();
    options_.group.voting = set_->voting();
    options_.group.filling = set_->filling();
    auto group = ShardGroup::recover(options_.group, *engine_, clock_, *pool_);
    if (!group) {
        why = "recovery: " + describe(group.error());
        return false;
    }
    group_ = std::move(*group);
    group_->observe_commits(&Ingest::on_commit, this);
    // Uids are never reused: each run has its own range.
    first_uid_ = value(set_->epoch()) << 20;
    return true;
}

void Ingest::on_commit(void* self, ShardUid shard, std::uint64_t latency_ns, std::uint32_t records,
                       std::uint64_t) noexcept {
    auto& own = *static_cast<Ingest*>(self);
    const std::uint64_t index = value(shard) - own.first_uid_;
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
    const std::uint64_t now = own.clock_.monotonic_ns();
    for (std::uint32_t i = 0; i < records; ++i) {
        const std::uint64_t number = target.committed++ * own.targets_.size() + index;
        const std::uint64_t due =
            own.schedule_start_ns_ +
            static_cast<std::uint64_t>(static_cast<double>(number) * own.interval_ns_);
        own.latency_.add(now > due ? now - due : 0);
    }
}

// The part of a lane's turn that is about storage, in the lane's order.
void Ingest::turn() noexcept {
    (void)group_->turn();
    engine_->submit();
    std::array<IoCompletion, 256> done;
    const std::size_t count = engine_->reap(done);
    for (std::size_t i = 0; i < count; ++i) {
        group_->complete(done[i]);
    }
    ++turns_;
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
    const AppendVerdict verdict = group_->append(shard, record, AckLevel::quorum, appended);
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
    const std::uint64_t now = clock_.monotonic_ns();
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
    while (clock_.monotonic_ns() < end_ns) {
        if (interval_ns_ == 0) {
            append_what_fits();
        } else {
            append_what_is_due();
        }
        turn();
    }
}

bool Ingest::change(bool add, ShardUid shard, std::int64_t retention_ms, std::string& why) {
    struct Waiter : CommitWaiter {
        bool done = false;
        Errc outcome = Errc::ok;
    } waiter;
    waiter.on_done = [](CommitWaiter& self, Errc outcome) noexcept {
        static_cast<Waiter&>(self).outcome = outcome;
        static_cast<Waiter&>(self).done = true;
    };
    if (add) {
        group_->add_shard(shard, retention_ms, waiter);
    } else {
        group_->drop_shard(shard, waiter);
    }
    const std::uint64_t deadline = clock_.monotonic_ns() + 30 * second_ns;
    while (!waiter.done) {
        turn();
        if (clock_.monotonic_ns() > deadline) {
            std::fprintf(stderr, "storage_ingest: shard %s took more than 30 s\n",
                         add ? "add" : "drop");
            std::_Exit(1);  // the group still knows the waiter
        }
    }
    if (waiter.outcome != Errc::ok) {
        why = std::string(add ? "adding" : "dropping") + " a shard: " + describe(waiter.outcome);
    }
    return waiter.outcome == Errc::ok;
}

bool Ingest::drop_all(std::string& why) {
    std::vector<ShardUid> known(1U << 16);
    std::size_t count = 0;
    group_->list_shards(known, count);
    for (std::size_t i = 0; i < count; ++i) {
        if (!change(false, known[i], 0, why)) {
            return false;
        }
    }
    return true;
}

// Frees what earlier runs left, and fills the set once so far that all space the measurement will
// use was written before.
bool Ingest::make_ready(std::string& why) {
    if (!drop_all(why)) {
        return false;
    }
    const std::uint64_t filler = first_uid_ + (1U << 19);
    if (group_->gauges().segment_size_bytes < options_.ready_gib << 30) {
        if (!change(true, ShardUid{filler}, day_ms, why)) {
            return false;
        }
        ShardLog* log = group_->find(ShardUid{filler});
        const std::uint64_t deadline = clock_.monotonic_ns() + 600 * second_ns;
        while (group_->gauges().segment_size_bytes < options_.ready_gib << 30) {
            for (int i = 0; i < 512 && append(*log) == AppendVerdict::accepted; ++i) {
            }
            turn();
            if (group_->gauges().disk_full || clock_.monotonic_ns() > deadline) {
                why = "the directory has no room for " + std::to_string(3 * options_.ready_gib) +
                      " GiB; lower --ready-gib";
                return false;
            }
        }
        if (!change(false, ShardUid{filler}, 0, why)) {
            return false;
        }
    }
    for (unsigned i = 0; i < options_.shards; ++i) {
        const ShardUid uid{first_uid_ + i};
        if (!change(true, uid, options_.retention_ms, why)) {
            return false;
        }
        targets_.push_back({group_->find(uid), 0});
    }
    return true;
}

bool Ingest::measure(Measured& out, std::string& why) {
    run_until(clock_.monotonic_ns() + static_cast<std::uint64_t>(options_.warm_seconds * 1e9));
    if (options_.rate > 0) {
        // The schedule begins with nothing pending, so that committed record n is scheduled record
        // n.
        while (!group_->drain()) {
            turn();
        }
        schedule_start_ns_ = clock_.monotonic_ns();
        interval_ns_ = 1e9 / options_.rate;
    }
    measuring_ = true;
    turns_ = refused_turns_ = 0;
    out.before = group_->counters();
    out.segment_bytes_before = group_->gauges().segment_size_bytes;
    std::uint64_t system_before = 0;
    const std::uint64_t cpu_before = thread_cpu_ns(&system_before);
    const std::uint64_t begin = clock_.monotonic_ns();
    run_until(begin + static_cast<std::uint64_t>(options_.seconds * 1e9));
    out.elapsed_ns = clock_.monotonic_ns() - begin;
    std::uint64_t system_after = 0;
    out.cpu_ns = thread_cpu_ns(&system_after) - cpu_before;
    out.system_ns = system_after - system_before;
    out.records = records_;
    out.frames = frames_;
    out.turns = turns_;
    out.refused_turns = refused_turns_;
    out.behind_ns_max = behind_ns_max_;
    out.after = group_->counters();
    out.segment_bytes_after = group_->gauges().segment_size_bytes;
    if (options_.rate > 0) {
        // What was appended and is not committed yet belongs to the distribution too.
        while (records_ < scheduled_) {
            turn();
            if (clock_.monotonic_ns() > begin + out.elapsed_ns + 30 * second_ns) {
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
    const std::uint64_t deadline = clock_.monotonic_ns() + 30 * second_ns;
    while (!group_->drain()) {
        turn();
        if (clock_.monotonic_ns() > deadline) {
            why = "draining took more than 30 s";
            return false;
        }
    }
    const bool dropped = drop_all(why);
    while (engine_->in_flight() != 0) {
        turn();
    }
    group_.reset();
    pool_.reset();
    engine_.reset();
    set_.reset();
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
        options.flush.value_or(drive.mode) == FlushMode::dsync ? "dsync" : "flush",
        ingest.engine().huge_pages() ? "true" : "false",
        ingest.engine().buffers_registered() ? "true" : "false", drive.file_system.c_str(),
        drive.device.c_str());
}

int run(const Options& options) {
    if (options.cpu >= 0) {
        cpu_set_t cpus;
        CPU_ZERO(&cpus);
        CPU_SET(options.cpu, &cpus);
        if (sched_setaffinity(0, sizeof(cpus), &cpus) != 0) {
            std::fprintf(stderr, "storage_ingest: --cpu: CPU %d cannot be used by this process\n",
                         options.cpu);
            return 2;
        }
    }
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
}  // namespace penstock

int main(int argc, char** argv) {
    penstock::Options options;
    CLI::App app{
        "Appends records to one shard group on the three replicas DIR/replica-0..2 and prints what "
        "was committed as one line of JSON. Keeps DIR, so that the next run finds its space "
        "written."};
    app.option_defaults()->always_capture_default();
    app.add_option("--dir", options.directory, "Where the replicas are")->required();
    app.add_option("--seconds", options.seconds, "Time measured")->check(CLI::PositiveNumber);
    app.add_option("--warm", options.warm_seconds, "Time before that");
    app.add_option("--shards", options.shards, "Filled in turn")->check(CLI::Range(1, 1 << 18));
    app.add_option("--record-bytes", options.record_bytes, "Payload of a record")
        ->check(CLI::Range(1, 1 << 20));
    app.add_option("--rate", options.rate, "Records a second, open loop; 0: all that is taken");
    app.add_option("--cpu", options.cpu, "CPU to run on; -1: any");
    app.add_option("--memory-mib", options.memory_mib, "The lane's buffers");
    app.add_option("--container-mib", options.container_mib, "Segment files grow by one of these");
    app.add_option("--ready-gib", options.ready_gib, "Space written before measuring");
    app.add_option("--retention-ms", options.retention_ms, "After which space is used again");
    app.add_option("--direct-threshold-kib", options.direct_threshold_kib,
                   "From so much pending a shard writes to its segment directly");
    app.add_option("--in-flight", options.group.writes_in_flight_enough,
                   "While so many direct writes are under way, no shard starts another");
    app.add_option("--linger-us", options.linger_us, "Least time between journal blocks");
    std::string flush;
    app.add_option("--flush", flush, "Default: what each drive was measured to need")
        ->check(CLI::IsMember({"dsync", "flush"}));
    CLI11_PARSE(app, argc, argv);
    options.group.direct_threshold_bytes = options.direct_threshold_kib << 10;
    options.group.linger_ns = options.linger_us * 1000;
    if (!flush.empty()) {
        options.flush =
            flush == "dsync" ? penstock::FlushMode::dsync : penstock::FlushMode::write_then_flush;
    }
    return penstock::run(options);
}
