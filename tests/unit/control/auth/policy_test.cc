#include "control/auth/policy.h"

#include <gtest/gtest.h>

namespace penstock::auth {
namespace {

constexpr std::string_view arn = "arn:aws:kinesis:us-east-1:000000000000:stream/logs-1";

Policy identity(std::string_view json) {
    auto policy = Policy::parse(json, Policy::Kind::of_credential);
    EXPECT_TRUE(policy) << policy.error();
    return std::move(*policy);
}
Policy of_resource(std::string_view json) {
    auto policy = Policy::parse(json, Policy::Kind::of_resource);
    EXPECT_TRUE(policy) << policy.error();
    return std::move(*policy);
}
std::string statement(std::string_view inner) {
    return R"({"Version":"2012-10-17","Statement":[)" + std::string(inner) + "]}";
}

TEST(PolicyPattern, StarsAndQuestionMarks) {
    EXPECT_TRUE(matches("*", ""));
    EXPECT_TRUE(matches("a*c", "abbbc"));
    EXPECT_TRUE(matches("a*b*c", "a-b-b-c"));
    EXPECT_TRUE(matches("a?c", "abc"));
    EXPECT_TRUE(matches("**", "x"));
    EXPECT_FALSE(matches("a?c", "ac"));
    EXPECT_FALSE(matches("", "a"));
    EXPECT_FALSE(matches("abc", "abcd"));
    EXPECT_FALSE(matches("abc*d", "abc"));
    EXPECT_FALSE(matches("KINESIS:*", "kinesis:PutRecord"));
    EXPECT_TRUE(matches("KINESIS:put*", "kinesis:PutRecord", true));
    // What follows a star may have to be tried at every place: no more than that.
    EXPECT_FALSE(matches("*a*a*a*a*a*a*a*b", std::string(2000, 'a')));
}

TEST(PolicyDecision, WhatNothingAllowsIsDenied) {
    const Policy none = identity(statement(""));
    EXPECT_EQ(none.decide("kinesis:PutRecord", arn), Decision::none);
    const Policy put = identity(statement(
        R"({"Effect":"Allow","Action":"kinesis:Put*","Resource":"arn:aws:kinesis:*:*:stream/logs-*"})"));
    EXPECT_EQ(put.decide("kinesis:PutRecord", arn), Decision::allow);
    EXPECT_EQ(put.decide("KINESIS:PUTRECORD", arn), Decision::allow);
    EXPECT_EQ(put.decide("kinesis:GetRecords", arn), Decision::none);
    EXPECT_EQ(
        put.decide("kinesis:PutRecord", "arn:aws:kinesis:us-east-1:000000000000:stream/other"),
        Decision::none);
    // Resources are told apart by case, as streams are.
    EXPECT_EQ(
        put.decide("kinesis:PutRecord", "arn:aws:kinesis:us-east-1:000000000000:stream/LOGS-1"),
        Decision::none);
}

TEST(PolicyDecision, ADenialWinsWhereverItStands) {
    const std::string allow = R"({"Effect":"Allow","Action":"*","Resource":"*"})";
    const std::string deny =
        R"({"Effect":"Deny","Action":["kinesis:Delete*"],"Resource":["*logs*"]})";
    for (const std::string& both : {allow + "," + deny, deny + "," + allow}) {
        const Policy policy = identity(statement(both));
        EXPECT_EQ(policy.decide("kinesis:DeleteStream", arn), Decision::deny);
        EXPECT_EQ(policy.decide("kinesis:PutRecord", arn), Decision::allow);
    }
}

TEST(PolicyDecision, NotActionAndNotResourceMeanAllOthers) {
    const Policy policy =
        identity(statement(R"({"Effect":"Allow","NotAction":["kinesis:Delete*","kinesis:Create*"],)"
                           R"("NotResource":"*/secret"})"));
    EXPECT_EQ(policy.decide("kinesis:PutRecord", arn), Decision::allow);
    EXPECT_EQ(policy.decide("kinesis:DeleteStream", arn), Decision::none);
    EXPECT_EQ(policy.decide("kinesis:PutRecord", "x/secret"), Decision::none);
}

TEST(PolicyDecision, AResourcesPolicySaysWhom) {
    const Asker reader{"arn:aws:iam::000000000000:user/reader", "000000000000"};
    const Asker writer{"arn:aws:iam::000000000000:user/writer", "000000000000"};
    const auto with = [](std::string_view effect, std::string_view principal) {
        return of_resource(statement(R"({"Effect":")" + std::string(effect) +
                                     R"(","Action":"kinesis:*","Resource":"*","Principal":)" +
                                     std::string(principal) + "}"));
    };
    const std::string own = R"({"AWS":["arn:aws:iam::000000000000:user/reader"]})";
    EXPECT_EQ(with("Allow", own).decide("kinesis:PutRecord", arn, reader), Decision::allow);
    EXPECT_EQ(with("Allow", own).decide("kinesis:PutRecord", arn, writer), Decision::none);
    EXPECT_EQ(with("Allow", "\"*\"").decide("kinesis:PutRecord", arn, writer), Decision::allow);
    // The account: denied as a whole, but not let in as a whole.
    for (const char* account :
         {R"({"AWS":"arn:aws:iam::000000000000:root"})", R"({"AWS":"000000000000"})"}) {
        EXPECT_EQ(with("Allow", account).decide("kinesis:PutRecord", arn, reader), Decision::none);
        EXPECT_EQ(with("Deny", account).decide("kinesis:PutRecord", arn, reader), Decision::deny);
    }
    EXPECT_EQ(with("Deny", R"({"AWS":"arn:aws:iam::100000000000:root"})")
                  .decide("kinesis:PutRecord", arn, reader),
              Decision::none);
}

