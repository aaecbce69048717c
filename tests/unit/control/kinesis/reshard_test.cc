// Splitting, merging and scaling shards: the plans, and the API over lanes in memory.
#include "control/kinesis/stream/reshard.h"

#include <set>

#include "dataplane/wire/partition_hash.h"
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::kinesis {
namespace {

Stream stream_of(std::uint32_t count) {
    Stream stream;
    stream.name = "s";
    stream.status = StreamStatus::active;
    stream.next_shard_number = count;
    const auto ranges = tile_hash_space(count);
    for (std::uint32_t i = 0; i < count; ++i) {
        Shard shard;
        shard.uid = static_cast<ShardUid>(i + 1);
        shard.number = i;
        shard.group = GroupId{1};
        shard.created_s = 1000;
        shard.range = ranges[i];
        stream.shards.push_back(shard);
    }
    return stream;
}

// What Kinesis promises of a lineage, and that the open shards are what was asked for.
void expect_sound(const Stream& stream, std::span<const HashRange> open) {
    std::map<std::uint32_t, std::vector<const Shard*>> children;
    std::vector<HashRange> found;
    for (const Shard& shard : stream.shards) {
        for (const auto& parent : {shard.parent, shard.adjacent_parent}) {
            if (parent) {
                EXPECT_LT(*parent, shard.number);
                EXPECT_LT(stream.shard(*parent)->created_s, shard.created_s);
                children[*parent].push_back(&shard);
            }
        }
        if (shard.state == ShardState::open) {
            found.push_back(shard.range);
        }
    }
    for (const Shard& shard : stream.shards) {
        const auto& own = children[shard.number];
        EXPECT_EQ(shard.state == ShardState::open, own.empty()) << shard.number;
        if (own.size() == 2) {  // a split
            EXPECT_EQ(own[0]->range.start, shard.range.start);
            EXPECT_EQ(own[1]->range.end, shard.range.end);
            EXPECT_TRUE(are_neighbours(own[0]->range, own[1]->range));
        }
        EXPECT_LE(own.size(), 2U);
        if (shard.adjacent_parent) {  // a merge
            const HashRange& a = stream.shard(*shard.parent)->range;
            const HashRange& b = stream.shard(*shard.adjacent_parent)->range;
            EXPECT_TRUE(are_neighbours(a, b));
            EXPECT_EQ(shard.range.start, std::min(a.start, b.start));
            EXPECT_EQ(shard.range.end, std::max(a.end, b.end));
        }
    }
    std::ranges::sort(found, {}, [](const HashRange& range) { return to_uint128(range.start); });
    EXPECT_TRUE(std::ranges::equal(found, open));
}

void carry_out(Stream& stream, const ReshardPlan& plan) {
    begin_reshard(stream, plan, 1000, 4, 5'000'000);
    EXPECT_EQ(stream.status, StreamStatus::updating);
    EXPECT_FALSE(parts_of_reshard(stream).is_switched);
    EXPECT_TRUE(StreamView::make(stream, {}));
    switch_over(stream);
    EXPECT_TRUE(parts_of_reshard(stream).is_switched);
    EXPECT_TRUE(StreamView::make(stream, {}));
    EXPECT_EQ(*decode_stream(encode_stream(stream)), stream);
    end_reshard(stream, std::vector<Sequence>(parts_of_reshard(stream).ends.size(), 1), 6'000'000);
    EXPECT_EQ(stream.status, StreamStatus::active);
    EXPECT_TRUE(StreamView::make(stream, {}));
    EXPECT_EQ(*decode_stream(encode_stream(stream)), stream);
}

TEST(ReshardPlan, EveryCountBecomesEveryOtherByTwosWithoutAGap) {
    for (std::uint32_t from = 1; from <= 24; ++from) {
        for (std::uint32_t to = (from + 1) / 2; to <= 2 * from; ++to) {
            Stream stream = stream_of(from);
            const ReshardPlan plan = scale_evenly(stream, to);
            EXPECT_EQ(plan.empty(), from == to);
            if (!plan.empty()) {
                carry_out(stream, plan);
            }
            expect_sound(stream, tile_hash_space(to));
        }
    }
}

TEST(ReshardPlan, UnevenShardsBecomeEvenOnes) {
    Stream stream = stream_of(3);
    for (const auto& [number, at] : std::vector<std::pair<std::uint32_t, std::uint64_t>>{
             {0, 7}, {4, 1'000'000}, {6, 1'000'001}}) {
        carry_out(stream, plan_split(*stream.shard(number), Hash128{0, at}));
    }
    EXPECT_EQ(stream.open_shard_count(), 6U);
    carry_out(stream, plan_merge(*stream.shard(3), *stream.shard(5)));
    carry_out(stream, scale_evenly(stream, 7));
    expect_sound(stream, tile_hash_space(7));
    EXPECT_TRUE(scale_evenly(stream, 7).empty());
}

TEST(ReshardPlan, ADoubledStreamNeedsNoShardBetween) {
    const Stream stream = stream_of(8);
    EXPECT_EQ(scale_evenly(stream, 16).size(), 16U);
    EXPECT_EQ(scale_evenly(stream, 4).size(), 4U);
}

TEST(StreamFormat, AShardThatIsNotThereYetHasAParent) {
    Stream stream = stream_of(2);
    stream.shards[1].state = ShardState::creating;
    EXPECT_FALSE(decode_stream(encode_stream(stream)));
}

class ReshardApi : public ApiTest {
protected:
    Answer split(const std::string& shard, const std::string& at) {
        return call("SplitShard", R"({"StreamName":"s","ShardToSplit":")" + shard +
                                      R"(","NewStartingHashKey":")" + at + "\"}");
    }
    Answer merge(const std::string& shard, const std::string& adjacent) {
        return call("MergeShards", R"({"StreamName":"s","ShardToMerge":")" + shard +
                                       R"(","AdjacentShardToMerge":")" + adjacent + "\"}");
    }
    Answer scale(int count) {
        return call("UpdateShardCount", R"({"StreamName":"s","ScalingType":"UNIFORM_SCALING",)"
                                        R"("TargetShardCount":)" +
                                            std::to_string(count) + "}");
    }
    nlohmann::json list(const std::string& filter = "") {
        return call("ListShards", R"({"StreamName":"s")" +
                                      (filter.empty() ? "" : R"(,"ShardFilter":{)" + filter + "}") +
                                      "}")
            .json["Shards"];
    }
    static std::vector<int> numbers(const nlohmann::json& shards) {
        std::vector<int> found;
        for (const auto& shard : shards) {
            found.push_back(std::stoi(shard["ShardId"].get<std::string>().substr(8)));
        }
        return found;
    }
    std::string status() {
        return call("DescribeStreamSummary", R"({"StreamName":"s"})")
            .json["StreamDescriptionSummary"]["StreamStatus"];
    }
    // Until the worker waits for a close that is held.
    void wait_for_switch() {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        const auto is_switched = [&] {
            const auto& shards = store->find("s")->stream().shards;
            return std::ranges::any_of(
                shards, [](const Shard& s) { return s.state == ShardState::opening; });
        };
        while (!is_switched()) {
            ASSERT_LT(std::chrono::steady_clock::now(), give_up);
            loop->run_once(1);
        }
    }
    static constexpr const char* half = "170141183460469231731687303715884105728";
};

