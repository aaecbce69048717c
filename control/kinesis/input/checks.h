// Constraints of request members, with Kinesis' own words for each breach.
//
// Runs on: one control thread per object.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/kinesis/api_error.h"

namespace penstock::kinesis {

using OptionalText = std::optional<std::string_view>;
using OptionalInteger = std::optional<std::int64_t>;

inline constexpr std::string_view name_pattern = "[a-zA-Z0-9_.-]+";
inline constexpr std::string_view sequence_pattern = "0|([1-9]\\d{0,128})";
inline constexpr std::string_view hash_key_pattern = "0|([1-9]\\d{0,38})";
inline constexpr std::string_view arn_pattern = "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+";
inline constexpr std::string_view consumer_arn_pattern =
    "^(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/"
    "[a-zA-Z0-9_.-]+:[0-9]+";
inline constexpr std::string_view resource_arn_pattern =
    "arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+";
inline constexpr std::string_view stream_id_pattern = "[a-z0-9]{20}-[a-z0-9]{3}";

// arn:aws…:kinesis:REGION:ACCOUNT:stream/STREAM; the last ":stream/" is the one that counts.
struct StreamArn {
    std::string_view account;
    std::string_view stream;
};
[[nodiscard]] std::optional<StreamArn> parse_stream_arn(std::string_view text) noexcept;

// arn:aws…:kinesis:REGION:ACCOUNT:stream/STREAM/consumer/NAME:SECONDS
struct ConsumerArn {
    std::string_view account;
    std::string_view stream;
    std::string_view name;
    std::string_view created_s;
};
[[nodiscard]] std::optional<ConsumerArn> parse_consumer_arn(std::string_view text) noexcept;

// Characters, not bytes; `text` is valid UTF-8.
[[nodiscard]] std::size_t count_characters(std::string_view text) noexcept;

// Gathers what is wrong with a request; at most ten breaches are told.
class Checks {
public:
    // `value` is what the message shows; nullopt shows null.
    void add(std::string_view member, OptionalText value, std::string_view constraint);
    void required(std::string_view member, bool is_present);
    // Letters, digits, '_', '.', '-'; 1..128.
    void name(std::string_view member, OptionalText value);
    void length(std::string_view member, OptionalText value, std::size_t min, std::size_t max);
    void integer(std::string_view member, OptionalInteger value, std::int64_t min,
                 std::int64_t max = INT64_MAX);
    void choice(std::string_view member, OptionalText value,
                std::initializer_list<std::string_view> names) {
        choice(member, value, std::span(names.begin(), names.size()));
    }
    void choice(std::string_view member, OptionalText value,
                std::span<const std::string_view> names);
    // Decimal digits without leading zeros, at most `digits_max`.
    void decimal(std::string_view member, OptionalText value, std::string_view pattern,
                 std::size_t digits_max);
    void stream_arn(std::string_view member, OptionalText value);
    void consumer_arn(std::string_view member, OptionalText value);
    // Of a stream or something of a stream's, such as a consumer.
    void resource_arn(std::string_view member, OptionalText value);
    void stream_id(OptionalText value);
    // Keys of 1..128 characters, values of up to 256, 1..200 of them.
    using TextPairs = std::vector<std::pair<std::string_view, std::string_view>>;
    void tags(std::string_view member, const TextPairs& pairs);
    // 1..`max` members, of which each has 1..128 characters or is one of `names`.
    void texts(std::string_view member, const std::vector<std::string_view>& list, std::size_t max,
               std::span<const std::string_view> names = {});

    [[nodiscard]] bool full() const noexcept { return count_ >= count_max; }
    // "2 validation errors detected: …; …"
    [[nodiscard]] std::optional<ApiError> result() const;

private:
    static constexpr std::size_t count_max = 10;
    std::string text_;
    std::size_t count_ = 0;
};

}  // namespace penstock::kinesis
