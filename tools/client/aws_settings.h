// Who a client is and whom it talks to, found where the AWS CLI finds it: the environment, then
// ~/.aws/credentials and ~/.aws/config.
//
// Runs on: any thread; reads files. Throws std::bad_alloc alone.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "storage/base/result.h"

namespace penstock {

struct AwsCredential {
    std::string access_key_id;  // empty: requests are not signed
    std::string secret_access_key;
    std::string session_token;
    friend bool operator==(const AwsCredential&, const AwsCredential&) = default;
};

struct AwsSettings {
    AwsCredential credential;
    std::string region = "us-east-1";
    std::string endpoint;   // empty: nothing names one
    std::string ca_bundle;  // a file of certificates; empty: the system's
    friend bool operator==(const AwsSettings&, const AwsSettings&) = default;
};

struct AwsSources {
    // A variable of the environment; null if it isn't set.
    std::function<const char*(const char* name)> environment;
    // Asked for by the user: it wins over keys in the environment, as in the CLI. Empty:
    // AWS_PROFILE, or "default".
    std::string profile;
};

// Of this process' environment.
[[nodiscard]] AwsSources process_sources(std::string profile = {});

// Errors: not_found when a profile that was asked for is in neither file, invalid_argument when it
// has half a credential; one line in `why`.
[[nodiscard]] Result<AwsSettings> read_aws_settings(const AwsSources& sources, std::string& why);

}  // namespace penstock
