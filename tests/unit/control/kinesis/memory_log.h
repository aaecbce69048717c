// A ChangeLog in memory that can fail at any step, before or after the bytes were kept.
#pragma once

#include <atomic>
#include <string>
#include <vector>

#include "control/catalog/change_log.h"
#include "storage/base/clock.h"

namespace penstock {

class MemoryLog final : public ChangeLog {
public:
    enum class Failure { none, nothing_kept, kept_all_the_same };

    Status append(Bytes change) override { return write(Kind::change, change); }
    Status snapshot(Bytes whole_state) override { return write(Kind::snapshot, whole_state); }
    Status replay(const std::function<Status(Kind, Bytes)>& take) override {
        std::size_t first = 0;
        for (std::size_t i = 0; i < records_.size(); ++i) {
            first = records_[i].first == Kind::snapshot ? i : first;
        }
        for (std::size_t i = first; i < records_.size(); ++i) {
            PENSTOCK_TRY_VOID(take(records_[i].first, as_bytes(records_[i].second)));
        }
        return {};
    }

    // The n-th write from now on fails, and all after it if `for_good`.
    void fail_at(int n, Failure how, bool for_good = false) {
        fail_in_ = n;
        how_ = how;
        for_good_ = for_good;
    }
    void heal() { fail_in_ = 0; }
    [[nodiscard]] std::size_t writes() const { return writes_; }
    [[nodiscard]] std::vector<std::pair<Kind, std::string>>& records() { return records_; }
    [[nodiscard]] std::size_t snapshots() const {
        std::size_t count = 0;
        for (const auto& record : records_) {
            count += record.first == Kind::snapshot ? 1 : 0;
        }
        return count;
    }

private:
    Status write(Kind kind, Bytes bytes) {
        ++writes_;
        if (fail_in_ > 0 && --fail_in_ == 0) {
            fail_in_ = for_good_ ? 1 : 0;
            if (how_ == Failure::kept_all_the_same) {
                records_.emplace_back(kind, as_text(bytes));
            }
            return fail(Errc::not_enough_replicas);
        }
        records_.emplace_back(kind, as_text(bytes));
        return {};
    }
    std::vector<std::pair<Kind, std::string>> records_;
    std::size_t writes_ = 0;
    int fail_in_ = 0;
    Failure how_ = Failure::none;
    bool for_good_ = false;
};

class ManualClock final : public Clock {
public:
    std::uint64_t monotonic_ns() noexcept override { return ns; }
    std::int64_t wall_ms() noexcept override { return ms; }
    std::atomic<std::uint64_t> ns = 1'000'000'000;
    std::atomic<std::int64_t> ms = 1'790'000'000'123;
};

}  // namespace penstock
