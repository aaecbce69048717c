// The sending side of SigV4, written without the code under test: OpenSSL's one-shot calls only.
#pragma once

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/http/message.h"

namespace penstock::auth {

using Headers = std::vector<std::pair<std::string, std::string>>;

inline std::string test_hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        char two[3];
        std::snprintf(two, sizeof(two), "%02x",
                      static_cast<unsigned>(static_cast<unsigned char>(c)));
        out += two;
    }
    return out;
}
inline std::string test_sha256(std::string_view text) {
    unsigned char digest[32];
    unsigned size = 0;
    EVP_Digest(text.data(), text.size(), digest, &size, EVP_sha256(), nullptr);
    return test_hex({reinterpret_cast<char*>(digest), size});
}
inline std::string test_hmac(std::string_view key, std::string_view text) {
    unsigned char digest[32];
    unsigned size = 0;
    HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()),
         reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest, &size);
    return {reinterpret_cast<char*>(digest), size};
}

// One request that is signed by hand; what a test wants different, it sets.
struct TestRequest {
    std::string method = "POST";
    std::string path = "/";
    std::string query;           // as sent, and canonical
    std::string canonical_path;  // empty: the path
    Headers headers;             // without host, date and authorization
    std::string host_name = "host";
    std::string host = "127.0.0.1:4567";
    std::string body = "{}";
    std::string key_id = "AKIDEXAMPLE";
    std::string secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    std::string time = "20261123T084142Z";
    std::string region = "us-east-1";
    std::string service = "kinesis";
    std::string payload_hash;  // empty: of the body
    std::vector<std::string> unsigned_names;

    // As signed: sent with another body, it was tampered with.
    [[nodiscard]] std::unique_ptr<http::HttpRequest> make(const std::string* sent_body = nullptr) {
        Headers all = headers;
        all.insert(all.begin(), {host_name, host});
        all.emplace_back("X-Amz-Date", time);
        std::map<std::string, std::string> canonical;
        for (const auto& [name, value] : all) {
            std::string lower = name;
            std::transform(lower.begin(), lower.end(), lower.begin(),
                           [](unsigned char c) { return std::tolower(c); });
            if (std::find(unsigned_names.begin(), unsigned_names.end(), lower) ==
                unsigned_names.end()) {
                auto& joined = canonical[lower];
                joined += (joined.empty() ? "" : ",") + value;
            }
        }
        std::string names;
        std::string text =
            method + "\n" + (canonical_path.empty() ? path : canonical_path) + "\n" + query + "\n";
        for (const auto& [name, value] : canonical) {
            text += name + ":" + value + "\n";
            names += (names.empty() ? "" : ";") + name;
        }
        text += "\n" + names + "\n" + (payload_hash.empty() ? test_sha256(body) : payload_hash);
        const std::string date = time.substr(0, 8);
        const std::string scope = date + "/" + region + "/" + service + "/aws4_request";
        const std::string to_sign =
            "AWS4-HMAC-SHA256\n" + time + "\n" + scope + "\n" + test_sha256(text);
        std::string key = test_hmac("AWS4" + secret, date);
        key = test_hmac(key, region);
        key = test_hmac(key, service);
        key = test_hmac(key, "aws4_request");
        all.emplace_back("Authorization", "AWS4-HMAC-SHA256 Credential=" + key_id + "/" + scope +
                                              ", SignedHeaders=" + names +
                                              ", Signature=" + test_hex(test_hmac(key, to_sign)));
        return http::HttpRequest::make(method, path + (query.empty() ? "" : "?" + query), all,
                                       sent_body == nullptr ? body : *sent_body);
    }
};

}  // namespace penstock::auth
