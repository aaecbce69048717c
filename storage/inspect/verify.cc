#include "storage/inspect/verify.h"

#include <algorithm>
#include <set>

#include "storage/base/counted.h"
#include "storage/journal/ring.h"
#include "storage/segment/reader.h"

namespace penstock {

const char* describe(DifferenceLevel level) noexcept {
    switch (level) {
        case DifferenceLevel::note:
            return "note";
        case DifferenceLevel::damage:
            return "damage";
        case DifferenceLevel::lost:
            return "LOST";
    }
    return "unknown";
}

const char* describe(DifferenceKind kind) noexcept {
    switch (kind) {
        case DifferenceKind::place:
            return "place";
        case DifferenceKind::superblock:
            return "superblock";
        case DifferenceKind::state_log:
            return "state-log";
        case DifferenceKind::manifest:
            return "manifest";
        case DifferenceKind::journal:
            return "journal";
        case DifferenceKind::file:
            return "file";
        case DifferenceKind::frame:
            return "frame";
        case DifferenceKind::padding:
            return "padding";
        case DifferenceKind::chain:
            return "chain";
        case DifferenceKind::records:
            return "records";
        case DifferenceKind::lagging:
            return "lagging";
        case DifferenceKind::pending:
            return "pending";
    }
    return "unknown";
}

std::string replica_names(ReplicaMask replicas) {
    std::vector<std::string> names;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((replicas >> r & 1) != 0) {
            names.push_back(std::to_string(r));
        }
    }
    if (names.empty()) {
        return "any replica";
    }
    std::string out = names.size() == 1 ? "replica " : "replicas ";
    for (std::size_t i = 0; i < names.size(); ++i) {
        out += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
    }
    return out;
}

std::string describe(const Difference& difference) {
    std::string out = describe(difference.level);
    out += std::string(": ") + describe(difference.kind);
    if (difference.replica >= 0) {
        out += " on replica " + std::to_string(difference.replica);
    }
    if (!difference.file.empty()) {
        out += ", " + difference.file;
        if (difference.bytes != 0) {
            out += " offset " + std::to_string(difference.offset) + ", " +
                   counted(difference.bytes, "byte");
        }
    }
    if (difference.shard != 0) {
        out += ", shard " + std::to_string(difference.shard);
    }
    if (difference.last != 0 && difference.first <= difference.last) {
        out += ", records " + std::to_string(difference.first) + ".." +
               std::to_string(difference.last);
    }
    out += ": " + difference.what;
    if (difference.good != 0) {
        out += "; good on " + replica_names(difference.good) + ": repairable";
    }
    return out;
}

std::uint64_t SetReport::count(DifferenceLevel level) const noexcept {
    return static_cast<std::uint64_t>(
        std::count_if(differences.begin(), differences.end(),
                      [level](const Difference& d) { return d.level == level; }));
}

// -- State logs -----------------------------------------------------------------------------------

