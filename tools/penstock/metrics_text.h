// Reads what GET /metrics answers: the Prometheus text format 0.0.4.
//
// Runs on: any thread. A line that is none is left out, never trouble.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace penstock {

struct Sample {
    std::map<std::string, std::string, std::less<>> labels;
    double value = 0;
    // Empty if there is no such label.
    [[nodiscard]] const std::string& label(std::string_view name) const noexcept;
};

// One reading of /metrics.
class Scrape {
public:
    Scrape() = default;
    explicit Scrape(std::string_view text);

    // All samples of that name, in the order of the text.
    [[nodiscard]] const std::vector<Sample>& all(std::string_view name) const noexcept;
    // Sum over those with that label value.
    [[nodiscard]] double sum(std::string_view name) const noexcept;
    [[nodiscard]] double sum(std::string_view name, std::string_view label,
                             std::string_view value) const noexcept;
    // By a label's value, added up over the others.
    [[nodiscard]] std::map<std::string, double> by(std::string_view name,
                                                   std::string_view label) const;
    [[nodiscard]] bool empty() const noexcept { return samples_.empty(); }

private:
    std::map<std::string, std::vector<Sample>, std::less<>> samples_;
};

// How much each value of a label grew: by how much since `before`, or from zero where the value is
// less than it was, since then the node was started anew.
[[nodiscard]] std::map<std::string, double> grown(const Scrape& before, const Scrape& now,
                                                  std::string_view name, std::string_view label);

// A quantile of what a histogram took in between, in its unit; linear within a bucket. What lies
// above the last bound counts as that bound. Negative if nothing was taken in.
[[nodiscard]] double quantile_between(const Scrape& before, const Scrape& now,
                                      const std::string& name, double share);

}  // namespace penstock
