#include "tools/penstock/metrics_text.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace penstock {
namespace {

// A number as the format has it; also +Inf, -Inf and NaN.
[[nodiscard]] std::optional<double> number_of(std::string_view text) {
    if (text == "+Inf") {
        return std::numeric_limits<double>::infinity();
    }
    double number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

// `{a="b",c="d"}` at the front of `rest`, which then starts behind it. False if it is malformed.
[[nodiscard]] bool take_labels(std::string_view& rest, Sample& sample) {
    rest.remove_prefix(1);
    while (!rest.empty() && rest.front() != '}') {
        const auto equals = rest.find("=\"");
        if (equals == std::string_view::npos) {
            return false;
        }
        std::string& value = sample.labels[std::string(rest.substr(0, equals))];
        rest.remove_prefix(equals + 2);
        while (!rest.empty() && rest.front() != '"') {
            char c = rest.front();
            rest.remove_prefix(1);
            if (c == '\\' && !rest.empty()) {
                c = rest.front() == 'n' ? '\n' : rest.front();
                rest.remove_prefix(1);
            }
            value.push_back(c);
        }
        if (rest.empty()) {
            return false;
        }
        rest.remove_prefix(1);
        if (rest.starts_with(',')) {
            rest.remove_prefix(1);
        }
    }
    if (rest.empty()) {
        return false;
    }
    rest.remove_prefix(1);
    return true;
}

}  // namespace

const std::string& Sample::label(std::string_view name) const noexcept {
    static const std::string none;
    const auto it = labels.find(name);
    return it == labels.end() ? none : it->second;
}

Scrape::Scrape(std::string_view text) {
    while (!text.empty()) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view rest = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        const std::size_t name_end = rest.find_first_of("{ ");
        if (rest.starts_with('#') || name_end == std::string_view::npos || name_end == 0) {
            continue;
        }
        const std::string_view name = rest.substr(0, name_end);
        rest.remove_prefix(name_end);
        Sample sample;
        if (rest.front() == '{' && !take_labels(rest, sample)) {
            continue;
        }
        if (!rest.starts_with(' ')) {
            continue;
        }
        const auto value = number_of(rest.substr(1));
        if (!value) {
            continue;
        }
        sample.value = *value;
        auto it = samples_.find(name);
        if (it == samples_.end()) {
            it = samples_.emplace(name, std::vector<Sample>{}).first;
        }
        it->second.push_back(std::move(sample));
    }
}

const std::vector<Sample>& Scrape::all(std::string_view name) const noexcept {
    static const std::vector<Sample> none;
    const auto it = samples_.find(name);
    return it == samples_.end() ? none : it->second;
}

double Scrape::sum(std::string_view name) const noexcept {
    double total = 0;
    for (const Sample& sample : all(name)) {
        total += sample.value;
    }
    return total;
}

double Scrape::sum(std::string_view name, std::string_view label,
                   std::string_view value) const noexcept {
    double total = 0;
    for (const Sample& sample : all(name)) {
        total += sample.label(label) == value ? sample.value : 0;
    }
    return total;
}

std::map<std::string, double> Scrape::by(std::string_view name, std::string_view label) const {
    std::map<std::string, double> sums;
    for (const Sample& sample : all(name)) {
        sums[sample.label(label)] += sample.value;
    }
    return sums;
}

std::map<std::string, double> grown(const Scrape& before, const Scrape& now, std::string_view name,
                                    std::string_view label) {
    const auto old = before.by(name, label);
    auto sums = now.by(name, label);
    for (auto& [key, value] : sums) {
        const auto it = old.find(key);
        value -= it == old.end() || it->second > value ? 0 : it->second;
    }
    return sums;
}

double quantile_between(const Scrape& before, const Scrape& now, const std::string& name,
                        double share) {
    std::map<double, double> counts;  // cumulative, by upper bound
    for (const auto& [bound, count] : grown(before, now, name + "_bucket", "le")) {
        if (const auto number = number_of(bound)) {
            counts[*number] = count;
        }
    }
    const double total = counts.empty() ? 0 : counts.rbegin()->second;
    if (total <= 0) {
        return -1;
    }
    double lower = 0;
    double below = 0;
    for (const auto& [upper, count] : counts) {
        if (count >= share * total) {
            return std::isinf(upper) ? lower
                                     : lower + (upper - lower) * (share * total - below) /
                                                   std::max(count - below, 1.0);
        }
        lower = upper;
        below = count;
    }
    return lower;
}

}  // namespace penstock