namespace {

// A state log and a journal write at most this many blocks before they wait for a slow replica, so
// a replica may lack the last ones after a kill.
constexpr std::uint64_t blocks_behind_max = 8;

Difference about_state(GroupId group, unsigned replica, unsigned slot,
                       const SeenStateBlock& block) {
    Difference out;
    out.kind = DifferenceKind::state_log;
    out.replica = static_cast<int>(replica);
    out.file = state_name(group, slot);
    out.offset = block.offset;
    out.bytes = align_up(sizeof(StateBlockHeader) + block.header.payload_bytes, block_bytes);
    return out;
}

// Compares each block of the newest generation with what the replica has at its place.
Status compare_state_copy(IoEngine& engine, const VerifyOptions& options, GroupId group,
                          unsigned replica, const StateView& view,
                          const std::vector<ReplicaMask>& intact, std::vector<Difference>& out) {
    const auto bit = static_cast<ReplicaMask>(1U << replica);
    if ((view.sent_to & bit) != 0 && !view.slots[replica][view.read.slot].present) {
        Difference difference = about_state(group, replica, view.read.slot, {});
        difference.level = DifferenceLevel::damage;
        difference.bytes = 0;
        difference.good = static_cast<ReplicaMask>(intact.front() & ~bit);
        difference.what = "no such file, and the newest generation is in it";
        out.push_back(std::move(difference));
        return {};
    }
    // A replica that left meanwhile lacks blocks from before, also when it takes part again: a
    // whole new generation is then on its way to it.
    std::size_t taking_from = view.blocks.size();
    while (taking_from != 0 && (view.blocks[taking_from - 1].header.sent_to & bit) != 0) {
        --taking_from;
    }
    std::uint64_t behind = 0;
    for (std::size_t i = 0; i < view.blocks.size(); ++i) {
        const SeenStateBlock& block = view.blocks[i];
        if ((block.header.sent_to & bit) == 0 || (intact[i] & bit) != 0) {
            continue;
        }
        PENSTOCK_TRY(seen, read_state_block(engine, options.geometry.set_id, group, replica,
                                            view.read.slot, block.offset));
        if (seen.fault == BlockFault::none && seen.header.header_crc == block.header.header_crc) {
            continue;  // intact, behind a damaged one
        }
        const bool damaged = seen.fault == BlockFault::header_damaged ||
                             seen.fault == BlockFault::payload_damaged ||
                             seen.fault == BlockFault::malformed;
        const bool away = i < taking_from;
        const bool may_lack = i + blocks_behind_max >= view.blocks.size();
        if (!damaged && (away || may_lack)) {
            ++behind;
            continue;
        }
        Difference difference = about_state(group, replica, view.read.slot, block);
        difference.level = DifferenceLevel::damage;
        difference.good = static_cast<ReplicaMask>(intact[i] & ~bit);
        difference.what =
            "block " + std::to_string(i) + " of generation " +
            std::to_string(view.read.generation) + ": " +
            (seen.fault == BlockFault::none ? "a stale one stands here, of generation " +
                                                  std::to_string(seen.header.generation)
             : seen.fault == BlockFault::truncated ? "the file ends before it"
                                                   : describe(seen.fault));
        out.push_back(std::move(difference));
    }
    if (behind != 0) {
        Difference difference = about_state(group, replica, view.read.slot, {});
        difference.bytes = 0;
        difference.what = "lacks " + std::to_string(behind) + " of " +
                          std::to_string(view.blocks.size()) + " blocks, as after a kill" +
                          ((view.sent_to & bit) == 0 ? ": it is out" : "");
        out.push_back(std::move(difference));
    }
    return {};
}

// Damage right behind the last block that anybody has: an entry that was written and that no
// replica can show.
void look_behind_chain(GroupId group, const StateView& view, std::vector<Difference>& out) {
    for (unsigned r = 0; r < replica_count; ++r) {
        const StateSlotCopy& copy = view.slots[r][view.read.slot];
        const bool damaged = copy.ended_by == BlockFault::header_damaged ||
                             copy.ended_by == BlockFault::payload_damaged;
        if (!damaged || copy.chain.size() != view.blocks.size() || copy.chain.empty() ||
            copy.chain.back().header.header_crc != view.blocks.back().header.header_crc) {
            continue;
        }
        SeenStateBlock place;
        place.offset = copy.end_offset();
        Difference difference = about_state(group, r, view.read.slot, place);
        difference.level = DifferenceLevel::lost;
        difference.what = "block " + std::to_string(view.blocks.size()) + " of generation " +
                          std::to_string(view.read.generation) + ": " + describe(copy.ended_by) +
                          ", and no replica has it whole: its entries are lost if they were "
                          "committed";
        out.push_back(std::move(difference));
    }
}

}  // namespace

