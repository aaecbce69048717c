// Subscriptions: what is sent, when, to whom, and how they end.
#include <set>

#include "tests/unit/control/kinesis/api_fixture.h"
#include "tests/unit/control/kinesis/event_reader.h"

namespace penstock::kinesis {
namespace {

const std::string shard_0 = "shardId-000000000000";

class FanOutTest : public ApiTest {
protected:
    FanOutTest() { restart(quiet_options()); }

    // Nothing happens by time alone.
    static ServiceOptions quiet_options() {
        ServiceOptions options;
        options.fan_out.quiet_ms_max = 3'600'000;
        options.fan_out.look_ms = 3'600'000;
        return options;
    }
    void restart(ServiceOptions options) {
        table = options.subscriptions;
        close();
        open(std::move(options));
        if (!store->find("s")) {
            make_stream("s", 1);
        }
    }
    std::string add_consumer(const std::string& name, const std::string& stream = "s") {
        const Answer made = call("RegisterStreamConsumer",
                                 R"({"StreamARN":"arn:aws:kinesis:us-east-1:000000000000:stream/)" +
                                     stream + R"(","ConsumerName":")" + name + "\"}");
        EXPECT_EQ(made.status, 200) << made.body;
        return made.status == 200 ? made.json["Consumer"]["ConsumerARN"].get<std::string>() : "";
    }
    static std::string body_of(const std::string& consumer, const std::string& position,
                               const std::string& shard = shard_0) {
        return R"({"ConsumerARN":")" + consumer + R"(","ShardId":")" + shard +
               R"(","StartingPosition":{)" + position + "}}";
    }
    void on_resume(std::uint64_t id) override { woken.insert(id); }

    std::uint64_t held() { return table->counters.held_bytes.load(); }
    std::uint64_t ended(SubscriptionEnd why) {
        return table->counters.ended[static_cast<std::size_t>(why)].load();
    }
    template <typename Condition>
    [[nodiscard]] bool run_until(const Condition& condition) {
        const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
        while (!condition()) {
            if (std::chrono::steady_clock::now() > give_up) {
                return false;
            }
            loop->run_once(5);
        }
        return true;
    }
    // Changes the stream's entry, as another part of the node would.
    void edit(const std::function<void(Stream&)>& change) {
        const auto entry = catalog->get("stream/s");
        ASSERT_TRUE(entry);
        auto stream = decode_stream(entry->value);
        ASSERT_TRUE(stream);
        change(*stream);
        ASSERT_TRUE(catalog->put("stream/s", encode_stream(*stream), entry->revision));
    }
    // Cuts the shard into two.
    void split() {
        const auto shards = lanes.shards();
        edit([&](Stream& stream) {
            Shard& parent = stream.shards[0];
            parent.state = ShardState::closed;
            parent.closing_index = shards.at(parent.uid).next;
            const auto ranges = tile_hash_space(2);
            for (std::uint32_t i = 0; i < 2; ++i) {
                Shard child = stream.shards[0];
                child.uid = static_cast<ShardUid>(1000 + i);
                child.number = 1 + i;
                child.range = ranges[i];
                child.parent = 0;
                child.closing_index.reset();
                child.state = ShardState::open;
                stream.shards.push_back(child);
            }
            stream.next_shard_number = 3;
        });
    }

    // A client and its connection, which asks for a piece only when told to.
    class Client {
    public:
        Client(FanOutTest& test, std::uint64_t id)
            : test_(test), id_(id), body_(test.take_stream(id)) {}
        [[nodiscard]] bool subscribed() const { return body_ != nullptr; }
        // The next event; nothing at the end of the stream, or when none comes.
        std::optional<EventRead> next() {
            const auto give_up = std::chrono::steady_clock::now() + std::chrono::seconds(20);
            while (std::chrono::steady_clock::now() < give_up) {
                std::string_view left = bytes_;
                if (auto event = read_event(left)) {
                    bytes_.erase(0, bytes_.size() - left.size());
                    return event;
                }
                if (ended_) {
                    return std::nullopt;
                }
                if (!take()) {
                    test_.loop->run_once(5);
                }
            }
            ADD_FAILURE() << "no event came";
            return std::nullopt;
        }
        nlohmann::json event() {
            const auto read = next();
            if (!read || read->headers.at(":message-type") != "event" ||
                read->headers.at(":event-type") != "SubscribeToShardEvent") {
                ADD_FAILURE() << "no event: " << (read ? read->payload : "the end");
                return {};
            }
            return nlohmann::json::parse(read->payload);
        }
        // Whether there was something to take.
        bool take() {
            if (ended_ || (waits_ && !test_.woken.contains(id_))) {
                return false;
            }
            test_.woken.erase(id_);
            waits_ = false;
            http::BodyPiece piece;
            switch (body_->next(piece)) {
                case http::BodyStream::Next::piece:
                    bytes_ += *piece;
                    return true;
                case http::BodyStream::Next::later:
                    waits_ = true;
                    return false;
                default:
                    ended_ = true;
                    body_.reset();
                    return true;
            }
        }
        // Data of the next `count` records, whatever events they come in.
        std::vector<std::string> data(std::size_t count) {
            std::vector<std::string> all;
            while (all.size() < count && !ended_) {
                Answer answer;
                answer.json = event();
                if (!answer.json.is_object()) {
                    break;
                }
                const auto more = data_of(answer);
                all.insert(all.end(), more.begin(), more.end());
                last = answer.json;
            }
            return all;
        }
        void leave() { body_.reset(); }
        [[nodiscard]] bool ended() const { return ended_; }
        nlohmann::json last;

    private:
        FanOutTest& test_;
        std::uint64_t id_;
        std::unique_ptr<http::BodyStream> body_;
        std::string bytes_;
        bool waits_ = false;
        bool ended_ = false;
    };

    // One who has got the initial response.
    std::unique_ptr<Client> subscribe(const std::string& consumer, const std::string& position,
                                      const std::string& shard = shard_0) {
        const std::uint64_t id = send("SubscribeToShard", body_of(consumer, position, shard));
        auto client = std::make_unique<Client>(*this, id);
        if (!client->subscribed()) {
            ADD_FAILURE() << wait(id).body;
            return nullptr;
        }
        const auto first = client->next();
        EXPECT_TRUE(first && first->headers.at(":event-type") == "initial-response");
        EXPECT_TRUE(first && first->payload == "{}");
        return client;
    }
    Answer refused(const std::string& body) { return call("SubscribeToShard", body); }

    static constexpr auto latest = R"("Type":"LATEST")";
    static constexpr auto horizon = R"("Type":"TRIM_HORIZON")";
    std::shared_ptr<SubscriptionTable> table;
    std::set<std::uint64_t> woken;
};

