#include "control/auth/sigv4.h"

#include <gtest/gtest.h>

#include "tests/unit/control/auth/signer.h"

namespace penstock::auth {
namespace {

constexpr std::string_view secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
constexpr std::string_view scope = "AKIDEXAMPLE/20150830/us-east-1/service/aws4_request";

std::unique_ptr<http::HttpRequest> make(std::string_view method, std::string_view target,
                                        const Headers& headers, std::string_view body = {}) {
    return http::HttpRequest::make(method, target, headers, body);
}

// What is wrong with the request's signature, with the secret above; nothing when it is right.
std::optional<Reason> judge(const http::HttpRequest& request) {
    SignatureReader reader;
    const auto claim = reader.read(request);
    if (!claim) {
        return claim.error().reason;
    }
    HmacKey key = derive_signing_key(secret, claim->date, claim->region, claim->service);
    const auto refusal = reader.check_signature(request, *claim, key);
    return refusal ? std::optional(refusal->reason) : std::nullopt;
}

// The day, host and keys of AWS' published suite of examples.
std::optional<Reason> judge_example(std::string_view method, std::string_view target,
                                    std::string_view signed_headers, std::string_view signature,
                                    const Headers& more = {}, std::string_view body = {}) {
    Headers headers = {{"Host", "example.amazonaws.com"}, {"X-Amz-Date", "20150830T123600Z"}};
    headers.insert(headers.end(), more.begin(), more.end());
    headers.emplace_back("Authorization", "AWS4-HMAC-SHA256 Credential=" + std::string(scope) +
                                              ", SignedHeaders=" + std::string(signed_headers) +
                                              ", Signature=" + std::string(signature));
    return judge(*make(method, target, headers, body));
}

TEST(SigV4, SigningKeyOfAwsDocumentation) {
    // Told in AWS' documentation by the signature it gives; here by what another HMAC says.
    HmacKey key = derive_signing_key(secret, "20120215", "us-east-1", "iam");
    const auto raw = from_hex("f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    EXPECT_EQ(to_hex(as_text(key.of("text"))), test_hex(test_hmac(*raw, "text")));
}

TEST(SigV4, SignaturesOfTheSuiteAreRight) {
    const std::string plain = "host;x-amz-date";
    const auto right = std::optional<Reason>();
    EXPECT_EQ(judge_example("GET", "/", plain,
                            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
              right);
    EXPECT_EQ(judge_example("POST", "/", plain,
                            "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
              right);
    EXPECT_EQ(judge_example("GET", "/?Param2=value2&Param1=value1", plain,
                            "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
              right);
    EXPECT_EQ(judge_example("GET", "//example//", plain,
                            "9a624bd73a37c9a373b5312afbebe7a714a789de108f0bdfe846570885f57e84"),
              right);
    EXPECT_EQ(judge_example("GET", "/example1/example2/../..", plain,
                            "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
              right);
    EXPECT_EQ(judge_example("GET", "/./example", plain,
                            "ef75d96142cf21edca26f06005da7988e4f8dc83a165a80865db7089db637ec5"),
              right);
    // Three bytes that are no ASCII, and the same encoded by the sender: signed differently.
    EXPECT_EQ(judge_example("GET", "/\u1234", plain,
                            "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
              right);
    EXPECT_EQ(judge_example("GET", "/%E1%88%B4", plain,
                            "697b34846207a3f72246f99d74ae1ee4fe54f44bb06730c58a0d339eb079596d"),
              right);
    EXPECT_EQ(
        judge_example("GET", "/-._~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz",
                      plain, "07ef7494c76fa4850883e2b006601f940f8a34d404d0cfa977f52a65bbf5f24f"),
        right);
    EXPECT_EQ(
        judge_example("POST", "/", "content-type;host;x-amz-date",
                      "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
                      {{"Content-Type", "application/x-www-form-urlencoded"}}, "Param1=value1"),
        right);
}

TEST(SigV4, RepeatedHeadersAreJoinedAndBlanksFolded) {
    EXPECT_FALSE(judge_example(
        "GET", "/", "host;my-header1;x-amz-date",
        "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
        {{"My-Header1", "value2"}, {"my-header1", "value2"}, {"MY-HEADER1", "value1"}}));
    EXPECT_FALSE(judge_example("GET", "/", "host;my-header1;my-header2;x-amz-date",
                               "acc3ed3afb60bb290fc8d2dd0098b9911fcaa05412b367055dee359757a9c736",
                               {{"My-Header1", " value1"}, {"My-Header2", " \"a   b \t c\"  "}}));
    // In another order they are another request.
    EXPECT_EQ(judge_example(
                  "GET", "/", "host;my-header1;x-amz-date",
                  "c9d5ea9f3f72853aea855b47ea873832890dbdd183b4468f858259531a5138ea",
                  {{"My-Header1", "value1"}, {"My-Header1", "value2"}, {"My-Header1", "value2"}}),
              Reason::mismatch);
}

TEST(SigV4, EveryPartOfARequestIsHeldByItsSignature) {
    const std::string signature =
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31";
    const std::string names = "host;x-amz-date";
    EXPECT_FALSE(judge_example("GET", "/", names, signature));
    EXPECT_EQ(judge_example("PUT", "/", names, signature), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/a", names, signature), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/?a=b", names, signature), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/", names, signature, {}, "body"), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/", "host", signature), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/", "host;x-amz-date;absent", signature), Reason::mismatch);
    EXPECT_EQ(judge_example("GET", "/", names, signature.substr(1)), Reason::mismatch);
    std::string other = signature;
    other.back() = other.back() == '0' ? '1' : '0';
    EXPECT_EQ(judge_example("GET", "/", names, other), Reason::mismatch);
}

TEST(SigV4, AuthorityIsSignedUnderItsOwnName) {
    TestRequest asked;
    asked.host_name = ":authority";
    EXPECT_FALSE(judge(*asked.make()));
    // A gateway that speaks the other version moved it.
    TestRequest of_h1;
    of_h1.host_name = ":authority";
    auto request = of_h1.make();
    request->headers.front().name = "host";
    request->authority = {};
    request->version = 11;
    EXPECT_FALSE(judge(*request));
    asked.host_name = "host";
    request = asked.make();
    request->headers.front().name = ":authority";
    request->authority = request->headers.front().value;
    request->version = 20;
    EXPECT_FALSE(judge(*request));
}

TEST(SigV4, TheBodyIsTheOneWhoseHashWasSigned) {
    TestRequest asked;
    asked.body = R"({"StreamName":"a"})";
    EXPECT_FALSE(judge(*asked.make()));
    const std::string other = R"({"StreamName":"b"})";
    EXPECT_EQ(judge(*asked.make(&other)), Reason::mismatch);
    asked.headers = {{"X-Amz-Content-Sha256", test_sha256(asked.body)}};
    EXPECT_FALSE(judge(*asked.make()));
    EXPECT_EQ(judge(*asked.make(&other)), Reason::altered_body);
}

TEST(SigV4, AnUnsignedPayloadIsTakenOnlyWhereThereIsNone) {
    TestRequest asked;
    asked.payload_hash = "UNSIGNED-PAYLOAD";
    asked.headers = {{"X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD"}};
    EXPECT_EQ(judge(*asked.make()), Reason::altered_body);
    asked.body.clear();
    EXPECT_FALSE(judge(*asked.make()));
    const std::string slipped_in = "{}";
    EXPECT_EQ(judge(*asked.make(&slipped_in)), Reason::altered_body);
    asked.payload_hash = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    asked.headers = {{"X-Amz-Content-Sha256", asked.payload_hash}};
    EXPECT_EQ(judge(*asked.make()), Reason::altered_body);
}

std::expected<Claim, Refusal> read(const Headers& headers, std::string_view target = "/") {
    static SignatureReader reader;
    static std::unique_ptr<http::HttpRequest> request;
    request = make("POST", target, headers);
    return reader.read(*request);
}

TEST(SigV4, WhatIsMissingIsNamed) {
    const std::string date = "20261123T084142Z";
    EXPECT_EQ(read({{"Host", "h"}}).error().reason, Reason::missing);
    EXPECT_EQ(read({{"Host", "h"}}).error().message, "Missing Authentication Token");
    auto claim = read({{"Authorization", "AWS4-HMAC-SHA256 "}});
    ASSERT_FALSE(claim);
    EXPECT_EQ(claim.error().reason, Reason::incomplete);
    EXPECT_EQ(
        claim.error().message,
        "Authorization header requires 'Credential' parameter. Authorization header requires "
        "'Signature' parameter. Authorization header requires 'SignedHeaders' parameter. "
        "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "
        "Authorization=AWS4-HMAC-SHA256 ");
    for (const char* other : {"Basic YTpi",
                              "AWS4-ECDSA-P256-SHA256 Credential=a/b/c/d/e, "
                              "SignedHeaders=host, Signature=ab"}) {
        EXPECT_EQ(read({{"Authorization", other}, {"X-Amz-Date", date}}).error().reason,
                  Reason::incomplete);
    }
    const std::string rest = ", SignedHeaders=host, Signature=ab";
    for (const char* credential : {"a", "a/b/c/d", "/20261123/r/s/aws4_request", "////"}) {
        claim = read(
            {{"Authorization", "AWS4-HMAC-SHA256 Credential=" + std::string(credential) + rest},
             {"X-Amz-Date", date}});
        ASSERT_FALSE(claim) << credential;
        EXPECT_NE(claim.error().message.find("5 slash-delimited"), std::string::npos);
    }
    const std::string whole =
        "AWS4-HMAC-SHA256 Credential=K/20261123/r/kinesis/aws4_request" + rest;
    for (const char* time : {"yesterday", "20261123T084142", "20261323T084142Z", "20261123T0841",
                             "20261123 084142Z", "20260230T000000Z"}) {
        EXPECT_EQ(read({{"Authorization", whole}, {"X-Amz-Date", time}}).error().reason,
                  Reason::incomplete)
            << time;
    }
    EXPECT_EQ(read({{"Authorization", whole}, {"Authorization", whole}, {"X-Amz-Date", date}})
                  .error()
                  .reason,
              Reason::incomplete);
    EXPECT_EQ(read({{"Authorization", whole}, {"X-Amz-Date", date}}, "/?X-Amz-Algorithm=a")
                  .error()
                  .message,
              "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP "
              "header.");
    for (const int more : {99, 100}) {
        std::string names = "host";
        for (int i = 0; i < more; ++i) {
            names += ";host";
        }
        const auto signs = read({{"Authorization",
                                  "AWS4-HMAC-SHA256 Credential=K/20261123/r/kinesis/aws4_request, "
                                  "SignedHeaders=" +
                                      names + ", Signature=ab"},
                                 {"X-Amz-Date", date}});
        EXPECT_EQ(signs.has_value(), more == 99);
    }
    std::string many = "/?a=1";
    for (int i = 0; i < 64; ++i) {
        many += "&a=1";
    }
    EXPECT_EQ(read({{"Authorization", whole}, {"X-Amz-Date", date}}, many).error().reason,
              Reason::incomplete);
}

TEST(SigV4, SeparatorsAndTheDateHeaderAsClientsWriteThem) {
    // Without blanks, and with more of them.
    for (const char* text :
         {"AWS4-HMAC-SHA256 Credential=K/20261123/r/kinesis/aws4_request,SignedHeaders=host,"
          "Signature=ab",
          "AWS4-HMAC-SHA256  Signature=ab,  Credential=K/20261123/r/kinesis/aws4_request , "
          "SignedHeaders=host"}) {
        const auto claim =
            read({{"Authorization", text}, {"Date", "Mon, 23 Nov 2026 08:41:42 GMT"}});
        ASSERT_TRUE(claim) << claim.error().message;
        EXPECT_EQ(claim->key_id, "K");
        EXPECT_EQ(claim->region, "r");
        EXPECT_EQ(claim->signed_headers, "host");
        EXPECT_EQ(claim->signature, "ab");
        EXPECT_EQ(std::string_view(claim->time.data(), 16), "20261123T084142Z");
    }
}

TEST(SigV4, TimesOfTheBasicFormat) {
    for (const std::int64_t time : {0LL, 951'782'399LL, 951'868'800LL, 1'795'423'302LL}) {
        const BasicTime text = to_basic_time(time);
        EXPECT_EQ(from_basic_time({text.data(), text.size()}), time);
    }
    EXPECT_EQ(from_basic_time("20261123T084142Z"), 1'795'423'302);
    EXPECT_FALSE(from_basic_time(""));
    EXPECT_FALSE(from_basic_time("20261123T246060Z"));
}

Claim claim_of(Claim::Form form, std::int64_t time_s, std::int64_t life_s = 0) {
    Claim claim;
    claim.form = form;
    claim.time_s = time_s;
    claim.time = to_basic_time(time_s);
    claim.life_s = life_s;
    return claim;
}

std::optional<Reason> at(const Claim& claim, std::int64_t now_s) {
    const auto refusal = SignatureReader::check_time(claim, now_s);
    return refusal ? std::optional(refusal->reason) : std::nullopt;
}

TEST(SigV4, ClocksMayDifferByFiveMinutesEitherWay) {
    const std::int64_t now = 1'795'423'302;
    const Claim claim = claim_of(Claim::Form::header, now);
    EXPECT_FALSE(at(claim, now));
    EXPECT_FALSE(at(claim, now + 300));
    EXPECT_EQ(at(claim, now + 301), Reason::late);
    EXPECT_FALSE(at(claim, now - 300));
    EXPECT_EQ(at(claim, now - 301), Reason::early);
    EXPECT_EQ(SignatureReader::check_time(claim, now + 301)->message,
              "Signature expired: 20261123T084142Z is now earlier than 20261123T084143Z "
              "(20261123T084643Z - 5 min.)");
    EXPECT_EQ(SignatureReader::check_time(claim, now - 301)->message,
              "Signature not yet current: 20261123T084142Z is still later than 20261123T084141Z "
              "(20261123T083641Z + 5 min.)");
}

TEST(SigV4, APresignedUrlLivesAsLongAsItSays) {
    const std::int64_t now = 1'795'423'302;
    const Claim claim = claim_of(Claim::Form::query, now, 3600);
    EXPECT_FALSE(at(claim, now + 3600));
    EXPECT_EQ(at(claim, now + 3601), Reason::late);
    EXPECT_FALSE(at(claim, now - 300));
    EXPECT_EQ(at(claim, now - 301), Reason::early);
    const std::string url =
        "/?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=K%2F20261123%2Fr%2Fkinesis%2F"
        "aws4_request&X-Amz-Date=20261123T084142Z&X-Amz-SignedHeaders=host&X-Amz-Signature=ab";
    EXPECT_EQ(read({}, url)->life_s, skew_max_s);
    EXPECT_EQ(read({}, url + "&X-Amz-Expires=604800")->life_s, 604800);
    for (const char* bad : {"604801", "0", "-1", "1x", "99999999999999999999"}) {
        EXPECT_EQ(read({}, url + "&X-Amz-Expires=" + bad).error().reason, Reason::incomplete)
            << bad;
    }
    const auto less = read({}, "/?X-Amz-Algorithm=AWS4-HMAC-SHA256");
    EXPECT_EQ(less.error().message,
              "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string "
              "parameters must include 'X-Amz-Signature'. AWS query-string parameters must include "
              "'X-Amz-SignedHeaders'. AWS query-string parameters must include 'X-Amz-Date'. "
              "Re-examine the query-string parameters.");
}

TEST(SigV4, TheScopeIsOurRegionAndServiceAndTheDayOfTheTime) {
    const auto judge_scope = [](const std::string& text) -> std::string {
        const auto claim = read({{"Authorization", "AWS4-HMAC-SHA256 Credential=K/" + text +
                                                       ", SignedHeaders=host, Signature=ab"},
                                 {"X-Amz-Date", "20261123T084142Z"}});
        const auto refusal = SignatureReader::check_scope(*claim, "us-east-1", "kinesis");
        return refusal ? std::string(refusal->exception()) + ": " + refusal->message : "";
    };
    EXPECT_EQ(judge_scope("20261123/us-east-1/kinesis/aws4_request"), "");
    EXPECT_EQ(judge_scope("20261123/eu-west-1/kinesis/aws4_request"),
              "InvalidSignatureException: Credential should be scoped to a valid region, not "
              "'eu-west-1'.");
    EXPECT_EQ(judge_scope("20261123/us-east-1/s3/aws4_request"),
              "InvalidSignatureException: Credential should be scoped to correct service: "
              "'kinesis'.");
    EXPECT_EQ(judge_scope("20261123/us-east-1/kinesis/aws5_request"),
              "InvalidSignatureException: Credential should be scoped with a valid terminator: "
              "'aws4_request'.");
    EXPECT_EQ(judge_scope("20261122/us-east-1/kinesis/aws4_request"),
              "InvalidSignatureException: Date in Credential scope does not match YYYYMMDD from "
              "ISO-8601 version of date from HTTP: '20261122' != '20261123', from "
              "'20261123T084142Z'.");
}

TEST(SigV4, HostAndEveryAmzHeaderMustBeSigned) {
    const auto judge_names = [](TestRequest& asked) {
        SignatureReader reader;
        const auto request = asked.make();
        const auto claim = reader.read(*request);
        const auto refusal = SignatureReader::check_signed_headers(*request, *claim);
        return refusal ? std::optional(refusal->reason) : std::nullopt;
    };
    TestRequest asked;
    asked.headers = {{"X-Amz-Target", "Kinesis_20131202.ListStreams"},
                     {"X-Amzn-Trace-Id", "a"},
                     {"Accept", "b"}};
    EXPECT_FALSE(judge_names(asked));
    asked.unsigned_names = {"x-amzn-trace-id", "accept"};
    EXPECT_FALSE(judge_names(asked));
    asked.unsigned_names = {"x-amz-target"};
    EXPECT_EQ(judge_names(asked), Reason::not_signed);
    asked.unsigned_names = {"host"};
    EXPECT_EQ(judge_names(asked), Reason::not_signed);
    asked.host_name = ":authority";
    EXPECT_FALSE(judge_names(asked));
}

}  // namespace
}  // namespace penstock::auth