TEST_F(ReshardApi, ASplitShardEndsWithItsChildren) {
    make_stream("s", 1);
    const std::string parent_number = put("s", "first").json["SequenceNumber"];
    EXPECT_EQ(split("shardId-000000000000", half).status, 200);
    settle();
    EXPECT_EQ(status(), "ACTIVE");
    const auto shards = list();
    ASSERT_EQ(numbers(shards), (std::vector<int>{0, 1, 2}));
    EXPECT_EQ(shards[1]["ParentShardId"], "shardId-000000000000");
    EXPECT_FALSE(shards[1].contains("AdjacentParentShardId"));
    EXPECT_EQ(shards[2]["HashKeyRange"]["StartingHashKey"], half);
    EXPECT_TRUE(shards[0]["SequenceNumberRange"].contains("EndingSequenceNumber"));
    EXPECT_FALSE(shards[1]["SequenceNumberRange"].contains("EndingSequenceNumber"));

    const auto one = get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")"), R"(,"Limit":1)");
    EXPECT_EQ(data_of(one), std::vector<std::string>{"first"});
    EXPECT_EQ(next_of(one), "");
    EXPECT_EQ(numbers(one.json["ChildShards"]), (std::vector<int>{1, 2}));
    EXPECT_EQ(one.json["ChildShards"][0]["ParentShards"],
              nlohmann::json::array({"shardId-000000000000"}));
    // KCL asks for the children so.
    const auto latest = get(iterator("s", R"("ShardIteratorType":"LATEST")"));
    EXPECT_EQ(latest.json["Records"].size(), 0U);
    EXPECT_EQ(latest.json["ChildShards"].size(), 2U);

    const Answer second = put("s", "second");
    const std::string child = second.json["ShardId"];
    EXPECT_NE(child, "shardId-000000000000");
    const std::string child_number = second.json["SequenceNumber"];
    const std::string ending = shards[0]["SequenceNumberRange"]["EndingSequenceNumber"];
    EXPECT_LE(parent_number, ending);
    EXPECT_LT(ending, child_number);
    EXPECT_EQ(data_of(get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")", child))),
              std::vector<std::string>{"second"});
}

