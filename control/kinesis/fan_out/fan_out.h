// Subscriptions to shards (enhanced fan-out) of one control thread: SubscribeToShard.
//
// A subscription reads where it stands, a piece whenever its client can take one. At the shard's
// end it joins the shard's tail (shard_tail.h), which is told by the lane of each commit and makes
// one event for all who wait there. A client that reads more slowly than records come leaves the
// tail and reads for itself again: it holds an event or two, and nobody waits for it.
//
// Runs on: the control thread it was made on.
// Allocates: per subscription and event.
// Guarantees: of a consumer and shard one subscription at a time, in the whole node; events that
// wait for their clients are bounded (FanOutOptions).
#pragma once

#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

#include "control/kinesis/lane_client.h"
#include "control/kinesis/reply/event_writer.h"
#include "control/kinesis/service.h"

namespace penstock::kinesis {

class ShardTail;
class Subscription;

// An event that may go to several subscribers.
struct SharedEvent {
    http::BodyPiece piece;
    Sequence from = 0;  // it has the records from here
    Sequence next = 0;  // to before here
    std::uint32_t records = 0;
    std::uint64_t bytes = 0;
    std::int64_t first_arrival_ms = 0;
    std::int64_t last_arrival_ms = 0;
};

class FanOut {
public:
    FanOut(ServiceContext& context, ShardService& lanes);
    // Waits for the lanes, which must still answer.
    ~FanOut();
    FanOut(const FanOut&) = delete;
    FanOut& operator=(const FanOut&) = delete;

    void subscribe(std::unique_ptr<Reply> reply);
    // Ends all subscriptions, and takes no more.
    void stop();

    // -- For subscriptions and tails
    [[nodiscard]] const ServiceContext& context() const noexcept { return context_; }
    [[nodiscard]] const FanOutOptions& options() const noexcept { return context_.options.fan_out; }
    [[nodiscard]] LaneClient& lanes() noexcept { return lanes_; }
    [[nodiscard]] FanOutCounters& counters() const noexcept {
        return context_.options.subscriptions->counters;
    }
    // Counted as held until the last connection has sent it.
    [[nodiscard]] http::BodyPiece hold(std::string&& message);
    // No more is to be held than must be.
    [[nodiscard]] bool is_tight() const noexcept { return *held_ > options().held_bytes_max; }
    [[nodiscard]] std::size_t event_bytes_max() const noexcept {
        return is_tight() ? options().event_bytes_tight : options().event_bytes_max;
    }
    [[nodiscard]] ShardTail& tail_of(const StreamView& view, const Shard& shard);
    // Both may destroy what they name.
    void drop_if_done(Subscription& subscription);
    void drop_if_done(ShardTail& tail);
    // Takes a place for a subscription that `begin` can start; when it loses the place, it is told
    // on this thread, if it still lives.
    [[nodiscard]] std::expected<SubscriptionTable::Ticket, SubscriptionTable::Refusal> take_place(
        const SubscriptionTable::Place& place, std::uint64_t id,
        const std::function<bool()>& begin);

private:
    void look();
    void on_stream_changed(std::string_view stream);
    template <typename Do>
    void for_each(const Do& what);

    ServiceContext& context_;
    std::shared_ptr<std::size_t> held_ = std::make_shared<std::size_t>(0);
    std::unordered_map<std::uint64_t, std::unique_ptr<Subscription>> subscriptions_;
    std::map<ShardUid, std::unique_ptr<ShardTail>> tails_;
    std::uint64_t next_id_ = 1;
    http::TimerId look_timer_{};
    bool looks_ = false;
    bool stopping_ = false;
    // What other threads post holds this weakly, and finds out so that this is gone.
    std::shared_ptr<FanOut*> self_ = std::make_shared<FanOut*>(this);
    std::unique_ptr<StreamListening> listening_;
    LaneClient lanes_;
};

}  // namespace penstock::kinesis
