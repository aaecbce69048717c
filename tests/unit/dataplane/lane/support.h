// What the lane's tests share: a lane's storage on simulated disks, and a requester.
#pragma once

#include <poll.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "dataplane/lane/lane.h"
#include "storage/io/sim_world.h"
#include "storage/log/frame_pool.h"

namespace penstock::test {

inline SetGeometry small_geometry(unsigned groups) {
    SetGeometry geometry;
    geometry.set_id = 7;
    geometry.data_groups = groups;
    geometry.journal_files = 3;
    geometry.journal_file_bytes = 4U << 20;
    geometry.container_bytes = 32U << 20;
    return geometry;
}

// The storage of one lane.
struct SimStorage {
    explicit SimStorage(std::uint64_t seed = 1) : world(SimOptions{.seed = seed}) {}

    // Opens the engine and recovers `groups` into `lane`, on the calling thread.
    Status open(Lane& lane, const std::vector<GroupId>& groups, unsigned group_count) {
        engine = world.make_engine();
        PENSTOCK_TRY(made, FramePool::open(*engine, memory_bytes));
        pool = std::move(made);
        lane.set_engine(*engine, false);
        for (const GroupId id : groups) {
            GroupOptions options;
            options.group = id;
            options.epoch = Epoch{1};
            options.geometry = small_geometry(group_count);
            PENSTOCK_TRY(group, ShardGroup::recover(options, *engine, world.clock(), *pool));
            lane.add_group(std::move(group), id);
        }
        return {};
    }

    std::size_t memory_bytes = 64U << 20;
    SimWorld world;
    std::unique_ptr<IoEngine> engine;
    std::unique_ptr<FramePool> pool;
};

// Pops the next answer, sleeping on the descriptor; null after ten seconds.
inline LaneRequest* wait_reply(ReplyRing& replies) {
    for (;;) {
        if (LaneRequest* request = replies.pop(); request != nullptr) {
            return request;
        }
        pollfd one{replies.event_fd(), POLLIN, 0};
        if (poll(&one, 1, 10'000) != 1) {
            return nullptr;
        }
        std::uint64_t count = 0;
        (void)!read(replies.event_fd(), &count, sizeof count);
    }
}

// One run of records for one shard; `texts` must outlive the request.
inline void add_run(AppendRequest& request, ShardUid shard, const std::vector<std::string>& texts) {
    AppendRequest::Run run;
    run.shard = shard;
    run.first_item = static_cast<std::uint32_t>(request.items.size());
    run.item_count = static_cast<std::uint32_t>(texts.size());
    for (const std::string& text : texts) {
        AppendRequest::Item item;
        item.record = {as_bytes("key"), as_bytes(text), nullptr, nullptr};
        request.items.push_back(item);
    }
    request.runs.push_back(run);
}

// A table in which door 0 feeds one stream, cut evenly over the shards.
inline std::unique_ptr<const RouteTable> even_routes(const std::string& stream,
                                                     std::vector<ShardRoute> shards) {
    const std::uint64_t step = UINT64_MAX / shards.size();
    for (std::size_t i = 0; i < shards.size(); ++i) {
        shards[i].first = {i * step, 0};
        shards[i].last = {i + 1 == shards.size() ? UINT64_MAX : (i + 1) * step - 1, UINT64_MAX};
    }
    std::vector<StreamRoute> streams;
    streams.push_back(StreamRoute::make(stream, std::move(shards)).value());
    const std::vector<std::string> doors{stream};
    return RouteTable::make(std::move(streams), doors).value();
}

}  // namespace penstock::test