TEST_F(ReshardApi, AMergedShardHasBothParents) {
    make_stream("s", 3);
    EXPECT_EQ(merge("shardId-000000000002", "shardId-000000000001").status, 200);
    settle();
    const auto shards = list();
    ASSERT_EQ(shards.size(), 4U);
    EXPECT_EQ(shards[3]["ParentShardId"], "shardId-000000000002");
    EXPECT_EQ(shards[3]["AdjacentParentShardId"], "shardId-000000000001");
    EXPECT_EQ(shards[3]["HashKeyRange"]["StartingHashKey"],
              shards[1]["HashKeyRange"]["StartingHashKey"]);
    EXPECT_EQ(shards[3]["HashKeyRange"]["EndingHashKey"],
              shards[2]["HashKeyRange"]["EndingHashKey"]);
    const auto end =
        get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")", "shardId-000000000001"));
    EXPECT_EQ(next_of(end), "");
    EXPECT_EQ(end.json["ChildShards"][0]["ParentShards"].size(), 2U);
}

TEST_F(ReshardApi, WhatMeetsAClosedShardGoesToItsChildren) {
    make_stream("s", 2);
    lanes.set([](auto& faults) { faults.hold_appends = true; });
    std::string records;
    for (int i = 0; i < 40; ++i) {
        records += (i == 0 ? "" : ",") + (R"({"Data":")" + base64("r" + std::to_string(i))) +
                   R"(","PartitionKey":"k)" + std::to_string(i % 8) + "\"}";
    }
    const auto many = send("PutRecords", R"({"StreamName":"s","Records":[)" + records + "]}");
    const auto one = send("PutRecord", R"({"StreamName":"s","Data":"","PartitionKey":"k"})");
    EXPECT_EQ(split("shardId-000000000000", "99").status, 200);
    settle();  // it is closed, and the records are on their way to it
    EXPECT_EQ(store->find("s")->stream().shards[0].state, ShardState::closed);
    lanes.set([](auto& faults) { faults.hold_appends = false; });
    const Answer answer = wait(many);
    EXPECT_EQ(answer.json["FailedRecordCount"], 0) << answer.body;
    std::map<std::string, int> taken;
    const auto view = store->find("s");
    for (int i = 0; i < 40; ++i) {
        const std::string id = answer.json["Records"][i]["ShardId"];
        ++taken[id];
        const std::string key = "k" + std::to_string(i % 8);
        const auto& shard =
            view->stream().shards[view->find(partition_hash(as_bytes(key))).shard_index];
        EXPECT_EQ(id, format_shard_id(shard.number));
    }
    EXPECT_EQ(taken.count("shardId-000000000000"), 0U);
    EXPECT_EQ(wait(one).status, 200);
    // Once, and in the order they were put.
    std::multiset<std::string> all;
    for (const auto& [uid, shard] : lanes.shards()) {
        std::map<std::string, int> last;
        for (const auto& stored : shard.records) {
            all.insert(stored.data);
            if (!stored.data.empty()) {
                const int i = std::stoi(stored.data.substr(1));
                EXPECT_TRUE(!last.contains(stored.key) || last[stored.key] < i);
                last[stored.key] = i;
            }
        }
    }
    EXPECT_EQ(all.size(), 41U);
    EXPECT_EQ(std::set<std::string>(all.begin(), all.end()).size(), 41U);
}

