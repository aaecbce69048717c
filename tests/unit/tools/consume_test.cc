// `penstock consume` without a network: positions, checkpoints, the order of shards, retries, and
// what is written out.
#include <fcntl.h>
#include <signal.h>
#include <simdjson.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <mutex>
#include <sstream>
#include <thread>

#include <gtest/gtest.h>

#include "control/kinesis/input/base64.h"
#include "tools/consumer/stream_reader.h"
#include "tools/penstock/record_output.h"

namespace penstock::consumer {
namespace {

TEST(ConsumePosition, IsReadAsItIsWritten) {
    EXPECT_EQ(parse_position("trim-horizon")->kind, PositionKind::oldest);
    EXPECT_EQ(parse_position("latest")->kind, PositionKind::newest);
    EXPECT_EQ(parse_position("after:495")->sequence, "495");
    EXPECT_EQ(parse_position("at:495")->kind, PositionKind::at_sequence);
    EXPECT_EQ(parse_position("time:1700000000.25")->time_ms, 1'700'000'000'250);
    EXPECT_EQ(parse_position("time:2023-11-14T22:13:20Z")->time_ms, 1'700'000'000'000);
    EXPECT_EQ(parse_position("time:2023-11-14T23:43:20.5+01:30")->time_ms, 1'700'000'000'500);
    EXPECT_EQ(time_text(1'700'000'000'250), "2023-11-14T22:13:20.250Z");
    EXPECT_EQ(parse_time_ms(time_text(1'709'210'096'789)), 1'709'210'096'789);
    for (const char* wrong : {"", "newest", "at:", "at:12x", "after", "time:", "time:yesterday",
                              "time:2023-02-29T00:00:00Z", "time:2023-11-14T22:13:20", "time:-1",
                              "time:1.", "time:2023-11-14T24:00:00Z"}) {
        EXPECT_FALSE(parse_position(wrong)) << wrong;
    }
}

TEST(ConsumeLineage, AChildWaitsForBothOfItsParents) {
    Lineage lineage;
    lineage.learn(std::vector<ShardEntry>{{"a", "", "", true},
                                          {"b", "", "", true},
                                          {"c", "a", "b", false},
                                          {"d", "gone", "", false}},
                  false);
    const auto ids = [](const std::vector<Lineage::Ready>& ready) {
        std::string all;
        for (const Lineage::Ready& one : ready) {
            all += one.shard.id + (one.is_child ? "'" : "") + " ";
        }
        return all;
    };
    EXPECT_EQ(ids(lineage.take_ready()), "a b d ");
    EXPECT_TRUE(lineage.ended("a"));
    EXPECT_EQ(ids(lineage.take_ready()), "");
    EXPECT_TRUE(lineage.ended("b"));
    EXPECT_EQ(ids(lineage.take_ready()), "c' ");
    EXPECT_EQ(ids(lineage.take_ready()), "");
    EXPECT_FALSE(lineage.ended("d"));
}

TEST(ConsumeCheckpoint, IsReadBackAndNothingElseIsTaken) {
    const std::string path = testing::TempDir() + "penstock-checkpoint-" + std::to_string(getpid());
    Checkpoint written;
    written.stream = "s\"1";
    written.start = {PositionKind::at_time, 1'700'000'000'250, {}};
    written.shards["shardId-000000000000"] = {"4951", true};
    written.shards["shardId-000000000001"] = {"", false};
    std::string why;
    Checkpoint read;
    EXPECT_EQ(read_checkpoint(path, read, why), CheckpointFile::absent);
    ASSERT_TRUE(write_checkpoint(path, written, why)) << why;
    EXPECT_EQ(read_checkpoint(path, read, why), CheckpointFile::read) << why;
    EXPECT_EQ(read, written);
    for (const char* wrong :
         {"", "{", "{}", R"({"version":2,"stream":"s","start":"latest","shards":{}})",
          R"({"version":1,"stream":"s","start":"latest","shards":{}})",
          R"({"version":1,"stream":"s","start":"trim-horizon","shards":{"a":{}}})"}) {
        EXPECT_FALSE(parse_checkpoint(wrong, read, why)) << wrong;
        EXPECT_FALSE(why.empty());
    }
    std::filesystem::remove(path);
    EXPECT_FALSE(write_checkpoint(path + "/no/such", written, why));
}

// A stream of shards with numbered records, split and merged as told, that answers like Kinesis.
class FakeStream {
public:
    struct FakeShard {
        std::string parent;
        std::string adjacent;
        std::vector<std::string> records;
        bool is_closed = false;
    };
    std::map<std::string, FakeShard> shards;
    std::vector<std::string> failures;  // error types, given first, one for each call
    std::size_t per_call = 3;
    bool tells_children = true;
    std::function<void()> after_call;
    unsigned expired = 0;  // iterators that will have

