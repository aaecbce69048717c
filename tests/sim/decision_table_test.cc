// The recovery decision table of docs/log-protocol.md, every combination: what a shard's next place
// looks like on each replica, in the journal or in a segment, which replicas can be read, and what
// later frames say. The outcome that is expected is written down from the table alone.
#include <gtest/gtest.h>

#include "storage/format/block.h"
#include "storage/format/frame.h"
#include "storage/journal/ring.h"
#include "tests/sim/model.h"

namespace penstock::test {
namespace {

// The rows of the table. Damage has several looks, and so has what counts as missing.
enum class Look : unsigned {
    intact,
    torn,         // the header and some of the payload are there
    corrupt,      // a bit of the payload
    rotten,       // a bit of the header
    magic,        // a bit of what tells a header from anything else
    defaced,      // magic and checksum of the header
    erased,       // other bytes in place of the whole header
    misdirected,  // sound, of another shard or group
    stale,        // sound, from an earlier use of the place
    missing,      // zeroes
    count_
};
constexpr unsigned look_count = static_cast<unsigned>(Look::count_);
constexpr std::array<const char*, look_count> look_names{
    "intact",  "torn",   "corrupt",     "rotten", "magic",
    "defaced", "erased", "misdirected", "stale",  "missing"};

enum class Way : unsigned { journal, segment };
// What the later frame of the shard says of the place's frame.
enum class Behind : unsigned { nothing, not_carried, carried };
// Why the third replica is not read, if it is not.
enum class Third : unsigned { read, away, filling, took_no_part };

struct Row {
    Way place = Way::journal;
    Behind behind = Behind::nothing;
    Way later = Way::journal;  // where the later frame is
    Third third = Third::read;
};

// What can be told from a place that was never written, or written by an earlier use.
bool is_damage(const Row& row, Look look) {
    if (look == Look::defaced) {
        return row.place == Way::segment;  // it still says what it follows
    }
    if (look == Look::erased) {
        return row.place == Way::segment && row.behind != Behind::nothing &&
               row.later == Way::segment;
    }
    return look != Look::intact && look < Look::defaced;
}

struct Outcome {
    bool waits = false;
    bool taken = false;       // the place's frame
    bool later_kept = false;  // the frame behind it
    bool lost = false;
};

// The table's columns, from left to right.
Outcome expected(const Row& row, ReplicaMask read, const std::array<Look, replica_count>& looks) {
    bool intact = false;
    bool damage = false;
    for (unsigned r = 0; r < replica_count; ++r) {
        intact = intact || ((read >> r & 1) != 0 && looks[r] == Look::intact);
        damage = damage || ((read >> r & 1) != 0 && is_damage(row, looks[r]));
    }
    const bool later = row.behind != Behind::nothing;
    const bool carried = row.behind == Behind::carried;
    // A direct write begins with every frame that is not in the segment (R5): a second copy. The
    // damaged journal block may have held others', so the group waits for that all the same.
    const bool twice = row.place == Way::journal && later && row.later == Way::segment;
    if (intact || (twice && !(damage && row.third == Third::away))) {
        return {.taken = true, .later_kept = later};
    }
    if (row.third == Third::away) {
        // Damaged is not absent; and what was committed must be somewhere.
        return damage || carried ? Outcome{.waits = true} : Outcome{};
    }
    return {.later_kept = carried, .lost = carried};
}

class DecisionTable : public ::testing::Test {
protected:
    static constexpr std::uint32_t journaled_bytes = 900;
    static constexpr std::uint32_t direct_bytes = 100'000;

    void settle() {
        node_->step_until([&] { return model_.collect(), model_.waiting() == 0; });
        node_->step_until([] { return false; }, 20'000'000);  // the third copy too
    }
    void append(Way way, std::uint64_t uid = 1) {
        node_->step_until([&] {
            return model_.append(*node_, uid, way == Way::journal ? journaled_bytes : direct_bytes,
                                 AckLevel::quorum);
        });
        settle();
    }
    void start(ReplicaMask reachable) {
        options_.reachable = reachable;
        std::string message;
        auto node = SimNode::start(world_, options_, message);
        ASSERT_TRUE(node.has_value()) << describe(node.error()) << message;
        node_ = std::move(*node);
    }
    void stop() {
        world_.crash_power();
        node_.reset();
        model_.forget_waiters();
        world_.restart();
    }

    // A shard with a few frames, the one in question, and one behind it.
    void write(const Row& row) {
        row_ = row;
        options_.geometry = small_geometry();
        options_.geometry.chunk_unit_bytes = 1U << 20;  // no chunk is sealed meanwhile
        start(all_replicas);
        model_.add_shard(*node_, 0, 1, 86'400'000);
        model_.add_shard(*node_, 0, 2, 86'400'000);
        settle();
        if (row.third == Third::took_no_part) {
            stop();
            start(0b011);
            node_->hold_back(true);
        }
        append(row.place, 2);
        append(row.place);
        append(row.place);
        if (row.place == Way::segment) {
            node_->drain();  // so that the end is recorded right before the place
            append(Way::segment);
        }
        append(row.place);
        ShardStatus status;
        ASSERT_TRUE(node_->group(0).shard_status(ShardUid{1}, status).has_value());
        before_end_ = status.end_sequence - 1;
        if (row.behind != Behind::nothing) {
            append(row.later);
            ASSERT_TRUE(node_->group(0).shard_status(ShardUid{1}, status).has_value());
        }
        whole_end_ = status.end_sequence;
        stop();
        for (unsigned r = 0; r < replica_count; ++r) {
            if (row.behind == Behind::not_carried) {
                unsay(r);
            }
            disks_[r] = world_.snapshot(r);
        }
        find();
    }