Result<StateView> view_state_log(IoEngine& engine, const VerifyOptions& options, GroupId group,
                                 std::vector<Difference>& out) {
    StateView view;
    const auto voting = static_cast<ReplicaMask>(options.voting & options.readable);
    const auto absent = static_cast<ReplicaMask>(all_replicas & ~options.readable);
    auto strict = read_state_log(engine, options.geometry.set_id, group, voting, absent, false);
    if (!strict) {
        if (strict.error().code != Errc::corrupt && strict.error().code != Errc::wait_for_replica) {
            return std::unexpected(strict.error());
        }
        Difference difference;
        difference.level = DifferenceLevel::lost;
        difference.kind = DifferenceKind::state_log;
        difference.file = state_name(group, 0) + " and " + state_name(group, 1);
        difference.what =
            "the newest generation is damaged on every replica that was read: what "
            "follows is of an older state";
        out.push_back(std::move(difference));
        strict = read_state_log(engine, options.geometry.set_id, group, voting, 0, true);
        if (!strict) {
            return std::unexpected(strict.error());
        }
    }
    view.read = std::move(*strict);
    for (unsigned r = 0; r < replica_count; ++r) {
        for (unsigned slot = 0; slot < 2 && (options.readable >> r & 1) != 0; ++slot) {
            PENSTOCK_TRY(copy, read_state_slot(engine, options.geometry.set_id, group, r, slot));
            view.slots[r][slot] = std::move(copy);
        }
    }
    if (!view.read.found) {
        return view;
    }
    const auto of_newest = [&](const StateSlotCopy& copy) {
        return !copy.chain.empty() && copy.chain.front().header.epoch == view.read.epoch &&
               copy.chain.front().header.generation == view.read.generation;
    };
    for (unsigned r = 0; r < replica_count; ++r) {
        const StateSlotCopy& copy = view.slots[r][view.read.slot];
        if (of_newest(copy) && copy.chain.size() > view.blocks.size()) {
            view.blocks = copy.chain;
        }
    }
    std::vector<ReplicaMask> intact(view.blocks.size(), 0);
    for (unsigned r = 0; r < replica_count; ++r) {
        const StateSlotCopy& copy = view.slots[r][view.read.slot];
        for (std::size_t i = 0; i < copy.chain.size() && i < intact.size() && of_newest(copy);
             ++i) {
            if (copy.chain[i].header.header_crc == view.blocks[i].header.header_crc) {
                intact[i] = static_cast<ReplicaMask>(intact[i] | (1U << r));
            }
        }
    }
    view.sent_to = view.blocks.empty() ? ReplicaMask{0} : view.blocks.back().header.sent_to;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((options.readable >> r & 1) != 0) {
            PENSTOCK_TRY_VOID(compare_state_copy(engine, options, group, r, view, intact, out));
        }
    }
    look_behind_chain(group, view, out);
    return view;
}

Result<GroupTable> table_of(const SetGeometry& geometry, const StateRead& read) {
    GroupTable table(
        static_cast<std::uint32_t>(geometry.container_bytes / geometry.chunk_unit_bytes));
    if (!replay_state(read, [&table](bool, Bytes entry) { return table.apply(entry); })) {
        return fail(Errc::corrupt);
    }
    return table;
}

// -- One group ------------------------------------------------------------------------------------

namespace {

class GroupVerifier {
public:
    GroupVerifier(const VerifyOptions& options, IoEngine& engine, GroupId group, SetReport& report)
        : options_(options), engine_(engine), group_(group), report_(report) {
        summary_.group = value(group);
    }

    Status run() {
        PENSTOCK_TRY(view, view_state_log(engine_, options_, group_, report_.differences));
        summary_.found = view.read.found;
        summary_.epoch = view.read.epoch;
        summary_.generation = view.read.generation;
        summary_.state_blocks = view.blocks.size();
        summary_.taking = view.sent_to;
        if (value(group_) != 0) {
            PENSTOCK_TRY_VOID(verify_data(view));
        }
        report_.groups.push_back(summary_);
        return {};
    }

private:
    struct JournalBlock {
        SeenJournalBlock seen;  // of a replica that has it sound, else with a sound header
        ReplicaMask intact = 0;
        ReplicaMask damaged = 0;  // header sound there, a frame in it is not
    };