TEST_F(ReshardApi, WhileItGoesOnTheStreamIsUpdatingAndTakesRecords) {
    make_stream("s", 2);
    lanes.set([](auto& faults) { faults.hold_closes = true; });
    EXPECT_EQ(split("0", "99").status, 200);
    EXPECT_EQ(status(), "UPDATING");
    for (const Answer& refused : {split("1", half), merge("0", "1"), scale(4),
                                  call("IncreaseStreamRetentionPeriod",
                                       R"({"StreamName":"s","RetentionPeriodHours":48})")}) {
        EXPECT_EQ(refused.type(), "ResourceInUseException") << refused.body;
        EXPECT_NE(refused.message().find("not ACTIVE, instead in state UPDATING"),
                  std::string::npos);
    }
    wait_for_switch();
    // The parents still are what is listed, and a put goes to a child, which can be read.
    EXPECT_EQ(numbers(list()), (std::vector<int>{0, 1}));
    EXPECT_EQ(numbers(list(R"("Type":"AT_LATEST")")), (std::vector<int>{0, 1}));
    const std::string low = R"({"StreamName":"s","Data":"AAAA","PartitionKey":"k",)"
                            R"("ExplicitHashKey":"5"})";
    EXPECT_EQ(call("PutRecord", low).json["ShardId"], "shardId-000000000002");
    EXPECT_EQ(get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")", "shardId-000000000002"))
                  .json["Records"]
                  .size(),
              1U);
    const auto parent = get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")"));
    EXPECT_NE(next_of(parent), "");
    lanes.set([](auto& faults) { faults.hold_closes = false; });
    settle();
    EXPECT_EQ(status(), "ACTIVE");
    EXPECT_EQ(numbers(list(R"("Type":"AT_LATEST")")), (std::vector<int>{1, 2, 3}));
    EXPECT_EQ(get(next_of(parent)).json["ChildShards"].size(), 2U);
}

TEST_F(ReshardApi, WhatWasBegunIsEndedAfterAStart) {
    make_stream("s", 2);
    // At the first step, with the children in the catalog alone, and at the close.
    for (const bool at_close : {false, true}) {
        lanes.set([&](auto& faults) {
            faults.control_outcome = at_close ? Errc::ok : Errc::not_enough_replicas;
            faults.hold_closes = at_close;
        });
        const std::size_t before = store->find("s")->stream().shards.size();
        EXPECT_EQ(scale(at_close ? 4 : 3).status, 200);
        if (at_close) {
            wait_for_switch();
            std::thread release([&] {
                std::this_thread::sleep_for(std::chrono::milliseconds(20));
                lanes.set([](auto& faults) {
                    faults.control_outcome = Errc::not_enough_replicas;
                    faults.hold_closes = false;
                });
            });
            close();
            release.join();
        } else {
            close();
        }
        lanes.set([](auto& faults) { faults.control_outcome = Errc::ok; });
        open();
        settle();
        EXPECT_EQ(status(), "ACTIVE");
        const Stream stream = store->find("s")->stream();
        EXPECT_GT(stream.shards.size(), before);
        EXPECT_EQ(stream.open_shard_count(), at_close ? 4U : 3U);
        EXPECT_EQ(lanes.shards().size(), stream.shards.size());
        for (const Shard& shard : stream.shards) {
            EXPECT_EQ(lanes.shards().at(shard.uid).closed, shard.state == ShardState::closed);
        }
    }
}

