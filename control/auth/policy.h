// Policies: which actions on which resources are allowed or denied, in the JSON that AWS' IAM uses.
//
// A policy belongs to a credential, or to a stream (then its statements also say whom they mean).
// What no statement allows is denied, and a statement that denies wins over any that allows.
//
// Runs on: any thread; a policy does not change once it is made.
// Guarantees: what a policy cannot express here (Condition, an unknown member, a Principal that
// nobody can be) is refused when it is read, and never ignored. Format:
// docs/operations/credentials.md.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::auth {

inline constexpr std::size_t policy_bytes_max = 20 * 1024;  // as AWS has it for resource policies

// '*' stands for any characters, '?' for one.
[[nodiscard]] bool matches(std::string_view pattern, std::string_view text,
                           bool ignoring_case = false) noexcept;

// What a credential may be called, and a Principal can end with: 1 to 64 letters, digits, '_', '.'
// and '-'.
[[nodiscard]] bool is_credential_name(std::string_view name) noexcept;

enum class Decision : std::uint8_t { none, allow, deny };

// Who asks: what a Principal is compared with.
struct Asker {
    std::string_view arn;      // arn:aws:iam::000000000000:user/reader
    std::string_view account;  // 000000000000
};

class Policy {
public:
    enum class Kind : std::uint8_t {
        of_credential,
        of_resource,
        // One that stands in the catalog. Earlier builds took any text for a Principal; such a one
        // matches nobody, as it did, and the stream stays.
        of_resource_kept,
    };
    // The error is one line for people.
    [[nodiscard]] static std::expected<Policy, std::string> parse(std::string_view json, Kind kind);

    // `asker` counts for a resource's policy only. There an Allow for a whole account gives nothing
    // by itself, as in AWS within one account: the credential's own policy decides.
    [[nodiscard]] Decision decide(std::string_view action, std::string_view resource,
                                  const Asker& asker = {}) const noexcept;
    [[nodiscard]] const std::string& json() const noexcept { return json_; }

private:
    struct Statement {
        bool allows = false;
        bool not_actions = false;
        bool not_resources = false;
        std::vector<std::string> actions;
        std::vector<std::string> resources;
        std::vector<std::string> principals;  // "*", an account, a credential's ARN
        [[nodiscard]] bool covers(std::string_view action, std::string_view resource,
                                  const Asker& asker) const noexcept;
        [[nodiscard]] bool means(const Asker& asker) const noexcept;
    };
    friend class PolicyReader;

    Kind kind_ = Kind::of_credential;
    std::string json_;
    std::vector<Statement> statements_;
};

}  // namespace penstock::auth
