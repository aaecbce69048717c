// From stream name and hash to the shard that takes the record, as an immutable snapshot.
//
// The control plane builds a new RouteTable when streams change and publishes it; each lane enters
// the current one at the start of a turn. A replaced table is freed once no lane can hold it.
//
// Runs on: RouteTable immutable, any thread; Routes::publish on control threads (one at a time),
// enter and leave on the reader's own thread.
// Allocates: while building and publishing; enter and leave never.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/format/seal.h"

namespace penstock {

struct ShardRoute {
    Hash128 first;  // inclusive
    Hash128 last;   // inclusive
    ShardUid shard{};
    GroupId group{};
    std::uint32_t lane = 0;
    friend bool operator==(const ShardRoute&, const ShardRoute&) = default;
};

// What seals the records of an encrypted stream, by lane. Empty while its key is not to be had: its
// records are refused then, and none is stored in clear.
struct StreamSealers {
    std::vector<std::unique_ptr<RecordSealer>> by_lane;

    [[nodiscard]] RecordSealer* of_lane(unsigned lane) const noexcept {
        return lane < by_lane.size() ? by_lane[lane].get() : nullptr;
    }
};

class StreamRoute {
public:
    // The open shards of a stream, in any order. Errc::invalid_argument unless their ranges tile
    // 0 … 2^128-1 without gap or overlap.
    [[nodiscard]] static Result<StreamRoute> make(std::string name, std::vector<ShardRoute> shards);

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] std::span<const ShardRoute> shards() const noexcept { return shards_; }
    // Never null: the ranges cover every hash.
    [[nodiscard]] const ShardRoute* find(const Hash128& hash) const noexcept;

    // Null for a stream whose records are stored in clear.
    [[nodiscard]] const StreamSealers* sealers() const noexcept { return sealers_.get(); }
    void set_sealers(std::shared_ptr<const StreamSealers> sealers) noexcept {
        sealers_ = std::move(sealers);
    }

private:
    StreamRoute() = default;
    std::string name_;
    std::vector<ShardRoute> shards_;  // by first hash
    std::shared_ptr<const StreamSealers> sealers_;
};

class RouteTable {
public:
    // `door_streams[i]` is the stream of door i, as in the doors' specs. A door may name a stream
    // that does not exist (yet). Errc::already_exists when two streams have one name.
    [[nodiscard]] static Result<std::unique_ptr<const RouteTable>> make(
        std::vector<StreamRoute> streams, std::span<const std::string> door_streams);

    // Null when no such stream exists.
    [[nodiscard]] const StreamRoute* stream(std::string_view name) const noexcept;
    // The stream of door i, null when it does not exist: the record is dropped as stream_missing.
    [[nodiscard]] const StreamRoute* of_door(std::size_t door) const noexcept {
        return door < by_door_.size() ? by_door_[door] : nullptr;
    }
    [[nodiscard]] std::span<const StreamRoute> streams() const noexcept { return streams_; }

private:
    RouteTable() = default;
    std::vector<StreamRoute> streams_;  // by name
    std::vector<const StreamRoute*> by_door_;
};

// The current table and those that lanes may still read.
class Routes {
public:
    // Readers are 0 … reader_count-1, one per lane. Starts with an empty table.
    explicit Routes(unsigned reader_count);
    ~Routes();
    Routes(const Routes&) = delete;
    Routes& operator=(const Routes&) = delete;

    // Replaces the table and frees those no reader holds any more.
    void publish(std::unique_ptr<const RouteTable> table);
    // Frees what it can; returns how many replaced tables are still held (at most one per reader).
    std::size_t reclaim();

    // The current table; pointers from an earlier enter() of this reader die with this call.
    [[nodiscard]] const RouteTable& enter(unsigned reader) noexcept;
    // This reader holds nothing until it enters again: before a long sleep, and when it stops.
    void leave(unsigned reader) noexcept;

private:
    struct alignas(64) Slot {
        std::atomic<const RouteTable*> held{nullptr};
    };
    std::atomic<const RouteTable*> current_{nullptr};
    std::vector<Slot> slots_;
    std::vector<std::unique_ptr<const RouteTable>> retired_;  // under the publisher's exclusion
};

}  // namespace penstock
