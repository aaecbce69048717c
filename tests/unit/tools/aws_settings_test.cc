// Settings of clients, as the AWS CLI finds them.
#include "tools/client/aws_settings.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <map>

#include <gtest/gtest.h>

namespace penstock {
namespace {

struct AwsSettingsTest : testing::Test {
    std::string home = testing::TempDir() + "penstock-aws-XXXXXX";
    std::map<std::string, std::string> variables;
    std::string why;

    void SetUp() override {
        ASSERT_NE(mkdtemp(home.data()), nullptr);
        std::filesystem::create_directory(home + "/.aws");
        variables["HOME"] = home;
    }
    void TearDown() override { std::filesystem::remove_all(home); }
    void write(const char* name, const char* text) const {
        std::ofstream(home + "/.aws/" + name) << text;
    }
    Result<AwsSettings> read(std::string profile = {}) {
        const AwsSources sources{[this](const char* name) -> const char* {
                                     const auto found = variables.find(name);
                                     return found == variables.end() ? nullptr
                                                                     : found->second.c_str();
                                 },
                                 std::move(profile)};
        return read_aws_settings(sources, why);
    }
    void write_both() const {
        write("credentials",
              "# two of them\n[default]\naws_access_key_id = AKDEFAULT\n"
              "aws_secret_access_key=secret/default\n\n[plant]\naws_access_key_id = AKPLANT\n"
              "aws_secret_access_key = secret/plant\naws_session_token = token\n");
        write("config",
              "[default]\nregion = eu-west-1\n[profile plant]\nregion=eu-central-1\n"
              "s3 =\n  region = nested\nca_bundle = ca.pem\nendpoint_url = https://plant:4568\n");
    }
};

TEST_F(AwsSettingsTest, WithNothingThereRequestsAreNotSigned) {
    const auto found = read();
    ASSERT_TRUE(found) << why;
    EXPECT_EQ(*found, AwsSettings{});
}

TEST_F(AwsSettingsTest, TheDefaultProfileIsReadFromBothFiles) {
    write_both();
    const auto found = read();
    ASSERT_TRUE(found) << why;
    EXPECT_EQ(found->credential, (AwsCredential{"AKDEFAULT", "secret/default", ""}));
    EXPECT_EQ(found->region, "eu-west-1");
    EXPECT_EQ(found->endpoint, "");
}

TEST_F(AwsSettingsTest, TheEnvironmentGoesBeforeTheFiles) {
    write_both();
    variables["AWS_ACCESS_KEY_ID"] = "AKENV";
    variables["AWS_SECRET_ACCESS_KEY"] = "secret/env";
    variables["AWS_REGION"] = "us-west-2";
    variables["AWS_CA_BUNDLE"] = "other.pem";
    variables["AWS_ENDPOINT_URL"] = "http://127.0.0.1:4567";
    variables["AWS_PROFILE"] = "plant";
    const auto found = read();
    ASSERT_TRUE(found) << why;
    EXPECT_EQ(found->credential, (AwsCredential{"AKENV", "secret/env", ""}));
    EXPECT_EQ(found->region, "us-west-2");
    EXPECT_EQ(found->ca_bundle, "other.pem");
    EXPECT_EQ(found->endpoint, "http://127.0.0.1:4567");
}

TEST_F(AwsSettingsTest, AProfileThatIsAskedForGoesBeforeKeysInTheEnvironment) {
    write_both();
    variables["AWS_ACCESS_KEY_ID"] = "AKENV";
    variables["AWS_SECRET_ACCESS_KEY"] = "secret/env";
    const auto found = read("plant");
    ASSERT_TRUE(found) << why;
    EXPECT_EQ(found->credential, (AwsCredential{"AKPLANT", "secret/plant", "token"}));
    EXPECT_EQ(found->region, "eu-central-1") << "an indented line is of a nested setting";
    EXPECT_EQ(found->ca_bundle, "ca.pem");
    EXPECT_EQ(found->endpoint, "https://plant:4568");
}

TEST_F(AwsSettingsTest, AProfileThatIsNowhereIsSaidSo) {
    write_both();
    ASSERT_FALSE(read("absent"));
    EXPECT_NE(why.find("'absent'"), std::string::npos) << why;
}

TEST_F(AwsSettingsTest, HalfACredentialIsRefused) {
    variables["AWS_ACCESS_KEY_ID"] = "AKENV";
    ASSERT_FALSE(read());
    EXPECT_NE(why.find("AWS_SECRET_ACCESS_KEY"), std::string::npos) << why;
}

}  // namespace
}  // namespace penstock
