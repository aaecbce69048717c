#include "control/metrics/registry.h"

#include <array>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <sstream>

#include <gtest/gtest.h>

namespace penstock::metrics {
namespace {

struct Sample {
    std::string name;
    std::map<std::string, std::string> labels;
    double value = 0;
};
struct Exposition {
    std::map<std::string, std::string> help;
    std::map<std::string, std::string> type;
    std::vector<Sample> samples;
};

std::string take_name(std::string_view& text) {
    std::size_t size = 0;
    while (size < text.size() && (std::isalnum(static_cast<unsigned char>(text[size])) != 0 ||
                                  text[size] == '_' || text[size] == ':')) {
        ++size;
    }
    std::string name(text.substr(0, size));
    text.remove_prefix(size);
    return name;
}

bool take(std::string_view& text, char c) {
    if (text.empty() || text.front() != c) {
        return false;
    }
    text.remove_prefix(1);
    return true;
}

std::optional<std::string> take_quoted(std::string_view& text) {
    if (!take(text, '"')) {
        return std::nullopt;
    }
    std::string value;
    while (!text.empty() && text.front() != '"') {
        char c = text.front();
        text.remove_prefix(1);
        if (c == '\\') {
            if (text.empty() ||
                (text.front() != 'n' && text.front() != '\\' && text.front() != '"')) {
                return std::nullopt;
            }
            c = text.front() == 'n' ? '\n' : text.front();
            text.remove_prefix(1);
        }
        value.push_back(c);
    }
    return take(text, '"') ? std::optional(value) : std::nullopt;
}

std::optional<Sample> parse_sample(std::string_view text) {
    Sample sample;
    sample.name = take_name(text);
    if (take(text, '{')) {
        do {
            const std::string label = take_name(text);
            if (label.empty() || !take(text, '=')) {
                return std::nullopt;
            }
            const auto value = take_quoted(text);
            if (!value || !sample.labels.emplace(label, *value).second) {
                return std::nullopt;
            }
        } while (take(text, ','));
        if (!take(text, '}')) {
            return std::nullopt;
        }
    }
    if (sample.name.empty() || !take(text, ' ')) {
        return std::nullopt;
    }
    const std::string number(text);
    char* end = nullptr;
    sample.value = std::strtod(number.c_str(), &end);
    return end != number.c_str() && *end == '\0' ? std::optional(sample) : std::nullopt;
}

// Reads the text format strictly: whatever it does not know is an error.
std::optional<Exposition> parse(const std::string& text) {
    Exposition all;
    if (!text.empty() && text.back() != '\n') {
        return std::nullopt;
    }
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::string_view rest = line;
        if (rest.starts_with("# HELP ") || rest.starts_with("# TYPE ")) {
            auto& into = rest.starts_with("# HELP ") ? all.help : all.type;
            rest.remove_prefix(7);
            const std::string name = take_name(rest);
            if (!take(rest, ' ') || !into.emplace(name, rest).second) {
                return std::nullopt;
            }
            continue;
        }
        auto sample = parse_sample(rest);
        if (!sample) {
            return std::nullopt;
        }
        all.samples.push_back(std::move(*sample));
    }
    return all;
}

constexpr std::array bounds{0.001, 0.01, 0.1};
constexpr std::array<std::uint64_t, 4> counts{5, 0, 2, 1};

void fill(Registry& registry) {
    registry.add(Kind::counter, "penstock_dropped_total", "Packets dropped,\nby \\reason.",
                 [](Samples& samples) {
                     samples.add(std::uint64_t{18'446'744'073'709'551'615U},
                                 {{"reason", "a\"b\\c\nd"}});
                     samples.add(std::uint64_t{2}, {{"reason", "crc"}, {"lane", "1"}});
                 });
    registry.add(Kind::gauge, "penstock_lane_busy_ratio", "Share of time.", [](Samples& samples) {
        samples.add(0.25);
        samples.add(std::nan(""), {{"lane", "1"}});
    });
    registry.add(
        Kind::histogram, "penstock_commit_latency_seconds", "Latency.",
        [](Samples& samples) { samples.add({bounds, counts, 0.375}, {{"level", "quorum"}}); });
}

TEST(Metrics, TextIsReadByAnIndependentParserAndEveryMetricIsDescribed) {
    Registry registry;
    fill(registry);
    const auto all = parse(registry.render());
    ASSERT_TRUE(all) << registry.render();
    EXPECT_EQ(all->help.at("penstock_dropped_total"), "Packets dropped,\\nby \\\\reason.");
    EXPECT_EQ(all->samples[0].labels.at("reason"), "a\"b\\c\nd");
    EXPECT_NE(registry.render().find(" 18446744073709551615\n"), std::string::npos);
    for (const Sample& sample : all->samples) {
        std::string family = sample.name;
        if (!all->type.contains(family)) {
            family = family.substr(0, family.rfind('_'));
            EXPECT_EQ(all->type.at(family), "histogram");
        }
        EXPECT_FALSE(all->help.at(family).empty());
        EXPECT_EQ(all->type.at(family) == "counter", family.ends_with("_total"));
    }
}

TEST(Metrics, HistogramBucketsAreCumulativeAndEndAtTheCount) {
    Registry registry;
    fill(registry);
    const auto all = parse(registry.render());
    ASSERT_TRUE(all);
    std::vector<std::pair<std::string, double>> seen;
    for (const Sample& sample : all->samples) {
        if (sample.name.starts_with("penstock_commit_latency_seconds_")) {
            EXPECT_EQ(sample.labels.at("level"), "quorum");
            const auto le = sample.labels.find("le");
            seen.emplace_back(le == sample.labels.end() ? sample.name.substr(32) : le->second,
                              sample.value);
        }
    }
    const std::vector<std::pair<std::string, double>> expected{
        {"0.001", 5}, {"0.01", 5}, {"0.1", 7}, {"+Inf", 8}, {"sum", 0.375}, {"count", 8}};
    EXPECT_EQ(seen, expected);
}

TEST(Metrics, NamesThatBreakTheRulesAreRefused) {
    EXPECT_EQ(check_family(Kind::counter, "penstock_a_total", "h"), "");
    EXPECT_NE(check_family(Kind::counter, "penstock_a", "h"), "");
    EXPECT_NE(check_family(Kind::gauge, "penstock_a_total", "h"), "");
    EXPECT_NE(check_family(Kind::gauge, "other_a", "h"), "");
    EXPECT_NE(check_family(Kind::gauge, "penstock_A", "h"), "");
    EXPECT_NE(check_family(Kind::gauge, "penstock_a_count", "h"), "");
    EXPECT_NE(check_family(Kind::gauge, "penstock_a", ""), "");
    Registry registry;
    fill(registry);
    EXPECT_DEATH(fill(registry), "");
}

class Answer final : public http::ResponseSink {
public:
    void respond(http::ConnectionId, http::StreamId, http::HttpResponse&& response) override {
        response_ = std::move(response);
    }
    bool is_open(http::ConnectionId) const noexcept override { return true; }
    http::HttpResponse response_{.status = 0, .content_type = {}, .headers = {}, .body = {}};
};

TEST(Metrics, StatusPagesTellHealthReadinessAndMetricsAndLeaveTheRest) {
    Registry registry;
    fill(registry);
    std::string reason = "two replicas are missing";
    const StatusPages pages(registry, [&reason] { return reason; });
    Answer answer;
    const auto ask = [&](std::string_view method, std::string_view target) {
        http::HttpExchange exchange(answer, http::ConnectionId{1}, http::StreamId{1},
                                    http::HttpRequest::make(method, target, {}, ""));
        const bool handled = pages.handle(exchange);
        if (!handled) {
            exchange.respond(http::HttpResponse::text(404, "left"));
        }
        return std::pair{answer.response_.status, answer.response_.body};
    };
    EXPECT_EQ(ask("GET", "/healthz"), std::pair(200, std::string("ok\n")));
    EXPECT_EQ(ask("GET", "/readyz"), std::pair(503, reason + "\n"));
    reason.clear();
    EXPECT_EQ(ask("GET", "/readyz?verbose").first, 200);
    EXPECT_EQ(ask("GET", "/metrics"), std::pair(200, registry.render()));
    EXPECT_EQ(answer.response_.content_type, "text/plain; version=0.0.4; charset=utf-8");
    EXPECT_EQ(ask("POST", "/metrics").first, 405);
    EXPECT_EQ(ask("GET", "/metricsx").first, 404);
}

}  // namespace
}  // namespace penstock::metrics
