// A stream and its shards as the catalog keeps them, and the snapshot of all streams that requests
// are served from.
//
// Runs on: any control thread; snapshots are immutable.
// Format: docs/formats/catalog.md.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/auth/policy.h"
#include "control/keys/key_store.h"
#include "control/kinesis/stream/hash_key.h"
#include "control/kinesis/stream/sequence_number.h"
#include "dataplane/door/routes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"

namespace penstock::kinesis {

enum class StreamStatus : std::uint8_t { creating, active, deleting, updating };
enum class StreamMode : std::uint8_t { provisioned, on_demand };
// Of a change of shards (docs/resharding.md): a new shard is creating, then opening (it takes
// records, but is not listed), then open; its parents are open, then closing (listed as open, they
// take no new records), then closed.
enum class ShardState : std::uint8_t { creating, open, closed, closing, opening };

// Who says which shard a record goes to: its partition key, or nobody, so that all get the same.
enum class Distribution : std::uint8_t { by_key, automatic };
// In Distribution's order.
inline constexpr auto distribution_names =
    std::to_array<std::string_view>({"USER_PARTITION_KEY", "AUTO"});
// Metrics of each shard that may be switched on; bit i of Stream::shard_metrics is name i.
inline constexpr auto shard_metric_names = std::to_array<std::string_view>(
    {"IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords",
     "WriteProvisionedThroughputExceeded", "ReadProvisionedThroughputExceeded",
     "IteratorAgeMilliseconds"});

// A node may serve several regions. A stream's name in the store is the name that users gave it,
// or, in another region than the first, "REGION/NAME"; this is what users are shown.
[[nodiscard]] constexpr std::string_view shown_name(std::string_view stream) noexcept {
    const std::size_t slash = stream.find('/');
    return slash == std::string_view::npos ? stream : stream.substr(slash + 1);
}

// "ACTIVE", "PROVISIONED": Kinesis' words.
[[nodiscard]] std::string_view name_of(StreamStatus status) noexcept;
[[nodiscard]] std::string_view name_of(StreamMode mode) noexcept;

struct Shard {
    ShardUid uid{};
    std::uint32_t number = 0;  // within the stream: shardId-…
    GroupId group{};
    std::int64_t created_s = 0;
    HashRange range;
    std::optional<std::uint32_t> parent;
    std::optional<std::uint32_t> adjacent_parent;
    Sequence first_index = 0;
    std::optional<Sequence> closing_index;  // first index it will never have; empty while open
    ShardState state = ShardState::open;
    // Of a child, and of a parent: between their records, the same for all of one change. 0: none.
    std::int64_t opened_ms = 0;
    std::int64_t closed_ms = 0;
    friend bool operator==(const Shard&, const Shard&) = default;

    // As users see it.
    [[nodiscard]] bool is_open() const noexcept {
        return state == ShardState::open || state == ShardState::closing;
    }
    [[nodiscard]] bool is_listed() const noexcept {
        return is_open() || state == ShardState::closed;
    }
    [[nodiscard]] SequenceNumber sequence_number(Sequence index,
                                                 std::int64_t written_ms) const noexcept {
        return {created_s, number, index, written_ms / 1000};
    }
};

// Who reads a stream's shards by subscription (enhanced fan-out).
struct Consumer {
    std::uint32_t number = 0;  // within the stream, from 1, never reused
    std::string name;
    std::int64_t created_ms = 0;
    std::map<std::string, std::string> tags;
    std::string resource_policy = {};  // JSON as it was put; empty: none
    friend bool operator==(const Consumer&, const Consumer&) = default;
};

struct Stream {
    std::string name;
    [[nodiscard]] std::string shown() const { return std::string(shown_name(name)); }
    std::uint64_t incarnation = 0;  // never reused, also not by a stream of the same name
    StreamStatus status = StreamStatus::creating;
    StreamMode mode = StreamMode::provisioned;
    std::uint32_t retention_hours = 24;
    std::int64_t created_ms = 0;
    std::uint32_t max_record_kib = 1024;
    std::uint32_t next_shard_number = 0;
    std::vector<Shard> shards;  // by number
    std::map<std::string, std::string> tags;
    std::uint8_t shard_metrics = 0;
    std::uint32_t warm_throughput_mibps = 0;  // 0: none asked for
    Distribution distribution = Distribution::by_key;
    std::string resource_policy;  // JSON as it was put; empty: none
    std::uint32_t next_consumer_number = 1;
    std::vector<Consumer> consumers;            // by number
    std::vector<std::int64_t> scalings_ms;      // UpdateShardCount, those of the last day
    std::vector<std::int64_t> mode_changes_ms;  // UpdateStreamMode, the same
    keys::Encryption encryption;
    friend bool operator==(const Stream&, const Stream&) = default;