    HttpReply answer(std::string_view operation, const std::string& body) {
        const std::lock_guard lock(mutex_);
        ++calls;
        if (!failures.empty()) {
            const std::string type = failures.back();
            failures.pop_back();
            return {type == "500" ? 500 : 400,
                    {},
                    R"({"__type":")" + type + R"(","message":"m"})",
                    0,
                    ""};
        }
        simdjson::dom::parser parser;
        const simdjson::dom::object in = parser.parse(body).get_object();
        HttpReply reply{200, {{"date", "Tue, 14 Nov 2023 22:13:20 GMT"}}, "", 0, ""};
        if (operation == "ListShards") {
            reply.body = list();
        } else if (operation == "GetShardIterator") {
            reply.body = iterator(in);
        } else {
            reply = records(in);
        }
        if (after_call) {
            after_call();
        }
        return reply;
    }
    unsigned calls = 0;
    std::vector<std::string> asked;  // for iterators, as SHARD TYPE

private:
    std::string list() const {
        std::string text;
        for (const auto& [id, shard] : shards) {
            text += std::string(text.empty() ? "" : ",") + R"({"ShardId":")" + id +
                    R"(","SequenceNumberRange":{"StartingSequenceNumber":"1")" +
                    (shard.is_closed ? R"(,"EndingSequenceNumber":"9")" : "") + "}";
            text += shard.parent.empty() ? "" : R"(,"ParentShardId":")" + shard.parent + "\"";
            text += shard.adjacent.empty()
                        ? ""
                        : R"(,"AdjacentParentShardId":")" + shard.adjacent + "\"";
            text += "}";
        }
        return R"({"Shards":[)" + text + "]}";
    }
    static std::string text(const simdjson::dom::object& in, const char* key) {
        std::string_view value;
        return in[key].get(value) == simdjson::SUCCESS ? std::string(value) : std::string();
    }
    // Sequence number of a record: its place, from 1000 on.
    std::string iterator(const simdjson::dom::object& in) {
        const std::string id = text(in, "ShardId");
        const std::string type = text(in, "ShardIteratorType");
        const FakeShard& shard = shards.at(id);
        std::size_t at = 0;
        if (type == "LATEST") {
            at = shard.records.size();
        } else if (type.ends_with("SEQUENCE_NUMBER")) {
            at = std::stoul(text(in, "StartingSequenceNumber")) - 1000 +
                 (type.starts_with("AFTER") ? 1 : 0);
        }
        asked.push_back(id + " " + type);
        return R"({"ShardIterator":")" + id + " " + std::to_string(at) + R"("})";
    }
    HttpReply records(const simdjson::dom::object& in) {
        if (expired != 0) {
            --expired;
            return {400, {}, R"({"__type":"ExpiredIteratorException","message":"m"})", 0, ""};
        }
        std::istringstream place(text(in, "ShardIterator"));
        std::string id;
        std::size_t at = 0;
        place >> id >> at;
        const FakeShard& shard = shards.at(id);
        const std::int64_t limit = in["Limit"];
        const std::size_t end =
            std::min({shard.records.size(), at + per_call, at + static_cast<std::size_t>(limit)});
        std::string list;
        for (std::size_t i = at; i < end; ++i) {
            std::string data;
            kinesis::base64_append(data, as_bytes(shard.records[i]));
            list += std::string(list.empty() ? "" : ",") + R"({"SequenceNumber":")" +
                    std::to_string(1000 + i) +
                    R"(","PartitionKey":"k","ApproximateArrivalTimestamp":1700000000.25,"Data":")" +
                    data + "\"}";
        }
        std::string more = R"(,"MillisBehindLatest":)" + std::to_string(shard.records.size() - end);
        if (shard.is_closed && end == shard.records.size()) {
            more += R"(,"ChildShards":[)";
            bool first = true;
            for (const auto& [child, entry] : shards) {
                if (tells_children && (entry.parent == id || entry.adjacent == id)) {
                    more += std::string(first ? "" : ",") + R"({"ShardId":")" + child +
                            R"(","ParentShards":[")" + entry.parent +
                            (entry.adjacent.empty() ? "" : R"(",")" + entry.adjacent) + R"("]})";
                    first = false;
                }
            }
            more += "]";
        } else {
            more += R"(,"NextShardIterator":")" + id + " " + std::to_string(end) + "\"";
        }
        return {200, {}, R"({"Records":[)" + list + "]" + more + "}", 0, ""};
    }
    std::mutex mutex_;
};

