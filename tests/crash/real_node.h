// A storage node on three real directories through io_uring, whose n-th change of a file kills the
// process or fails; and a ledger of what it was asked and answered that outlives the process.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/clock.h"
#include "storage/io/directory.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/replica/set.h"
#include "storage/segment/container_files.h"
#include "storage/segment/reader.h"

namespace penstock::test {

// What happens at the n-th change: a write, flush, allocate or reserve, a file made or removed.
enum class Trouble : std::uint8_t {
    none,
    kill_before,  // the process dies, and the change is not handed over
    kill_behind,  // it dies, and the change is under way, like all before it
    error,        // the change fails with EIO and is not done
};

// Counts over the engines of one process.
struct Countdown {
    Trouble trouble = Trouble::none;
    std::uint64_t at = 0;
    std::uint64_t seen = 0;
};

class CountingEngine final : public IoEngine {
public:
    CountingEngine(std::unique_ptr<UringEngine> engine, Countdown& countdown)
        : engine_(std::move(engine)), countdown_(countdown) {}
    [[nodiscard]] Result<FileHandle> open(unsigned replica, std::string_view name,
                                          OpenMode mode) override;
    void close(FileHandle file) override { engine_->close(file); }
    [[nodiscard]] Result<std::uint64_t> size_bytes(FileHandle file) override {
        return engine_->size_bytes(file);
    }
    [[nodiscard]] Status remove(unsigned replica, std::string_view name) override;
    [[nodiscard]] bool queue(const IoRequest& request) noexcept override;
    void submit() noexcept override { engine_->submit(); }
    [[nodiscard]] std::size_t reap(std::span<IoCompletion> out) noexcept override;
    void wait(std::uint64_t timeout_ns) noexcept override;
    void hurry_allocates() noexcept override { engine_->hurry_allocates(); }
    [[nodiscard]] std::size_t in_flight() const noexcept override {
        return engine_->in_flight() + failed_.size();
    }
    [[nodiscard]] std::byte* allocate_buffer(std::size_t bytes) override {
        return engine_->allocate_buffer(bytes);
    }

private:
    // True if this change is the one that fails.
    [[nodiscard]] bool count(bool dies_behind) noexcept;

    std::unique_ptr<UringEngine> engine_;
    Countdown& countdown_;
    std::vector<IoCompletion> failed_;
};

// Real time, and what a test adds to it.
class ShiftedClock final : public Clock {
public:
    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override {
        return clock_.monotonic_ns() + by_ns_;
    }
    [[nodiscard]] std::int64_t wall_ms() noexcept override {
        return clock_.wall_ms() + static_cast<std::int64_t>(by_ns_ / 1'000'000);
    }
    void advance(std::uint64_t by_ns) noexcept { by_ns_ += by_ns; }

private:
    SystemClock clock_;
    std::uint64_t by_ns_ = 0;
};

// -- What was asked and answered ------------------------------------------------------------------

enum class Said : std::uint32_t {
    sent,
    acked,
    add_asked,
    add_acked,
    drop_asked,
    drop_acked,
    close_asked,
    close_acked
};

struct Entry {
    Said said = Said::sent;
    std::uint32_t life = 0;
    std::uint64_t uid = 0;
    Sequence sequence = 0;
    std::uint64_t serial = 0;
    std::uint32_t length = 0;
    std::int64_t arrival_ms = 0;
};

// In memory that forked processes share: an entry counts once its number is stored, and what a
// process noted before it was killed is there.
struct Ledger {
    static constexpr std::uint64_t entries_max = 4096;
    std::atomic<std::uint64_t> count{0};
    std::uint32_t life = 0;
    std::uint64_t changes = 0;  // that the last process saw
    std::uint64_t clock_shift_ns = 0;
    std::array<char, 512> broken{};  // the promise that did not hold
    std::array<Entry, entries_max> entries;

    void note(const Entry& entry) noexcept;
};

// The bytes of record `serial`.
[[nodiscard]] std::vector<std::byte> data_of(std::uint64_t serial, std::uint32_t length);

// -- The node -------------------------------------------------------------------------------------

class RealNode {
public:
    // Opens and locks the directories, promises an epoch, recovers the group.
    [[nodiscard]] static Result<std::unique_ptr<RealNode>> start(const std::string& root,
                                                                 Ledger& ledger,
                                                                 Countdown& countdown,
                                                                 std::string& message);
    ~RealNode();
    RealNode(const RealNode&) = delete;
    RealNode& operator=(const RealNode&) = delete;

    void step();
    // False: it took too long.
    [[nodiscard]] bool step_until(const std::function<bool()>& done);
    // Until everything that was asked is answered.
    [[nodiscard]] bool settle();
    void advance(std::uint64_t by_ns);
    [[nodiscard]] bool drain();

    [[nodiscard]] bool append(std::uint64_t uid, std::uint32_t length);
    void add(std::uint64_t uid, std::int64_t retention_ms);
    void drop(std::uint64_t uid);
    void close(std::uint64_t uid);
    [[nodiscard]] ShardGroup& group() { return *group_; }
    // What the ledger says must be there is there, and nothing that it does not know. Empty: it
    // is so.
    [[nodiscard]] std::string check();

private:
    struct Waiter : CommitWaiter {
        RealNode* node = nullptr;
        Entry entry;
        bool done = false;
    };
    RealNode(const std::string& root, Ledger& ledger) : root_(root), ledger_(ledger) {}
    static void on_done(CommitWaiter& self, Errc outcome) noexcept;
    static void on_replica(void* context, unsigned replica, Error why) noexcept;
    Waiter& wait_for(Said asked, Said answered, std::uint64_t uid);
    [[nodiscard]] std::string check_shard(std::uint64_t uid);
    [[nodiscard]] std::string read_shard(std::uint64_t uid, std::vector<Sequence>& found,
                                         Sequence& trim);

    std::string root_;
    Ledger& ledger_;
    ShiftedClock clock_;
    std::array<std::unique_ptr<ReplicaDirectory>, replica_count> directories_;
    std::unique_ptr<IoEngine> engine_;
    std::unique_ptr<FramePool> pool_;
    std::unique_ptr<ShardGroup> group_;
    std::unique_ptr<ContainerFiles> files_;
    OpenedSet opened_;
    ReplicaMask failed_ = 0;
    std::vector<std::unique_ptr<Waiter>> waiting_;
};

}  // namespace penstock::test
