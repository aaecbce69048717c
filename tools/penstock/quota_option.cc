#include "tools/penstock/quota_option.h"

#include <charconv>

#include "tools/penstock/config.h"

namespace penstock {

namespace {

constexpr std::uint64_t bytes_min = 64U << 10;
constexpr std::uint64_t bytes_max = 1U << 30;
constexpr std::uint64_t count_max = 1'000'000;
constexpr std::uint64_t on_demand_shards_most = 10'000;

bool read_bytes(std::string_view text, std::uint64_t& out) {
    const auto bytes = parse_size(text);
    out = bytes.value_or(0);
    return out >= bytes_min && out <= bytes_max;
}

bool read_count(std::string_view text, std::uint64_t& out) {
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), out);
    return fault == std::errc{} && end == text.data() + text.size() && out >= 1 && out <= count_max;
}

// At least one part, and each may be there once more: the last one counts.
template <typename ReadPart>
bool read_parts(std::string_view text, const ReadPart& read) {
    while (true) {
        const std::size_t comma = text.find(',');
        const std::string_view part = text.substr(0, comma);
        const std::size_t equals = part.find('=');
        if (equals == std::string_view::npos ||
            !read(part.substr(0, equals), part.substr(equals + 1))) {
            return false;
        }
        if (comma == std::string_view::npos) {
            return true;
        }
        text.remove_prefix(comma + 1);
    }
}

bool read_seconds(std::string_view text, std::uint64_t& out_ms) {
    std::uint64_t seconds = 0;
    const bool sound = read_count(text, seconds);
    out_ms = seconds * 1000;
    return sound;
}

bool read_shards(std::string_view text, std::uint32_t& out) {
    std::uint64_t count = 0;
    const bool sound = read_count(text, count) && count <= on_demand_shards_most;
    out = static_cast<std::uint32_t>(count);
    return sound;
}

}  // namespace

std::optional<std::string> read_on_demand(std::string_view text, kinesis::OnDemandLimits& out) {
    kinesis::OnDemandLimits limits;
    if (text == "off") {
        limits.automatic = false;
    } else if (!read_parts(text, [&](std::string_view name, std::string_view value) {
                   return (name == "in" && read_bytes(value, limits.bytes_per_s)) ||
                          (name == "in-records" && read_count(value, limits.records_per_s)) ||
                          (name == "split-after" && read_seconds(value, limits.split_after_ms)) ||
                          (name == "merge-after" && read_seconds(value, limits.merge_after_ms)) ||
                          (name == "shards-max" && read_shards(value, limits.shards_max));
               })) {
        return "expected off, or some of in=BYTES, in-records=N (per second of a shard), "
               "split-after=SECONDS, merge-after=SECONDS and shards-max=N, such as "
               "in=4MiB,in-records=5000; bytes are from 64KiB to 1GiB, shards from 1 to 10000, the "
               "others from 1 to 1000000";
    }
    out = limits;
    return std::nullopt;
}

std::optional<std::string> read_shard_quota(std::string_view text,
                                            std::optional<kinesis::ShardQuotaLimits>& out) {
    if (text == "unlimited") {
        out.reset();
        return std::nullopt;
    }
    kinesis::ShardQuotaLimits limits;
    const auto read = [&](std::string_view name, std::string_view value) {
        return (name == "in" && read_bytes(value, limits.write_bytes)) ||
               (name == "in-records" && read_count(value, limits.write_records)) ||
               (name == "out" && read_bytes(value, limits.read_bytes)) ||
               (name == "out-calls" && read_count(value, limits.read_calls));
    };
    if (text != "aws" && !read_parts(text, read)) {
        return "expected unlimited, aws, or some of in=BYTES, in-records=N, out=BYTES and "
               "out-calls=N, per second, such as in=4MiB,in-records=5000; bytes are from 64KiB "
               "to 1GiB, N from 1 to 1000000";
    }
    out = limits;
    return std::nullopt;
}

}  // namespace penstock
