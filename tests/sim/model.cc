#include "tests/sim/model.h"

#include <algorithm>
#include <cstring>

namespace penstock::test {

RecordData::RecordData() : noise_(largest + (1U << 17)), scratch_(largest + 64) {
    SimRandom random(0x5eed);
    for (std::size_t at = 0; at + 8 <= noise_.size(); at += 8) {
        store(noise_.data() + at, random.next());
    }
}

Bytes RecordData::make(std::uint64_t serial, std::uint32_t length) {
    std::memcpy(scratch_.data(), noise_.data() + slice(serial), length);
    if (length >= sizeof serial) {
        store(scratch_.data(), serial);
    }
    return {scratch_.data(), length};
}

bool RecordData::matches(std::uint64_t serial, std::uint32_t length, Bytes data) const {
    if (data.size() != length) {
        return false;
    }
    const std::size_t stamp = length >= sizeof serial ? sizeof serial : 0;
    if (stamp != 0 && load<std::uint64_t>(data.data()) != serial) {
        return false;
    }
    return std::memcmp(data.data() + stamp, noise_.data() + slice(serial) + stamp,
                       length - stamp) == 0;
}

void Model::broken(std::uint64_t uid, Sequence at, const std::string& what) const {
    throw Broken("life " + std::to_string(life_) + " shard " + std::to_string(uid) + " sequence " +
                 std::to_string(at >> 32) + ":" + std::to_string(at & 0xffffffffU) + ": " + what);
}

void Model::on_done(CommitWaiter& self, Errc outcome) noexcept {
    auto& waiter = static_cast<Waiter&>(self);
    waiter.done = true;
    waiter.outcome = outcome;
}

bool Model::append(SimNode& node, std::uint64_t uid, std::uint32_t length, AckLevel level) {
    ModelShard& shard = shards_.at(uid);
    ShardLog* log = node.group(shard.group).find(static_cast<ShardUid>(uid));
    if (log == nullptr) {
        broken(uid, 0, "the shard is not there");
    }
    const std::uint64_t serial = next_serial_++;
    const std::string key = "key-" + std::to_string(serial % 97);
    RecordIn record;
    record.partition_key = as_bytes(key);
    record.data = data_.make(serial, length);
    Appended appended;
    if (node.group(shard.group).append(*log, record, level, appended) != AppendVerdict::accepted) {
        return false;
    }
    if (shard.closing) {
        broken(uid, appended.sequence, "was taken after the shard had been closed");
    }
    if (appended.sequence <= shard.highest) {
        broken(uid, appended.sequence, "the number was given out before");
    }
    if (!shard.records.empty() && appended.arrival_ms < shard.records.rbegin()->second.arrival_ms) {
        broken(uid, appended.sequence, "its arrival lies before its predecessor's");
    }
    shard.highest = appended.sequence;
    shard.records.emplace(appended.sequence,
                          SentRecord{serial, length, life_, appended.arrival_ms, false});
    auto waiter = std::make_unique<Waiter>();
    waiter->sequence = appended.sequence;
    waiter->level = level;
    waiter->on_done = &on_done;
    waiter->uid = uid;
    waiter->at = appended.sequence;
    waiting_.push_back(std::move(waiter));
    node.group(shard.group).wait_commit(*log, *waiting_.back());
    return true;
}

void Model::add_shard(SimNode& node, unsigned group, std::uint64_t uid, std::int64_t retention_ms) {
    ModelShard& shard = shards_[uid];
    shard.group = group;
    shard.retention_ms = retention_ms;
    auto waiter = std::make_unique<Waiter>();
    waiter->on_done = &on_done;
    waiter->uid = uid;
    waiter->for_add = true;
    waiting_.push_back(std::move(waiter));
    node.group(group).add_shard(static_cast<ShardUid>(uid), retention_ms, *waiting_.back());
}

void Model::drop_shard(SimNode& node, std::uint64_t uid) {
    ModelShard& shard = shards_.at(uid);
    shard.dropping = true;
    auto waiter = std::make_unique<Waiter>();
    waiter->on_done = &on_done;
    waiter->uid = uid;
    waiter->for_drop = true;
    waiting_.push_back(std::move(waiter));
    node.group(shard.group).drop_shard(static_cast<ShardUid>(uid), *waiting_.back());
}

void Model::close_shard(SimNode& node, std::uint64_t uid) {
    ModelShard& shard = shards_.at(uid);
    shard.closing = true;
    auto waiter = std::make_unique<Waiter>();
    waiter->on_done = &on_done;
    waiter->uid = uid;
    waiter->for_close = true;
    waiting_.push_back(std::move(waiter));
    node.group(shard.group).close_shard(static_cast<ShardUid>(uid), *waiting_.back());
}

// An end that was told of stands behind everything that was taken, and stays.
void Model::check_end(SimNode& node, std::uint64_t uid, const ModelShard& shard) const {
    ShardStatus status;
    if (!shard.close_acked || shard.dropping || tolerate_lost ||
        !node.group(shard.group).shard_status(static_cast<ShardUid>(uid), status)) {
        return;
    }
    const Sequence end = shard.records.empty() ? shard.trim : shard.records.rbegin()->first + 1;
    if (status.end_sequence != end) {
        broken(uid, status.end_sequence, "is not the end that was told when it was closed");
    }
}

void Model::collect() {
    std::erase_if(waiting_, [this](const std::unique_ptr<Waiter>& waiter) {
        if (!waiter->done) {
            return false;
        }
        ModelShard& shard = shards_.at(waiter->uid);
        if (waiter->outcome != Errc::ok) {
            return true;  // may exist
        }
        if (waiter->for_drop) {
            shard.drop_acked = true;
        } else if (waiter->for_add) {
            shard.add_acked = true;
        } else if (waiter->for_close) {
            shard.close_acked = true;
            for (auto& [sequence, record] : shard.records) {
                record.must_stay = true;
            }
        } else if (!shard.dropping) {
            ++acked_;
            const auto found = shard.records.find(waiter->at);
            if (found == shard.records.end()) {
                if (waiter->at >= shard.trim) {
                    broken(waiter->uid, waiter->at, "acknowledged, but not in the log");
                }
                return true;
            }
            found->second.must_stay = true;
        }
        return true;
    });
}

std::string Model::describe_waiting() const {
    std::string text;
    for (const auto& waiter : waiting_) {
        text += " [shard " + std::to_string(waiter->uid) +
                (waiter->for_add     ? " add"
                 : waiter->for_drop  ? " drop"
                 : waiter->for_close ? " close"
                                     : " sequence " + std::to_string(waiter->at >> 32) + ":" +
                                           std::to_string(waiter->at & 0xffffffffU)) +
                (waiter->level == AckLevel::all ? " all]" : "]");
    }
    return text;
}

void Model::forget_waiters() {
    collect();
    waiting_.clear();
}

void Model::compare(std::uint64_t uid, ModelShard& shard, const std::map<Sequence, bool>& found,
                    Sequence trim, bool cut) {
    if (trim < shard.trim) {
        broken(uid, trim, "the trim point went back");
    }
    shard.trim = trim;
    const std::int64_t horizon = world_.clock().wall_ms() - shard.retention_ms;
    while (!shard.records.empty() && shard.records.begin()->first < trim) {
        const auto& [sequence, record] = *shard.records.begin();
        if (record.arrival_ms >= horizon) {
            broken(uid, sequence, "trimmed before its time");
        }
        shard.records.erase(shard.records.begin());
    }
    // Of each life a prefix may be there, and with it everything that was promised.
    unsigned ended_life = 0xffffffff;
    for (auto it = shard.records.begin(); it != shard.records.end();) {
        const bool there = found.contains(it->first);
        if (there && it->second.life == ended_life) {
            broken(uid, it->first, "is in the log although one before it in its epoch is not");
        }
        if (there) {
            it->second.must_stay = true;
            ++it;
            continue;
        }
        if (it->second.must_stay) {
            broken(uid, it->first, "acknowledged or seen, and not in the log");
        }
        if (!cut) {
            ++it;
            continue;
        }
        ended_life = it->second.life;
        it = shard.records.erase(it);
    }
}

void Model::read_shard(SimNode& node, std::uint64_t uid, ModelShard& shard, bool cut) {
    SimContainerFiles files(world_);
    SegmentReader reader(files, node.set_id());
    std::map<Sequence, bool> found;
    ReadStart start;
    Sequence at = 0;
    Sequence trim = 0;
    unsigned again = 0;
    for (;;) {
        ReadPlan plan;
        start.from = at == 0 ? ReadFrom::trim_horizon : ReadFrom::sequence;
        start.sequence = at;
        ShardGroup& group = node.group(shard.group);
        const Status planned = group.plan_read(static_cast<ShardUid>(uid), start, 4U << 20, plan);
        if (!planned) {
            broken(uid, at, "no plan: " + describe(planned.error()));
        }
        trim = plan.trim_sequence;
        if (plan.lost_until != 0) {
            ++lost_ranges;
            if (!tolerate_lost) {
                broken(uid, plan.first_sequence, "said to be lost");
            }
            at = plan.lost_until;
            group.release(plan);
            continue;
        }
        if (plan.first_sequence >= plan.end_sequence) {
            group.release(plan);
            break;
        }
        ReadOutcome outcome;
        std::string wrong;
        Sequence last = 0;
        const Status got = reader.read(
            plan,
            [&](const RecordView& record) {
                const auto known = shard.records.find(record.sequence);
                if (known == shard.records.end()) {
                    wrong = "was never sent, or is void";
                } else if (!data_.matches(known->second.serial, known->second.length,
                                          record.data)) {
                    wrong = "has other data than was sent";
                } else if (record.arrival_ms != known->second.arrival_ms) {
                    wrong = "has another arrival time";
                } else if (last != 0 && record.sequence <= last) {
                    wrong = "comes out of order";
                }
                last = record.sequence;
                found[record.sequence] = true;
                ++read_;
                return wrong.empty();
            },
            outcome);
        group.release(plan);
        if (!wrong.empty()) {
            broken(uid, last, wrong);
        }
        if (world_.down()) {
            return;
        }
        if (!got) {
            broken(uid, outcome.next_sequence, "cannot be read: " + describe(got.error()));
        }
        // A whole plan without a record: what it points at ends before the committed end.
        if (outcome.records == 0 && outcome.next_sequence == at && ++again > 3) {
            broken(uid, outcome.next_sequence,
                   "the plan leads nowhere, its end is " + std::to_string(plan.end_sequence >> 32) +
                       ":" + std::to_string(plan.end_sequence & 0xffffffffU));
        }
        again = outcome.records != 0 ? 0 : again;
        at = outcome.next_sequence;
    }
    compare(uid, shard, found, trim, cut);
}

void Model::check(SimNode& node, bool after_start) {
    collect();
    for (auto it = shards_.begin(); it != shards_.end();) {
        auto& [uid, shard] = *it;
        const bool there = node.group(shard.group).find(static_cast<ShardUid>(uid)) != nullptr;
        if (shard.drop_acked && there) {
            broken(uid, 0, "was dropped and is back");
        }
        if (!there) {
            if (shard.add_acked && !shard.dropping) {
                broken(uid, 0, "the shard is gone");
            }
            if (after_start) {
                it = shards_.erase(it);
            } else {
                ++it;
            }
            continue;
        }
        if (after_start) {
            shard.add_acked = true;
            shard.dropping = false;  // the drop had not happened
            shard.closing = shard.close_acked;
        }
        read_shard(node, uid, shard, after_start);
        if (world_.down()) {
            return;
        }
        check_end(node, uid, shard);
        ++it;
    }
}

void Model::spot_check(SimNode& node, SimRandom& random) {
    collect();
    if (shards_.empty()) {
        return;
    }
    auto chosen = shards_.begin();
    std::advance(chosen, static_cast<std::ptrdiff_t>(random.below(shards_.size())));
    auto& [uid, shard] = *chosen;
    ShardGroup& group = node.group(shard.group);
    if (shard.dropping || shard.records.empty() ||
        group.find(static_cast<ShardUid>(uid)) == nullptr) {
        return;
    }
    auto expected = shard.records.begin();
    std::advance(expected, static_cast<std::ptrdiff_t>(random.below(shard.records.size())));
    ReadStart start;
    if (random.below(3) == 0) {
        start.from = ReadFrom::timestamp;
        start.timestamp_ms = expected->second.arrival_ms;
        expected =
            std::ranges::lower_bound(shard.records, start.timestamp_ms, {},
                                     [](const auto& entry) { return entry.second.arrival_ms; });
    } else {
        start.from = ReadFrom::sequence;
        start.sequence = expected->first;
    }
    ReadPlan plan;
    if (!group.plan_read(static_cast<ShardUid>(uid), start, 256U << 10, plan)) {
        broken(uid, start.sequence, "no plan");
    }
    expected = std::ranges::find_if(expected, shard.records.end(), [&](const auto& entry) {
        return entry.first >= plan.trim_sequence;
    });
    SimContainerFiles files(world_);
    SegmentReader reader(files, node.set_id());
    ReadOutcome outcome;
    std::string wrong;
    Sequence last = 0;
    const Status got = reader.read(
        plan,
        [&](const RecordView& record) {
            last = record.sequence;
            if (expected == shard.records.end()) {
                wrong = "is beyond all that was sent";
            } else if (expected->first != record.sequence) {
                wrong = "is not the next one, which is " + std::to_string(expected->first >> 32) +
                        ":" + std::to_string(expected->first & 0xffffffffU);
            } else if (!data_.matches(expected->second.serial, expected->second.length,
                                      record.data)) {
                wrong = "has other data than was sent";
            }
            if (!wrong.empty()) {
                return false;
            }
            expected->second.must_stay = true;
            ++expected;
            ++read_;
            return true;
        },
        outcome);
    group.release(plan);
    if (world_.down()) {
        return;
    }
    if (!wrong.empty()) {
        broken(uid, last, wrong);
    }
    if (!got && plan.lost_until == 0) {
        broken(uid, outcome.next_sequence, "cannot be read: " + describe(got.error()));
    }
}

}  // namespace penstock::test
