#include "control/auth/gate.h"

#include <atomic>
#include <thread>

#include "tests/unit/control/auth/credential_fixture.h"
#include "tests/unit/control/auth/signer.h"

namespace penstock::auth {
namespace {

class GateTest : public CredentialTest {
protected:
    TestRequest signed_by(const AccessKey& key) {
        TestRequest request;
        request.key_id = key.id;
        request.secret = key.secret;
        request.headers = {{"X-Amz-Target", "Kinesis_20131202.ListStreams"}};
        return request;
    }
    // The exception's name, or "" where the request is taken.
    std::string check(TestRequest request) {
        const auto caller = gate.check(*request.make());
        return caller ? "" : std::string(caller.error().exception());
    }
    std::string authorize(const Caller& caller, std::string_view action,
                          const Policy* of_resource = nullptr) {
        const auto refusal = gate.authorize(caller, action, arn, of_resource);
        return refusal ? refusal->message : "";
    }

    static constexpr std::string_view arn = "arn:aws:kinesis:us-east-1:000000000000:stream/s";
    Gate gate{*store, clock, {}};
};

TEST_F(GateTest, ARightSignatureIsTakenAgainAndAgain) {
    const auto key = make("a").key;
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(check(signed_by(key)), "");
    }
    EXPECT_EQ(gate.accepted(), 3U);
    const auto caller = gate.check(*signed_by(key).make());
    ASSERT_TRUE(caller);
    EXPECT_EQ(caller->credential->name, "a");
    EXPECT_EQ(caller->region, "us-east-1");
}

TEST_F(GateTest, ARequestIsOfTheRegionThatItWasSignedFor) {
    const auto key = make("a").key;
    Gate both{*store, clock, {.regions = {"us-east-1", "eu-west-1"}, .account = "000000000000"}};
    for (const char* region : {"us-east-1", "eu-west-1"}) {
        TestRequest request = signed_by(key);
        request.region = region;
        const auto caller = both.check(*request.make());
        ASSERT_TRUE(caller) << region;
        EXPECT_EQ(caller->region, region);
    }
    TestRequest request = signed_by(key);
    request.region = "ap-south-1";
    EXPECT_FALSE(both.check(*request.make()));
}

TEST_F(GateTest, EachRefusalHasItsNameAndItsCounter) {
    const auto key = make("a").key;
    struct Row {
        Reason reason;
        std::string exception;
        TestRequest request;
    };
    std::vector<Row> rows;
    const auto add = [&](Reason reason, const std::string& exception, auto edit) {
        TestRequest request = signed_by(key);
        edit(request);
        rows.push_back({reason, exception, request});
    };
    add(Reason::unknown_key, "UnrecognizedClientException",
        [](TestRequest& r) { r.key_id = "AKIANOBODY"; });
    add(Reason::mismatch, "InvalidSignatureException", [](TestRequest& r) { r.secret += "x"; });
    add(Reason::late, "InvalidSignatureException",
        [](TestRequest& r) { r.time = "20261123T083641Z"; });
    add(Reason::early, "InvalidSignatureException",
        [](TestRequest& r) { r.time = "20261123T084643Z"; });
    add(Reason::wrong_scope, "InvalidSignatureException",
        [](TestRequest& r) { r.region = "eu-west-1"; });
    add(Reason::not_signed, "InvalidSignatureException",
        [](TestRequest& r) { r.unsigned_names = {"x-amz-target"}; });
    add(Reason::bad_token, "UnrecognizedClientException",
        [](TestRequest& r) { r.headers.emplace_back("X-Amz-Security-Token", "AAAA"); });
    add(Reason::altered_body, "InvalidSignatureException", [](TestRequest& r) {
        r.headers.emplace_back("X-Amz-Content-Sha256", test_sha256("other"));
    });
    for (const Row& row : rows) {
        EXPECT_EQ(check(row.request), row.exception) << text_of(row.reason).label;
        EXPECT_EQ(gate.refused(row.reason), 1U) << text_of(row.reason).label;
    }
    const Headers bare{{"Host", "h"}};
    EXPECT_EQ(gate.check(*http::HttpRequest::make("POST", "/", bare, "")).error().reason,
              Reason::missing);
    EXPECT_EQ(gate.refused(Reason::missing), 1U);
    EXPECT_EQ(gate.accepted(), 0U);
}

TEST_F(GateTest, ARevokedKeyIsRefusedByTheNextCheck) {
    const auto key = make("a").key;
    const auto other = make("b").key;
    EXPECT_EQ(check(signed_by(key)), "");
    ASSERT_TRUE(store->revoke("a"));
    EXPECT_EQ(check(signed_by(key)), "UnrecognizedClientException");
    EXPECT_EQ(check(signed_by(other)), "");
}

TEST_F(GateTest, ARotatedKeyIsGoodUntilItsTimeEnds) {
    const auto old = make("a").key;
    EXPECT_EQ(check(signed_by(old)), "");
    const auto fresh = store->rotate("a", 10)->key;
    EXPECT_EQ(check(signed_by(old)), "");
    EXPECT_EQ(check(signed_by(fresh)), "");
    clock.ms = clock.wall_ms() + 10'000;
    EXPECT_EQ(check(signed_by(old)), "UnrecognizedClientException");
    EXPECT_EQ(check(signed_by(fresh)), "");
}

TEST_F(GateTest, ThreadsCheckWhileCredentialsComeAndGo) {
    const auto key = make("stays").key;
    std::atomic<bool> ended = false;
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
        threads.emplace_back([&] {
            Gate own(*store, clock, {});
            do {
                wrong += own.check(*signed_by(key).make()) ? 0 : 1;
            } while (!ended);
        });
    }
    for (int i = 0; i < 50; ++i) {
        const std::string name = "comes-" + std::to_string(i % 3);
        const auto made = make(name).key;
        EXPECT_EQ(check(signed_by(made)), "");
        EXPECT_TRUE(store->rotate(name, 0));
        EXPECT_EQ(check(signed_by(made)), "UnrecognizedClientException");
        EXPECT_TRUE(store->revoke(name));
    }
    ended = true;
    for (std::thread& thread : threads) {
        thread.join();
    }
    EXPECT_EQ(wrong, 0);
}