    [[nodiscard]] const Shard* shard(std::uint32_t number) const noexcept;
    // Null when there is none.
    [[nodiscard]] const Consumer* consumer(std::string_view name) const noexcept;
    [[nodiscard]] const Consumer* consumer(std::uint32_t number) const noexcept;
    [[nodiscard]] std::uint32_t open_shard_count() const noexcept;
    // That, or what it will be when a change of shards is done, if that is more.
    [[nodiscard]] std::uint32_t open_shard_count_soon() const noexcept;
    [[nodiscard]] std::int64_t retention_ms() const noexcept {
        return std::int64_t{retention_hours} * 3600 * 1000;
    }
};

[[nodiscard]] std::string encode_stream(const Stream& stream);
// Errors: unsupported (a version this build does not know), corrupt.
[[nodiscard]] Result<Stream> decode_stream(std::string_view json);

// A stream with what requests need at hand.
class StreamView {
public:
    // Errors: invalid_argument when the open shards don't tile the hash space, corrupt when a
    // resource policy cannot be read. Without `keys` no key of the stream can be used.
    [[nodiscard]] static Result<std::shared_ptr<const StreamView>> make(
        Stream stream, const std::map<GroupId, unsigned>& lanes, keys::KeyStore* keys = nullptr);

    [[nodiscard]] const Stream& stream() const noexcept { return stream_; }
    // False until the stream was ACTIVE once, and when it is being deleted.
    [[nodiscard]] bool takes_records() const noexcept { return route_.has_value(); }
    [[nodiscard]] const std::optional<StreamRoute>& route() const noexcept { return route_; }

    struct Target {
        const ShardRoute* route;
        std::uint32_t shard_index;  // in stream().shards
        std::uint32_t route_index;  // in route()->shards()
    };
    // Only when takes_records().
    [[nodiscard]] Target find(const Hash128& hash) const noexcept;
    [[nodiscard]] std::uint32_t shard_of_route(std::size_t route_index) const noexcept {
        return shard_of_route_[route_index];
    }
    [[nodiscard]] unsigned lane_of(const Shard& shard) const noexcept;
    // Null for a stream that never was encrypted.
    [[nodiscard]] const keys::StreamCrypt* crypt() const noexcept { return crypt_.get(); }
    // Null when the stream has none.
    [[nodiscard]] const auth::Policy* resource_policy() const noexcept {
        return resource_policy_ ? &*resource_policy_ : nullptr;
    }
    // The same of one of the stream's consumers.
    [[nodiscard]] const auth::Policy* resource_policy(const Consumer& consumer) const noexcept {
        const auto found = consumer_policies_.find(consumer.number);
        return found == consumer_policies_.end() ? nullptr : &found->second;
    }

private:
    StreamView() = default;
    Stream stream_;
    std::optional<auth::Policy> resource_policy_;
    std::map<std::uint32_t, auth::Policy> consumer_policies_;  // by number, of those that have one
    std::optional<StreamRoute> route_;
    std::shared_ptr<const keys::StreamCrypt> crypt_;
    std::vector<std::uint32_t> shard_of_route_;
    std::map<GroupId, unsigned> lanes_;
};

// All streams at one moment, by name.
using StreamTable = std::map<std::string, std::shared_ptr<const StreamView>, std::less<>>;

}  // namespace penstock::kinesis
