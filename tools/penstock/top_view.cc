#include "tools/penstock/top_view.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <span>

#include "control/node/storage_watch.h"

namespace penstock {
namespace {

// "1234", "12.3k", "4.56M": at most five characters up to 10^14.
[[nodiscard]] std::string short_number(double value) {
    static constexpr std::array<const char*, 5> units{"", "k", "M", "G", "T"};
    std::size_t unit = 0;
    while (value >= 9999.5 && unit + 1 < units.size()) {
        value /= 1000;
        ++unit;
    }
    char text[32];
    const bool whole = unit == 0 && (value >= 99.5 || value == std::floor(value));
    std::snprintf(text, sizeof text, "%.*f%s", whole || value >= 999.5 ? 0 : 1, value, units[unit]);
    return text;
}

// "1 shard", "12.3k shards".
[[nodiscard]] std::string counted_short(double value, const char* noun) {
    return short_number(value) + " " + noun + (value == 1 ? "" : "s");
}

[[nodiscard]] std::string printable(std::string text) {
    std::ranges::replace_if(
        text, [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, '?');
    return text;
}

[[nodiscard]] std::string milliseconds(double seconds) {
    if (seconds < 0) {
        return "-";
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.2f ms", seconds * 1e3);
    return text;
}

[[nodiscard]] std::string share_of(double part, double whole) {
    if (!(whole > 0)) {
        return "-";
    }
    char text[32];
    std::snprintf(text, sizeof text, "%.0f %%", 100 * part / whole);
    return text;
}

// Characters, not bytes.
[[nodiscard]] std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0) != 0x80; }));
}

// Rows of cells, the first of them the heading. A heading that starts with '<' is that of a column
// of text, which is set to the left; numbers go to the right.
class Table {
public:
    explicit Table(std::vector<std::string> headings) {
        for (std::string& heading : headings) {
            left_.push_back(heading.starts_with('<'));
            if (left_.back()) {
                heading.erase(0, 1);
            }
        }
        rows_.push_back(std::move(headings));
    }
    void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

    [[nodiscard]] std::vector<TopLine> lines() const {
        std::vector<std::size_t> widths(left_.size());
        for (const auto& row : rows_) {
            for (std::size_t i = 0; i < row.size(); ++i) {
                widths[i] = std::max(widths[i], width_of(row[i]));
            }
        }
        std::vector<TopLine> lines;
        for (const auto& row : rows_) {
            std::string line;
            for (std::size_t i = 0; i < row.size(); ++i) {
                const std::string pad(widths[i] - width_of(row[i]), ' ');
                line += (i == 0 ? "" : "  ") + (left_[i] ? row[i] + pad : pad + row[i]);
            }
            line.erase(line.find_last_not_of(' ') + 1);
            lines.push_back({std::move(line), lines.empty()});
        }
        return lines;
    }

private:
    std::vector<std::vector<std::string>> rows_;
    std::vector<bool> left_;
};

class View {
public:
    View(const Scrape& before, const Scrape& now, const TopOptions& options)
        : before_(before), now_(now), options_(options) {}

    // Growth per second by label; empty text where there is no earlier reading.
    [[nodiscard]] std::string rate(double growth) const {
        return options_.seconds > 0 ? short_number(growth / options_.seconds) : "-";
    }
    [[nodiscard]] std::string megabytes(double growth) const {
        if (!(options_.seconds > 0)) {
            return "-";
        }
        char text[32];
        std::snprintf(text, sizeof text, "%.2f", growth / options_.seconds / 1e6);
        return text;
    }
    [[nodiscard]] std::map<std::string, double> growth(std::string_view name,
                                                       std::string_view label) const {
        return grown(before_, now_, name, label);
    }
    [[nodiscard]] double total(std::string_view name, std::string_view label) const {
        double sum = 0;
        for (const auto& [key, value] : growth(name, label)) {
            sum += value;
        }
        return sum;
    }

    [[nodiscard]] std::vector<TopLine> head() const;
    [[nodiscard]] std::vector<TopLine> lanes() const;
    [[nodiscard]] std::vector<TopLine> ports() const;
    [[nodiscard]] std::vector<TopLine> replicas() const;
    [[nodiscard]] std::vector<TopLine> streams(std::size_t rows_max) const;
    [[nodiscard]] std::vector<TopLine> shards(std::size_t rows_max) const;

private:
    [[nodiscard]] std::string drops_of(const std::string& lane) const;

