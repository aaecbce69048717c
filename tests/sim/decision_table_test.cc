// The recovery decision table of docs/log-protocol.md, every combination: what a shard's last place
// looks like on each replica, and which replicas can be read.
#include <gtest/gtest.h>

#include "storage/format/block.h"
#include "storage/journal/ring.h"
#include "tests/sim/model.h"

namespace penstock::test {
namespace {

enum class Look : unsigned { intact, torn, corrupt, missing, misdirected, stale };
constexpr unsigned look_count = 6;
constexpr std::array<const char*, look_count> look_names{"intact",  "torn",        "corrupt",
                                                         "missing", "misdirected", "stale"};

// A journal whose last block holds the last frame of the shard; nothing carries it as committed.
class DecisionTable : public ::testing::Test {
protected:
    DecisionTable() {
        options_.geometry = small_geometry();
        std::string message;
        auto node = SimNode::start(world_, options_, message);
        EXPECT_TRUE(node.has_value()) << message;
        Model model(world_);
        const auto settle = [&] {
            (*node)->step_until([&] { return model.collect(), model.waiting() == 0; });
            (*node)->step_until([] { return false; }, 20'000'000);  // the third copy too
        };
        model.add_shard(**node, 0, 1, 86'400'000);
        settle();
        for (unsigned i = 0; i < 5; ++i) {
            model.append(**node, 1, 900, AckLevel::quorum);
            settle();
        }
        world_.crash_power();
        node->reset();
        world_.restart();
        for (unsigned r = 0; r < replica_count; ++r) {
            disks_[r] = world_.snapshot(r);
        }
        const auto bytes = world_.read_raw(0, name_);
        for (std::uint64_t at = 0; at + block_bytes <= bytes->size(); at += block_bytes) {
            JournalBlockHeader header;
            const BlockFault fault = check_block(Bytes(*bytes).subspan(at), 0, 1, header);
            if (fault == BlockFault::none || fault == BlockFault::foreign) {
                before_ = last_;
                last_ = at;
            }
        }
    }

    void make(unsigned replica, Look look) {
        std::vector<std::byte> block(block_bytes);
        const auto bytes = world_.read_raw(replica, name_);
        std::copy_n(bytes->begin() + static_cast<std::ptrdiff_t>(last_), block_bytes,
                    block.begin());
        switch (look) {
            case Look::intact:
                return;
            case Look::torn:
                std::fill(block.begin() + 512, block.end(), std::byte{0});
                break;
            case Look::corrupt:
                block[300] ^= std::byte{4};
                break;
            case Look::missing:
                std::fill(block.begin(), block.end(), std::byte{0});
                break;
            case Look::misdirected: {
                auto header = load<JournalBlockHeader>(block.data());
                header.group = 7;
                seal_header(header, block.data());
                break;
            }
            case Look::stale:
                std::copy_n(bytes->begin() + static_cast<std::ptrdiff_t>(before_), block_bytes,
                            block.begin());
                break;
        }
        ASSERT_TRUE(world_.overwrite(replica, name_, last_, block));
    }

    SimWorld world_{SimOptions{.seed = 21}};
    NodeOptions options_;
    std::array<SimSnapshot, replica_count> disks_;
    std::string name_ = journal_name(GroupId{1}, 0);
    std::uint64_t last_ = 0;
    std::uint64_t before_ = 0;
};

TEST_F(DecisionTable, EveryLookOnEveryReplicaWithEveryTwoOrThreeRead) {
    ASSERT_GT(last_, before_);
    for (unsigned combination = 0; combination < look_count * look_count * look_count;
         ++combination) {
        const std::array<Look, replica_count> looks{
            static_cast<Look>(combination % look_count),
            static_cast<Look>(combination / look_count % look_count),
            static_cast<Look>(combination / look_count / look_count)};
        for (const ReplicaMask read : std::array<ReplicaMask, 4>{0b111, 0b011, 0b101, 0b110}) {
            bool intact = false;
            bool damaged = false;
            std::string where = "read " + std::to_string(read) + ":";
            for (unsigned r = 0; r < replica_count; ++r) {
                world_.restore(r, disks_[r]);
                make(r, looks[r]);
                where += std::string(" ") + look_names[static_cast<unsigned>(looks[r])];
                const bool is_read = (read >> r & 1) != 0;
                intact = intact || (is_read && looks[r] == Look::intact);
                damaged =
                    damaged || (is_read && (looks[r] == Look::torn || looks[r] == Look::corrupt));
            }
            options_.reachable = read;
            std::string message;
            const auto node = SimNode::start(world_, options_, message);
            const bool waits = !intact && damaged && read != all_replicas;
            ASSERT_EQ(node.has_value(), !waits)
                << where << " " << (node ? "" : describe(node.error()));
            if (waits) {
                EXPECT_EQ(node.error().code, Errc::wait_for_replica) << where;
                continue;
            }
            ShardStatus status;
            ASSERT_TRUE((*node)->group(0).shard_status(ShardUid{1}, status).has_value());
            EXPECT_EQ(status.end_sequence, intact ? 6U : 5U) << where;
        }
    }
}

}  // namespace
}  // namespace penstock::test
