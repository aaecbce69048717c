// A small replica set in real directories, written by the real set, state log and group.
#pragma once

#include <array>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/inspect/set_view.h"
#include "storage/inspect/verify.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/log/state_log.h"
#include "tests/unit/storage/replica/directories.h"

namespace penstock {

class SmallSet : public ReplicaDirectories {
protected:
    static constexpr std::uint64_t shard_count = 3;

    // What waits for one commit.
    struct Waiter : CommitWaiter {
        bool done = false;
        Errc outcome = Errc::ok;
        Waiter() {
            on_done = [](CommitWaiter& self, Errc code) noexcept {
                auto& waiter = static_cast<Waiter&>(self);
                waiter.done = true;
                waiter.outcome = code;
            };
        }
    };

    static SetGeometry small() {
        SetGeometry geometry;
        geometry.data_groups = 1;
        geometry.journal_files = 3;
        geometry.journal_file_bytes = 1U << 20;
        geometry.container_bytes = 4U << 20;
        geometry.chunk_unit_bytes = 128U << 10;
        geometry.chunk_units_max = 4;
        geometry.manifest_bytes = 256U << 10;
        return geometry;
    }

    void SetUp() override {
        ReplicaDirectories::SetUp();
        UringOptions probe;
        if (auto opened = UringEngine::open(probe); !opened) {
            GTEST_SKIP() << UringEngine::explain_open_failure(opened.error());
        }
    }

    Result<std::unique_ptr<IoEngine>> engine_over(ReplicaSet& set) {
        UringOptions options;
        for (unsigned i = 0; i < replica_count; ++i) {
            options.directory_fds[i] = set.directory(i).fd;
        }
        auto opened = UringEngine::open(options);
        if (!opened) {
            return std::unexpected(opened.error());
        }
        return std::unique_ptr<IoEngine>(std::move(*opened));
    }

    // One life of a node: `records` records go to each shard in turn, data of `data_bytes` each,
    // all committed. With `drain` they end up in segments; otherwise small ones stay in the
    // journal.
    void live(unsigned records, std::size_t data_bytes, bool drain) {
        ReplicaSetOptions set_options = options();
        set_options.for_new = small();
        auto set = open(set_options);
        ASSERT_TRUE(set.has_value()) << message_;
        geometry_ = (*set)->geometry();
        write_catalog(**set);
        auto engine = engine_over(**set);
        ASSERT_TRUE(engine.has_value());
        auto pool = FramePool::open(**engine, 32U << 20);
        ASSERT_TRUE(pool.has_value());
        GroupOptions group_options;
        group_options.group = GroupId{1};
        group_options.epoch = (*set)->epoch();
        group_options.geometry = geometry_;
        group_options.voting = (*set)->voting();
        auto group = ShardGroup::recover(group_options, **engine, clock_, **pool);
        ASSERT_TRUE(group.has_value()) << describe(group.error());
        fill(**group, **engine, records, data_bytes);
        while (drain && !(*group)->drain()) {
            pump(**group, **engine);
        }
        while ((*engine)->in_flight() != 0) {
            pump(**group, **engine);
        }
        group->reset();
    }

    void fill(ShardGroup& group, IoEngine& engine, unsigned records, std::size_t data_bytes) {
        for (std::uint64_t uid = 1; uid <= shard_count; ++uid) {
            Waiter added;
            group.add_shard(static_cast<ShardUid>(uid), 86'400'000, added);
            while (!added.done) {
                pump(group, engine);
            }
        }
        for (unsigned i = 0; i < records; ++i) {
            for (std::uint64_t uid = 1; uid <= shard_count; ++uid) {
                ShardLog* shard = group.find(static_cast<ShardUid>(uid));
                ASSERT_NE(shard, nullptr);
                const std::string data(data_bytes, static_cast<char>('a' + i % 26));
                RecordIn record;
                record.partition_key = as_bytes("key");
                record.data = as_bytes(data);
                Appended appended;
                AppendVerdict verdict = AppendVerdict::no_memory;
                // Room is asked for when it is wanted, and a busy drive promises it late.
                while (verdict == AppendVerdict::no_memory || verdict == AppendVerdict::no_room) {
                    verdict = group.append(*shard, record, AckLevel::quorum, appended);
                    if (verdict != AppendVerdict::accepted) {
                        pump(group, engine);
                    }
                }
                ASSERT_EQ(verdict, AppendVerdict::accepted);
                written_[uid].push_back(appended.sequence);
                Waiter committed;
                committed.sequence = appended.sequence;
                group.wait_commit(*shard, committed);
                while (!committed.done) {
                    pump(group, engine);
                }
                ASSERT_EQ(committed.outcome, Errc::ok);
            }
        }
    }

    static void pump(ShardGroup& group, IoEngine& engine) {
        group.turn();
        engine.submit();
        std::array<IoCompletion, 64> done;
        std::size_t count = engine.reap(done);
        if (count == 0 && engine.in_flight() != 0) {
            engine.wait(1'000'000);
            count = engine.reap(done);
        }
        for (std::size_t i = 0; i < count; ++i) {
            group.complete(done[i]);
        }
    }