TEST_F(ReshardApi, FiltersCutAtTheBoundary) {
    make_stream("s", 2);
    clock.ms += 10'000;
    ASSERT_EQ(scale(3).status, 200);
    settle();
    const std::int64_t boundary = store->find("s")->stream().shards[0].closed_ms;
    clock.ms += 10'000;
    const auto at = [&](const char* type, std::int64_t ms) {
        return list(R"("Type":")" + std::string(type) + R"(","Timestamp":)" +
                    std::to_string(ms / 1000) + "." + std::to_string(ms % 1000 + 1000).substr(1));
    };
    const auto covers = [&](const nlohmann::json& shards) {
        std::vector<ShardRoute> ranges;
        for (const auto& shard : shards) {
            ranges.push_back(
                {*parse_hash_key(shard["HashKeyRange"]["StartingHashKey"].get<std::string>()),
                 *parse_hash_key(shard["HashKeyRange"]["EndingHashKey"].get<std::string>()),
                 {},
                 {},
                 0});
        }
        return StreamRoute::make("s", std::move(ranges)).has_value();
    };
    const auto all = list();
    EXPECT_GT(all.size(), 5U);  // with shards between
    EXPECT_EQ(numbers(at("AT_TIMESTAMP", boundary - 1)), (std::vector<int>{0, 1}));
    EXPECT_EQ(at("AT_TIMESTAMP", boundary).size(), 3U);
    EXPECT_TRUE(covers(at("AT_TIMESTAMP", boundary)));
    EXPECT_EQ(numbers(list(R"("Type":"AT_TRIM_HORIZON")")), (std::vector<int>{0, 1}));
    EXPECT_TRUE(covers(list(R"("Type":"AT_LATEST")")));
    EXPECT_EQ(list(R"("Type":"FROM_TRIM_HORIZON")"), all);
    EXPECT_EQ(at("FROM_TIMESTAMP", boundary - 1), all);
    EXPECT_EQ(at("FROM_TIMESTAMP", boundary).size(), 3U);
    EXPECT_EQ(list(R"("Type":"AFTER_SHARD_ID","ShardId":"shardId-000000000001")").size(),
              all.size() - 2);
    // A day later the parents have expired.
    clock.ms += 24LL * 3600 * 1000 - 5'000;
    EXPECT_EQ(list().size(), 3U);
    EXPECT_TRUE(covers(list(R"("Type":"AT_TRIM_HORIZON")")));
}

TEST_F(ReshardApi, AClosedShardStaysUntilItsRecordsAreGone) {
    make_stream("s", 1);
    ASSERT_EQ(put("s", "x").status, 200);
    ASSERT_EQ(split("0", half).status, 200);
    settle();
    const ShardUid parent = store->find("s")->stream().shards[0].uid;
    clock.ms += 25LL * 3600 * 1000;
    // Anything that is changed makes the worker look.
    ASSERT_EQ(put("s", "y").status, 200);
    ASSERT_EQ(call("CreateStream", R"({"StreamName":"other","ShardCount":1})").status, 200);
    settle();
    EXPECT_TRUE(lanes.shards().contains(parent)) << "the group still has its record";
    lanes.edit_shard(parent, [](auto& shard) { shard.trim = shard.next; });
    ASSERT_EQ(call("DeleteStream", R"({"StreamName":"other"})").status, 200);
    settle();
    EXPECT_FALSE(lanes.shards().contains(parent));
    EXPECT_EQ(store->find("s")->stream().shards.size(), 2U);
    EXPECT_TRUE(catalog->list("tombstone/")->empty());
    EXPECT_EQ(call("GetShardIterator", R"({"StreamName":"s","ShardId":"0",)"
                                       R"("ShardIteratorType":"LATEST"})")
                  .type(),
              "ResourceNotFoundException");
    EXPECT_EQ(list()[0]["ParentShardId"], "shardId-000000000000");
}