TEST_F(GateTest, ASessionNeedsItsTokenAndEndsWithIt) {
    make("a");
    const auto session = store->make_session("a", 60, "");
    TestRequest request = signed_by({session->key_id, session->secret, 0, 0});
    EXPECT_EQ(check(request), "UnrecognizedClientException");
    request.headers.emplace_back("X-Amz-Security-Token", session->token);
    EXPECT_EQ(check(request), "");
    EXPECT_EQ(check(request), "");
    // Known by now, and still asked for its token.
    TestRequest without = signed_by({session->key_id, session->secret, 0, 0});
    EXPECT_EQ(check(without), "UnrecognizedClientException");
    clock.ms = clock.wall_ms() + 60'000;
    EXPECT_EQ(check(request), "ExpiredTokenException");
    EXPECT_EQ(gate.refused(Reason::expired_token), 1U);
}

TEST_F(GateTest, ASessionMakesNoSession) {
    const auto made = make("a");
    for (const std::string_view policy : {std::string_view{}, admin_policy}) {
        const auto session = store->make_session("a", 60, policy);
        TestRequest request = signed_by({session->key_id, session->secret, 0, 0});
        request.headers.emplace_back("X-Amz-Security-Token", session->token);
        // Also once its signer is known.
        for (int i = 0; i < 2; ++i) {
            const auto caller = gate.check(*request.make());
            ASSERT_TRUE(caller);
            EXPECT_EQ(authorize(*caller, "penstock:MakeSession"),
                      "Cannot call penstock:MakeSession with session credentials; sign with a key "
                      "of a");
            EXPECT_EQ(authorize(*caller, "penstock:ListCredentials"), "");
        }
    }
    EXPECT_EQ(gate.refused(Reason::denied), 4U);
    const auto caller = gate.check(*signed_by(made.key).make());
    ASSERT_TRUE(caller);
    EXPECT_EQ(authorize(*caller, "penstock:MakeSession"), "");
}

