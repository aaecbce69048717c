// What an operator is told of the drives: how full they are, how far a replica is refilled, what
// scrubbing found. Decides when there is a line to log, and keeps what metrics show.
//
// Runs on: one thread at a time (the supervisor's).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "storage/base/ids.h"
#include "storage/log/group.h"

namespace penstock {

// Of the file system that a replica's directory is on.
struct DriveRoom {
    bool known = false;
    std::uint64_t file_system = 0;  // replicas on one have the same
    std::uint64_t free_bytes = 0;
    std::uint64_t size_bytes = 0;
};

// How far a replica that lacks something is.
struct RefillProgress {
    std::uint64_t total_bytes = 0;  // that it lacked when this began; 0: it lacks nothing
    std::uint64_t left_bytes = 0;
    double bytes_per_s = 0;   // of late
    double seconds_left = 0;  // at that rate; 0: not known

    [[nodiscard]] double share_done() const noexcept {
        return total_bytes == 0
                   ? 1
                   : 1 - static_cast<double>(left_bytes) / static_cast<double>(total_bytes);
    }
};

class StorageWatch {
public:
    struct Options {
        std::function<void(bool urgent, const std::string& line)> say;
        std::array<std::string, replica_count> directories;
        // Stream and shard, for a line.
        std::function<std::string(ShardUid)> name_of;
    };
    explicit StorageWatch(Options options) : options_(std::move(options)) {}

    // `reusable_bytes`: of segment files, that nothing is stored in now. `is_full`: writes are
    // refused for want of room.
    void look_at_room(std::uint64_t now_ms, const std::array<DriveRoom, replica_count>& rooms,
                      std::uint64_t reusable_bytes, bool is_full);
    // What the replica lacks. `is_refilling` is false once it lacks nothing.
    void look_at_refill(std::uint64_t now_ms, unsigned replica, bool is_refilling,
                        std::uint64_t missing_bytes);
    [[nodiscard]] const RefillProgress& refill(unsigned replica) const noexcept {
        return refills_[replica].progress;
    }
    // For the line that says that it is whole again; empty if nothing had to be copied.
    [[nodiscard]] std::string refilled(std::uint64_t now_ms, unsigned replica) const;
    void tell(std::uint64_t now_ms, const std::vector<ScrubEvent>& events);

    // From this share of a drive on it is told that it fills up, and once more.
    static constexpr std::array<double, 2> filling_from{0.85, 0.95};

private:
    struct Filling {
        unsigned level = 0;  // how many of filling_from were reached and told
        // What was left a while ago, for the time until it is full.
        std::uint64_t left_bytes = 0;
        std::uint64_t since_ms = 0;
        double falls_per_s = 0;
    };
    struct Refill {
        RefillProgress progress;
        std::uint64_t began_ms = 0;
        std::uint64_t last_ms = 0;
        std::uint64_t told_ms = 0;
    };
    [[nodiscard]] std::string place(unsigned replica) const;
    [[nodiscard]] std::string line_of(const ScrubEvent& event) const;

    Options options_;
    std::array<Filling, replica_count> fillings_;
    std::array<Refill, replica_count> refills_;
    bool was_full_ = false;
    std::uint64_t minute_ms_ = 0;
    unsigned lines_in_minute_ = 0;
    std::uint64_t untold_ = 0;
};

// "1.5 GiB", "310 MiB".
[[nodiscard]] std::string bytes_text(double bytes);
// "40 s", "12 min", "3.5 h", "2 days".
[[nodiscard]] std::string duration_text(double seconds);

}  // namespace penstock
