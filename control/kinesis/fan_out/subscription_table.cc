#include "control/kinesis/fan_out/subscription_table.h"

namespace penstock::kinesis {

std::expected<SubscriptionTable::Ticket, SubscriptionTable::Refusal> SubscriptionTable::take(
    const Place& place, std::uint64_t now_ms, std::uint64_t hold_ms,
    const std::function<bool()>& begin, std::function<void()> evict) {
    const std::lock_guard lock(mutex_);
    const auto found = holders_.find(place);
    if (found != holders_.end() && now_ms < found->second.since_ms + hold_ms) {
        return std::unexpected(Refusal::too_soon);
    }
    if (!begin()) {
        return std::unexpected(Refusal::not_begun);
    }
    if (found != holders_.end()) {
        found->second.evict();
    }
    const Ticket ticket{next_ticket_++};
    holders_.insert_or_assign(place, Holder{ticket, now_ms, std::move(evict)});
    return ticket;
}

void SubscriptionTable::give_back(const Place& place, Ticket ticket) {
    const std::lock_guard lock(mutex_);
    const auto found = holders_.find(place);
    if (found != holders_.end() && found->second.ticket == ticket) {
        holders_.erase(found);
    }
}

}  // namespace penstock::kinesis
