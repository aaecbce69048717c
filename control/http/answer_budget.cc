#include "control/http/answer_budget.h"

namespace penstock::http {
namespace {

struct ClaimedBody {
    std::string text;
    AnswerClaim claim;
};

}  // namespace

AnswerClaim::AnswerClaim(std::shared_ptr<AnswerBudget> budget, std::size_t bytes) noexcept
    : budget_(std::move(budget)) {
    change(bytes);
}

AnswerClaim& AnswerClaim::operator=(AnswerClaim&& other) noexcept {
    if (this != &other) {
        change(0);
        budget_ = std::move(other.budget_);
        bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
}

void AnswerClaim::change(std::size_t bytes) noexcept {
    if (budget_ != nullptr) {
        budget_->used_bytes = budget_->used_bytes - bytes_ + bytes;
        budget_->counters->claimed_bytes.add(bytes > bytes_ ? bytes - bytes_ : 0);
        budget_->counters->given_back_bytes.add(bytes < bytes_ ? bytes_ - bytes : 0);
        bytes_ = bytes;
    }
}

BodyPiece keep_claimed(std::string&& body, AnswerClaim&& claim) {
    auto kept = std::make_shared<ClaimedBody>(std::move(body), std::move(claim));
    kept->claim.change(kept->text.size());
    return {kept, &kept->text};
}

}  // namespace penstock::http
