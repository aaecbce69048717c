#include "control/kinesis/records/shard_tail.h"

#include <algorithm>

#include "control/kinesis/fan_out/subscription.h"
#include "control/kinesis/operations/encryption.h"

namespace penstock::kinesis {

namespace {

// Until a full inbox is tried again, and a shard without a quorum, which takes no records.
constexpr std::uint64_t full_retry_ms = 2;
constexpr std::uint64_t quorum_retry_ms = 250;
// What a message needs beside its records.
constexpr std::size_t message_bytes = 512;

}  // namespace

ShardTail::~ShardTail() {
    fan_out_.context().loop.cancel(timer_);
}

bool ShardTail::join(Subscription& subscription, Sequence next) {
    const bool is_idle = live_.empty() && !is_reading();
    if (is_idle) {
        end_ = next;
    } else if (next < end_) {
        return false;
    }
    live_.push_back(&subscription);
    go_on();
    return true;
}

void ShardTail::leave(Subscription& subscription) {
    std::erase(live_, &subscription);
    if (delivering_) {
        return;  // on_read() sees to it
    }
    if (live_.empty() && is_reading()) {
        cancel();
    }
    fan_out_.drop_if_done(*this);
}

void ShardTail::abandon() {
    live_.clear();
    abandoned_ = true;
    // The lane is alive and takes what is in its inbox.
    while (is_reading() && !canceling_) {
        cancel();
        fan_out_.lanes().take_replies();
    }
}

void ShardTail::cancel() {
    if (canceling_) {
        return;
    }
    cancel_.tail = slots_[0].reading ? &slots_[0].read : &slots_[1].read;
    canceling_ = fan_out_.lanes().post(lane_, cancel_, *this);
    if (!canceling_ && !abandoned_) {
        try_later(full_retry_ms);
    }
}

void ShardTail::go_on() {
    if (abandoned_ || canceling_ || is_reading()) {
        return;
    }
    if (live_.empty()) {
        return;
    }
    const auto slot = std::find_if(slots_.begin(), slots_.end(),
                                   [](const Slot& s) { return !s.lease_return.is_out(); });
    if (slot == slots_.end()) {
        return;  // the release's answer comes here again
    }
    slot->read.shard = shard_.uid;
    slot->read.start = {ReadFrom::sequence, end_, 0};
    slot->read.max_bytes = static_cast<std::uint32_t>(fan_out_.event_bytes_max());
    slot->reading = fan_out_.lanes().post(lane_, slot->read, *this);
    if (!slot->reading) {
        try_later(full_retry_ms);
    }
}

void ShardTail::try_later(std::uint64_t delay_ms) {
    if (timer_runs_) {
        return;
    }
    timer_runs_ = true;
    timer_ = fan_out_.context().loop.run_after(delay_ms, [this] {
        timer_runs_ = false;
        if (live_.empty() && is_reading()) {
            cancel();
        }
        go_on();
        fan_out_.drop_if_done(*this);
    });
}

void ShardTail::on_reply(LaneRequest& request) {
    if (&request == &cancel_) {
        canceling_ = false;
    } else {
        for (Slot& slot : slots_) {
            if (&request == &slot.read) {
                slot.reading = false;
                on_read(slot);
            } else if (slot.lease_return.take_reply(request)) {
                break;
            }
        }
    }
    if (!abandoned_ && live_.empty() && is_reading()) {
        cancel();
    }
    if (!timer_runs_) {
        go_on();
    }
    if (!abandoned_) {
        fan_out_.drop_if_done(*this);
    }
}

void ShardTail::on_read(Slot& slot) {
    const Errc outcome = slot.read.outcome;
    if (outcome != Errc::ok) {
        if (outcome == Errc::not_enough_replicas || outcome == Errc::unavailable) {
            try_later(quorum_retry_ms);
        } else if (outcome != Errc::canceled || !canceling_) {
            send_away();
        }
        return;
    }
    const bool done = live_.empty() || deliver(slot.read.plan);
    if (slot.read.plan.frame_count != 0) {
        slot.lease_return.start(lane_, shard_.uid, slot.read.plan, *this);
    }
    if (!done) {
        send_away();
    }
}

bool ShardTail::deliver(const ReadPlan& plan) {
    const ServiceContext& context = fan_out_.context();
    const std::size_t limit = fan_out_.event_bytes_max();
    EventWriter writer(message_bytes);
    SharedEvent event;
    event.from = end_;
    bool is_full = false;
    ReadOutcome outcome;
    RecordsOfShard records(context, live_.front()->stream_name(), shard_);
    const Status read = context.records.read(
        plan,
        [&](const RecordView& record) {
            if (record.sequence >= plan.end_sequence) {
                return false;
            }
            const std::uint64_t size = record.data.size() + record.partition_key.size();
            is_full =
                writer.records() != 0 && (writer.bytes() + size > limit ||
                                          writer.records() == Subscription::event_records_max);
            if (is_full) {
                return false;
            }
            RecordView clear = record;
            is_full = !records.open(clear);
            if (is_full) {
                return false;
            }
            if (writer.records() == 0) {
                event.first_arrival_ms = record.arrival_ms;
            }
            writer.add(shard_, clear, !record.seal.empty());
            event.next = record.sequence + 1;
            return true;
        },
        outcome);
    if (writer.records() == 0) {
        return false;  // trimmed, lost, moved or without a key: each finds out for itself
    }
    if (read && !is_full) {
        event.next = std::max(event.next, std::min(outcome.next_sequence, plan.end_sequence));
    }
    const std::int64_t now_ms = context.clock.wall_ms();
    const std::int64_t behind_ms =
        event.next >= plan.end_sequence
            ? 0
            : std::max<std::int64_t>(now_ms - writer.last_arrival_ms(), 0);
    event.records = writer.records();
    event.bytes = writer.bytes();
    event.last_arrival_ms = writer.last_arrival_ms();
    event.piece = fan_out_.hold(writer.finish(shard_, event.next, now_ms, behind_ms));
    end_ = event.next;
    delivering_ = true;
    const std::vector<Subscription*> all = live_;
    std::uint64_t given = 0;
    for (Subscription* one : all) {
        given += one->push(event) ? 1U : 0U;
    }
    delivering_ = false;
    fan_out_.counters().shared_events.fetch_add(given == 0 ? 0 : given - 1,
                                                std::memory_order_relaxed);
    return true;
}

void ShardTail::send_away() {
    delivering_ = true;
    std::vector<Subscription*> all;
    all.swap(live_);
    for (Subscription* one : all) {
        one->sent_away();
    }
    delivering_ = false;
}

}  // namespace penstock::kinesis
