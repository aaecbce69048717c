// REST over a whole Kinesis handler.
#include "control/auth/credential_store.h"
#include "control/rest/handler.h"
#include "tests/unit/control/auth/scratch.h"
#include "tests/unit/control/auth/signer.h"
#include "tests/unit/control/kinesis/api_fixture.h"

namespace penstock::rest {
namespace {

using nlohmann::json;

class RestApi : public kinesis::ApiTest {
protected:
    RestApi() { rest = std::make_unique<RestHandler>(*handler, nullptr, RestOptions{}); }
    ~RestApi() override {
        handler.reset();  // before what hears its last answers
    }

    std::uint64_t begin(std::string_view method, std::string_view target, std::string_view body,
                        const Headers& headers) {
        auto [id, exchange] = new_exchange(method, target, headers, body);
        rest->handle(std::move(exchange));
        return id;
    }
    Answer ask(std::string_view method, std::string_view target, std::string_view body = "",
               const Headers& headers = {{"Content-Type", "application/json"}}) {
        return wait(begin(method, target, body, headers));
    }
    json get(std::string_view target) {
        const Answer answer = ask("GET", target);
        EXPECT_EQ(answer.status, 200) << target << answer.body;
        return answer.json;
    }
    void expect(int status, std::string_view type, const Answer& answer) {
        EXPECT_EQ(answer.status, status) << answer.body;
        EXPECT_EQ(answer.type(), type) << answer.body;
        EXPECT_TRUE(answer.body.ends_with("\n"));
    }

