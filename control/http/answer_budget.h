// What the large answers of one connection may take: those being made and those that wait for the
// peer to read.
//
// A request whose answer may be large claims room before a handler sees it, and waits while there
// is none. The claim becomes what the answer really takes, and ends when the last byte is sent or
// the peer is gone.
//
// Runs on: one control thread.
// Guarantees: no more than the limit is claimed, unless by one answer alone.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <utility>

#include "control/http/message.h"
#include "dataplane/counter.h"

namespace penstock::http {

// Of all connections of one control thread, for the metrics.
struct AnswerCounters {
    // Bytes claimed ever, and claims given back: what lies between is claimed now.
    Counter claimed_bytes;
    Counter given_back_bytes;
    Counter held;  // requests that had to wait for room
};

struct AnswerBudget {
    std::size_t limit_bytes;
    std::shared_ptr<AnswerCounters> counters;
    std::size_t used_bytes = 0;

    [[nodiscard]] bool has_room(std::size_t bytes) const noexcept {
        return used_bytes == 0 || (used_bytes < limit_bytes && bytes <= limit_bytes - used_bytes);
    }
};

class AnswerClaim {
public:
    AnswerClaim() = default;
    AnswerClaim(std::shared_ptr<AnswerBudget> budget, std::size_t bytes) noexcept;
    ~AnswerClaim() { change(0); }
    AnswerClaim(AnswerClaim&& other) noexcept
        : budget_(std::move(other.budget_)), bytes_(std::exchange(other.bytes_, 0)) {}
    AnswerClaim& operator=(AnswerClaim&& other) noexcept;
    AnswerClaim(const AnswerClaim&) = delete;
    AnswerClaim& operator=(const AnswerClaim&) = delete;

    // Whether it was made with a budget.
    explicit operator bool() const noexcept { return budget_ != nullptr; }
    void change(std::size_t bytes) noexcept;

private:
    std::shared_ptr<AnswerBudget> budget_;
    std::size_t bytes_ = 0;
};

// A body that keeps its claim, then of its own size, for as long as any part of it is kept.
[[nodiscard]] BodyPiece keep_claimed(std::string&& body, AnswerClaim&& claim);

}  // namespace penstock::http