    const Scrape& before_;
    const Scrape& now_;
    const TopOptions& options_;
};

std::vector<TopLine> View::head() const {
    std::string version;
    for (const Sample& sample : now_.all("penstock_build_info")) {
        version = sample.label("version");
    }
    std::vector<TopLine> lines;
    lines.push_back(
        {printable("penstock " + version + " at " + options_.title + ": " +
                   counted_short(now_.sum("penstock_shards"), "shard") + ", " +
                   rate(total("penstock_http_requests_received_total", "protocol")) +
                   " requests/s, " +
                   counted_short(now_.sum("penstock_http_connections_open"), "connection")),
         false});
    const bool rates = options_.seconds > 0;
    const auto quantile = [&](double share) {
        return rates ? milliseconds(quantile_between(before_, now_,
                                                     "penstock_commit_latency_seconds", share))
                     : "-";
    };
    lines.push_back({"committed " + rate(total("penstock_records_committed_total", "stream")) +
                         " records/s, " +
                         megabytes(total("penstock_bytes_committed_total", "stream")) +
                         " MB/s; commit latency p50 " + quantile(0.5) + ", p99 " + quantile(0.99),
                     false});
    const auto alarm = [&](const char* name, const char* text) {
        if (now_.sum(name) > 0) {
            lines.push_back({text, false});
        }
    };
    alarm("penstock_disk_full", "WRITES ARE REFUSED: the disks are full");
    alarm("penstock_lost_records", "RECORDS ARE LOST: no good copy is left of some");
    alarm("penstock_scrub_unkept_total",
          "A DRIVE DOES NOT KEEP what is written to it: see the log, replace it");
    alarm("penstock_retention_held", "nothing is trimmed: the clock leapt");
    if (const double all = now_.sum("penstock_scrub_total_bytes"); all > 0) {
        double damaged = 0;
        for (const Sample& sample : now_.all("penstock_scrub_damaged_total")) {
            damaged += sample.value;
        }
        double read = 0;
        for (const Sample& sample : now_.all("penstock_scrub_read_bytes_total")) {
            read += sample.value;
        }
        for (const Sample& sample : before_.all("penstock_scrub_read_bytes_total")) {
            read -= sample.value;
        }
        lines.push_back({"scrub: " + share_of(now_.sum("penstock_scrub_done_bytes"), all) +
                             " of the pass, " + megabytes(std::max(read, 0.0)) + " MB/s, " +
                             counted_short(damaged, "damaged place") + " mended",
                         false});
    }
    return lines;
}

// What the lane refused in between, most first; what it ever refused if that is nothing.
std::string View::drops_of(const std::string& lane) const {
    std::vector<std::pair<double, std::string>> reasons;
    double ever = 0;
    const std::string name = "penstock_lane_dropped_total";
    for (const Sample& sample : now_.all(name)) {
        if (sample.label("lane") != lane) {
            continue;
        }
        ever += sample.value;
        double old = 0;
        for (const Sample& other : before_.all(name)) {
            old += other.labels == sample.labels && other.value <= sample.value ? other.value : 0;
        }
        if (options_.seconds > 0 && sample.value > old) {
            reasons.emplace_back(sample.value - old, sample.label("reason"));
        }
    }
    if (reasons.empty()) {
        return ever > 0 ? "(" + short_number(ever) + " since the start)" : "";
    }
    std::ranges::sort(reasons, std::greater{});
    std::string text;
    for (const auto& [count, reason] : reasons) {
        text += (text.empty() ? "" : ", ") + reason + " " + rate(count);
    }
    return text;
}

