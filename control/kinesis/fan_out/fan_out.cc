#include "control/kinesis/fan_out/fan_out.h"

#include "control/kinesis/fan_out/subscription.h"
#include "control/kinesis/records/shard_tail.h"

namespace penstock::kinesis {

namespace {
// Requests to lanes of all subscriptions and tails of a thread; one that finds no room tries again.
constexpr std::size_t lane_requests_max = 16384;
// What a message may keep of the room it was written in.
constexpr std::size_t slack_bytes_max = 16U << 10;
}  // namespace

FanOut::FanOut(ServiceContext& context, ShardService& lanes)
    : context_(context), lanes_(context.loop, lanes, lane_requests_max) {
    std::weak_ptr<FanOut*> weak = self_;
    http::LoopThread& loop = context_.loop;
    listening_ = context_.streams.listen([weak, &loop](std::string_view stream) {
        loop.post([weak, name = std::string(stream)] {
            if (const auto self = weak.lock()) {
                (*self)->on_stream_changed(name);
            }
        });
    });
}

FanOut::~FanOut() {
    listening_.reset();
    self_.reset();
    stop();
    context_.loop.cancel(look_timer_);
    for (auto& [key, tail] : tails_) {
        tail->abandon();
    }
    lanes_.wait_for_all();
    // Of connections that outlive the handler.
    counters().open.fetch_sub(subscriptions_.size(), std::memory_order_relaxed);
}

http::BodyPiece FanOut::hold(std::string&& message) {
    if (message.capacity() - message.size() > slack_bytes_max) {
        message.shrink_to_fit();
    }
    const std::size_t bytes = message.capacity();
    *held_ += bytes;
    counters().held_bytes.fetch_add(bytes, std::memory_order_relaxed);
    auto own = std::make_unique<const std::string>(std::move(message));
    // Connections may outlive the handler, and with them this.
    return {own.release(),
            [held = held_, table = context_.options.subscriptions, bytes](const std::string* text) {
                *held -= bytes;
                table->counters.held_bytes.fetch_sub(bytes, std::memory_order_relaxed);
                delete text;
            }};
}

void FanOut::subscribe(std::unique_ptr<Reply> reply) {
    const std::uint64_t id = next_id_++;
    auto made = std::make_unique<Subscription>(*this, id);
    Subscription& subscription = *made;
    auto prepared = subscription.prepare(*reply);
    if (prepared && (stopping_ || subscriptions_.size() >= options().subscriptions_max)) {
        prepared = std::unexpected(ApiError{
            "LimitExceededException",
            stopping_ ? std::string("The node is stopping.")
                      : "This node serves " + std::to_string(subscriptions_.size()) +
                            " subscriptions on the thread of this connection, which is as many "
                            "as it may. Try again later, or on another connection."});
    }
    if (prepared) {
        prepared = subscription.take_place();
    }
    if (!prepared) {
        reply->send(prepared.error());
        return;
    }
    subscriptions_.emplace(id, std::move(made));
    counters().open.fetch_add(1, std::memory_order_relaxed);
    if (!looks_) {
        looks_ = true;
        look_timer_ = context_.loop.run_after(options().look_ms, [this] { look(); });
    }
    subscription.start(std::move(reply));
}

std::expected<SubscriptionTable::Ticket, SubscriptionTable::Refusal> FanOut::take_place(
    const SubscriptionTable::Place& place, std::uint64_t id, const std::function<bool()>& begin) {
    std::weak_ptr<FanOut*> weak = self_;
    http::LoopThread& loop = context_.loop;
    return context_.options.subscriptions->take(
        place, context_.clock.monotonic_ns() / 1'000'000, options().takeover_ms, begin,
        [weak, &loop, id] {
            loop.post([weak, id] {
                const auto self = weak.lock();
                if (!self) {
                    return;
                }
                const auto found = (*self)->subscriptions_.find(id);
                if (found != (*self)->subscriptions_.end()) {
                    found->second->on_taken_over();
                }
            });
        });
}

// A subscription may go while it is looked at, and others with it.
template <typename Do>
void FanOut::for_each(const Do& what) {
    std::vector<std::uint64_t> ids;
    ids.reserve(subscriptions_.size());
    for (const auto& [id, subscription] : subscriptions_) {
        ids.push_back(id);
    }
    for (const std::uint64_t id : ids) {
        const auto found = subscriptions_.find(id);
        if (found != subscriptions_.end()) {
            what(*found->second);
        }
    }
}

void FanOut::look() {
    for_each([now_ms = context_.loop.now_ms()](Subscription& one) { one.look(now_ms); });
    looks_ = !subscriptions_.empty();
    if (looks_) {
        look_timer_ = context_.loop.run_after(options().look_ms, [this] { look(); });
    }
}

void FanOut::on_stream_changed(std::string_view stream) {
    for_each([&](Subscription& one) {
        if (one.stream_name() == stream) {
            one.on_stream_changed();
        }
    });
}

void FanOut::stop() {
    stopping_ = true;
    for_each([](Subscription& one) { one.end(SubscriptionEnd::stopped); });
}

ShardTail& FanOut::tail_of(const StreamView& view, const Shard& shard) {
    auto& tail = tails_[shard.uid];
    if (!tail) {
        tail = std::make_unique<ShardTail>(*this, shard, view.lane_of(shard));
    }
    return *tail;
}

void FanOut::drop_if_done(Subscription& subscription) {
    if (subscription.is_done()) {
        subscriptions_.erase(subscription.id());
        counters().open.fetch_sub(1, std::memory_order_relaxed);
    }
}

void FanOut::drop_if_done(ShardTail& tail) {
    if (tail.is_done()) {
        tails_.erase(tail.shard().uid);
    }
}

}  // namespace penstock::kinesis
