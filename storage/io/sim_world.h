// Three simulated disks and a simulated clock, driven by one seed, under the real storage code.
//
// THE FAULT MODEL
//
// Disks persist over crashes; engines do not. All engines, in one thread, share the world and its
// time. Time stands still except when an engine submits, reaps or waits, or somebody asks for it.
//
// Writing. A request is accepted by queue(), handed to the disk by submit(), and takes a random
// time there, so requests finish out of order, across replicas and within one. A `write` that
// finished is visible to reads but unflushed. A `write_durable` that finished is durable. A `flush`
// makes durable what was reaped before it was queued; what had finished but was not reaped is not
// promised and not kept on purpose. An `allocate` grows the file durably, with zeroes.
//
// Power loss (crash_power). Of each unflushed write every 4 KiB block by itself survives, is lost,
// or is torn between 512-byte sectors. So writes are reordered: a later one may survive an earlier
// one. A request in flight is lost as a whole, complete as a whole, or treated block by block; a
// write_durable in flight too. An allocate in flight leaves the file as it was, grown, or grown in
// part. Created and removed names are durable when the call returned.
//
// Process kill (crash_kill). Everything submitted happens, nothing visible is lost. What is in
// flight lands late: with `locks_hold` before restart() returns, as the lock that the ring holds
// makes a new process wait; without, at any moment of the next process's life. What was only queued
// is gone.
//
// After a crash the world is down: every request, in flight or new, answers -ECANCELED, and open,
// remove and the like answer Errc::canceled. restart() brings the disks up; engines made before
// stay dead, new ones work.
//
// Misbehaving disks, by rate (SimFaults) or by call: errors on the n-th I/O; errors at random; a
// failed write has landed in part; what a failed flush should have covered never becomes
// durable by a later flush; a drive that answers flushes without doing them; a write acknowledged
// and never stored; a write stored elsewhere in its file; bits flipped on the platter or on the way
// back; a stall; slowness; a full disk. Whole-disk events: gone (its power is cut), blank, an old
// copy back, a copy of another replica. An engine keeps seeing the directory it was opened or
// attached to, as an open directory descriptor does: writes to a replaced directory succeed and
// go nowhere, and a directory that was gone stays broken in it until attach() is called.
//
// Not modelled: a directory entry lost after the call returned, reads that are torn by a write in
// flight to the same place, partial reads, time going backwards.
//
// Runs on: one thread.
// Guarantees: the same seed and the same calls give the same results; trace_digest() compares runs.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage/base/clock.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/io/engine.h"
#include "storage/io/sim_random.h"

namespace penstock {

class SimEngine;
struct SimDirectory;
struct SimFile;
struct SimOp;

// Which I/Os a count, a crash point or a fault is about. Combine with |.
using IoClasses = std::uint8_t;
inline constexpr IoClasses io_reads = 1;
inline constexpr IoClasses io_writes = 2;  // write and write_durable
inline constexpr IoClasses io_flushes = 4;
inline constexpr IoClasses io_allocates = 8;
inline constexpr IoClasses io_names = 16;  // open that creates, remove that removes
inline constexpr IoClasses io_changes = io_writes | io_flushes | io_allocates | io_names;
inline constexpr IoClasses io_any = io_changes | io_reads;

enum class CrashKind : std::uint8_t { power, kill };

// How one disk misbehaves; all off by default. May be changed at any time.
struct SimFaults {
    std::uint32_t read_error_per_million = 0;         // -EIO
    std::uint32_t write_error_per_million = 0;        // -EIO, the write has landed in part
    std::uint32_t flush_error_per_million = 0;        // -EIO
    std::uint32_t allocate_error_per_million = 0;     // -EIO, the file is as it was
    std::uint32_t lost_write_per_million = 0;         // acknowledged, never stored
    std::uint32_t misdirected_write_per_million = 0;  // stored at another block of the file
    std::uint32_t read_flip_per_million = 0;  // one bit of the answer is wrong, the disk is right
    bool lies_about_flush = false;            // flushes and durable writes answer, do nothing
    std::uint32_t latency_factor = 1;
    std::uint64_t capacity_bytes = UINT64_MAX;  // sum of what files hold and have reserved
};

// A span of nanoseconds to draw from.
struct SimLatency {
    std::uint64_t min_ns = 0;
    std::uint64_t max_ns = 0;
};

struct SimOptions {
    std::uint64_t seed = 1;
    std::size_t queue_depth = 256;  // per engine, accepted and not reaped
    SimLatency read{20'000, 120'000};
    SimLatency write{10'000, 80'000};
    SimLatency write_durable{15'000, 150'000};
    SimLatency flush{20'000, 400'000};
    SimLatency allocate{200'000, 5'000'000};
    std::uint32_t outlier_per_million = 2'000;  // requests that take 50 times as long
    std::uint64_t call_step_ns = 100;           // time per submit, reap and look at the clock
    std::int64_t wall_start_ms = 1'700'000'000'000;
    std::uint32_t block_survives_per_million = 500'000;  // an unflushed block at power loss
    std::uint32_t block_tears_per_million = 150'000;     // of those that do not survive whole
    bool locks_hold = true;                              // see crash_kill above
    std::uint64_t late_landing_ns_max = 50'000'000;
    std::array<SimFaults, replica_count> faults{};
};

class SimWorld;

class SimClock final : public Clock {
public:
    explicit SimClock(SimWorld& world) noexcept : world_(world) {}
    [[nodiscard]] std::uint64_t monotonic_ns() noexcept override;
    [[nodiscard]] std::int64_t wall_ms() noexcept override;

private:
    SimWorld& world_;
};

// All files of a disk as they were once.
class SimSnapshot {
public:
    SimSnapshot() = default;

private:
    friend class SimWorld;
    std::shared_ptr<const std::map<std::string, SimFile>> files_;
};

class SimWorld {
public:
    explicit SimWorld(const SimOptions& options);
    ~SimWorld();
    SimWorld(const SimWorld&) = delete;
    SimWorld& operator=(const SimWorld&) = delete;