    struct DamagedFrame {
        FrameHeader header;  // sound; the payload is not
        std::uint64_t block = 0;
        ReplicaMask copies = 0;
    };

    Status verify_data(const StateView& view) {
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((options_.readable >> r & 1) != 0) {
                PENSTOCK_TRY(copy, read_journal_copy(engine_, options_.geometry, group_, r));
                journals_[r] = std::move(copy);
            }
        }
        if (!view.read.found) {
            no_manifest();
            return {};
        }
        auto table = table_of(options_.geometry, view.read);
        if (!table) {
            add(DifferenceLevel::lost, DifferenceKind::manifest, -1,
                "the entries of the newest generation contradict each other: nothing in this "
                "group's segments can be found by it");
            return {};
        }
        epoch_ = table->started_epoch();
        summary_.started_epoch = epoch_;
        gather_journal();
        compare_journal(*table);
        ChunkWalker walker(engine_, options_.geometry, group_, options_.readable, report_);
        for (const auto& [uid, shard] : table->shards()) {
            ShardReport shard_report;
            shard_report.uid = uid;
            shard_report.group = value(group_);
            shard_report.trim_sequence = shard.trim_sequence;
            shard_report.end_sequence = shard.end.sequence;
            walker.walk(shard, shard_report);
            PendingFrames& pending = pending_[uid];
            walker.collect_tail(shard, epoch_, pending);
            follow_pending(shard, pending, shard_report);
            report_.records += shard_report.records;
            report_.pending_frames += shard_report.pending_frames;
            report_.shards.push_back(std::move(shard_report));
        }
        return {};
    }

    void add(DifferenceLevel level, DifferenceKind kind, int replica, std::string what) {
        Difference difference;
        difference.level = level;
        difference.kind = kind;
        difference.replica = replica;
        difference.file =
            kind == DifferenceKind::journal ? "journal-" + std::to_string(value(group_)) : "";
        difference.what = std::move(what);
        report_.differences.push_back(std::move(difference));
    }

    void no_manifest() {
        const bool any_block = std::any_of(journals_.begin(), journals_.end(),
                                           [](const JournalCopy& c) { return !c.blocks.empty(); });
        bool segments = false;
        for (unsigned r = 0; r < replica_count; ++r) {
            const auto file =
                (options_.readable >> r & 1) == 0
                    ? Result<FileHandle>(fail(Errc::not_found))
                    : engine_.open(r, container_name(value(group_), 0), OpenMode::read_only);
            if (file) {
                segments = true;
                engine_.close(*file);
            }
        }
        if (any_block || segments) {
            add(DifferenceLevel::lost, DifferenceKind::manifest, -1,
                "group " + std::to_string(value(group_)) +
                    " has journal blocks or segments, and no state log: its manifest is lost");
        } else {
            add(DifferenceLevel::note, DifferenceKind::manifest, -1,
                "group " + std::to_string(value(group_)) + " was never opened");
        }
    }

    // -- Journal ----------------------------------------------------------------------------------

    void gather_journal() {
        for (unsigned r = 0; r < replica_count; ++r) {
            for (const SeenJournalBlock& seen : journals_[r].blocks) {
                if (seen.fault != BlockFault::none || seen.header.epoch != epoch_) {
                    continue;
                }
                JournalBlock& block = blocks_[seen.header.number];
                if (block.intact == 0 && (seen.sound || block.damaged == 0)) {
                    block.seen = seen;
                }
                const auto bit = static_cast<ReplicaMask>(1U << r);
                ReplicaMask& mask = seen.sound ? block.intact : block.damaged;
                mask = static_cast<ReplicaMask>(mask | bit);
                durable_through_ = std::max(durable_through_, seen.header.durable_through);
                gather_frames(seen, bit);
            }
        }
        summary_.journal_blocks = blocks_.size();
        for (const auto& [number, block] : blocks_) {
            summary_.journal_frames += block.seen.header.frame_count;
        }
    }

