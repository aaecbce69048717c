// What a lane counts about itself.
//
// Runs on: written by the lane alone (inbox_full by whoever posts), read anywhere.
// Guarantees: relaxed; a reader may lag but never sees a torn value.
#pragma once

#include <atomic>
#include <cstdint>

#include "dataplane/counter.h"
#include "dataplane/drop.h"
#include "storage/base/histogram.h"

namespace penstock {

// The largest value seen.
class Peak {
public:
    void observe(std::uint64_t value) noexcept {
        if (value > value_.load(std::memory_order_relaxed)) {
            value_.store(value, std::memory_order_relaxed);
        }
    }
    [[nodiscard]] std::uint64_t get() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

struct alignas(128) LaneCounters {
    // Packets from the ports, before any verdict.
    Counter packets;
    Counter packet_bytes;
    Counter answered;  // ARP, ND and echo requests answered
    // Everything this lane refused, whatever stage; per door the same is in DoorCounters.
    DropCounters drops;
    // Records taken into a shard, by where they came from.
    Counter records_from_doors;  // also those another lane handed over
    Counter records_from_api;
    Counter records_refused_api;  // answered with a verdict other than accepted
    DropCounters refused_api;     // the same by reason
    Counter astray;               // datagrams to another lane's UDP port of a door, taken here
    Counter handed_over;          // records given to another lane
    Counter taken_over;           // records another lane gave to this one
    Counter requests;             // taken from the inbox
    Counter replies;
    // Duty cycle.
    Counter turns;
    Counter busy_turns;     // did something
    Counter io_submits;     // turns that handed requests to the kernel; IoCalls
    Counter io_follow_ups;  // entered the kernel once more for what completions led to
    Counter io_advances;    // turns that took completions
    Counter holds;  // packets were left in the ports' rings because nobody's would have found room
    Counter slow_turns;  // longer than LaneOptions::slow_turn_ns
    Peak longest_turn_ns;
    Counter busy_ns;
    Counter idle_ns;  // turns that did nothing, and sleeping
    Counter sleeps;
    Counter slept_ns;
    Counter foreign_completions;  // I/O completions that name no group of this lane
    Histogram commit_latency_ns;  // from append to commit, weighted by records
    // Written by whoever posts.
    alignas(128) std::atomic<std::uint64_t> inbox_full{0};
};

}  // namespace penstock
