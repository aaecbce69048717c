#include "control/metrics/registry.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <numeric>

#include "storage/base/check.h"

namespace penstock::metrics {
namespace {

constexpr std::string_view content_type = "text/plain; version=0.0.4; charset=utf-8";

std::string_view kind_name(Kind kind) noexcept {
    switch (kind) {
        case Kind::counter:
            return "counter";
        case Kind::gauge:
            return "gauge";
        case Kind::histogram:
            return "histogram";
    }
    return "untyped";
}

std::string number(double value) {
    if (std::isnan(value)) {
        return "NaN";
    }
    if (std::isinf(value)) {
        return value > 0 ? "+Inf" : "-Inf";
    }
    // The shortest text that reads back as the same value.
    std::array<char, 32> text;
    const auto [end, code] = std::to_chars(text.data(), text.data() + text.size(), value);
    PENSTOCK_CHECK(code == std::errc{});
    return {text.data(), end};
}

void append_escaped(std::string& out, std::string_view text, bool in_quotes) {
    for (const char c : text) {
        if (c == '\\') {
            out.append("\\\\");
        } else if (c == '\n') {
            out.append("\\n");
        } else if (c == '"' && in_quotes) {
            out.append("\\\"");
        } else {
            out.push_back(c);
        }
    }
}

double seconds(std::uint64_t ns) noexcept {
    return static_cast<double>(ns) / 1e9;
}

}  // namespace

void Samples::line(std::string_view suffix, Labels labels, std::string_view extra_name,
                   std::string_view extra_value, std::string_view value) {
    out_.append(family_).append(suffix);
    char separator = '{';
    const auto label = [&](std::string_view label_name, std::string_view label_value) {
        out_.push_back(separator);
        out_.append(label_name).append("=\"");
        append_escaped(out_, label_value, true);
        out_.push_back('"');
        separator = ',';
    };
    for (const Label& each : labels) {
        label(each.name, each.value);
    }
    if (!extra_name.empty()) {
        label(extra_name, extra_value);
    }
    if (separator == ',') {
        out_.push_back('}');
    }
    out_.push_back(' ');
    out_.append(value).push_back('\n');
}

void Samples::add(std::uint64_t value, Labels labels) {
    PENSTOCK_CHECK(kind_ != Kind::histogram);
    line({}, labels, {}, {}, std::to_string(value));
}

void Samples::add(double value, Labels labels) {
    PENSTOCK_CHECK(kind_ != Kind::histogram);
    line({}, labels, {}, {}, number(value));
}

void Samples::add(const HistogramView& histogram, Labels labels) {
    PENSTOCK_CHECK(kind_ == Kind::histogram);
    PENSTOCK_CHECK(histogram.counts.size() == histogram.bounds.size() + 1);
    std::uint64_t cumulative = 0;
    for (std::size_t i = 0; i < histogram.bounds.size(); ++i) {
        cumulative += histogram.counts[i];
        line("_bucket", labels, "le", number(histogram.bounds[i]), std::to_string(cumulative));
    }
    cumulative += histogram.counts.back();
    line("_bucket", labels, "le", "+Inf", std::to_string(cumulative));
    line("_sum", labels, {}, {}, number(histogram.sum));
    line("_count", labels, {}, {}, std::to_string(cumulative));
}

void Samples::add_ns(const HistogramSnapshot& histogram, std::span<const std::uint64_t> bounds_ns,
                     Labels labels) {
    std::vector<std::uint64_t> counts(bounds_ns.size() + 1);
    histogram.cumulative(bounds_ns, counts);
    counts.back() = histogram.count;
    std::adjacent_difference(counts.begin(), counts.end(), counts.begin());
    std::vector<double> bounds(bounds_ns.size());
    std::transform(bounds_ns.begin(), bounds_ns.end(), bounds.begin(), seconds);
    add(HistogramView{bounds, counts, seconds(histogram.sum)}, labels);
}

std::string check_family(Kind kind, std::string_view name, std::string_view help) {
    const std::string shown(name);
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!name.starts_with("penstock_") || !plain) {
        return shown + ": a metric is named penstock_ and a-z, 0-9 and _";
    }
    if (name.ends_with("_total") != (kind == Kind::counter)) {
        return shown + ": counters, and only they, end in _total";
    }
    for (const std::string_view suffix : {"_bucket", "_sum", "_count"}) {
        if (name.ends_with(suffix)) {
            return shown + ": " + std::string(suffix) + " belongs to the samples of histograms";
        }
    }
    if (help.empty()) {
        return shown + ": a metric needs a help text";
    }
    return {};
}

void Registry::add(Kind kind, std::string name, std::string help, Collector collector) {
    PENSTOCK_CHECK(check_family(kind, name, help).empty());
    PENSTOCK_CHECK(std::none_of(families_.begin(), families_.end(),
                                [&name](const Family& family) { return family.name == name; }));
    families_.push_back({kind, std::move(name), std::move(help), std::move(collector)});
}

std::string Registry::render() const {
    std::string out;
    for (const Family& family : families_) {
        out.append("# HELP ").append(family.name).push_back(' ');
        append_escaped(out, family.help, false);
        out.append("\n# TYPE ").append(family.name).push_back(' ');
        out.append(kind_name(family.kind)).push_back('\n');
        Samples samples(out, family.name, family.kind);
        family.collector(samples);
    }
    return out;
}

bool StatusPages::handle(http::HttpExchange& exchange, bool tells_why) const {
    const http::HttpRequest& request = exchange.request();
    const bool known =
        request.path == "/healthz" || request.path == "/readyz" || request.path == "/metrics";
    if (!known) {
        return false;
    }
    if (request.method != "GET" && request.method != "HEAD") {
        http::HttpResponse response =
            http::HttpResponse::text(405, "Only GET and HEAD are accepted.");
        response.headers.emplace_back("Allow", "GET, HEAD");
        exchange.respond(std::move(response));
    } else if (request.path == "/healthz") {
        exchange.respond(http::HttpResponse::text(200, "ok"));
    } else if (request.path == "/readyz") {
        const std::string reason = not_ready_();
        exchange.respond(http::HttpResponse::text(reason.empty() ? 200 : 503,
                                                  reason.empty() ? std::string_view("ready")
                                                  : tells_why    ? std::string_view(reason)
                                                                 : std::string_view("not ready")));
    } else {
        http::HttpResponse response;
        response.content_type = content_type;
        response.body = registry_.render();
        exchange.respond(std::move(response));
    }
    return true;
}

}  // namespace penstock::metrics
