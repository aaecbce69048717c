#include "tools/client/aws_settings.h"

#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>

namespace penstock {
namespace {

using Section = std::map<std::string, std::string, std::less<>>;
using Sections = std::map<std::string, Section, std::less<>>;

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blank = " \t\r\n";
    const std::size_t first = text.find_first_not_of(blank);
    if (first == std::string_view::npos) {
        return {};
    }
    return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

// Sections of `name = value` lines. Indented lines belong to a nested setting, which none of ours
// is; a comment begins a line.
Sections read_sections(const std::string& path) {
    Sections out;
    std::ifstream file(path);
    Section* section = nullptr;
    for (std::string line; std::getline(file, line);) {
        const std::string_view text = trimmed(line);
        if (text.empty() || text.front() == '#' || text.front() == ';') {
            continue;
        }
        if (text.front() == '[' && text.back() == ']') {
            std::string_view name = trimmed(text.substr(1, text.size() - 2));
            if (name.starts_with("profile ") || name.starts_with("profile\t")) {
                name = trimmed(name.substr(8));
            }
            section = &out[std::string(name)];
            continue;
        }
        const std::size_t equals = text.find('=');
        if (section == nullptr || equals == std::string_view::npos || line.front() == ' ' ||
            line.front() == '\t') {
            continue;
        }
        (*section)[std::string(trimmed(text.substr(0, equals)))] =
            trimmed(text.substr(equals + 1));
    }
    return out;
}

class Reader {
public:
    explicit Reader(const AwsSources& sources) : sources_(sources) {
        profile_ = !sources.profile.empty() ? sources.profile
                   : variable("AWS_PROFILE").value_or(
                         variable("AWS_DEFAULT_PROFILE").value_or("default"));
        const std::string home = variable("HOME").value_or("") + "/.aws/";
        config_ = read_sections(variable("AWS_CONFIG_FILE").value_or(home + "config"));
        credentials_ =
            read_sections(variable("AWS_SHARED_CREDENTIALS_FILE").value_or(home + "credentials"));
    }

    Result<AwsSettings> read(std::string& why) const {
        if (profile_ != "default" && !config_.contains(profile_) &&
            !credentials_.contains(profile_)) {
            why = "profile '" + profile_ +
                  "': found in neither ~/.aws/credentials nor ~/.aws/config; expected a [" +
                  profile_ + "] there";
            return fail(Errc::not_found);
        }
        AwsSettings out;
        if (!read_credential(out.credential)) {
            why = "credential: found an access key id without its secret, or the other way "
                  "round; expected AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or both in the "
                  "profile '" +
                  profile_ + "'";
            return fail(Errc::invalid_argument);
        }
        const auto first_of = [&](std::initializer_list<const char*> names, const char* setting) {
            for (const char* name : names) {
                if (auto found = variable(name)) {
                    return *found;
                }
            }
            return of_profile(config_, setting);
        };
        if (std::string region = first_of({"AWS_REGION", "AWS_DEFAULT_REGION"}, "region");
            !region.empty()) {
            out.region = std::move(region);
        }
        out.endpoint = first_of({"AWS_ENDPOINT_URL_KINESIS", "AWS_ENDPOINT_URL"}, "endpoint_url");
        out.ca_bundle = first_of({"AWS_CA_BUNDLE"}, "ca_bundle");
        return out;
    }

private:
    [[nodiscard]] std::optional<std::string> variable(const char* name) const {
        const char* const found = sources_.environment(name);
        return found == nullptr || *found == 0 ? std::nullopt : std::optional<std::string>(found);
    }
    [[nodiscard]] std::string of_profile(const Sections& sections, std::string_view setting) const {
        const auto section = sections.find(profile_);
        if (section == sections.end()) {
            return {};
        }
        const auto found = section->second.find(setting);
        return found == section->second.end() ? std::string() : found->second;
    }
    // False: half of one.
    bool read_credential(AwsCredential& out) const {
        if (sources_.profile.empty()) {
            out = {variable("AWS_ACCESS_KEY_ID").value_or(""),
                   variable("AWS_SECRET_ACCESS_KEY").value_or(""),
                   variable("AWS_SESSION_TOKEN").value_or("")};
        }
        for (const Sections* const sections : {&credentials_, &config_}) {
            if (out.access_key_id.empty() && out.secret_access_key.empty()) {
                out = {of_profile(*sections, "aws_access_key_id"),
                       of_profile(*sections, "aws_secret_access_key"),
                       of_profile(*sections, "aws_session_token")};
            }
        }
        return out.access_key_id.empty() == out.secret_access_key.empty();
    }

    const AwsSources& sources_;
    std::string profile_;
    Sections config_;
    Sections credentials_;
};

}  // namespace

AwsSources process_sources(std::string profile) {
    return {[](const char* name) { return static_cast<const char*>(std::getenv(name)); },
            std::move(profile)};
}

Result<AwsSettings> read_aws_settings(const AwsSources& sources, std::string& why) {
    return Reader(sources).read(why);
}

}  // namespace penstock
