// Who is subscribed to which shard: one table for all control threads of a node, so that of a
// consumer and a shard there is one subscription at a time, and what all of them count.
//
// Runs on: any thread.
// Guarantees: a place is held by at most one subscription, whoever loses it is told so once.
#pragma once

#include <array>
#include <atomic>
#include <compare>
#include <cstdint>
#include <expected>
#include <functional>
#include <map>
#include <mutex>
#include <string_view>

namespace penstock::kinesis {

// Why a subscription ended.
enum class SubscriptionEnd : std::uint8_t {
    expired,       // five minutes are over
    shard_end,     // a closed shard was read to its end
    disconnected,  // the client left
    taken_over,    // the consumer subscribed to the shard once more
    gone,          // stream, shard or consumer was deleted
    failed,        // records could not be read
    stopped,       // the node stops
    count_
};
inline constexpr std::array<std::string_view, static_cast<std::size_t>(SubscriptionEnd::count_)>
    subscription_end_names = {"expired", "shard_end", "disconnected", "taken_over",
                              "gone",    "failed",    "stopped"};

struct FanOutCounters {
    std::atomic<std::uint64_t> open{0};        // now
    std::atomic<std::uint64_t> held_bytes{0};  // events made and not handed to the kernel yet, now
    std::atomic<std::uint64_t> events{0};
    std::atomic<std::uint64_t> records{0};
    std::atomic<std::uint64_t> bytes{0};  // data and keys of these records
    // Events that went to several subscribers and were made once, by the subscribers saved.
    std::atomic<std::uint64_t> shared_events{0};
    std::array<std::atomic<std::uint64_t>, static_cast<std::size_t>(SubscriptionEnd::count_)>
        ended{};
};

class SubscriptionTable {
public:
    struct Place {
        std::uint64_t stream = 0;  // its incarnation
        std::uint32_t consumer = 0;
        std::uint32_t shard = 0;
        auto operator<=>(const Place&) const = default;
    };
    enum class Ticket : std::uint64_t {};

    enum class Refusal : std::uint8_t {
        too_soon,   // the place was taken less than `hold_ms` ago
        not_begun,  // `begin` said no
    };
    // Once the place may be had, `begin` starts what is to have it; only if it could is whoever
    // had the place told by its `evict`. Both are called on this thread, under a lock.
    [[nodiscard]] std::expected<Ticket, Refusal> take(const Place& place, std::uint64_t now_ms,
                                                      std::uint64_t hold_ms,
                                                      const std::function<bool()>& begin,
                                                      std::function<void()> evict);
    // Nothing happens when somebody else has the place by now. `evict` is not called any more.
    void give_back(const Place& place, Ticket ticket);

    FanOutCounters counters;

private:
    struct Holder {
        Ticket ticket{};
        std::uint64_t since_ms = 0;
        std::function<void()> evict;
    };
    std::mutex mutex_;
    std::map<Place, Holder> holders_;
    std::uint64_t next_ticket_ = 1;
};

}  // namespace penstock::kinesis