    // Group 0's state log, with an entry per epoch.
    void write_catalog(ReplicaSet& set) {
        auto engine = engine_over(set);
        ASSERT_TRUE(engine.has_value());
        auto read = read_state_log(**engine, geometry_.set_id, GroupId{0}, set.voting(), 0, false);
        ASSERT_TRUE(read.has_value()) << describe(read.error());
        ReplicaView view{set.voting(), set.voting()};
        StateLog::Options log_options;
        log_options.set_id = geometry_.set_id;
        log_options.epoch = set.epoch();
        log_options.slot_bytes = geometry_.manifest_bytes;
        log_options.replicas = &view;
        log_options.snapshot = [](StateEntries& out) { out.add(as_bytes("state")); };
        log_options.on_replica_failed = [](unsigned, Error error) { FAIL() << describe(error); };
        auto log = StateLog::open(**engine, log_options, *read);
        ASSERT_TRUE(log.has_value());
        (*log)->start_generation();
        unsigned entries = 3;
        while (!(*log)->idle() || (*log)->has_in_flight() || entries != 0) {
            // Each entry is on all three before the next: a replica that is four blocks behind, as
            // one on a busy drive may be, would be left out.
            if ((*log)->idle() && !(*log)->has_in_flight() && entries != 0) {
                --entries;
                (*log)->append(as_bytes("entry"));
            }
            (*log)->turn(clock_.monotonic_ns());
            (*engine)->submit();
            (*engine)->wait(1'000'000);
            std::array<IoCompletion, 16> done;
            const std::size_t count = (*engine)->reap(done);
            for (std::size_t i = 0; i < count; ++i) {
                (*log)->complete(Cookie::unpack(done[i].cookie), done[i].result);
            }
        }
    }

    // What `penstock inspect verify` finds.
    SetReport verify() {
        const SetView view = look_at_set(paths_);
        SetReport report;
        std::array<int, replica_count> fds{-1, -1, -1};
        for (unsigned i = 0; i < replica_count; ++i) {
            if ((view.members >> i & 1) != 0) {
                fds[i] = ::open(view.directories[i].c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            }
        }
        VerifyOptions verify_options;
        verify_options.geometry = view.decision.geometry;
        verify_options.readable = view.members;
        verify_options.voting = view.decision.voting;
        auto verified = verify_set(verify_options, [&]() -> Result<std::unique_ptr<IoEngine>> {
            UringOptions uring;
            uring.directory_fds = fds;
            PENSTOCK_TRY(engine, UringEngine::open(uring));
            return std::unique_ptr<IoEngine>(std::move(engine));
        });
        EXPECT_TRUE(verified.has_value()) << (verified ? "" : describe(verified.error()));
        if (verified) {
            report = std::move(*verified);
        }
        compare_superblocks(view, report.differences);
        for (const int fd : fds) {
            if (fd >= 0) {
                ::close(fd);
            }
        }
        return report;
    }

    [[nodiscard]] std::string file(unsigned replica, const std::string& name) const {
        return paths_[replica] + "/" + name;
    }
    static std::vector<char> bytes_of(const std::string& path) {
        std::ifstream in(path, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
    }
    void flip(unsigned replica, const std::string& name, std::uint64_t at) const {
        std::fstream stream(file(replica, name), std::ios::in | std::ios::out | std::ios::binary);
        stream.seekg(static_cast<std::streamoff>(at));
        const auto old = static_cast<char>(stream.get());
        stream.seekp(static_cast<std::streamoff>(at));
        stream.put(static_cast<char>(old ^ 0x10));
        ASSERT_TRUE(stream.good()) << name;
    }
    // Where frames of a shard begin in a file, found by their magic and shard.
    [[nodiscard]] std::vector<std::pair<std::uint64_t, FrameHeader>> frames_in(
        const std::string& name, std::uint64_t shard) const {
        const std::vector<char> bytes = bytes_of(file(0, name));
        std::vector<std::pair<std::uint64_t, FrameHeader>> out;
        for (std::uint64_t at = 0; at + sizeof(FrameHeader) <= bytes.size(); at += 8) {
            FrameHeader header;
            const Bytes rest{reinterpret_cast<const std::byte*>(bytes.data()) + at,
                             bytes.size() - at};
            if (check_frame(rest, geometry_.set_id, header) == FrameFault::none &&
                header.shard == shard) {
                out.emplace_back(at, header);
            }
        }
        return out;
    }
    // Lines of what was found, for failure messages.
    static std::string lines(const SetReport& report) {
        std::string out;
        for (const Difference& difference : report.differences) {
            out += describe(difference) + "\n";
        }
        return out;
    }
    static std::vector<Difference> of_kind(const SetReport& report, DifferenceKind kind) {
        std::vector<Difference> out;
        for (const Difference& difference : report.differences) {
            if (difference.kind == kind) {
                out.push_back(difference);
            }
        }
        return out;
    }
    // The report's ranges hold exactly what was written.
    void expect_all_there(const SetReport& report) const {
        for (const ShardReport& shard : report.shards) {
            std::vector<Sequence> there;
            for (const SequenceRange& range : shard.ranges) {
                for (Sequence s = range.first; s <= range.last; ++s) {
                    there.push_back(s);
                }
            }
            EXPECT_EQ(there, written_.at(shard.uid)) << "shard " << shard.uid;
        }
    }

    SystemClock clock_;
    SetGeometry geometry_;
    std::map<std::uint64_t, std::vector<Sequence>> written_;  // by shard
};

}  // namespace penstock