std::vector<TopLine> View::lanes() const {
    Table table(
        {"<LANE", "DUTY", "PACKETS/s", "DOORS/s", "API/s", "SLEEPS/s", "MEMORY", "<DROPS/s"});
    const auto busy = growth("penstock_lane_busy_seconds_total", "lane");
    const auto packets = growth("penstock_packets_received_total", "lane");
    const auto sleeps = growth("penstock_lane_sleeps_total", "lane");
    const auto at = [](const std::map<std::string, double>& map, const std::string& key) {
        const auto it = map.find(key);
        return it == map.end() ? 0 : it->second;
    };
    std::map<std::string, std::array<double, 2>> records;
    for (const Scrape* scrape : {&now_, &before_}) {
        for (const Sample& sample : scrape->all("penstock_lane_records_total")) {
            double& sum = records[sample.label("lane")][sample.label("from") == "api" ? 1 : 0];
            sum += scrape == &now_ ? sample.value : (sample.value <= sum ? -sample.value : 0);
        }
    }
    const auto used = now_.by("penstock_memory_used_bytes", "lane");
    const auto size = now_.by("penstock_memory_size_bytes", "lane");
    std::vector<std::string> names;
    for (const Sample& sample : now_.all("penstock_lane_busy_seconds_total")) {
        names.push_back(sample.label("lane"));
    }
    for (const std::string& lane : names) {
        table.add({printable(lane), share_of(at(busy, lane), options_.seconds),
                   rate(at(packets, lane)), rate(records[lane][0]), rate(records[lane][1]),
                   rate(at(sleeps, lane)), share_of(at(used, lane), at(size, lane)),
                   printable(drops_of(lane))});
    }
    return table.lines();
}

std::vector<TopLine> View::ports() const {
    Table table({"<PORT", "PACKETS/s", "MB/s", "MISSED/s", "ERRORS/s", "NO-BUFFER/s", "SENT/s"});
    const auto bytes = growth("penstock_port_received_bytes_total", "port");
    const auto missed = growth("penstock_port_missed_total", "port");
    const auto errors = growth("penstock_port_errors_total", "port");
    const auto no_buffer = growth("penstock_port_no_buffer_total", "port");
    const auto sent = growth("penstock_port_sent_packets_total", "port");
    const auto packets = growth("penstock_port_received_packets_total", "port");
    for (const auto& [port, count] : packets) {
        const auto at = [&name = port](const std::map<std::string, double>& map) {
            const auto it = map.find(name);
            return it == map.end() ? 0 : it->second;
        };
        table.add({printable(port), rate(count), megabytes(at(bytes)), rate(at(missed)),
                   rate(at(errors)), rate(at(no_buffer)), rate(at(sent))});
    }
    return packets.empty() ? std::vector<TopLine>{} : table.lines();
}

std::vector<TopLine> View::replicas() const {
    Table table({"<REPLICA", "<STATE", "MISSING CHUNKS", "REFILLED", "LEFT", "FREE GB", "FREE"});
    const auto lacks = now_.by("penstock_replica_missing_bytes", "replica");
    const auto total = now_.by("penstock_replica_refill_total_bytes", "replica");
    const auto left = now_.by("penstock_replica_refill_seconds_left", "replica");
    const auto missing = now_.by("penstock_replica_missing_chunks", "replica");
    const auto free = now_.by("penstock_replica_free_bytes", "replica");
    const auto size = now_.by("penstock_replica_size_bytes", "replica");
    for (const Sample& sample : now_.all("penstock_replica_state")) {
        if (sample.value != 1) {
            continue;
        }
        const std::string& replica = sample.label("replica");
        const auto lack = missing.find(replica);
        const auto room = free.find(replica);
        const auto whole = size.find(replica);
        const bool known = room != free.end() && whole != size.end();
        const auto at = [&replica](const std::map<std::string, double>& map) {
            const auto it = map.find(replica);
            return it == map.end() ? 0 : it->second;
        };
        const bool refills = at(total) > 0;
        table.add({printable(replica), printable(sample.label("state")),
                   short_number(lack == missing.end() ? 0 : lack->second),
                   refills ? share_of(at(total) - at(lacks), at(total)) : "-",
                   refills && at(left) > 0 ? duration_text(at(left)) : "-",
                   known ? short_number(room->second / 1e9) : "-",
                   known ? share_of(room->second, whole->second) : "-"});
    }
    return table.lines();
}

struct Busy {
    double records = 0;
    double bytes = 0;
    double ever = 0;
    std::string stream;
    std::string shard;
};

// The busiest to the front, the rest cut off; what was busy once goes before what never was.
void busiest_first(std::vector<Busy>& all, std::size_t rows_max) {
    std::ranges::sort(all, [](const Busy& a, const Busy& b) {
        return std::tie(b.bytes, b.records, b.ever, a.stream, a.shard) <
               std::tie(a.bytes, a.records, a.ever, b.stream, b.shard);
    });
    all.resize(std::min(all.size(), rows_max));
}