    // The frames of a file, by last sequence: where they begin.
    std::map<std::pair<std::uint64_t, Sequence>, std::uint64_t> frames_in(unsigned replica,
                                                                          const std::string& name) {
        std::map<std::pair<std::uint64_t, Sequence>, std::uint64_t> found;
        const auto bytes = world_.read_raw(replica, name);
        for (std::uint64_t at = 0; bytes && at + sizeof(FrameHeader) <= bytes->size(); at += 8) {
            if (load<std::uint32_t>(bytes->data() + at) != frame_magic) {
                continue;
            }
            FrameHeader header;
            if (check_frame(Bytes(*bytes).subspan(at), 0, header) == FrameFault::none) {
                found[{header.shard, header.last_sequence()}] = at;
            }
        }
        return found;
    }
    [[nodiscard]] static std::string name_of(Way way) {
        return way == Way::journal ? journal_name(GroupId{1}, journal_file_) : container_name(1, 0);
    }

    // The later frame says nothing of the one before it: it was handed out before that committed.
    void unsay(unsigned replica) {
        for (std::uint32_t file = 0; file < options_.geometry.journal_files; ++file) {
            journal_file_ = file;
            const auto found = frames_in(replica, name_of(row_.later));
            const auto later = found.find({1, whole_end_ - 1});
            if (later == found.end()) {
                continue;
            }
            std::array<std::byte, sizeof(FrameHeader)> bytes{};
            ASSERT_TRUE(world_.read_raw(replica, name_of(row_.later), later->second, bytes));
            auto header = load<FrameHeader>(bytes.data());
            ASSERT_EQ(header.committed_through, before_end_);
            header.committed_through = before_end_ - 1;
            seal_header(header, bytes.data());
            ASSERT_TRUE(world_.overwrite(replica, name_of(row_.later), later->second, bytes));
            if (row_.later == Way::segment) {
                return;
            }
        }
    }

    void find() {
        for (std::uint32_t file = 0; file < options_.geometry.journal_files; ++file) {
            journal_file_ = file;
            const auto found = frames_in(0, name_of(row_.place));
            const auto place = found.find({1, before_end_});
            if (place == found.end()) {
                continue;
            }
            // A journal block is judged by its own header, and begins a few bytes earlier.
            const bool journal = row_.place == Way::journal;
            at_ = align_down(place->second, block_bytes);
            length_ = journal ? block_bytes : align_up(direct_bytes, block_bytes);
            older_ = align_down(found.at({1, before_end_ - 1}), block_bytes);
            other_ = align_down(
                found.at(
                    {2, 1 + (row_.third == Third::took_no_part ? (std::uint64_t{1} << 32) : 0)}),
                block_bytes);
            return;
        }
        FAIL() << "the frame in question is nowhere";
    }

    void make(unsigned replica, Look look) {
        const std::string name = name_of(row_.place);
        const std::uint64_t header = row_.place == Way::journal ? sizeof(JournalBlockHeader) : 0;
        std::vector<std::byte> content(length_);
        switch (look) {
            case Look::intact:
            case Look::count_:
                return;
            case Look::torn:
                content.resize(length_ - 512);
                ASSERT_TRUE(world_.overwrite(replica, name, at_ + 512, content));
                return;
            case Look::corrupt:
                ASSERT_TRUE(world_.flip_bit(replica, name, at_ + header + 300));
                return;
            case Look::rotten:
                ASSERT_TRUE(world_.flip_bit(replica, name, at_ + 30));
                return;
            case Look::magic:
                ASSERT_TRUE(world_.flip_bit(replica, name, at_ + 1));
                return;
            case Look::defaced:
                ASSERT_TRUE(world_.corrupt_range(replica, name, at_, 12));
                return;
            case Look::erased:
                ASSERT_TRUE(world_.corrupt_range(replica, name, at_, 512));
                return;
            case Look::misdirected:
                ASSERT_TRUE(world_.read_raw(replica, name, other_, content));
                if (row_.place == Way::journal) {
                    auto block = load<JournalBlockHeader>(content.data());
                    block.group = 7;
                    seal_header(block, content.data());
                }
                break;
            case Look::stale:
                ASSERT_TRUE(world_.read_raw(replica, name, older_, content));
                break;
            case Look::missing:
                break;
        }
        ASSERT_TRUE(world_.overwrite(replica, name, at_, content));
    }