TEST_F(FanOutTest, WhatIsThereComesAfterTheInitialResponse) {
    const std::string consumer = add_consumer("app");
    for (int i = 0; i < 3; ++i) {
        put("s", "record " + std::to_string(i), "key");
    }
    auto client = subscribe(consumer, horizon);
    const auto event = client->event();
    ASSERT_EQ(event["Records"].size(), 3U);
    EXPECT_EQ(event["MillisBehindLatest"], 0);
    EXPECT_FALSE(event.contains("ChildShards"));
    const auto& record = event["Records"][2];
    EXPECT_EQ(record["PartitionKey"], "key");
    EXPECT_EQ(record["Data"], base64("record 2"));
    EXPECT_LT(record["SequenceNumber"], event["ContinuationSequenceNumber"]);
    EXPECT_FALSE(record.contains("EncryptionType"));
    EXPECT_EQ(table->counters.records.load(), 3U);
}

TEST_F(FanOutTest, ARecordWithoutAKeyHasNone) {
    edit([](Stream& stream) { stream.distribution = Distribution::automatic; });
    ASSERT_EQ(call("PutRecord", R"({"StreamName":"s","Data":"MQ=="})").status, 200);
    ASSERT_EQ(call("PutRecord", R"({"StreamName":"s","Data":"MQ==","PartitionKey":"k"})").status,
              200);
    const auto records = subscribe(add_consumer("app"), horizon)->event()["Records"];
    ASSERT_EQ(records.size(), 2U);
    EXPECT_FALSE(records[0].contains("PartitionKey"));
    EXPECT_EQ(records[1]["PartitionKey"], "k");
    // As GetRecords says it.
    EXPECT_EQ(records, get(iterator("s", R"("ShardIteratorType":"TRIM_HORIZON")")).json["Records"]);
}