TEST_F(GateTest, DefaultIsToDenyAndADenialWins) {
    const auto nothing = make("nothing", R"({"Statement":[]})");
    const auto reader =
        make("reader", R"({"Statement":[{"Effect":"Allow","Action":"kinesis:*","Resource":"*"},)"
                       R"({"Effect":"Deny","Action":"kinesis:Put*","Resource":"*"}]})");
    const Caller none{nothing.credential, nullptr, ""};
    const Caller some{reader.credential, nullptr, ""};
    EXPECT_EQ(authorize(none, "kinesis:GetRecords"),
              "User: arn:aws:iam::000000000000:user/nothing is not authorized to perform: "
              "kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:000000000000:stream/s "
              "because no identity-based policy allows the kinesis:GetRecords action");
    EXPECT_EQ(authorize(some, "kinesis:GetRecords"), "");
    EXPECT_EQ(authorize(some, "kinesis:PutRecord"),
              "User: arn:aws:iam::000000000000:user/reader is not authorized to perform: "
              "kinesis:PutRecord on resource: arn:aws:kinesis:us-east-1:000000000000:stream/s with "
              "an explicit deny in an identity-based policy");
    EXPECT_EQ(gate.refused(Reason::denied), 2U);
}

TEST_F(GateTest, AResourcesPolicyGivesAndTakes) {
    const auto nothing = make("nothing", R"({"Statement":[]})");
    const auto all = make("all");
    const Caller none{nothing.credential, nullptr, ""};
    const Caller any{all.credential, nullptr, ""};
    const auto policy = [](std::string_view effect, std::string_view name) {
        return *Policy::parse(R"({"Statement":[{"Effect":")" + std::string(effect) +
                                  R"(","Action":"*","Resource":"*","Principal":{"AWS":)"
                                  R"("arn:aws:iam::000000000000:user/)" +
                                  std::string(name) + "\"}}]}",
                              Policy::Kind::of_resource);
    };
    const Policy gives = policy("Allow", "nothing");
    const Policy takes = policy("Deny", "all");
    EXPECT_EQ(authorize(none, "kinesis:GetRecords", &gives), "");
    EXPECT_EQ(
        authorize(any, "kinesis:GetRecords", &takes),
        "User: arn:aws:iam::000000000000:user/all is not authorized to perform: "
        "kinesis:GetRecords on resource: arn:aws:kinesis:us-east-1:000000000000:stream/s with "
        "an explicit deny in a resource-based policy");
    // Who may know nothing of the stream is not told that it has a policy.
    const Policy takes_from_nothing = policy("Deny", "nothing");
    EXPECT_EQ(authorize(none, "kinesis:GetRecords", &takes_from_nothing),
              authorize(none, "kinesis:GetRecords"));
}

TEST_F(GateTest, ASessionsPolicyOnlyNarrows) {
    const auto reader = make(
        "reader", R"({"Statement":[{"Effect":"Allow","Action":"kinesis:Get*","Resource":"*"}]})");
    const auto open = [&](std::string_view policy) {
        const auto session = store->make_session("reader", 60, policy);
        const auto opened = store->open_session(session->key_id, session->token);
        return Caller{opened->credential, opened->policy, "", true};
    };
    const Caller wide = open(admin_policy);
    EXPECT_EQ(authorize(wide, "kinesis:GetRecords"), "");
    EXPECT_NE(authorize(wide, "kinesis:PutRecord"), "");
    const Caller narrow =
        open(R"({"Statement":[{"Effect":"Allow","Action":"kinesis:GetRecords","Resource":"*"}]})");
    EXPECT_EQ(authorize(narrow, "kinesis:GetRecords"), "");
    EXPECT_NE(authorize(narrow, "kinesis:GetShardIterator"), "");
}

}  // namespace
}  // namespace penstock::auth