std::vector<TopLine> View::streams(std::size_t rows_max) const {
    const auto bytes = growth("penstock_bytes_committed_total", "stream");
    const auto ever = now_.by("penstock_records_committed_total", "stream");
    std::vector<Busy> all;
    for (const auto& [stream, records] : growth("penstock_records_committed_total", "stream")) {
        const auto own = bytes.find(stream);
        all.push_back({records, own == bytes.end() ? 0 : own->second, ever.at(stream), stream, ""});
    }
    const std::size_t count = all.size();
    busiest_first(all, rows_max);
    Table table({"<STREAM", "RECORDS/s", "MB/s", "RECORDS"});
    for (const Busy& b : all) {
        table.add({b.stream.empty() ? "(deleted)" : printable(b.stream), rate(b.records),
                   megabytes(b.bytes), short_number(b.ever)});
    }
    auto lines = table.lines();
    if (count > all.size()) {
        lines.front().text +=
            "  (" + std::to_string(all.size()) + " of " + std::to_string(count) + ")";
    }
    return count == 0 ? std::vector<TopLine>{} : lines;
}

std::vector<TopLine> View::shards(std::size_t rows_max) const {
    std::map<std::pair<std::string, std::string>, Busy> found;
    const auto take = [&](const char* name, double Busy::* member) {
        for (const Scrape* scrape : {&now_, &before_}) {
            for (const Sample& sample : scrape->all(name)) {
                const std::pair key(sample.label("stream"), sample.label("shard"));
                if (scrape == &now_) {
                    found[key].*member = sample.value;
                } else if (const auto it = found.find(key);
                           it != found.end() && it->second.*member >= sample.value) {
                    it->second.*member -= sample.value;
                }
            }
        }
    };
    take("penstock_shard_records_committed_total", &Busy::records);
    take("penstock_shard_bytes_committed_total", &Busy::bytes);
    for (const Sample& sample : now_.all("penstock_shard_records_committed_total")) {
        found[{sample.label("stream"), sample.label("shard")}].ever = sample.value;
    }
    std::vector<Busy> all;
    for (auto& [key, busy] : found) {
        busy.stream = key.first;
        busy.shard = key.second;
        all.push_back(busy);
    }
    const std::size_t count = all.size();
    busiest_first(all, rows_max);
    Table table({"<SHARD", "<STREAM", "RECORDS/s", "MB/s", "RECORDS"});
    for (const Busy& b : all) {
        table.add({printable(b.shard), printable(b.stream), rate(b.records), megabytes(b.bytes),
                   short_number(b.ever)});
    }
    auto lines = table.lines();
    if (count > all.size()) {
        lines.front().text +=
            "  (" + std::to_string(all.size()) + " of " + std::to_string(count) + ")";
    }
    return count == 0 ? std::vector<TopLine>{} : lines;
}

void append(std::vector<TopLine>& out, const std::vector<TopLine>& block) {
    if (!block.empty()) {
        out.push_back({"", false});
        out.insert(out.end(), block.begin(), block.end());
    }
}

}  // namespace

std::vector<TopLine> top_lines(const Scrape& before, const Scrape& now, const TopOptions& options) {
    const View view(before, now, options);
    std::vector<TopLine> lines = view.head();
    append(lines, view.lanes());
    append(lines, view.ports());
    append(lines, view.replicas());
    // Each block takes a blank line and its heading; streams get at most half of what is left.
    std::size_t rows = options.busiest_max;
    if (options.rows_max != 0) {
        const std::size_t left =
            options.rows_max > lines.size() ? options.rows_max - lines.size() : 0;
        rows = left > 4 ? std::min(rows, (left - 4) / 2) : 0;
    }
    if (rows != 0) {
        append(lines, view.streams(rows));
        if (options.rows_max != 0) {
            rows = options.rows_max > lines.size() + 2 ? options.rows_max - lines.size() - 2 : 0;
        }
        append(lines, rows == 0 ? std::vector<TopLine>{} : view.shards(rows));
    }
    if (options.rows_max != 0) {
        lines.resize(std::min(lines.size(), options.rows_max));
        while (!lines.empty() && (lines.back().heading || lines.back().text.empty())) {
            lines.pop_back();
        }
    }
    return lines;
}

std::string cut_to(std::string_view text, std::size_t columns) {
    std::size_t at = 0;
    std::size_t shown = 0;
    while (at < text.size()) {
        const bool starts = (static_cast<unsigned char>(text[at]) & 0xc0) != 0x80;
        if (starts && shown == columns) {
            break;
        }
        shown += starts ? 1 : 0;
        ++at;
    }
    return std::string(text.substr(0, at));
}

}  // namespace penstock