    // The world must outlive the engine. Several may be open at once.
    [[nodiscard]] std::unique_ptr<IoEngine> make_engine();
    // The engine, which make_engine() gave, opens the replica's present directory in place of the
    // one it had. Files opened before stay with the old one.
    void attach(IoEngine& engine, unsigned replica);

    [[nodiscard]] Clock& clock() noexcept { return clock_; }
    [[nodiscard]] SimRandom& random() noexcept { return random_; }

    // -- Time -------------------------------------------------------------------------------------
    [[nodiscard]] std::uint64_t now_ns() const noexcept { return now_ns_; }
    void advance(std::uint64_t by_ns);
    // Steps the wall clock, forwards or backwards.
    void leap_wall(std::int64_t by_ms) noexcept { wall_offset_ms_ += by_ms; }
    // Lets everything in flight land, stalls included.
    void settle();

    // -- Crashes ----------------------------------------------------------------------------------
    void crash_power() { crash(CrashKind::power, false); }
    void crash_kill() { crash(CrashKind::kill, false); }
    // Crashes when the n-th I/O of these classes from now on is accepted (1 = the next). That one
    // and all that is queued may or may not reach the disk. 0 takes the order back.
    void crash_at(std::uint64_t n, IoClasses classes = io_changes,
                  CrashKind kind = CrashKind::power) noexcept;
    [[nodiscard]] bool down() const noexcept { return down_; }
    void restart();
    // I/Os of these classes accepted since the world began.
    [[nodiscard]] std::uint64_t io_count(IoClasses classes = io_changes) const noexcept;

    // -- Misbehaviour -----------------------------------------------------------------------------
    [[nodiscard]] SimFaults& faults(unsigned replica);
    // The n-th I/O of these classes on these replicas from now on fails with this errno, once.
    // Several orders may stand.
    void fail_at(std::uint64_t n, int os_errno, IoClasses classes = io_changes,
                 ReplicaMask replicas = all_replicas);
    // Nothing of this replica finishes before `for_ns` from now.
    void stall(unsigned replica, std::uint64_t for_ns);
    void unstall(unsigned replica) { stall(replica, 0); }

    // -- Whole disks ------------------------------------------------------------------------------
    // Gone: power cut, handles answer -EIO for ever, open answers not_found. Coming back it has
    // what survived.
    void set_gone(unsigned replica, bool gone = true);
    // An empty directory takes this one's place.
    void set_blank(unsigned replica);
    // What reads would see now.
    [[nodiscard]] SimSnapshot snapshot(unsigned replica) const;
    // A directory with the snapshot's files takes this one's place.
    void restore(unsigned replica, const SimSnapshot& snapshot);
    void clone(unsigned from, unsigned to) { restore(to, snapshot(from)); }
    // Changes whenever another directory takes the place, as an inode number would.
    [[nodiscard]] std::uint64_t directory_identity(unsigned replica) const;

