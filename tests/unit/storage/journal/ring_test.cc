// The journal ring: a block's place is used again only when it was freed, and a scan finds what
// counts.
#include "storage/journal/ring.h"

#include <gtest/gtest.h>

#include "storage/base/crc32c.h"
#include "storage/format/frame.h"
#include "storage/io/sim_world.h"
#include "storage/journal/scan.h"

namespace penstock {
namespace {

SetGeometry geometry() {
    SetGeometry out;
    out.set_id = 5;
    out.journal_files = 3;
    out.journal_file_bytes = 256U << 10;
    return out;
}

struct Ring : ::testing::Test {
    SimWorld world{SimOptions{.seed = 8}};
    std::unique_ptr<IoEngine> engine = world.make_engine();
    ReplicaView replicas{all_replicas, all_replicas};
    std::unique_ptr<JournalRing> ring;

    void open(std::uint64_t epoch, std::uint32_t first_file) {
        ring = std::make_unique<JournalRing>(
            *engine,
            JournalRing::Options{GroupId{1}, Epoch{epoch}, geometry(), first_file, &replicas});
        ASSERT_TRUE(ring->allocate_buffers().has_value());
        for (unsigned r = 0; r < replica_count; ++r) {
            ASSERT_TRUE(ring->open_replica(r).has_value());
        }
    }
    // One frame of shard 1 with one record; false when the ring has no room.
    bool write_block(std::uint64_t epoch, Sequence sequence, std::uint32_t payload_bytes) {
        JournalRing::Block* block = ring->open_block();
        if (block == nullptr) {
            return false;
        }
        if (block->frames.empty()) {
            FrameHeader header;
            header.payload_bytes = payload_bytes;
            header.record_count = 1;
            header.shard = 1;
            header.epoch = epoch;
            header.group = 1;
            header.set_id = 5;
            header.first_sequence = sequence;
            header.previous_sequence = sequence - 1;
            std::byte* at = block->data + block->bytes;
            std::fill(at + sizeof header, at + sizeof header + payload_bytes,
                      static_cast<std::byte>(sequence));
            header.payload_crc = crc32c({at + sizeof header, payload_bytes});
            seal_header(header, at);
            block->bytes += static_cast<std::uint32_t>(header.total_bytes());
            block->frames.push_back({0, 0});
        }
        return ring->seal(*block, world.now_ns());
    }
    void finish_writes() {
        bool full = false;
        do {
            ring->queue_writes(full);
            engine->submit();
            engine->wait(1'000'000);
            std::array<IoCompletion, 16> done;
            const std::size_t count = engine->reap(done);
            for (std::size_t i = 0; i < count; ++i) {
                bool failed = false;
                (void)ring->complete(Cookie::unpack(done[i].cookie), done[i].result, failed);
                ASSERT_FALSE(failed);
            }
        } while (ring->anything_outstanding() || full);
        ring->queue_writes(full);
    }
};

TEST_F(Ring, APlaceIsUsedAgainOnlyWhenItWasFreed) {
    open(1, 0);
    Sequence sequence = 1;
    while (write_block(1, sequence, 30'000)) {
        ++sequence;
        finish_writes();
    }
    EXPECT_GT(sequence, 18U);  // three files of 256 KiB
    EXPECT_GT(ring->used_bytes(), ring->size_bytes() / 4 * 3);
    EXPECT_EQ(ring->releasable_through(), 0U);
    EXPECT_FALSE(write_block(1, sequence, 30'000));
    ring->release_frame(1);
    EXPECT_EQ(ring->releasable_through(), 1U);
    EXPECT_FALSE(write_block(1, sequence, 30'000));  // the manifest does not say so yet
    for (std::uint64_t block = 2; block < 9; ++block) {
        ring->release_frame(block);
    }
    ring->free_through(ring->releasable_through());
    EXPECT_TRUE(write_block(1, sequence, 30'000));
    finish_writes();
    const auto scan = scan_journal(*engine, geometry(), GroupId{1}, 1, all_replicas,
                                   [](std::uint64_t, Sequence) { return true; });
    ASSERT_TRUE(scan.has_value());
    EXPECT_TRUE(scan->shards.at(1).frames.contains(sequence));
    EXPECT_FALSE(scan->shards.at(1).frames.contains(1));  // overwritten
    EXPECT_TRUE(scan->missing.empty());
}

TEST_F(Ring, AScanTakesOneEpochOnlyAndNotesDamage) {
    open(1, 0);
    for (Sequence sequence = 1; sequence <= 5; ++sequence) {
        ASSERT_TRUE(write_block(1, sequence, 3'000));
        finish_writes();
    }
    open(2, 1);
    for (Sequence sequence = 11; sequence <= 15; ++sequence) {
        ASSERT_TRUE(write_block(2, sequence, 3'000));
        finish_writes();
    }
    const auto scan = [&](std::uint64_t epoch, ReplicaMask readable) {
        return scan_journal(*engine, geometry(), GroupId{1}, epoch, readable,
                            [](std::uint64_t, Sequence) { return true; });
    };
    EXPECT_EQ(scan(1, all_replicas)->shards.at(1).frames.size(), 5U);
    EXPECT_EQ(scan(2, all_replicas)->shards.at(1).frames.size(), 5U);
    ASSERT_TRUE(
        world.flip_bit(0, "journal-1-1", 2 * 4096 + 200));  // a payload of epoch 2's third block
    const auto one = scan(2, 0b001);
    EXPECT_EQ(one->shards.at(1).frames.size(), 4U);
    EXPECT_EQ(one->missing, std::vector<std::uint64_t>{3});
    EXPECT_TRUE(scan(2, 0b011)->missing.empty());
    ASSERT_TRUE(world.flip_bit(0, "journal-1-1", 4 * 4096 + 20));  // the header of the last block
    EXPECT_EQ(scan(2, 0b001)->missing, (std::vector<std::uint64_t>{3, 5}));
    ASSERT_TRUE(world.flip_bit(1, "journal-1-1", 0 * 4096 + 20));  // of the first
    EXPECT_EQ(scan(2, 0b010)->missing, std::vector<std::uint64_t>{1});
}

}  // namespace
}  // namespace penstock