TEST(PolicyText, APrincipalThatNobodyCanBeIsRefused) {
    const auto parse = [](const std::string& principal, Policy::Kind kind) {
        return Policy::parse(statement(R"({"Effect":"Deny","Action":"*","Resource":"*",)"
                                       R"("Principal":{"AWS":["*",")" +
                                       principal + "\"]}}"),
                             kind);
    };
    const std::string user = "arn:aws:iam::000000000000:user/";
    for (const std::string& principal :
         {std::string("*"), std::string("123456789012"),
          std::string("arn:aws:iam::123456789012:root"), user + "reader", user + "A.b_c-1",
          user + std::string(64, 'n')}) {
        EXPECT_TRUE(parse(principal, Policy::Kind::of_resource)) << principal;
    }
    for (const std::string& principal :
         {user + "*",
          user + "read?r",
          user,
          user + "team/reader",
          user + "a b",
          user + std::string(65, 'n'),
          std::string("reader"),
          std::string("user/reader"),
          std::string("12345678901"),
          std::string("1234567890123"),
          std::string("12345678901x"),
          std::string("arn:aws:iam::000000000000:role/reader"),
          std::string("arn:aws:sts::000000000000:assumed-role/reader/session"),
          std::string("arn:aws:iam::000000000000:root/reader"),
          std::string("arn:aws:iam::000000000000:Root"),
          std::string("arn:aws:iam::000000000000"),
          std::string("arn:aws:iam:::user/reader"),
          std::string("arn:aws:iam::*:root"),
          std::string("arn:aws-cn:iam::000000000000:user/reader"),
          std::string("arn:aws:iam:us-east-1:000000000000:user/reader"),
          std::string("AIDAJQABLZS4A3QDU576Q"),
          std::string(" *"),
          std::string("**"),
          std::string("line\\nbreak")}) {
        const auto policy = parse(principal, Policy::Kind::of_resource);
        ASSERT_FALSE(policy) << principal;
        EXPECT_NE(policy.error().find("Statement 1: Principal: found '"), std::string::npos)
            << policy.error();
        EXPECT_NE(policy.error().find("which nobody here can be; expected"), std::string::npos);
        EXPECT_EQ(policy.error().find('\n'), std::string::npos);
        // What an earlier build took is kept, and means nobody.
        EXPECT_TRUE(parse(principal, Policy::Kind::of_resource_kept)) << principal;
    }
}

TEST(PolicyText, WhatCannotBeExpressedIsRefused) {
    const std::string fine = R"("Effect":"Allow","Action":"*","Resource":"*")";
    const std::vector<std::pair<std::string, std::string>> table{
        {"", "JSON object"},
        {"[]", "JSON object"},
        {"{}", "Statement: not given"},
        {R"({"Version":"2020-01-01","Statement":[]})", "Version"},
        {R"({"Version":1,"Statement":[]})", "Version"},
        {R"({"Statement":[],"Statements":[]})", "'Statements'"},
        {statement("1"), "Statement 1: expected a JSON object"},
        {statement("{}"), "Statement 1: expected Effect"},
        {statement(R"({"Effect":"Permit","Action":"*","Resource":"*"})"), "Allow or Deny"},
        {statement(R"({"Effect":"Allow","Action":[],"Resource":"*"})"), "empty list"},
        {statement(R"({"Effect":"Allow","Action":[1],"Resource":"*"})"), "texts"},
        {statement(R"({"Effect":"Allow","Action":"","Resource":"*"})"), "texts"},
        {statement(R"({"Effect":"Allow","Action":"*"})"), "expected Effect"},
        {statement("{" + fine + R"(,"NotAction":"b"})"), "twice"},
        {statement("{" + fine + R"(,"Condition":{}})"), "'Condition', which is not supported"},
        {statement("{" + fine + R"(,"Principal":"*"})"), "'Principal', which is not supported"},
        {"{\"Statement\":[" + std::string(policy_bytes_max, ' ') + "]}", "at most 20480"},
    };
    for (const auto& [json, said] : table) {
        const auto policy = Policy::parse(json, Policy::Kind::of_credential);
        ASSERT_FALSE(policy) << json.substr(0, 200);
        EXPECT_NE(policy.error().find(said), std::string::npos) << policy.error();
        EXPECT_EQ(policy.error().find('\n'), std::string::npos);
    }
    const std::vector<std::pair<std::string, std::string>> of_resources{
        {statement("{" + fine + "}"), "Principal: not given"},
        {statement("{" + fine + R"(,"Principal":"me"})"), "Principal: expected"},
        {statement("{" + fine + R"(,"Principal":{"Service":"x"}})"), "'Service'"},
        {statement("{" + fine + R"(,"NotPrincipal":"*"})"), "'NotPrincipal'"},
    };
    for (const auto& [json, said] : of_resources) {
        const auto policy = Policy::parse(json, Policy::Kind::of_resource);
        ASSERT_FALSE(policy) << json;
        EXPECT_NE(policy.error().find(said), std::string::npos) << policy.error();
    }
    // One statement needs no list.
    EXPECT_EQ(identity(R"({"Statement":{"Sid":"a","Effect":"Allow","Action":"*","Resource":"*"}})")
                  .decide("a", "b"),
              Decision::allow);
}

}  // namespace
}  // namespace penstock::auth
