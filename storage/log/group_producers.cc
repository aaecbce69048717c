// What a group does with what it remembers of producers: before an append, at a point of the
// manifest, in a recovery.
#include "storage/log/group_core.h"

namespace penstock {

// Accepted for what may be appended, and for what is there already, which `out` then tells. A shard
// that is closed or full of work still knows what it took.
AppendVerdict GroupCore::look_for_repeat(const ShardLog& shard, const ProducerMark& mark,
                                         Appended& out) noexcept {
    switch (producers.look(shard.uid, mark, steady_ms, out)) {
        case ProducerVerdict::repeated:
            ++counters.records_repeated;
            return AppendVerdict::accepted;
        case ProducerVerdict::fenced:
            return AppendVerdict::producer_fenced;
        case ProducerVerdict::too_old:
            return AppendVerdict::producer_window;
        case ProducerVerdict::fresh:
            break;
    }
    if (shard.producers_moved) {
        return AppendVerdict::shard_closed;
    }
    return producers.make_room(shard.uid, mark, steady_ms) ? AppendVerdict::accepted
                                                           : AppendVerdict::producers_full;
}

AppendVerdict ShardGroup::look_up(ShardLog& shard, const ProducerMark& mark,
                                  Appended& out) noexcept {
    shard.producers_moved = true;
    out = {};
    const AppendVerdict verdict = core_->look_for_repeat(shard, mark, out);
    // What it does not have may go on to its children.
    return verdict == AppendVerdict::shard_closed ? AppendVerdict::accepted : verdict;
}

AppendVerdict ShardGroup::known(const ShardLog& shard, const ProducerMark& mark,
                                Appended& out) noexcept {
    switch (core_->producers.look(shard.uid, mark, core_->steady_ms, out)) {
        case ProducerVerdict::repeated:
            ++core_->counters.records_repeated;
            return AppendVerdict::accepted;
        case ProducerVerdict::fenced:
            return AppendVerdict::producer_fenced;
        case ProducerVerdict::fresh:
        case ProducerVerdict::too_old:
            break;
    }
    return AppendVerdict::producer_window;
}

// What recovery will not find in frames behind the point that is written next.
void GroupCore::write_producer_runs(const ShardLog& shard) noexcept {
    producers.take_unrecorded(shard.uid, shard.settled.sequence,
                              [this](const ProducerRunEntry& entry) { record(entry); });
}

void GroupCore::snapshot_producers(StateEntries& out) const {
    producers.snapshot(
        [this](ShardUid uid) {
            const auto shard = table.shards().find(value(uid));
            return shard == table.shards().end() ? 0 : shard->second.end.sequence;
        },
        [this, &out](const ProducerRunEntry& entry) {
            PENSTOCK_CHECK(table.shards().contains(entry.uid));  // or nobody could read it
            out.add(EncodedEntry(entry).bytes());
        });
}

void GroupCore::restore_producers() {
    for (const ProducerRunEntry& entry : table.take_producer_runs()) {
        if (table.find(static_cast<ShardUid>(entry.uid)) != nullptr) {
            producers.restore(entry, steady_ms);
        }
    }
}

// Remembers who made the records of a frame that the manifest's points do not cover.
void GroupCore::note_producers(ShardUid shard, const FrameHeader& header, Bytes frame) noexcept {
    RecordWalker walker(header, frame.subspan(sizeof(FrameHeader), header.payload_bytes));
    RecordView record;
    while (walker.next(record)) {
        if (record.has_producer) {
            producers.restore(shard, record.producer, record.sequence, record.arrival_ms,
                              steady_ms);
        }
    }
}

}  // namespace penstock