    void gather_frames(const SeenJournalBlock& block, ReplicaMask bit) {
        for (const SeenJournalFrame& frame : block.frames) {
            if (frame.header.epoch != epoch_) {
                continue;
            }
            if (!frame.intact) {
                DamagedFrame& damaged = damaged_[frame.header.shard][frame.header.first_sequence];
                damaged.header = frame.header;
                damaged.block = block.header.number;
                damaged.copies = static_cast<ReplicaMask>(damaged.copies | bit);
                continue;
            }
            Sequence& carried = committed_[frame.header.shard];
            carried = std::max(carried, frame.header.committed_through);
            PendingFrame& pending = pending_[frame.header.shard][frame.header.first_sequence];
            if (pending.copies == 0) {
                pending.header = frame.header;
                pending.in_journal = true;
            }
            if (pending.header.header_crc == frame.header.header_crc) {
                pending.copies = static_cast<ReplicaMask>(pending.copies | bit);
            }
        }
    }

    // What a replica has where a block should be.
    [[nodiscard]] const SeenJournalBlock* at_place(unsigned replica, std::uint32_t file,
                                                   std::uint64_t offset) const {
        const auto& blocks = journals_[replica].blocks;
        const auto found = std::find_if(blocks.begin(), blocks.end(), [&](const auto& block) {
            return block.file == file && block.offset == offset;
        });
        return found == blocks.end() ? nullptr : &*found;
    }

    // Whether a frame of the block is not in a segment yet.
    [[nodiscard]] static bool needed(const SeenJournalBlock& block, GroupTable& table) {
        return std::any_of(block.frames.begin(), block.frames.end(), [&](const auto& frame) {
            const ShardTable* shard = table.find(static_cast<ShardUid>(frame.header.shard));
            return shard != nullptr && frame.header.last_sequence() > shard->end.sequence;
        });
    }

    // Whether a newer block was written over this one's place on any replica: one that was away
    // then may still have a part of the old one.
    [[nodiscard]] bool place_reused(const SeenJournalBlock& old) const {
        return std::any_of(
            blocks_.upper_bound(old.header.number), blocks_.end(), [&](const auto& entry) {
                const SeenJournalBlock& newer = entry.second.seen;
                return newer.file == old.file && newer.offset < old.offset + old.length() &&
                       old.offset < newer.offset + newer.length();
            });
    }

    void compare_journal(GroupTable& table) {
        std::array<std::uint64_t, replica_count> behind{};
        const std::uint64_t highest = blocks_.empty() ? 0 : blocks_.rbegin()->first;
        for (const auto& [number, block] : blocks_) {
            for (unsigned r = 0; r < replica_count; ++r) {
                const auto bit = static_cast<ReplicaMask>(1U << r);
                if ((block.seen.header.sent_to & options_.readable & bit) == 0 ||
                    (block.intact & bit) != 0) {
                    continue;
                }
                compare_block(table, block, r, highest, behind[r]);
            }
        }
        for (unsigned r = 0; r < replica_count; ++r) {
            if (behind[r] != 0) {
                add(DifferenceLevel::note, DifferenceKind::journal, static_cast<int>(r),
                    "lacks " + std::to_string(behind[r]) +
                        " of the last blocks: they were on their way");
            }
            if ((table.taking() >> r & 1) != 0 && journals_[r].missing_files != 0) {
                add(DifferenceLevel::damage, DifferenceKind::journal, static_cast<int>(r),
                    "lacks " + std::to_string(journals_[r].missing_files) + " of its files");
            }
            if ((table.taking() >> r & 1) != 0 && journals_[r].short_files != 0) {
                add(DifferenceLevel::damage, DifferenceKind::journal, static_cast<int>(r),
                    "too short: " + std::to_string(journals_[r].short_files) + " of its files");
            }
        }
        report_headers();
    }