TEST_F(FanOutTest, ARecordIsPushedWhenItIsCommittedAndNotByTime) {
    auto client = subscribe(add_consumer("app"), latest);
    EXPECT_EQ(client->event()["Records"].size(), 0U) << "the first event says where it stands";
    for (const char* text : {"one", "two"}) {
        ASSERT_FALSE(client->take());
        ASSERT_TRUE(run_until([&] { return lanes.tails() == 1; }));
        put("s", text);
        EXPECT_EQ(client->data(1), std::vector<std::string>{text});
    }
    EXPECT_TRUE(run_until([&] { return lanes.tails() == 1; }))
        << "it does not wait at the tail any more";
}

TEST_F(FanOutTest, SubscribersAtTheTailShareEventsAndOneRequest) {
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 8; ++i) {
        clients.push_back(subscribe(add_consumer("app-" + std::to_string(i)), latest));
        clients.back()->event();
        ASSERT_FALSE(clients.back()->take());
    }
    ASSERT_TRUE(run_until([&] { return lanes.tails() == 1; }));
    put("s", "for all");
    for (auto& client : clients) {
        EXPECT_EQ(client->data(1), std::vector<std::string>{"for all"});
    }
    EXPECT_EQ(table->counters.shared_events.load(), 7U);
    clients.clear();
    ASSERT_TRUE(run_until([&] { return lanes.tails() == 0 && table->counters.open.load() == 0; }));
    EXPECT_EQ(held(), 0U);
}

TEST_F(FanOutTest, EveryStartingPositionIsExact) {
    std::vector<std::string> numbers;
    std::vector<std::int64_t> times;
    for (int i = 0; i < 5; ++i) {
        clock.ms += 1000;
        times.push_back(clock.ms);
        numbers.push_back(put("s", std::to_string(i)).json["SequenceNumber"]);
    }
    const auto from = [&](const std::string& name, const std::string& position, std::size_t count) {
        return subscribe(add_consumer(name), position)->data(count);
    };
    using Texts = std::vector<std::string>;
    EXPECT_EQ(from("a", horizon, 5), (Texts{"0", "1", "2", "3", "4"}));
    EXPECT_EQ(from("b", R"("Type":"AT_SEQUENCE_NUMBER","SequenceNumber":")" + numbers[3] + "\"", 2),
              (Texts{"3", "4"}));
    EXPECT_EQ(
        from("c", R"("Type":"AFTER_SEQUENCE_NUMBER","SequenceNumber":")" + numbers[3] + "\"", 1),
        Texts{"4"});
    const std::string at =
        std::to_string(times[2] / 1000) + "." + std::to_string(1000 + times[2] % 1000).substr(1);
    EXPECT_EQ(from("d", R"("Type":"AT_TIMESTAMP","Timestamp":)" + at, 3), (Texts{"2", "3", "4"}));
    auto late = subscribe(add_consumer("e"), latest);
    put("s", "5");
    EXPECT_EQ(late->data(1), Texts{"5"});
}