    void check(ReplicaMask read, const std::array<Look, replica_count>& looks) {
        std::string where = "read " + std::to_string(read) + ":";
        for (unsigned r = 0; r < replica_count; ++r) {
            world_.restore(r, disks_[r]);
            make(r, looks[r]);
            where += std::string(" ") + look_names[static_cast<unsigned>(looks[r])];
        }
        options_.reachable = read;
        if (row_.third == Third::filling) {
            const auto blank = static_cast<unsigned>(__builtin_ctz(~unsigned{read}));
            world_.set_blank(blank);
            ASSERT_TRUE(prepare_blank(world_, blank).has_value());
            options_.reachable = all_replicas;
        }
        const Outcome wanted = expected(row_, read, looks);
        std::string message;
        const auto node = SimNode::start(world_, options_, message);
        ASSERT_EQ(node.has_value(), !wanted.waits)
            << where << " " << (node ? "" : describe(node.error()));
        if (wanted.waits) {
            EXPECT_EQ(node.error().code, Errc::wait_for_replica) << where;
            return;
        }
        ShardStatus status;
        ASSERT_TRUE((*node)->group(0).shard_status(ShardUid{1}, status).has_value());
        const Sequence end = wanted.later_kept ? whole_end_
                             : wanted.taken    ? before_end_ + 1
                                               : before_end_;
        ASSERT_EQ(status.end_sequence, end) << where;
        // A range that is lost is counted when it is found and when it is recorded.
        ASSERT_EQ((*node)->group(0).gauges().lost_records != 0, wanted.lost) << where;
    }

    // Every look on every replica that is read, with all of the others' masks that make the row.
    void enumerate(const Row& row) {
        ASSERT_NO_FATAL_FAILURE(write(row));
        std::vector<ReplicaMask> reads{0b011, 0b101, 0b110};
        if (row.third == Third::read) {
            reads = {0b111};
        } else if (row.third == Third::took_no_part) {
            reads = {0b011};
        }
        for (const ReplicaMask read : reads) {
            for (unsigned code = 0; code < look_count * look_count * look_count; ++code) {
                const std::array<Look, replica_count> looks{
                    static_cast<Look>(code % look_count),
                    static_cast<Look>(code / look_count % look_count),
                    static_cast<Look>(code / look_count / look_count)};
                // What stands on a replica that is not read must not matter; that it has the good
                // copy is the case that could. Of a third one that is read, a look of each kind.
                bool once = read != all_replicas || looks[2] == Look::intact ||
                            looks[2] == Look::corrupt || looks[2] == Look::missing;
                for (unsigned r = 0; r < replica_count; ++r) {
                    once = once && ((read >> r & 1) != 0 || looks[r] == Look::intact);
                }
                if (once) {
                    ASSERT_NO_FATAL_FAILURE(check(read, looks));
                    ++rows_checked_;
                }
            }
        }
    }

    SimWorld world_{SimOptions{.seed = 21}};
    Model model_{world_};
    NodeOptions options_;
    std::unique_ptr<SimNode> node_;
    Row row_;
    std::array<SimSnapshot, replica_count> disks_;
    inline static std::uint32_t journal_file_ = 0;
    std::uint64_t at_ = 0;  // the place in question
    std::uint64_t length_ = 0;
    std::uint64_t older_ = 0;  // places of an earlier frame of the shard, and of another shard's
    std::uint64_t other_ = 0;
    Sequence before_end_ = 0;  // sequence of the frame in question
    Sequence whole_end_ = 0;
    unsigned rows_checked_ = 0;
};

class DecisionTableRows : public DecisionTable, public ::testing::WithParamInterface<Row> {};

TEST_P(DecisionTableRows, EveryLookOnEveryReplicaIsDecidedAsTheTableSays) {
    enumerate(GetParam());
    EXPECT_GE(rows_checked_, look_count * look_count);
}

std::vector<Row> all_rows() {
    std::vector<Row> rows;
    for (const Way place : {Way::journal, Way::segment}) {
        for (const Third third : {Third::read, Third::away, Third::filling, Third::took_no_part}) {
            rows.push_back({place, Behind::nothing, place, third});
            for (const Behind behind : {Behind::not_carried, Behind::carried}) {
                for (const Way later : {Way::journal, Way::segment}) {
                    rows.push_back({place, behind, later, third});
                }
            }
        }
    }
    return rows;
}

std::string row_name(const ::testing::TestParamInfo<Row>& row) {
    constexpr std::array<const char*, 2> places{"Journal", "Segment"};
    constexpr std::array<const char*, 3> behinds{"Nothing", "NotCarried", "Carried"};
    constexpr std::array<const char*, 4> thirds{"AllRead", "OneAway", "OneFilling",
                                                "OneTookNoPart"};
    const Row& p = row.param;
    std::string name = std::string(places[static_cast<unsigned>(p.place)]) + "Place" +
                       behinds[static_cast<unsigned>(p.behind)];
    if (p.behind != Behind::nothing) {
        name += std::string("By") + places[static_cast<unsigned>(p.later)];
    }
    return name + thirds[static_cast<unsigned>(p.third)];
}

INSTANTIATE_TEST_SUITE_P(Storage, DecisionTableRows, ::testing::ValuesIn(all_rows()), row_name);

}  // namespace
}  // namespace penstock::test