    void compare_block(GroupTable& table, const JournalBlock& block, unsigned replica,
                       std::uint64_t highest, std::uint64_t& behind) {
        const std::uint64_t number = block.seen.header.number;
        const auto bit = static_cast<ReplicaMask>(1U << replica);
        const SeenJournalBlock* here = at_place(replica, block.seen.file, block.seen.offset);
        const bool torn_or_rotten =
            (block.damaged & bit) != 0 || (here != nullptr && here->fault != BlockFault::none);
        if (!needed(block.seen, table) && place_reused(block.seen)) {
            return;
        }
        if (!torn_or_rotten) {
            const bool reused =
                here != nullptr && here->header.number > number && here->header.epoch == epoch_;
            const bool missed = needed(block.seen, table) && (table.taking() & bit) != 0;
            if (reused || !missed) {
                return;  // its frames are in segments, its place may hold anything
            }
            if (number + blocks_behind_max >= highest) {
                ++behind;
                return;
            }
        }
        Difference difference;
        difference.level = DifferenceLevel::damage;
        difference.kind = DifferenceKind::journal;
        difference.replica = static_cast<int>(replica);
        difference.file = journal_name(group_, block.seen.file);
        difference.offset = block.seen.offset;
        difference.bytes = block.seen.length();
        difference.good = block.intact;
        difference.what = "block " + std::to_string(number) + ": ";
        difference.what += (block.damaged & bit) != 0 ? "a frame in it is damaged"
                           : here != nullptr          ? describe(here->fault)
                                                      : "is not there";
        if (!needed(block.seen, table)) {
            difference.what += ", and all its frames are in segments";
        } else if (number > durable_through_) {
            difference.what += ", or torn: it was among the last";
        }
        reported_.emplace(replica, block.seen.file, block.seen.offset);
        report_.differences.push_back(std::move(difference));
    }

    // Damaged headers at places where no replica has a block any more.
    void report_headers() {
        for (unsigned r = 0; r < replica_count; ++r) {
            for (const SeenJournalBlock& seen : journals_[r].blocks) {
                if (seen.fault == BlockFault::none ||
                    reported_.contains({r, seen.file, seen.offset})) {
                    continue;
                }
                Difference difference;
                difference.level = DifferenceLevel::damage;
                difference.kind = DifferenceKind::journal;
                difference.replica = static_cast<int>(r);
                difference.file = journal_name(group_, seen.file);
                difference.offset = seen.offset;
                difference.bytes = block_bytes;
                difference.what = std::string("a block's header: ") + describe(seen.fault) +
                                  ", and no replica has the block";
                report_.differences.push_back(std::move(difference));
            }
        }
    }

    // -- Frames that are in no segment yet
    // ----------------------------------------------------------

    void follow_pending(const ShardTable& shard, const PendingFrames& pending, ShardReport& out) {
        Sequence carried = committed_[out.uid];
        for (const auto& [first, frame] : pending) {
            carried = std::max(carried, frame.header.committed_through);
        }
        ChainEnd end = shard.end;
        for (auto it = pending.begin(); it != pending.end(); ++it) {
            const FrameHeader& header = it->second.header;
            if (header.last_sequence() <= end.sequence) {
                continue;
            }
            const ChainEnd previous{header.previous_sequence, header.previous_epoch,
                                    header.previous_crc};
            if (previous != end) {
                if (carried <= end.sequence) {
                    out.void_frames += static_cast<std::uint64_t>(std::distance(it, pending.end()));
                    break;
                }
                lose(out, end.sequence + 1, header.first_sequence - 1);
            }
            if ((it->second.copies & (it->second.copies - 1)) == 0 &&
                header.last_sequence() <= carried) {
                only_copy(out, it->second);
            }
            end = {header.last_sequence(), header.epoch, header.header_crc};
            ++out.pending_frames;
            add_range(out, header);
        }
        if (carried > end.sequence) {
            lose(out, end.sequence + 1, carried);
        }
        doubt(out, pending, std::max(carried, end.sequence));
    }