TEST_F(FanOutTest, RequestsThatCannotBeMeantAreRefused) {
    const std::string consumer = add_consumer("app");
    const auto type = [&](const std::string& body) { return refused(body).type(); };
    EXPECT_EQ(type("{}"), "ValidationException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"SOMEWHERE")")), "ValidationException");
    EXPECT_EQ(type(body_of(consumer + "9", latest)), "ResourceNotFoundException");
    EXPECT_EQ(type(body_of(consumer, latest, "shardId-000000000007")), "ResourceNotFoundException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"AT_SEQUENCE_NUMBER")")),
              "InvalidArgumentException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"LATEST","SequenceNumber":"1")")),
              "InvalidArgumentException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"AT_SEQUENCE_NUMBER","SequenceNumber":"7")")),
              "InvalidArgumentException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"AT_TIMESTAMP")")), "InvalidArgumentException");
    EXPECT_EQ(type(body_of(consumer, R"("Type":"AT_TIMESTAMP","Timestamp":99999999999)")),
              "InvalidArgumentException");
    lanes.set([](auto& faults) { faults.inbox_full = true; });
    EXPECT_EQ(type(body_of(consumer, latest)), "LimitExceededException");
    lanes.set([](auto& faults) { faults.inbox_full = false; });
    // None of them took the place.
    EXPECT_TRUE(subscribe(consumer, latest));
}

TEST_F(FanOutTest, ASecondSubscriptionIsTooSoonAndThenTakesOver) {
    const std::string consumer = add_consumer("app");
    auto first = subscribe(consumer, latest);
    first->event();
    const Answer soon = refused(body_of(consumer, latest));
    EXPECT_EQ(soon.type(), "ResourceInUseException");
    EXPECT_EQ(soon.message(),
              "Another active subscription exists for this consumer: 000000000000:s:app");
    clock.ns += 4'900'000'000;
    EXPECT_EQ(refused(body_of(consumer, latest)).type(), "ResourceInUseException");
    // Another consumer, and other shards, are not concerned.
    EXPECT_TRUE(subscribe(add_consumer("other"), latest));
    clock.ns += 200'000'000;
    auto second = subscribe(consumer, latest);
    const auto last = first->next();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->headers.at(":message-type"), "exception");
    EXPECT_EQ(last->headers.at(":exception-type"), "ResourceInUseException");
    EXPECT_FALSE(first->next());
    EXPECT_TRUE(first->ended());
    EXPECT_EQ(ended(SubscriptionEnd::taken_over), 1U);
    put("s", "for the second");
    EXPECT_EQ(second->data(1), std::vector<std::string>{"for the second"});
    // A place that was given back is free at once.
    second->leave();
    EXPECT_TRUE(subscribe(consumer, latest));
}

TEST_F(FanOutTest, ASubscriptionThatCannotBeginTakesNoPlace) {
    const std::string consumer = add_consumer("app");
    auto first = subscribe(consumer, latest);
    first->event();
    clock.ns += 5'100'000'000;
    lanes.set([](auto& faults) { faults.inbox_full = true; });
    EXPECT_EQ(refused(body_of(consumer, latest)).type(), "LimitExceededException");
    lanes.set([](auto& faults) { faults.inbox_full = false; });
    put("s", "for the first");
    EXPECT_EQ(first->data(1), std::vector<std::string>{"for the first"});
    EXPECT_EQ(ended(SubscriptionEnd::taken_over), 0U);
    // What was refused keeps nobody from coming.
    EXPECT_TRUE(subscribe(consumer, latest));
    const auto last = first->next();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->headers.at(":message-type"), "exception");
}

