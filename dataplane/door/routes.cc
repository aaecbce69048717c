#include "dataplane/door/routes.h"

#include <algorithm>

#include "storage/base/check.h"

namespace penstock {

Result<StreamRoute> StreamRoute::make(std::string name, std::vector<ShardRoute> shards) {
    std::sort(shards.begin(), shards.end(),
              [](const ShardRoute& a, const ShardRoute& b) { return a.first < b.first; });
    Hash128 expected;  // where the next range must begin
    bool complete = false;
    for (const ShardRoute& shard : shards) {
        if (complete || shard.first != expected || shard.last < shard.first) {
            return fail(Errc::invalid_argument);
        }
        expected = {shard.last.high + (shard.last.low == ~std::uint64_t{0} ? 1U : 0U),
                    shard.last.low + 1};
        complete = expected == Hash128{};
    }
    if (!complete) {
        return fail(Errc::invalid_argument);
    }
    StreamRoute route;
    route.name_ = std::move(name);
    route.shards_ = std::move(shards);
    return route;
}

const ShardRoute* StreamRoute::find(const Hash128& hash) const noexcept {
    // The last range that begins at or before the hash; the first one begins at zero.
    const auto after =
        std::upper_bound(shards_.begin(), shards_.end(), hash,
                         [](const Hash128& h, const ShardRoute& s) { return h < s.first; });
    return &*(after - 1);
}

Result<std::unique_ptr<const RouteTable>> RouteTable::make(
    std::vector<StreamRoute> streams, std::span<const std::string> door_streams) {
    std::sort(streams.begin(), streams.end(),
              [](const StreamRoute& a, const StreamRoute& b) { return a.name() < b.name(); });
    const auto twin = std::adjacent_find(
        streams.begin(), streams.end(),
        [](const StreamRoute& a, const StreamRoute& b) { return a.name() == b.name(); });
    if (twin != streams.end()) {
        return fail(Errc::already_exists);
    }
    std::unique_ptr<RouteTable> table(new RouteTable);
    table->streams_ = std::move(streams);
    for (const std::string& name : door_streams) {
        table->by_door_.push_back(table->stream(name));
    }
    return table;
}

const StreamRoute* RouteTable::stream(std::string_view name) const noexcept {
    const auto at = std::lower_bound(
        streams_.begin(), streams_.end(), name,
        [](const StreamRoute& route, std::string_view wanted) { return route.name() < wanted; });
    return at != streams_.end() && at->name() == name ? &*at : nullptr;
}

Routes::Routes(unsigned reader_count) : slots_(reader_count) {
    auto empty = RouteTable::make({}, {});
    current_.store(empty->release(), std::memory_order_release);
}

Routes::~Routes() {
    for (Slot& slot : slots_) {
        PENSTOCK_CHECK(slot.held.load(std::memory_order_acquire) == nullptr);
    }
    delete current_.load(std::memory_order_acquire);
}

void Routes::publish(std::unique_ptr<const RouteTable> table) {
    PENSTOCK_CHECK(table != nullptr);
    retired_.reserve(retired_.size() + 1);
    retired_.emplace_back(current_.exchange(table.release(), std::memory_order_seq_cst));
    reclaim();
}

std::size_t Routes::reclaim() {
    std::erase_if(retired_, [this](const std::unique_ptr<const RouteTable>& table) {
        return std::none_of(slots_.begin(), slots_.end(), [&](const Slot& slot) {
            return slot.held.load(std::memory_order_seq_cst) == table.get();
        });
    });
    return retired_.size();
}

// A reader announces the table it is about to use and looks again whether that is still current.
// Either the publisher's scan sees the announcement, or the reader sees the exchange: both are in
// the one order of sequentially consistent operations.
const RouteTable& Routes::enter(unsigned reader) noexcept {
    std::atomic<const RouteTable*>& held = slots_[reader].held;
    const RouteTable* table = current_.load(std::memory_order_acquire);
    if (held.load(std::memory_order_relaxed) == table) {
        // Announced in an earlier turn and held ever since, so it cannot have been freed.
        return *table;
    }
    for (;;) {
        held.store(table, std::memory_order_seq_cst);
        const RouteTable* const now = current_.load(std::memory_order_seq_cst);
        if (now == table) {
            return *table;
        }
        table = now;
    }
}

void Routes::leave(unsigned reader) noexcept {
    slots_[reader].held.store(nullptr, std::memory_order_release);
}

}  // namespace penstock