TEST_F(ReshardApi, WhatCannotBeSplitMergedOrScaledIsSaid) {
    make_stream("s", 4);
    const auto expect = [](const Answer& answer, const std::string& type, const std::string& part) {
        EXPECT_EQ(answer.type(), type) << answer.body;
        EXPECT_NE(answer.message().find(part), std::string::npos) << answer.body;
    };
    expect(split("shardId-000000000009", half), "ResourceNotFoundException",
           "Could not find shard shardId-000000000009 in stream s under account 000000000000.");
    for (const char* at :
         {"0", "1", "85070591730234615865843651857942052863",
          "340282366920938463463374607431768211455", "999999999999999999999999999999999999999"}) {
        expect(split("0", at), "InvalidArgumentException",
               "is not both greater than one plus the shard's StartingHashKey 0 and less than the "
               "shard's EndingHashKey 85070591730234615865843651857942052863.");
    }
    expect(split("0", "01"), "ValidationException", "'newStartingHashKey'");
    expect(merge("0", "2"), "InvalidArgumentException",
           "Shards shardId-000000000000 and shardId-000000000002 in stream s under account "
           "000000000000 are not an adjacent pair of shards eligible for merging");
    expect(merge("1", "1"), "InvalidArgumentException", "not an adjacent pair");
    expect(scale(9), "InvalidArgumentException",
           "UpdateShardCount cannot scale up over double your current open shard count. Current "
           "open shard count: 4 Target shard count: 9");
    expect(scale(1), "InvalidArgumentException", "cannot scale down below half");
    expect(scale(0), "ValidationException", "'targetShardCount'");
    expect(
        call("UpdateShardCount", R"({"StreamName":"s","ScalingType":"ODD","TargetShardCount":4})"),
        "ValidationException", "enum value set: [UNIFORM_SCALING]");
    expect(call("SplitShard", R"({"StreamName":"t","ShardToSplit":"0","NewStartingHashKey":"9"})"),
           "ResourceNotFoundException", "Stream t under account");
    ASSERT_EQ(split("0", "99").status, 200);
    settle();
    expect(split("0", "99"), "InvalidArgumentException", "has already been merged or split");
    expect(merge("0", "1"), "InvalidArgumentException", "has already been merged or split");
}

TEST_F(ReshardApi, ScalingIsCountedForADay) {
    make_stream("s", 4);
    for (int i = 0; i < 10; ++i) {
        const Answer scaled = scale(i % 2 == 0 ? 5 : 4);
        ASSERT_EQ(scaled.status, 200) << scaled.body;
        EXPECT_EQ(scaled.json["TargetShardCount"], i % 2 == 0 ? 5 : 4);
        EXPECT_EQ(scaled.json["CurrentShardCount"], i % 2 == 0 ? 4 : 5);
        EXPECT_EQ(scaled.json["StreamARN"], "arn:aws:kinesis:us-east-1:000000000000:stream/s");
        settle();
    }
    EXPECT_EQ(scale(5).type(), "LimitExceededException");
    clock.ms += 24LL * 3600 * 1000 + 1;
    EXPECT_EQ(scale(5).status, 200);
}

TEST_F(ReshardApi, TheModeIsChangedTwiceADay) {
    make_stream("s", 2);
    const auto change = [&](const std::string& mode) {
        return call("UpdateStreamMode",
                    R"({"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/s",)"
                    R"("StreamModeDetails":{"StreamMode":")" +
                        mode + "\"}}");
    };
    EXPECT_EQ(change("ON_DEMAND").status, 200);
    settle();
    EXPECT_EQ(store->find("s")->stream().mode, StreamMode::on_demand);
    EXPECT_EQ(store->find("s")->stream().status, StreamStatus::active);
    EXPECT_EQ(split("0", "99").type(), "ValidationException");
    EXPECT_EQ(scale(4).type(), "ValidationException");
    EXPECT_EQ(change("PROVISIONED").status, 200);
    EXPECT_EQ(change("ON_DEMAND").type(), "LimitExceededException");
    EXPECT_EQ(change("SOMETIMES").type(), "ValidationException");
}

TEST_F(ReshardApi, TheLimitOfShardsHolds) {
    make_stream("s", 2);
    make_stream("large", 4997);
    EXPECT_EQ(split("0", "99").status, 200);
    settle();
    const Answer over = split("1", half);
    EXPECT_EQ(over.type(), "InvalidArgumentException");  // half is where shard 1 begins
    const Answer limit = scale(4);
    EXPECT_EQ(limit.type(), "LimitExceededException") << limit.body;
    EXPECT_NE(limit.message().find("Current shard count for the account: 5000"), std::string::npos);
    EXPECT_EQ(merge("1", "3").status, 200);
}

}  // namespace
}  // namespace penstock::kinesis