    std::unique_ptr<RestHandler> rest;
};

TEST_F(RestApi, AStreamIsMadeShownAndDeleted) {
    Answer made =
        ask("POST", "/v1/streams", R"({"stream_name":"a.b","shard_count":2,"tags":{"team":"x"}})");
    EXPECT_EQ(made.status, 201) << made.body;
    EXPECT_EQ(made.headers["Location"], "/v1/streams/a.b");
    expect(409, "ResourceInUseException", ask("POST", "/v1/streams", R"({"stream_name":"a.b"})"));
    settle();
    const json shown = get("/v1/streams/a.b");
    EXPECT_EQ(shown["stream_name"], "a.b");
    EXPECT_EQ(shown["stream_status"], "ACTIVE");
    EXPECT_EQ(shown["stream_mode"], "PROVISIONED");
    EXPECT_EQ(shown["open_shard_count"], 2);
    EXPECT_EQ(shown["stream_creation_timestamp"], format_time_ms(clock.wall_ms()));
    EXPECT_EQ(call("ListTagsForStream", R"({"StreamName":"a.b"})").json["Tags"][0]["Key"], "team");
    EXPECT_EQ(get("/v1/streams")["streams"].size(), 1U);
    EXPECT_EQ(ask("DELETE", "/v1/streams/a.b").status, 202);
    settle();
    expect(404, "ResourceNotFoundException", ask("GET", "/v1/streams/a.b"));
    expect(404, "ResourceNotFoundException", ask("DELETE", "/v1/streams/a.b"));
}

TEST_F(RestApi, PagesLeadFromOneToTheNext) {
    for (const char* name : {"a", "b", "c"}) {
        make_stream(name, 3);
    }
    std::string target = "/v1/streams?limit=2";
    std::string names;
    for (int pages = 1; !target.empty(); ++pages) {
        ASSERT_LE(pages, 2);
        const json page = get(target);
        for (const json& stream : page["streams"]) {
            names += stream["stream_name"].get<std::string>();
        }
        target = page.value("next", "");
    }
    EXPECT_EQ(names, "abc");
    const json first = get("/v1/streams/a/shards?max_results=2&shard_filter_type=AT_LATEST");
    EXPECT_EQ(first["shards"].size(), 2U);
    EXPECT_EQ(first["next"],
              "/v1/streams/a/shards?exclusive_start_shard_id=shardId-000000000001&max_results=2"
              "&shard_filter_type=AT_LATEST");
    const json last = get(first["next"].get<std::string>());
    EXPECT_EQ(last["shards"].size(), 1U);
    EXPECT_EQ(last["shards"][0]["shard_id"], "shardId-000000000002");
    EXPECT_FALSE(last.contains("next"));
}

TEST_F(RestApi, RecordsGoInAndComeOutByShardAndPosition) {
    make_stream("s", 1);
    const std::string path = "/v1/streams/s/records";
    const Answer one = ask("POST", path + "?partition_key=k", R"({"t": 1})");
    ASSERT_EQ(one.status, 200) << one.body;
    const std::string sequence = one.json["sequence_number"];
    ASSERT_EQ(ask("POST", path, std::string("\xff\x00", 2),
                  {{"X-Penstock-Partition-Key", "k"}, {"Content-Type", "text/plain"}})
                  .status,
              200);
    const Answer many = ask("POST", path, R"({"records":[{"data":{"t":3},"partition_key":"é"}]})");
    ASSERT_EQ(many.status, 200) << many.body;
    EXPECT_EQ(many.json["failed_record_count"], 0);
    ASSERT_EQ(
        ask("POST", path + "?partition_key=k", "4\n5\n", {{"Content-Type", "application/x-ndjson"}})
            .status,
        200);
    clock.ms += 1000;
    const auto data = [&](const std::string& rest_of) {
        std::string all;
        const json page = get(path + "?" + rest_of);
        for (const json& record : page["records"]) {
            all += record.contains("data") ? record["data"].get<std::string>()
                                           : record["data_base64"].get<std::string>();
            all += ";";
        }
        return all;
    };
    EXPECT_EQ(data("shard_id=0"), "{\"t\": 1};/wA=;{\"t\":3};4;5;");
    EXPECT_EQ(data("shard_id=shardId-000000000000&limit=1"), "{\"t\": 1};");
    EXPECT_EQ(data("shard_id=0&sequence_number=" + sequence), "/wA=;{\"t\":3};4;5;");
    EXPECT_EQ(data("shard_id=0&limit=1&shard_iterator_type=AT_SEQUENCE_NUMBER&sequence_number=" +
                   sequence),
              "{\"t\": 1};");
    EXPECT_EQ(data("shard_id=0&shard_iterator_type=LATEST"), "");
    EXPECT_EQ(data("shard_id=0&timestamp=" + format_time_ms(clock.wall_ms())), "");
    EXPECT_EQ(data("shard_id=0&timestamp=" + format_time_ms(clock.wall_ms() - 1000)),
              "{\"t\": 1};/wA=;{\"t\":3};4;5;");
    // On by the links, until nothing is left.
    std::string target = path + "?shard_id=0&limit=2";
    std::size_t count = 0;
    for (int i = 0; i < 4; ++i) {
        const json page = get(target);
        count += page["records"].size();
        target = page["next"];
    }
    EXPECT_EQ(count, 5U);
    // What comes out as lines goes in again.
    Answer lines = ask("GET", path + "?shard_id=0", "", {{"Accept", "application/x-ndjson"}});
    EXPECT_EQ(std::count(lines.body.begin(), lines.body.end(), '\n'), 5);
    EXPECT_EQ(lines.headers["x-penstock-millis-behind-latest"], "0");
    make_stream("copy", 1);
    const Answer copied = ask("POST", "/v1/streams/copy/records", lines.body,
                              {{"Content-Type", "application/x-ndjson"}});
    EXPECT_EQ(copied.status, 200) << copied.body;
    EXPECT_EQ(get("/v1/streams/copy/records?shard_id=0")["records"].size(), 5U);
}

TEST_F(RestApi, WhatIsWrongWithARequestIsSaidInOneLine) {
    make_stream("s", 1);
    const std::string bad = "InvalidArgumentException";
    const std::string path = "/v1/streams/s/records";
    expect(400, bad, ask("GET", path));
    expect(400, bad, ask("GET", path + "?shard_id=0&timestamp=yesterday"));
    expect(400, bad, ask("GET", path + "?shard_iterator=AAAA"));
    expect(400, bad, ask("GET", path + "?shard_iterator=AAAA&shard_id=0"));
    expect(404, "ResourceNotFoundException", ask("GET", path + "?shard_id=7"));
    expect(400, "ValidationException", ask("GET", path + "?shard_id=0&shard_iterator_type=middle"));
    expect(400, "ValidationException", ask("GET", path + "?shard_id=0&limit=0"));
    expect(400, bad, ask("POST", path, "{}"));
    expect(400, bad, ask("POST", path + "?explicit_hash_key=1", R"({"records":[]})"));
    expect(400, "ValidationException", ask("POST", path, R"({"records":[]})"));
    std::string lines;
    for (int i = 0; i < 501; ++i) {
        lines += "x\n";
    }
    expect(
        400, "ValidationException",
        ask("POST", path + "?partition_key=k", lines, {{"Content-Type", "application/x-ndjson"}}));
    expect(400, bad, ask("GET", "/v1/streams?limit=x"));
    expect(400, bad, ask("GET", "/v1/streams?limit=%"));
    expect(400, "ValidationException", ask("GET", "/v1/streams?limit=0"));
    expect(404, "ResourceNotFoundException",
           ask("POST", "/v1/streams/none/records?partition_key=k", "x"));
    expect(400, "ValidationException", ask("POST", path, "x", {}));
    expect(404, "UnknownOperationException", ask("GET", "/v1/nothing"));
    Answer wrong_method = ask("PATCH", "/v1/streams");
    expect(405, "UnknownOperationException", wrong_method);
    EXPECT_EQ(wrong_method.headers["Allow"], "GET, POST");
}

TEST_F(RestApi, WhatAnOperationIsGivenIsChargedWhereTheBodyIs) {
    make_stream("s", 1);
    constexpr std::size_t body_bytes = 30'000;
    constexpr std::size_t inner_bytes_min = body_bytes / 3 * 4;
    const auto put = [&](const std::shared_ptr<http::BodyBudget>& budget) {
        auto [id, exchange] = new_exchange("POST", "/v1/streams/s/records?partition_key=k", {},
                                           std::string(body_bytes, 'x'), budget);
        rest->handle(std::move(exchange));
        return id;
    };
    const auto budget_of = [](std::size_t limit_bytes) {
        auto budget = std::make_shared<http::BodyBudget>();
        budget->limit_bytes = limit_bytes;
        return budget;
    };
    const auto small = budget_of(body_bytes + inner_bytes_min);
    const Answer full = wait(put(small));
    expect(503, "InternalFailure", full);
    EXPECT_NE(full.message().find("no memory"), std::string::npos) << full.body;
    EXPECT_EQ(small->used_bytes, 0U);
    const auto large = budget_of(body_bytes + inner_bytes_min + 1000);
    const std::uint64_t id = put(large);
    EXPECT_GE(large->used_bytes, body_bytes + inner_bytes_min);
    EXPECT_EQ(wait(id).status, 200);
    EXPECT_EQ(large->used_bytes, 0U);
}

TEST_F(RestApi, WhatWouldBreakTheOperationsInputIsSaidByItsName) {
    make_stream("s", 1);
    const std::string path = "/v1/streams/s/records";
    for (const std::string key : {"\xff", "a\xc3", "\xed\xa0\x80"}) {
        const Answer answer = ask("POST", path, "x", {{"X-Penstock-Partition-Key", key}});
        expect(400, "InvalidArgumentException", answer);
        EXPECT_NE(answer.body.find("x-penstock-partition-key: expected UTF-8"), std::string::npos)
            << answer.body;
    }
    for (const char* time : {"1969-12-31T23:59:59.5Z", "1970-01-01T00:30:00%2B01:00", "-0.5"}) {
        const Answer answer = ask("GET", path + "?shard_id=0&timestamp=" + time);
        expect(400, "InvalidArgumentException", answer);
        EXPECT_NE(answer.body.find("timestamp: expected a time"), std::string::npos) << answer.body;
    }
}

TEST_F(RestApi, AnIteratorIsOfItsStreamAlone) {
    make_stream("a", 1);
    make_stream("b", 1);
    std::string next = get("/v1/streams/a/records?shard_id=0")["next"];
    next.replace(next.find("/a/"), 3, "/b/");
    expect(400, "InvalidArgumentException", ask("GET", next));
}

TEST_F(RestApi, RetentionGoesUpAndDown) {
    make_stream("s", 1);
    const std::string path = "/v1/streams/s/retention";
    EXPECT_EQ(get(path), json({{"retention_period_hours", 24}}));
    for (const int hours : {48, 72, 25, 25, 24}) {
        const Answer done = ask("PUT", path, json({{"retention_period_hours", hours}}).dump());
        EXPECT_EQ(done.status, 200) << done.body;
        EXPECT_EQ(get(path)["retention_period_hours"], hours);
    }
    expect(400, "InvalidArgumentException", ask("PUT", path, R"({"retention_period_hours":23})"));
    expect(400, "InvalidArgumentException", ask("PUT", path, R"({"retention_period_hours":8761})"));
    expect(404, "ResourceNotFoundException",
           ask("PUT", "/v1/streams/none/retention", R"({"retention_period_hours":48})"));
}

TEST_F(RestApi, ModeAndShardsAreChanged) {
    make_stream("s", 1);
    EXPECT_EQ(ask("PUT", "/v1/streams/s/mode", R"({"stream_mode":"ON_DEMAND"})").status, 200);
    settle();
    EXPECT_EQ(get("/v1/streams/s/mode"), json({{"stream_mode", "ON_DEMAND"}}));
    EXPECT_EQ(ask("PUT", "/v1/streams/s/mode", R"({"stream_mode":"PROVISIONED"})").status, 200);
    settle();
    const std::string shard = "/v1/streams/s/shards/0/split";
    const Answer split = ask("POST", shard, R"({"new_starting_hash_key":"1000"})");
    EXPECT_EQ(split.status, 202) << split.body;
    settle();
    EXPECT_EQ(get("/v1/streams/s/shards")["shards"].size(), 3U);
    // The end of the closed shard names its children, and leads nowhere.
    const json end = get("/v1/streams/s/records?shard_id=0");
    EXPECT_EQ(end["child_shards"].size(), 2U);
    EXPECT_FALSE(end.contains("next"));
    const Answer merged = ask("POST", "/v1/streams/s/shards/1/merge",
                              R"({"adjacent_shard_to_merge":"shardId-000000000002"})");
    EXPECT_EQ(merged.status, 202) << merged.body;
    settle();
    const Answer scaled = ask("PUT", "/v1/streams/s/shards", R"({"target_shard_count":2})");
    EXPECT_EQ(scaled.status, 202) << scaled.body;
    EXPECT_EQ(scaled.json["target_shard_count"], 2);
    settle();
    EXPECT_EQ(get("/v1/streams/s")["open_shard_count"], 2);
}

TEST_F(RestApi, ConsumersAreRegisteredShownAndGone) {
    make_stream("a", 1);
    make_stream("b", 1);
    make_stream("c", 1);
    Answer made = ask("POST", "/v1/streams/a/consumers", R"({"consumer_name":"one"})");
    ASSERT_EQ(made.status, 201) << made.body;
    EXPECT_EQ(made.headers["Location"], "/v1/streams/a/consumers/one");
    EXPECT_EQ(made.json["consumer_status"], "CREATING");
    ASSERT_EQ(ask("POST", "/v1/streams/c/consumers", R"({"consumer_name":"two"})").status, 201);
    EXPECT_EQ(get("/v1/streams/a/consumers/one")["consumer_arn"], made.json["consumer_arn"]);
    EXPECT_EQ(get("/v1/streams/a/consumers")["consumers"].size(), 1U);
    const json all = get("/v1/consumers");
    ASSERT_EQ(all["consumers"].size(), 2U);
    EXPECT_EQ(all["consumers"][0]["stream_name"], "a");
    EXPECT_EQ(all["consumers"][1]["consumer_name"], "two");
    const json first = get("/v1/consumers?limit=2");
    EXPECT_EQ(first["consumers"].size(), 1U);
    EXPECT_EQ(get(first["next"].get<std::string>())["consumers"].size(), 1U);
    expect(409, "ResourceInUseException", ask("DELETE", "/v1/streams/a"));
    EXPECT_EQ(ask("DELETE", "/v1/streams/a/consumers/one").status, 200);
    expect(404, "ResourceNotFoundException", ask("GET", "/v1/streams/a/consumers/one"));
    EXPECT_EQ(ask("DELETE", "/v1/streams/c?enforce_consumer_deletion=true").status, 202);
}

class SignedRestApi : public RestApi {
protected:
    SignedRestApi() {
        make_stream("s", 1);
        auth::CredentialStoreOptions options;
        options.key_file = scratch.path("key");
        auto opened = auth::CredentialStore::open(*catalog, clock, options);
        EXPECT_TRUE(opened);
        credentials = std::move(*opened);
        gate = std::make_unique<auth::Gate>(*credentials, clock, auth::GateOptions{});
        handler = std::make_unique<kinesis::KinesisHandler>(
            *loop, *store, lanes, clock,
            [this] { return std::make_unique<MemoryRecordSource>(lanes); },
            kinesis::ServiceOptions{}, gate.get());
        rest = std::make_unique<RestHandler>(*handler, gate.get(), RestOptions{});
    }
    ~SignedRestApi() override {
        handler.reset();
        rest.reset();
        gate.reset();
        credentials.reset();
    }
    auth::AccessKey make(const std::string& name, const std::string& actions) {
        auto made = credentials->make(
            name, R"({"Statement":[{"Effect":"Allow","Action":[)" + actions +
                      R"(],"Resource":"arn:aws:kinesis:us-east-1:000000000000:stream/*"}]})");
        EXPECT_TRUE(made) << made.error().why;
        return made->key;
    }
    Answer ask_as(const auth::AccessKey& key, const std::string& method, const std::string& path,
                  const std::string& body = "") {
        auth::TestRequest request;
        const auth::BasicTime now = auth::to_basic_time(clock.wall_ms() / 1000);
        request.time.assign(now.data(), now.size());
        request.key_id = key.id;
        request.secret = key.secret;
        request.method = method;
        request.path = path.substr(0, path.find('?'));
        request.query = path.find('?') == std::string::npos ? "" : path.substr(path.find('?') + 1);
        request.body = body;
        request.headers = {{"Content-Type", "application/json"}};
        const auto made = request.make();
        Headers headers;
        for (const auto& field : made->headers) {
            headers.emplace_back(field.name, field.value);
        }
        return ask(method, path, body, headers);
    }

    auth::Scratch scratch;
    std::unique_ptr<auth::CredentialStore> credentials;
    std::unique_ptr<auth::Gate> gate;
};

TEST_F(SignedRestApi, NoRouteAnswersWithoutASignatureOrAPolicy) {
    const auto nobody = make("nobody", R"("kinesis:Nothing")");
    for (const Route& route : penstock::rest::routes()) {
        std::string path(route.path);
        for (const auto& [name, part] :
             {std::pair{"{stream_name}", "s"}, std::pair{"{shard_id}", "0"},
              std::pair{"{consumer_name}", "c"}}) {
            if (const std::size_t at = path.find(name); at != std::string::npos) {
                path.replace(at, std::string(name).size(), part);
            }
        }
        expect(403, "MissingAuthenticationTokenException", ask(route.method, path));
        json body = json::object();
        for (const Field& field : route.body) {
            if (field.is_required) {
                body[std::string(field.name)] =
                    field.kind == Kind::integer ? json(48)
                    : field.kind == Kind::list
                        ? json::array({json({{"data", "x"}, {"partition_key", "k"}})})
                    : field.name == "stream_mode" ? json("ON_DEMAND")
                                                  : json("7");
            }
        }
        const std::string query = route.action == Action::get_records ? "?shard_id=0" : "";
        expect(403, "AccessDeniedException",
               ask_as(nobody, std::string(route.method), path + query,
                      route.body.empty() ? "" : body.dump()));
    }
    EXPECT_EQ(store->find("s")->stream().retention_hours, 24U);
}

TEST_F(SignedRestApi, ThePoliciesAreThoseOfTheOperations) {
    const std::string path = "/v1/streams/s/retention";
    const auto more = make("more", R"("kinesis:IncreaseStreamRetentionPeriod")");
    const auto less = make("less", R"("kinesis:DecreaseStreamRetentionPeriod")");
    EXPECT_EQ(ask_as(more, "PUT", path, R"({"retention_period_hours":48})").status, 200);
    const Answer refused = ask_as(more, "PUT", path, R"({"retention_period_hours":24})");
    expect(403, "AccessDeniedException", refused);
    EXPECT_NE(refused.message().find("DecreaseStreamRetentionPeriod"), std::string::npos);
    expect(400, "InvalidArgumentException",
           ask_as(less, "PUT", path, R"({"retention_period_hours":72})"));
    EXPECT_EQ(ask_as(less, "PUT", path, R"({"retention_period_hours":24})").status, 200);
    const auto writer = make("writer", R"("kinesis:PutRecord")");
    const std::string records = "/v1/streams/s/records";
    EXPECT_EQ(ask_as(writer, "POST", records + "?partition_key=k", "x").status, 200);
    expect(403, "AccessDeniedException",
           ask_as(writer, "POST", records, R"({"records":[{"data":"x","partition_key":"k"}]})"));
    const auto lister = make("lister", R"("kinesis:ListStreams")");
    EXPECT_EQ(ask_as(lister, "GET", "/v1/consumers").json, json::parse(R"({"consumers":[]})"));
}

TEST_F(SignedRestApi, WhoMayNotKnowIsToldTheSameOfWhatIsThereAndWhatIsNot) {
    const auto nobody = make("nobody", R"("kinesis:Nothing")");
    for (const std::string rest_of :
         {"", "/shards", "/retention", "/mode", "/consumers", "/records?shard_id=0"}) {
        const std::string there = ask_as(nobody, "GET", "/v1/streams/s" + rest_of).body;
        std::string gone = ask_as(nobody, "GET", "/v1/streams/t" + rest_of).body;
        const std::size_t at = gone.find("stream/t");
        ASSERT_NE(at, std::string::npos) << gone;
        gone[at + 7] = 's';
        EXPECT_EQ(there, gone);
    }
}

TEST_F(RestApi, WhatIsNoTextIsShownInAnAnswerThatIs) {
    make_stream("s", 1);
    // Every byte, as it is and decoded, and a sign of two bytes where a long text is cut off.
    for (const std::string& bytes :
         {std::string("%FF"), std::string("\xff"), std::string(59, 'a') + "\u00e9\u00e9"}) {
        for (const std::string& query :
             {"timestamp=" + bytes, bytes + "=1", bytes + "=1&" + bytes + "=1"}) {
            const Answer answer = ask("GET", "/v1/streams/s/records?shard_id=0&" + query);
            EXPECT_EQ(answer.status, 400) << query;
            EXPECT_FALSE(answer.message().empty()) << answer.body;
        }
        EXPECT_NE(ask("GET", "/v1/streams/" + bytes).status, 200);
    }
}

}  // namespace
}  // namespace penstock::rest
