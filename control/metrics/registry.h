// Metrics in the Prometheus text format 0.0.4, gathered by callbacks when somebody asks.
//
// Nothing is counted here: lanes and control threads keep their own counters, and a collector reads
// them at scrape time.
//
// Runs on: the control thread that serves /metrics; add() before the server starts.
#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "control/http/server.h"
#include "storage/base/histogram.h"

namespace penstock::metrics {

enum class Kind : std::uint8_t { counter, gauge, histogram };

struct Label {
    std::string_view name;
    std::string_view value;
};
using Labels = std::initializer_list<Label>;

// A histogram as its owner holds it: bounds ascending in the metric's unit; counts has one entry
// per bound and one more for what lies above the last, each not cumulative.
struct HistogramView {
    std::span<const double> bounds;
    std::span<const std::uint64_t> counts;
    double sum = 0;
};

// Writes the samples of one family; given to the family's collector.
class Samples {
public:
    Samples(std::string& out, std::string_view family, Kind kind) noexcept
        : out_(out), family_(family), kind_(kind) {}

    void add(std::uint64_t value, Labels labels = {});
    void add(double value, Labels labels = {});
    void add(const HistogramView& histogram, Labels labels = {});
    // A histogram of nanoseconds as one of seconds, with buckets up to each of `bounds_ns`.
    void add_ns(const HistogramSnapshot& histogram, std::span<const std::uint64_t> bounds_ns,
                Labels labels = {});

private:
    void line(std::string_view suffix, Labels labels, std::string_view extra_name,
              std::string_view extra_value, std::string_view value);

    std::string& out_;
    std::string_view family_;
    Kind kind_;
};

using Collector = std::function<void(Samples&)>;

class Registry {
public:
    // `name` and `help` must follow the rules check_family() states; a breach is a bug and aborts.
    void add(Kind kind, std::string name, std::string help, Collector collector);
    [[nodiscard]] std::string render() const;

private:
    struct Family {
        Kind kind;
        std::string name;
        std::string help;
        Collector collector;
    };
    std::vector<Family> families_;
};

// What is wrong with a family's name or help, as one line; empty when nothing is. Counters end in
// _total, other kinds do not; all start with penstock_ and use a-z, 0-9 and _ alone.
[[nodiscard]] std::string check_family(Kind kind, std::string_view name, std::string_view help);

// Answers GET and HEAD of /healthz, /readyz and /metrics; other paths are left to the caller.
class StatusPages {
public:
    // `not_ready` returns why the node cannot serve yet, or an empty string.
    StatusPages(const Registry& registry, std::function<std::string()> not_ready)
        : registry_(registry), not_ready_(std::move(not_ready)) {}
    // True when the path was one of these; the exchange is then answered. `tells_why`: /readyz
    // says what is wrong and not only that something is.
    [[nodiscard]] bool handle(http::HttpExchange& exchange, bool tells_why = true) const;

private:
    const Registry& registry_;
    std::function<std::string()> not_ready_;
};

}  // namespace penstock::metrics
