#include "storage/segment/table.h"

#include <algorithm>
#include <utility>

namespace penstock {

Chunk* ShardTable::chunk(std::uint64_t ordinal) noexcept {
    if (chunks.empty() || ordinal < chunks.front().ordinal ||
        ordinal - chunks.front().ordinal >= chunks.size()) {
        return nullptr;
    }
    return &chunks[ordinal - chunks.front().ordinal];
}

bool ShardTable::ends_lost_range(Sequence sequence) const noexcept {
    return std::ranges::any_of(
        lost, [sequence](const LostRange& range) { return range.until == sequence + 1; });
}

bool ShardTable::add_point(Chunk& chunk, const IndexPoint& point) const {
    const auto at = std::ranges::lower_bound(chunk.index, point.offset, {}, &IndexPoint::offset);
    if (point.offset >= chunk.end_offset ||
        (at != chunk.index.end() && at->offset == point.offset)) {
        return false;
    }
    chunk.index.insert(at, point);
    return true;
}

Sequence ShardTable::closed_through() const noexcept {
    const bool told = std::ranges::any_of(
        lost, [this](const LostRange& range) { return range.until >= close_sequence; });
    return close_sequence == 0 || told ? 0 : close_sequence - 1;
}

std::vector<ProducerRunEntry> GroupTable::take_producer_runs() {
    keeps_producer_runs_ = false;
    return std::exchange(producer_runs_, {});
}

ShardTable* GroupTable::find(ShardUid uid) noexcept {
    const auto found = shards_.find(value(uid));
    return found == shards_.end() ? nullptr : &found->second;
}

bool GroupTable::apply_shard(const ShardEntry& entry) {
    if (entry.uid == 0 || entry.next_sequence == 0 || shards_.contains(entry.uid)) {
        return false;
    }
    ShardTable& shard = shards_[entry.uid];
    shard.uid = static_cast<ShardUid>(entry.uid);
    shard.next_sequence = entry.next_sequence;
    shard.trim_sequence = entry.trim_sequence;
    shard.last_arrival_ms = entry.last_arrival_ms;
    shard.retention_ms = entry.retention_ms;
    shard.next_ordinal = entry.next_ordinal;
    shard.end = {entry.end_sequence, entry.end_epoch, entry.end_crc};
    shard.closed = entry.closed != 0;
    return true;
}

bool GroupTable::apply_take(const TakeChunkEntry& entry) {
    ShardTable* shard = find(static_cast<ShardUid>(entry.uid));
    const UnitRun run{entry.container, entry.unit, entry.units};
    if (shard == nullptr || !space_.mark_taken(run)) {
        return false;
    }
    if (!shard->chunks.empty() && entry.ordinal != shard->chunks.back().ordinal + 1) {
        return false;
    }
    Chunk chunk;
    chunk.ordinal = entry.ordinal;
    chunk.run = run;
    chunk.missing = static_cast<ReplicaMask>(entry.missing);
    chunk.before_sequence =
        shard->chunks.empty() ? shard->end.sequence : shard->chunks.back().end_sequence;
    chunk.end_sequence = chunk.before_sequence;
    chunk.end_arrival_ms =
        shard->chunks.empty() ? shard->last_arrival_ms : shard->chunks.back().end_arrival_ms;
    shard->chunks.push_back(std::move(chunk));
    shard->next_ordinal = entry.ordinal + 1;
    return true;
}

bool GroupTable::apply_point(const PointEntry& entry) {
    ShardTable* shard = find(static_cast<ShardUid>(entry.uid));
    Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(entry.ordinal);
    if (chunk == nullptr || entry.offset < chunk->end_offset) {
        return false;
    }
    const Chunk& front = shard->chunks.front();
    const Chunk* previous =
        entry.ordinal > front.ordinal ? shard->chunk(entry.ordinal - 1) : nullptr;
    if (chunk->end_offset == 0 && previous != nullptr) {
        chunk->before_sequence = previous->end_sequence;
    }
    chunk->end_offset = entry.offset;
    chunk->end_sequence = entry.sequence;
    chunk->end_arrival_ms = entry.arrival_ms;
    chunk->sealed = entry.sealed != 0;
    // The newest point moves on until it is far enough from the one before to be worth keeping.
    const IndexPoint point{entry.offset, entry.sequence, entry.arrival_ms};
    // One behind a lost range is kept, and counts for nothing else.
    const auto is_kept = [shard](const IndexPoint& one) {
        return shard->ends_lost_range(one.sequence);
    };
    std::uint64_t base = 0;
    for (std::size_t i = chunk->index.size(); i >= 2 && base == 0; --i) {
        base = is_kept(chunk->index[i - 2]) ? 0 : chunk->index[i - 2].offset;
    }
    if (!chunk->index.empty() && chunk->index.back().offset - base < index_distance_bytes &&
        !is_kept(chunk->index.back())) {
        chunk->index.back() = point;
    } else {
        chunk->index.push_back(point);
    }
    shard->end = {entry.sequence, entry.epoch, entry.crc};
    shard->last_arrival_ms = entry.arrival_ms;
    return true;
}

bool GroupTable::apply_seal(const SealChunkEntry& entry) {
    ShardTable* shard = find(static_cast<ShardUid>(entry.uid));
    Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(entry.ordinal);
    if (chunk == nullptr) {
        return false;
    }
    chunk->sealed = true;
    const Chunk* previous = shard->chunk(entry.ordinal - 1);
    if (chunk->end_offset == 0 && previous != nullptr) {
        // Taken ahead of need and never written: it stands where its predecessor ended.
        chunk->before_sequence = previous->end_sequence;
        chunk->end_sequence = previous->end_sequence;
        chunk->end_arrival_ms = previous->end_arrival_ms;
    }
    return true;
}

bool GroupTable::apply_trim(const TrimEntry& entry) {
    ShardTable* shard = find(static_cast<ShardUid>(entry.uid));
    if (shard == nullptr) {
        return false;
    }
    shard->trim_sequence = entry.trim_sequence;
    while (!shard->chunks.empty() && shard->chunks.front().ordinal < entry.first_ordinal) {
        const Sequence end_sequence = shard->chunks.front().end_sequence;
        space_.give(shard->chunks.front().run);
        shard->chunks.pop_front();
        // Taken ahead of need, before its predecessor was full: it begins where that one ended.
        if (!shard->chunks.empty() && shard->chunks.front().end_offset == 0) {
            shard->chunks.front().before_sequence = end_sequence;
            shard->chunks.front().end_sequence = end_sequence;
        }
    }
    std::erase_if(shard->lost,
                  [&](const LostRange& range) { return range.until <= entry.trim_sequence; });
    return true;
}

bool GroupTable::apply(Bytes bytes) {
    switch (manifest_type(bytes)) {
        case ManifestType::none:
            return false;
        case ManifestType::epoch_begun: {
            EpochBegunEntry entry;
            if (!decode(bytes, entry)) {
                return false;
            }
            writer_epoch_ = entry.epoch;
            started_epoch_ = entry.started_epoch;
            wall_ms_ = entry.wall_ms;
            taking_ = static_cast<ReplicaMask>(entry.taking);
            taken_part_ = static_cast<ReplicaMask>(entry.taken_part);
            return true;
        }
        case ManifestType::shard: {
            ShardEntry entry;
            return decode(bytes, entry) && apply_shard(entry);
        }
        case ManifestType::drop_shard: {
            DropShardEntry entry;
            if (!decode(bytes, entry) || !shards_.contains(entry.uid)) {
                return false;
            }
            for (const Chunk& chunk : shards_[entry.uid].chunks) {
                space_.give(chunk.run);
            }
            shards_.erase(entry.uid);
            return true;
        }
        case ManifestType::container: {
            ContainerEntry entry;
            if (!decode(bytes, entry) || entry.units == 0 ||
                entry.units > space_.units_per_container() || entry.container > (1U << 20) ||
                space_.has_container(entry.container)) {
                return false;
            }
            space_.add_container(entry.container, entry.units);
            return true;
        }
        case ManifestType::take_chunk: {
            TakeChunkEntry entry;
            return decode(bytes, entry) && apply_take(entry);
        }
        case ManifestType::point: {
            PointEntry entry;
            return decode(bytes, entry) && apply_point(entry);
        }
        case ManifestType::seal_chunk: {
            SealChunkEntry entry;
            return decode(bytes, entry) && apply_seal(entry);
        }
        case ManifestType::trim: {
            TrimEntry entry;
            return decode(bytes, entry) && apply_trim(entry);
        }
        case ManifestType::replica_left: {
            ReplicaLeftEntry entry;
            if (!decode(bytes, entry) || entry.replica >= replica_count) {
                return false;
            }
            const auto bit = static_cast<ReplicaMask>(1U << entry.replica);
            taking_ = static_cast<ReplicaMask>(taking_ & ~bit);
            for (auto& [uid, shard] : shards_) {
                for (Chunk& chunk : shard.chunks) {
                    if (!chunk.sealed) {
                        chunk.missing = static_cast<ReplicaMask>(chunk.missing | bit);
                    }
                }
            }
            return true;
        }
        case ManifestType::replica_blank: {
            ReplicaBlankEntry entry;
            if (!decode(bytes, entry) || entry.replica >= replica_count) {
                return false;
            }
            for (auto& [uid, shard] : shards_) {
                for (Chunk& chunk : shard.chunks) {
                    chunk.missing = static_cast<ReplicaMask>(chunk.missing | (1U << entry.replica));
                }
            }
            return true;
        }
        case ManifestType::chunk_refilled: {
            ChunkRefilledEntry entry;
            if (!decode(bytes, entry) || entry.replica >= replica_count) {
                return false;
            }
            ShardTable* shard = find(static_cast<ShardUid>(entry.uid));
            Chunk* chunk = shard == nullptr ? nullptr : shard->chunk(entry.ordinal);
            if (chunk != nullptr) {  // it may have been trimmed while it was being refilled
                chunk->missing = static_cast<ReplicaMask>(chunk->missing & ~(1U << entry.replica));
            }
            return true;
        }
        case ManifestType::lost_range: {
            LostRangeEntry entry;
            ShardTable* shard = nullptr;
            if (!decode(bytes, entry) || entry.from >= entry.until ||
                (shard = find(static_cast<ShardUid>(entry.uid))) == nullptr) {
                return false;
            }
            shard->lost.push_back({entry.from, entry.until});
            return true;
        }
        case ManifestType::next_sequence: {
            NextSequenceEntry entry;
            ShardTable* shard = nullptr;
            if (!decode(bytes, entry) ||
                (shard = find(static_cast<ShardUid>(entry.uid))) == nullptr) {
                return false;
            }
            shard->next_sequence = entry.next_sequence;
            return true;
        }
        case ManifestType::epoch_started: {
            EpochStartedEntry entry;
            if (!decode(bytes, entry)) {
                return false;
            }
            // Until now the frames that count were those of the epoch before. Whoever takes part
            // later is named by a generation of its own.
            if (started_epoch_ != entry.epoch) {
                taken_part_ = taking_;
            }
            started_epoch_ = entry.epoch;
            return true;
        }
        case ManifestType::close_shard: {
            CloseShardEntry entry;
            ShardTable* shard = nullptr;
            if (!decode(bytes, entry) ||
                (shard = find(static_cast<ShardUid>(entry.uid))) == nullptr) {
                return false;
            }
            shard->closed = true;
            shard->close_sequence = entry.end_sequence;
            return true;
        }
        case ManifestType::producer_run: {
            ProducerRunEntry entry;
            if (!decode(bytes, entry) || find(static_cast<ShardUid>(entry.uid)) == nullptr) {
                return false;
            }
            if (keeps_producer_runs_) {
                producer_runs_.push_back(entry);
            }
            return true;
        }
        case ManifestType::retention: {
            RetentionEntry entry;
            ShardTable* shard = nullptr;
            if (!decode(bytes, entry) ||
                (shard = find(static_cast<ShardUid>(entry.uid))) == nullptr) {
                return false;
            }
            shard->retention_ms = entry.retention_ms;
            return true;
        }
    }
    return false;
}

namespace {

void snapshot_chunk(const ShardTable& shard, const Chunk& chunk,
                    const std::function<void(Bytes)>& add) {
    add(EncodedEntry<TakeChunkEntry>({.uid = value(shard.uid),
                                      .ordinal = chunk.ordinal,
                                      .container = chunk.run.container,
                                      .unit = chunk.run.unit,
                                      .units = chunk.run.units,
                                      .missing = chunk.missing})
            .bytes());
    for (std::size_t i = 0; i < chunk.index.size(); ++i) {
        const IndexPoint& point = chunk.index[i];
        const bool last = i + 1 == chunk.index.size();
        // Only a shard's last point needs the identity of its frame, and the shard entry has it; it
        // is repeated here so that applying the points ends where the shard entry said.
        add(EncodedEntry<PointEntry>({.uid = value(shard.uid),
                                      .ordinal = chunk.ordinal,
                                      .offset = point.offset,
                                      .sequence = point.sequence,
                                      .epoch = shard.end.epoch,
                                      .arrival_ms = point.arrival_ms,
                                      .crc = shard.end.crc,
                                      .sealed = last && chunk.sealed ? 1U : 0U})
                .bytes());
    }
    if (chunk.index.empty() && chunk.sealed) {
        add(EncodedEntry<SealChunkEntry>({value(shard.uid), chunk.ordinal}).bytes());
    }
}

}  // namespace

void GroupTable::snapshot(const EpochBegunEntry& begun,
                          const std::function<void(Bytes)>& add) const {
    add(EncodedEntry(begun).bytes());
    for (std::uint32_t container = 0; container < space_.container_count(); ++container) {
        if (space_.has_container(container)) {
            add(EncodedEntry<ContainerEntry>({container, space_.units_of(container)}).bytes());
        }
    }
    for (const auto& [uid, shard] : shards_) {
        // The first chunk kept begins behind this; it is all a snapshot needs of what was trimmed.
        const Sequence before =
            shard.chunks.empty() ? shard.end.sequence : shard.chunks.front().before_sequence;
        add(EncodedEntry<ShardEntry>({.uid = uid,
                                      .next_sequence = shard.next_sequence,
                                      .trim_sequence = shard.trim_sequence,
                                      .end_sequence = before,
                                      .end_epoch = shard.end.epoch,
                                      .last_arrival_ms = shard.last_arrival_ms,
                                      .next_ordinal = shard.next_ordinal,
                                      .retention_ms = shard.retention_ms,
                                      .end_crc = shard.end.crc,
                                      .closed = shard.closed ? 1U : 0U})
                .bytes());
        for (const LostRange& range : shard.lost) {  // before the points behind them
            add(EncodedEntry<LostRangeEntry>({uid, range.from, range.until}).bytes());
        }
        for (const Chunk& chunk : shard.chunks) {
            snapshot_chunk(shard, chunk, add);
        }
        if (shard.close_sequence != 0) {
            add(EncodedEntry<CloseShardEntry>({uid, shard.close_sequence}).bytes());
        }
    }
}

}  // namespace penstock