class FakeApi final : public KinesisApi {
public:
    explicit FakeApi(FakeStream& stream) : stream_(stream) {}
    Result<HttpReply> call(std::string_view operation, const std::string& body,
                           std::string& why) override {
        if (canceled_) {
            why = "canceled";
            return fail(Errc::canceled);
        }
        return stream_.answer(operation, body);
    }
    void cancel() noexcept override { canceled_ = true; }

private:
    FakeStream& stream_;
    std::atomic<bool> canceled_{false};
};

// Keeps what it is given, up to a number of records.
class Kept final : public RecordSink {
public:
    std::size_t write(std::string_view shard, std::span<const Record> records) override {
        std::size_t count = 0;
        for (const Record& record : records) {
            if (all.size() == breaks_at) {
                broken = "standard output: it broke";
                break;
            }
            all.push_back(std::string(shard) + ":" + record.data);
            ++count;
        }
        return count;
    }
    std::string why() const override { return broken; }
    std::vector<std::string> all;
    std::size_t breaks_at = SIZE_MAX;
    std::string broken;
};

struct ConsumeStream : testing::Test {
    FakeStream stream;
    Kept kept;
    StreamReaderOptions options{.stream = "s",
                                .shards = {},
                                .from = {},
                                .threads = 3,
                                .poll_ms = 1,
                                .retry_first_ms = 1,
                                .retry_most_ms = 2,
                                .give_up_ms = 10'000};
    std::string path = testing::TempDir() + "penstock-consume-" + std::to_string(getpid());
    std::string why;

    void TearDown() override { std::filesystem::remove(path); }

    // A parent of two, merged again.
    void make_family() {
        stream.shards["p"] = {"", "", {"p0", "p1", "p2", "p3"}, true};
        stream.shards["q"] = {"p", "", {"q0", "q1"}, true};
        stream.shards["r"] = {"p", "", {"r0"}, true};
        stream.shards["s"] = {"q", "r", {"s0", "s1", "s2", "s3"}, false};
    }
    StreamOutcome read(Delivery::Options to = {},
                       const std::function<void(StreamReader&)>& with = {}) {
        Checkpoint checkpoint;
        const bool resumes =
            !to.checkpoint_path.empty() &&
            read_checkpoint(to.checkpoint_path, checkpoint, why) == CheckpointFile::read;
        StreamReader reader(
            options, [this] { return std::make_unique<FakeApi>(stream); },
            resumes ? &checkpoint : nullptr);
        if (with) {
            with(reader);
        }
        StreamOutcome outcome = StreamOutcome::failed;
        if (reader.prepare()) {
            Checkpoint begun = checkpoint;
            begun.stream = "s";
            begun.start = reader.resumable_start();
            Delivery delivery(kept, std::move(to), std::move(begun));
            outcome = reader.run(delivery);
            EXPECT_TRUE(delivery.save(why)) << why;
        } else {
            outcome = reader.outcome();
        }
        why = reader.why();
        return outcome;
    }
    std::vector<std::string> of_shard(const std::string& id) const {
        std::vector<std::string> out;
        for (const std::string& record : kept.all) {
            if (record.starts_with(id + ":")) {
                out.push_back(record.substr(id.size() + 1));
            }
        }
        return out;
    }
    std::size_t place(const std::string& record) const {
        return static_cast<std::size_t>(std::ranges::find(kept.all, record) - kept.all.begin());
    }
    void expect_family() const {
        EXPECT_EQ(kept.all.size(), 11U);
        for (const auto& [id, shard] : stream.shards) {
            EXPECT_EQ(of_shard(id), shard.records) << id;
        }
        EXPECT_LT(place("p:p3"), place("q:q0"));
        EXPECT_LT(place("p:p3"), place("r:r0"));
        EXPECT_LT(place("q:q1"), place("s:s0"));
        EXPECT_LT(place("r:r0"), place("s:s0"));
    }
};

TEST_F(ConsumeStream, ParentsAreReadToTheirEndBeforeTheirChildren) {
    make_family();
    EXPECT_EQ(read(), StreamOutcome::done) << why;
    expect_family();
}

TEST_F(ConsumeStream, ChildrenAreFoundWhereTheEndpointDoesNotTellThem) {
    make_family();
    stream.tells_children = false;
    EXPECT_EQ(read(), StreamOutcome::done) << why;
    expect_family();
}

TEST_F(ConsumeStream, ThrottlingTroubleAndExpiredIteratorsAreTriedAgain) {
    make_family();
    stream.failures = {"500", "ProvisionedThroughputExceededException", "LimitExceededException",
                       "500"};
    stream.expired = 3;
    EXPECT_EQ(read(), StreamOutcome::done) << why;
    expect_family();
}

TEST_F(ConsumeStream, WhatWouldFailAgainEndsIt) {
    make_family();
    stream.failures = {"AccessDeniedException"};
    EXPECT_EQ(read(), StreamOutcome::failed);
    EXPECT_NE(why.find("AccessDeniedException"), std::string::npos) << why;
}

TEST_F(ConsumeStream, AfterTooLongWithoutAGoodAnswerItGivesUp) {
    make_family();
    options.give_up_ms = 0;
    stream.failures = {"500"};
    EXPECT_EQ(read(), StreamOutcome::failed);
}

TEST_F(ConsumeStream, ALimitIsExactAndTheCheckpointGoesOnBehindIt) {
    make_family();
    for (int run = 0; run < 11; ++run) {
        EXPECT_EQ(read({.limit = 1, .checkpoint_path = path}), StreamOutcome::limit_reached) << run;
        EXPECT_EQ(kept.all.size(), static_cast<std::size_t>(run) + 1);
    }
    EXPECT_EQ(read({.checkpoint_path = path}), StreamOutcome::done);
    expect_family();
}

TEST_F(ConsumeStream, WhatCouldNotBeWrittenOutComesAgain) {
    make_family();
    kept.breaks_at = 6;
    EXPECT_EQ(read({.checkpoint_path = path}), StreamOutcome::failed);
    EXPECT_EQ(why, "standard output: it broke");
    kept.breaks_at = SIZE_MAX;
    EXPECT_EQ(read({.checkpoint_path = path}), StreamOutcome::done);
    expect_family();
}

TEST_F(ConsumeStream, FollowingMeetsASplitAndEndsWhenItIsStopped) {
    stream.shards["p"] = {"", "", {"p0"}, false};
    options.follow = true;
    options.from.kind = PositionKind::newest;
    StreamReader* reader = nullptr;
    std::thread stopper;
    unsigned seen = 0;
    stream.after_call = [&] {
        if (++seen == 20) {
            stream.shards["p"].records.push_back("p1");
            stream.shards["p"].is_closed = true;
            stream.shards["q"] = {"p", "", {"q0"}, false};
            stream.shards["r"] = {"p", "", {"r0"}, false};
        } else if (seen == 80) {
            stopper = std::thread([&] { reader->stop(); });
        }
    };
    EXPECT_EQ(read({.checkpoint_path = path}, [&](StreamReader& one) { reader = &one; }),
              StreamOutcome::stopped);
    stopper.join();
    std::ranges::sort(kept.all);
    EXPECT_EQ(kept.all, (std::vector<std::string>{"p:p1", "q:q0", "r:r0"}));
}

TEST_F(ConsumeStream, LatestStaysWhereItWasWhenReadingGoesOnLater) {
    make_family();
    options.from.kind = PositionKind::newest;
    EXPECT_EQ(read({.checkpoint_path = path}), StreamOutcome::done);
    EXPECT_TRUE(kept.all.empty());
    EXPECT_EQ(stream.asked, (std::vector<std::string>{"s LATEST"}));
    Checkpoint checkpoint;
    ASSERT_EQ(read_checkpoint(path, checkpoint, why), CheckpointFile::read);
    EXPECT_EQ(checkpoint.start, (Position{PositionKind::at_time, 1'700'000'000'000, {}}))
        << "the endpoint's clock, not ours";
    stream.asked.clear();
    EXPECT_EQ(read({.checkpoint_path = path}), StreamOutcome::done);
    EXPECT_TRUE(std::ranges::find(stream.asked, "s AT_TIMESTAMP") != stream.asked.end());
}

TEST_F(ConsumeStream, OneShardAloneIsReadWhateverItsParents) {
    make_family();
    options.shards = {"s"};
    options.from = {PositionKind::after_sequence, 0, "1001"};
    EXPECT_EQ(read(), StreamOutcome::done) << why;
    EXPECT_EQ(kept.all, (std::vector<std::string>{"s:s2", "s:s3"}));
    options.shards = {"no"};
    EXPECT_EQ(read(), StreamOutcome::failed);
    EXPECT_NE(why.find("'no'"), std::string::npos);
}

struct ConsumeOutput : testing::Test {
    int ends[2] = {-1, -1};
    void SetUp() override { ASSERT_EQ(::pipe(ends), 0); }
    void TearDown() override {
        ::close(ends[0]);
        if (ends[1] >= 0) {
            ::close(ends[1]);
        }
    }
};

TEST_F(ConsumeOutput, LinesOfJsonSayEverythingAndParse) {
    std::string text;
    append_json_record(text, "shardId-0", {"123", 1'700'000'000'250, "k\"\n", "h\xc3\xa4"});
    append_json_record(text, "shardId-0", {"124", 0, "k", std::string("\xff\x00", 2)});
    EXPECT_EQ(text,
              "{\"shard_id\":\"shardId-0\",\"sequence_number\":\"123\","
              "\"approximate_arrival_timestamp\":\"2023-11-14T22:13:20.250Z\","
              "\"partition_key\":\"k\\\"\\u000a\",\"data\":\"h\xc3\xa4\"}\n"
              "{\"shard_id\":\"shardId-0\",\"sequence_number\":\"124\","
              "\"approximate_arrival_timestamp\":\"1970-01-01T00:00:00.000Z\","
              "\"partition_key\":\"k\",\"data_base64\":\"/wA=\"}\n");
}

TEST_F(ConsumeOutput, RecordsThatWereNotWrittenWholeAreNotCounted) {
    RecordOutput output(ends[1], ConsumeFormat::raw);
    // More than a pipe holds, and nobody reads: the first fits, the second only in part.
    std::vector<Record> records(2);
    records[0].data.assign(40'000, 'a');
    records[1].data.assign(400'000, 'b');
    std::thread stopper([&] {
        int held = 0;
        while (held < 65'536) {
            ASSERT_EQ(::ioctl(ends[0], FIONREAD, &held), 0);
        }
        output.stop();
    });
    EXPECT_EQ(output.write("s", records), 1U);
    EXPECT_EQ(output.why(), "");
    stopper.join();
}

TEST_F(ConsumeOutput, AReaderThatIsGoneIsSaid) {
    RecordOutput output(ends[1], ConsumeFormat::lines);
    auto* const before = ::signal(SIGPIPE, SIG_IGN);
    ::close(ends[0]);
    ends[0] = -1;
    const std::vector<Record> records{{"1", 0, "k", "data"}};
    EXPECT_EQ(output.write("s", records), 0U);
    EXPECT_NE(output.why().find("Broken pipe"), std::string::npos) << output.why();
    (void)::signal(SIGPIPE, before);
}

}  // namespace
}  // namespace penstock::consumer