TEST_F(FanOutTest, ASlowReaderHoldsLittleAndMissesNothing) {
    ServiceOptions options = quiet_options();
    options.fan_out.queued_bytes_max = 50'000;
    options.fan_out.event_bytes_max = 30'000;
    options.fan_out.rate_bytes_per_s = 0;
    restart(std::move(options));
    auto fast = subscribe(add_consumer("fast"), latest);
    auto slow = subscribe(add_consumer("slow"), latest);
    fast->event();
    slow->event();
    ASSERT_FALSE(slow->take());
    std::vector<std::string> wanted;
    for (int i = 0; i < 200; ++i) {
        wanted.push_back(std::to_string(i) + std::string(10'000, 'x'));
        put("s", wanted.back());
        ASSERT_EQ(fast->data(1), std::vector<std::string>{wanted.back()});
        // The queue's limit and an event over it.
        ASSERT_LT(held(), 150'000U) << i;
    }
    EXPECT_EQ(slow->data(200), wanted);
    ASSERT_FALSE(slow->take());
    put("s", "live again");
    EXPECT_EQ(slow->data(1), std::vector<std::string>{"live again"});
    EXPECT_EQ(fast->data(1), std::vector<std::string>{"live again"});
}

TEST_F(FanOutTest, WhenMuchIsHeldEventsBecomeSmall) {
    ServiceOptions options = quiet_options();
    options.fan_out.held_bytes_max = 0;
    options.fan_out.event_bytes_tight = 25'000;
    restart(std::move(options));
    const std::string consumer = add_consumer("app");
    for (int i = 0; i < 10; ++i) {
        put("s", std::string(10'000, 'x'));
    }
    // All ten, which its connection does not take.
    auto stuck = subscribe(add_consumer("stuck"), horizon);
    ASSERT_TRUE(run_until([&] { return held() > 100'000; }));
    const std::uint64_t before = held();
    auto client = subscribe(consumer, horizon);
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(client->event()["Records"].size(), 2U);
        EXPECT_LT(held(), before + 50'000);
    }
}

TEST_F(FanOutTest, AConsumerOfAProvisionedStreamIsHeldToItsRate) {
    ServiceOptions options = quiet_options();
    options.fan_out.rate_bytes_per_s = 100'000;
    options.fan_out.event_bytes_max = 20'100;  // two records
    restart(std::move(options));
    const std::string consumer = add_consumer("app");
    for (int i = 0; i < 20; ++i) {
        put("s", std::string(10'000, 'x'));
    }
    const auto begun = std::chrono::steady_clock::now();
    auto client = subscribe(consumer, horizon);
    EXPECT_EQ(client->data(20).size(), 20U);
    // A second's worth at once, what is over it at the rate; less an event.
    EXPECT_GE(std::chrono::steady_clock::now() - begun, std::chrono::milliseconds(750));
    client->leave();
    edit([](Stream& stream) { stream.mode = StreamMode::on_demand; });
    auto free = subscribe(add_consumer("free"), horizon);
    for (int i = 0; i < 10; ++i) {
        free->event();
    }
    EXPECT_EQ(table->counters.records.load(), 40U);
}

TEST_F(FanOutTest, WithoutRecordsEventsComeAndTheirNumberGrows) {
    ServiceOptions options = quiet_options();
    options.fan_out.quiet_ms_max = 20;
    options.fan_out.look_ms = 5;
    restart(std::move(options));
    const std::string consumer = add_consumer("app");
    put("s", "one");
    auto client = subscribe(consumer, horizon);
    EXPECT_EQ(client->data(1), std::vector<std::string>{"one"});
    std::string last = client->last["ContinuationSequenceNumber"];
    for (int i = 0; i < 3; ++i) {
        clock.ms += 1000;
        const auto event = client->event();
        EXPECT_EQ(event["Records"].size(), 0U);
        EXPECT_EQ(event["MillisBehindLatest"], 0);
        const std::string number = event["ContinuationSequenceNumber"];
        EXPECT_GT(number, last) << "of equal length, so by digits";
        last = number;
    }
    client->leave();
    put("s", "two");
    // Neither way repeats or skips a record.
    for (const char* type : {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"}) {
        auto again = subscribe(add_consumer(type), std::string(R"("Type":")") + type +
                                                       R"(","SequenceNumber":")" + last + "\"");
        EXPECT_EQ(again->data(1), std::vector<std::string>{"two"}) << type;
    }
}

// A record's own number asks for the record; the number of an event made in the same second does
// not.
TEST_F(FanOutTest, AContinuationOfTheSecondItsRecordCameInRepeatsNothing) {
    const std::string own = put("s", "one").json["SequenceNumber"];
    auto first = subscribe(add_consumer("first"), horizon);
    EXPECT_EQ(first->data(1), std::vector<std::string>{"one"});
    const std::string with_record = first->last["ContinuationSequenceNumber"];
    auto at_end = subscribe(add_consumer("at_end"), latest);
    const std::string without = at_end->event()["ContinuationSequenceNumber"];
    clock.ms -= 3'600'000;  // the clock is put back; records and events are still in order
    auto later = subscribe(add_consumer("later"), horizon);
    EXPECT_EQ(later->data(1), std::vector<std::string>{"one"});
    const std::string put_back = later->last["ContinuationSequenceNumber"];
    put("s", "two");
    int asked = 0;
    for (const std::string& number : {with_record, without, put_back}) {
        for (const std::string type : {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"}) {
            auto again =
                subscribe(add_consumer("again-" + std::to_string(++asked)),
                          R"("Type":")" + type + R"(","SequenceNumber":")" + number + "\"");
            EXPECT_EQ(again->data(1), std::vector<std::string>{"two"}) << number << type;
        }
    }
    auto at_own = subscribe(add_consumer("own"),
                            R"("Type":"AT_SEQUENCE_NUMBER","SequenceNumber":")" + own + "\"");
    EXPECT_EQ(at_own->data(2), (std::vector<std::string>{"one", "two"}));
}

TEST_F(FanOutTest, LivesAsLongAsItMay) {
    ServiceOptions options = quiet_options();
    options.fan_out.life_ms = 50;
    options.fan_out.look_ms = 5;
    restart(std::move(options));
    auto client = subscribe(add_consumer("app"), latest);
    client->event();
    EXPECT_FALSE(client->next());
    EXPECT_TRUE(client->ended());
    EXPECT_EQ(ended(SubscriptionEnd::expired), 1U);
    EXPECT_EQ(table->counters.open.load(), 0U);
}

TEST_F(FanOutTest, AClosedShardEndsWithItsChildren) {
    const std::string consumer = add_consumer("app");
    const std::string other = add_consumer("other");
    put("s", "one");
    auto at_tail = subscribe(other, horizon);
    EXPECT_EQ(at_tail->data(1).size(), 1U);
    ASSERT_FALSE(at_tail->take());
    split();
    const auto check = [](const nlohmann::json& event) {
        EXPECT_FALSE(event.contains("ContinuationSequenceNumber"));
        EXPECT_EQ(event["MillisBehindLatest"], 0);
        ASSERT_EQ(event["ChildShards"].size(), 2U);
        EXPECT_EQ(event["ChildShards"][0]["ShardId"], "shardId-000000000001");
        EXPECT_EQ(event["ChildShards"][0]["ParentShards"], nlohmann::json::array({shard_0}));
        EXPECT_EQ(event["ChildShards"][0]["HashKeyRange"]["StartingHashKey"], "0");
    };
    // One who waits at the tail hears of it at once; one who comes later gets the records first.
    const auto end = at_tail->event();
    EXPECT_EQ(end["Records"].size(), 0U);
    check(end);
    EXPECT_FALSE(at_tail->next());
    auto late = subscribe(consumer, horizon);
    const auto event = late->event();
    EXPECT_EQ(event["Records"].size(), 1U);
    check(event);
    EXPECT_FALSE(late->next());
    auto behind = subscribe(consumer, latest);
    check(behind->event());
    EXPECT_EQ(ended(SubscriptionEnd::shard_end), 3U);
}

TEST_F(FanOutTest, EndsWhenItsConsumerOrStreamGoes) {
    const auto gone = [](Client& client) {
        const auto last = client.next();
        ASSERT_TRUE(last);
        EXPECT_EQ(last->headers.at(":exception-type"), "ResourceNotFoundException");
        EXPECT_FALSE(client.next());
    };
    const std::string consumer = add_consumer("app");
    auto of_consumer = subscribe(consumer, latest);
    auto of_stream = subscribe(add_consumer("other"), latest);
    of_consumer->event();
    of_stream->event();
    ASSERT_EQ(call("DeregisterStreamConsumer", R"({"ConsumerARN":")" + consumer + "\"}").status,
              200);
    gone(*of_consumer);
    ASSERT_EQ(call("DeleteStream", R"({"StreamName":"s","EnforceConsumerDeletion":true})").status,
              200);
    gone(*of_stream);
    settle();
    EXPECT_EQ(lanes.tails(), 0U);
    EXPECT_EQ(ended(SubscriptionEnd::gone), 2U);
}

TEST_F(FanOutTest, AClientThatLeavesAnywhereLeavesNothing) {
    const std::string consumer = add_consumer("app");
    for (int i = 0; i < 50; ++i) {
        put("s", std::string(1000, 'x'));
    }
    // After each number of steps of a subscription: planned, read, released, at the tail.
    for (int steps = 0; steps < 12; ++steps) {
        const std::uint64_t id = send("SubscribeToShard", body_of(consumer, horizon));
        Client client(*this, id);
        ASSERT_TRUE(client.subscribed());
        for (int i = 0; i < steps; ++i) {
            client.take();
            loop->run_once(1);
        }
        client.leave();
    }
    ASSERT_TRUE(run_until([&] {
        return table->counters.open.load() == 0 && lanes.tails() == 0 && lanes.leases() == 0;
    }));
    EXPECT_EQ(held(), 0U);
    EXPECT_EQ(ended(SubscriptionEnd::disconnected), 12U);
}

TEST_F(FanOutTest, FaultsOfTheLaneAreMetOrTold) {
    const std::string consumer = add_consumer("app");
    for (int i = 0; i < 10; ++i) {
        put("s", std::to_string(i));
    }
    // A full inbox, plans that go stale, and plans that cover little.
    lanes.set([](auto& faults) {
        faults.full_releases = 3;
        faults.plan_records_max = 3;
    });
    source->stale_left = 3;
    auto client = subscribe(consumer, horizon);
    EXPECT_EQ(client->data(10).size(), 10U);
    lanes.set([](auto& faults) { faults.plan_records_max = 1000; });
    client->leave();
    source->lost_at = 5;
    auto unlucky = subscribe(consumer, horizon);
    const std::string number =
        format_sequence_number(store->find("s")->stream().shards[0].sequence_number(5, clock.ms));
    unlucky->leave();
    unlucky =
        subscribe(consumer, R"("Type":"AT_SEQUENCE_NUMBER","SequenceNumber":")" + number + "\"");
    const auto last = unlucky->next();
    ASSERT_TRUE(last);
    EXPECT_EQ(last->headers.at(":exception-type"), "InternalFailureException");
    EXPECT_NE(last->payload.find("from index 5"), std::string::npos) << last->payload;
    EXPECT_FALSE(unlucky->next());
}

TEST_F(FanOutTest, ANodeThatStopsEndsThemAll) {
    auto client = subscribe(add_consumer("app"), latest);
    auto other = subscribe(add_consumer("other"), latest);
    client->event();
    other->event();
    handler->stopping();
    EXPECT_FALSE(client->next());
    EXPECT_TRUE(client->ended());
    EXPECT_EQ(refused(body_of(add_consumer("more"), latest)).type(), "LimitExceededException");
    // The handler may go before its connections.
    handler.reset();
    EXPECT_EQ(lanes.tails(), 0U);
    EXPECT_FALSE(other->next());
}

TEST_F(FanOutTest, AThreadServesSoManyAndNoMore) {
    ServiceOptions options = quiet_options();
    options.fan_out.subscriptions_max = 2;
    restart(std::move(options));
    std::vector<std::unique_ptr<Client>> clients;
    for (int i = 0; i < 2; ++i) {
        clients.push_back(subscribe(add_consumer("app-" + std::to_string(i)), latest));
    }
    const std::string more = add_consumer("more");
    EXPECT_EQ(refused(body_of(more, latest)).type(), "LimitExceededException");
    clients.clear();
    ASSERT_TRUE(run_until([&] { return table->counters.open.load() == 0; }));
    EXPECT_TRUE(subscribe(more, latest));
}

}  // namespace
}  // namespace penstock::kinesis