    // Frames behind everything known to be committed that were on two replicas and are good on
    // none.
    void doubt(const ShardReport& shard, const PendingFrames& pending, Sequence known) {
        for (const auto& [first, frame] : damaged_[shard.uid]) {
            if (first <= known || pending.contains(first) ||
                __builtin_popcount(frame.copies) < static_cast<int>(quorum_count)) {
                continue;
            }
            Difference difference;
            // Known to have been durable on two, or perhaps torn there by a power loss.
            difference.level =
                frame.block <= durable_through_ ? DifferenceLevel::lost : DifferenceLevel::damage;
            difference.kind = DifferenceKind::records;
            difference.file = "journal-" + std::to_string(value(group_));
            difference.shard = shard.uid;
            difference.first = first;
            difference.last = frame.header.last_sequence();
            difference.what = "damaged on " + replica_names(frame.copies) +
                              " and good on none: "
                              "torn by a power loss, or lost if they were acknowledged";
            report_.differences.push_back(std::move(difference));
        }
    }

    static void add_range(ShardReport& out, const FrameHeader& header) {
        if (header.record_count == 0) {
            return;
        }
        out.records += header.record_count;
        const SequenceRange range{header.first_sequence,
                                  header.first_sequence + header.record_count - 1};
        if (!out.ranges.empty() && out.ranges.back().last + 1 == range.first) {
            out.ranges.back().last = range.last;
        } else {
            out.ranges.push_back(range);
        }
    }

    void lose(const ShardReport& shard, Sequence first, Sequence last) {
        Difference difference;
        difference.level = DifferenceLevel::lost;
        difference.kind = DifferenceKind::records;
        difference.file = "journal-" + std::to_string(value(group_));
        difference.shard = shard.uid;
        difference.first = first;
        difference.last = last;
        difference.what = "committed, and no good copy on " + replica_names(options_.readable);
        report_.differences.push_back(std::move(difference));
    }

    void only_copy(const ShardReport& shard, const PendingFrame& frame) {
        Difference difference;
        difference.level = DifferenceLevel::note;
        difference.kind = DifferenceKind::pending;
        difference.shard = shard.uid;
        difference.first = frame.header.first_sequence;
        difference.last = frame.header.last_sequence();
        difference.what = "committed, and intact on " + replica_names(frame.copies) +
                          " only: the next start copies it";
        report_.differences.push_back(std::move(difference));
    }

    const VerifyOptions& options_;
    IoEngine& engine_;
    GroupId group_;
    SetReport& report_;
    GroupReport summary_;
    std::uint64_t epoch_ = 0;
    std::array<JournalCopy, replica_count> journals_;
    std::map<std::uint64_t, JournalBlock> blocks_;  // of the started epoch, by number
    std::uint64_t durable_through_ = 0;
    std::map<std::uint64_t, PendingFrames> pending_;  // by shard
    std::map<std::uint64_t, std::map<Sequence, DamagedFrame>> damaged_;
    std::map<std::uint64_t, Sequence> committed_;  // largest carried, by shard
    std::set<std::tuple<unsigned, std::uint32_t, std::uint64_t>> reported_;
};

}  // namespace

Result<SetReport> verify_set(const VerifyOptions& options, const EngineFactory& make_engine) {
    SetReport report;
    for (std::uint32_t group = 0; group <= options.geometry.data_groups; ++group) {
        PENSTOCK_TRY(engine, make_engine());
        GroupVerifier verifier(options, *engine, static_cast<GroupId>(group), report);
        PENSTOCK_TRY_VOID(verifier.run());
    }
    return report;
}

}  // namespace penstock