    // -- Damage, durable at once
    // ------------------------------------------------------------------- False when there is no
    // such file or place.
    bool flip_bit(unsigned replica, std::string_view name, std::uint64_t byte_offset,
                  unsigned bit = 0);
    // Overwrites with random bytes.
    bool corrupt_range(unsigned replica, std::string_view name, std::uint64_t offset,
                       std::uint64_t length);
    bool overwrite(unsigned replica, std::string_view name, std::uint64_t offset, Bytes with);
    bool truncate(unsigned replica, std::string_view name, std::uint64_t size_bytes);
    bool remove(unsigned replica, std::string_view name);

    // -- For checkers: no time passes, no fault applies -------------------------------------------
    [[nodiscard]] std::vector<std::string> list(unsigned replica) const;
    // What reads would see. Errors: not_found.
    [[nodiscard]] Result<std::vector<std::byte>> read_raw(unsigned replica,
                                                          std::string_view name) const;
    // Bytes copied, short at the end of the file. Errors: not_found.
    [[nodiscard]] Result<std::size_t> read_raw(unsigned replica, std::string_view name,
                                               std::uint64_t offset, MutableBytes into) const;
    // What would be there after a power loss that loses all it may. Errors: not_found.
    [[nodiscard]] Result<std::vector<std::byte>> read_durable(unsigned replica,
                                                              std::string_view name) const;
    [[nodiscard]] std::uint64_t used_bytes(unsigned replica) const;
    // Of everything accepted and answered so far, in order.
    [[nodiscard]] std::uint64_t trace_digest() const noexcept { return digest_; }

private:
    friend class SimEngine;
    friend class SimClock;

    struct Disk {
        std::shared_ptr<SimDirectory> directory;
        std::uint64_t stalled_until_ns = 0;
    };
    struct FailOrder {
        std::uint64_t left = 0;
        int os_errno = 0;
        IoClasses classes = 0;
        ReplicaMask replicas = 0;
    };

    void step() { advance(options_.call_step_ns); }
    void trace(std::uint64_t value) noexcept { digest_ = mix64(digest_ ^ value); }
    // Counts one I/O. Returns the errno it shall fail with, 0 for none; crashes if its time has
    // come.
    int account(IoClasses io_class, unsigned replica);
    void crash(CrashKind kind, bool queued_may_land);
    void lose_power_of(SimFile& file);
    void lose_in_flight(SimOp& op);
    [[nodiscard]] std::uint64_t latency(const SimOp& op);
    void start(std::unique_ptr<SimOp> op);
    void finish_due(std::uint64_t until_ns);
    // Moves time on to the engine's next completion, at most to `until_ns`.
    void run_until_completion(SimEngine& engine, std::uint64_t until_ns);
    void land(SimOp& op);
    [[nodiscard]] std::int64_t land_write(SimOp& op);
    [[nodiscard]] std::int64_t land_read(SimOp& op);
    [[nodiscard]] std::int64_t land_flush(SimOp& op);
    [[nodiscard]] std::int64_t land_allocate(SimOp& op);
    [[nodiscard]] bool has_room(const SimOp& op, std::uint64_t end) const noexcept;
    void choose_faults(SimOp& op);
    void replace_directory(unsigned replica, std::map<std::string, std::shared_ptr<SimFile>> files);
    [[nodiscard]] SimFile* find(unsigned replica, std::string_view name) const;

    SimOptions options_;
    SimRandom random_;
    SimClock clock_{*this};
    std::array<Disk, replica_count> disks_;
    std::vector<SimEngine*> engines_;
    std::map<std::pair<std::uint64_t, std::uint64_t>, std::unique_ptr<SimOp>> in_flight_;
    std::vector<FailOrder> fail_orders_;
    std::array<std::uint64_t, 5> counts_{};  // by bit of IoClasses
    std::uint64_t now_ns_ = 1'000'000'000;
    std::int64_t wall_offset_ms_ = 0;
    std::uint64_t next_id_ = 1;
    std::uint64_t next_landing_ = 1;
    std::uint64_t next_identity_ = 1;
    std::uint64_t generation_ = 1;  // of processes; engines of an earlier one are dead
    std::uint64_t crash_after_ = 0;
    IoClasses crash_classes_ = 0;
    CrashKind crash_kind_ = CrashKind::power;
    CrashKind last_crash_ = CrashKind::power;
    bool down_ = false;
    std::uint64_t digest_ = 0;
};

}  // namespace penstock
