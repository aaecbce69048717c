#include "tools/penstock/config.h"

#include <toml++/toml.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <sstream>

#include "control/http/guard.h"
#include "dataplane/door/door.h"
#include "dataplane/lane/cpu_list.h"
#include "dataplane/port/port.h"
#include "dataplane/wire/address.h"
#include "tools/penstock/nearest.h"
#include "tools/penstock/quota_option.h"

namespace penstock {
namespace {

using Shape = SettingSpec::Shape;
using Complaint = std::optional<std::string>;
constexpr std::uint64_t kib = 1024;
constexpr std::uint64_t mib = 1024 * kib;
constexpr std::uint64_t gib = 1024 * mib;

[[nodiscard]] std::string quoted(std::string_view text) {
    std::string out = "'";
    for (const char c : text) {
        // Control characters would break the one line an error is.
        out += static_cast<unsigned char>(c) < 0x20 ? '?' : c;
    }
    return out + "'";
}

[[nodiscard]] std::optional<std::uint64_t> parse_number(std::string_view text) noexcept {
    std::uint64_t number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (text.empty() || code != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

// A reason that begins with the flag and its value, which our line has said already.
[[nodiscard]] std::string without_name(const std::string& why, std::string_view flag,
                                       std::string_view value) {
    const std::string name = std::string(flag) + " " + std::string(value) + ": ";
    return why.starts_with(name) ? why.substr(name.size()) : why;
}

[[nodiscard]] std::string size_text(std::uint64_t bytes) {
    for (const auto& [unit, name] : {std::pair{gib, "GiB"}, {mib, "MiB"}, {kib, "KiB"}}) {
        if (bytes >= unit && bytes % unit == 0) {
            return std::to_string(bytes / unit) + name;
        }
    }
    return std::to_string(bytes);
}

template <typename T>
Complaint store_number(T& target, std::string_view value, std::uint64_t low, std::uint64_t high) {
    const auto number = parse_number(value);
    if (!number || *number < low || *number > high) {
        return "expected a whole number from " + std::to_string(low) + " to " +
               std::to_string(high);
    }
    target = static_cast<T>(*number);
    return std::nullopt;
}

Complaint store_size(std::uint64_t& target, std::string_view value, std::uint64_t low,
                     std::uint64_t high, std::uint64_t multiple) {
    const auto size = parse_size(value);
    if (!size || *size < low || *size > high || *size % multiple != 0) {
        return "expected a size from " + size_text(low) + " to " + size_text(high) +
               (multiple > 1 ? " that is a multiple of " + size_text(multiple) : "") +
               ", such as " + size_text(std::max(low, std::min(high, 4 * multiple)));
    }
    target = *size;
    return std::nullopt;
}

template <typename T, std::size_t n>
Complaint store_choice(T& target, std::string_view value,
                       const std::array<std::pair<std::string_view, T>, n>& choices) {
    std::string allowed;
    for (std::size_t i = 0; i < n; ++i) {
        if (choices[i].first == value) {
            target = choices[i].second;
            return std::nullopt;
        }
        allowed += (i == 0 ? "" : i + 1 == n ? " or " : ", ") + std::string(choices[i].first);
    }
    return "expected " + allowed;
}

Complaint store_scrub(ServeOptions& options, std::string_view value) {
    if (value == "off") {
        options.scrub_bytes_per_s = 0;
        return std::nullopt;
    }
    const Complaint wrong = store_size(options.scrub_bytes_per_s, value, 64 * kib, 16 * gib, 1);
    return wrong ? "expected off, or" + wrong->substr(std::string_view("expected").size()) : wrong;
}

Complaint store_flag(bool& target, std::string_view value) {
    return store_choice(
        target, value,
        std::array<std::pair<std::string_view, bool>, 2>{{{"true", true}, {"false", false}}});
}

Complaint store_data(ServeOptions& options, std::string_view value) {
    if (value.empty() || value.find('\0') != std::string_view::npos) {
        return "expected a directory";
    }
    options.data.emplace_back(value);
    return std::nullopt;
}

Complaint store_listener(std::string& target, std::string_view value) {
    const auto address = parse_http_address(value);
    if (!address) {
        return "expected HOST:PORT with a port from 0 to 65535, such as 127.0.0.1:4567 or "
               "[::1]:4567";
    }
    target = value;
    return std::nullopt;
}

Complaint store_file(std::string& target, std::string_view value,
                     const char* expected = "expected a file") {
    if (value.empty() || value.find('\0') != std::string_view::npos) {
        return expected;
    }
    target = value;
    return std::nullopt;
}

// One that is to stand apart from what it protects.
Complaint store_secret_file(std::string& target, std::string_view value) {
    return store_file(target, value,
                      "expected a file outside the data directories, such as /etc/penstock/key");
}

Complaint store_local_socket(ServeOptions& options, std::string_view value) {
    // What the kernel's address has room for, with a zero behind it.
    constexpr std::size_t name_bytes_max = 107;
    const bool named = (value.starts_with('/') || value.starts_with('@')) && value.size() > 1 &&
                       value.size() <= name_bytes_max;
    if (value != "none" && !named) {
        return "expected an absolute path, @NAME or none, such as /run/penstock/socket";
    }
    options.local_socket = value;
    return std::nullopt;
}

Complaint store_port(ServeOptions& options, std::string_view value) {
    std::string why;
    if (!port_kind(std::string(value), why)) {
        return without_name(why, "--port", value);
    }
    const auto same = [&](const PortOption& port) { return port.devargs == value; };
    if (std::ranges::any_of(options.ports, same)) {
        return "expected each port once";
    }
    options.ports.push_back({std::string(value), {}, 0});
    return std::nullopt;
}

Complaint store_address(ServeOptions& options, std::string_view value) {
    if (value.find('/') == std::string_view::npos || !parse_prefix(value)) {
        return "expected IP/PREFIX, such as 192.0.2.1/24 or 2001:db8::1/64";
    }
    if (options.ports.empty()) {
        return "expected after the --port it belongs to";
    }
    PortOption& port = options.ports.back();
    if (port.devargs.starts_with("kernel:")) {
        return "expected after a DPDK port; the kernel answers for " + quoted(port.devargs) +
               ", whose address stands in --port kernel:ADDR";
    }
    port.addresses.emplace_back(value);
    return std::nullopt;
}

Complaint store_mtu(ServeOptions& options, std::string_view value) {
    if (options.ports.empty()) {
        return "expected after the --port it belongs to";
    }
    PortOption& port = options.ports.back();
    if (port.mtu != 0) {
        return "expected once for each port";
    }
    if (port.devargs.starts_with("kernel:")) {
        return "expected after a DPDK port; the kernel's sockets take what its interfaces let in";
    }
    return store_number(port.mtu, value, port_mtu_min, port_mtu_max);
}

Complaint store_rss(ServeOptions& options, std::string_view value) {
    if (options.ports.empty()) {
        return "expected after the --port it belongs to";
    }
    PortOption& port = options.ports.back();
    if (port.rss) {
        return "expected once for each port";
    }
    if (port.devargs.starts_with("kernel:")) {
        return "expected after a DPDK port; the kernel spreads producers over its sockets itself";
    }
    return store_choice(
        port.rss.emplace(), value,
        std::array<std::pair<std::string_view, RssMode>, 3>{
            {{"auto", RssMode::automatic}, {"on", RssMode::on}, {"off", RssMode::off}}});
}

Complaint store_door(ServeOptions& options, std::string_view value) {
    std::string why;
    if (!parse_door(value, why)) {
        return without_name(why, "--door", value);
    }
    options.doors.emplace_back(value);
    return std::nullopt;
}

Complaint store_lanes(ServeOptions& options, std::string_view value) {
    std::string why;
    const auto cpus = parse_cpu_list(value, why);
    if (!cpus) {
        return why;
    }
    options.lanes = value;
    options.lane_cpus = *cpus;
    return std::nullopt;
}

Complaint store_regions(ServeOptions& options, std::string_view value) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
    };
    std::vector<std::string> regions;
    for (std::string_view left = value;;) {
        const std::size_t comma = left.find(',');
        const std::string region(left.substr(0, comma));
        if (region.empty() || region.size() > 32 || !std::ranges::all_of(region, good)) {
            return "expected names of 1 to 32 lower-case letters, digits and dashes, joined by "
                   "commas, such as us-east-1";
        }
        if (std::ranges::find(regions, region) != regions.end()) {
            return "expected each region once, found " + region + " again";
        }
        regions.push_back(region);
        if (comma == std::string_view::npos) {
            break;
        }
        left.remove_prefix(comma + 1);
    }
    options.regions = std::move(regions);
    return std::nullopt;
}

Complaint store_account(ServeOptions& options, std::string_view value) {
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    if (value.size() != 12 || !std::ranges::all_of(value, digit)) {
        return "expected 12 digits, such as 000000000000";
    }
    options.account = value;
    return std::nullopt;
}

constexpr std::array<std::pair<std::string_view, AckLevel>, 2> ack_levels{
    {{"quorum", AckLevel::quorum}, {"all", AckLevel::all}}};
constexpr std::array<std::pair<std::string_view, bool>, 2> rate_limit_choices{
    {{"unlimited", false}, {"aws", true}}};
constexpr std::array<std::pair<std::string_view, IdlePolicy>, 2> poll_modes{
    {{"adaptive", IdlePolicy::adaptive}, {"busy", IdlePolicy::busy}}};
using HugePages = EalOptions::HugePages;
constexpr std::array<std::pair<std::string_view, HugePages>, 3> huge_page_uses{
    {{"auto", HugePages::automatic},
     {"require", HugePages::required},
     {"never", HugePages::never}}};
constexpr std::array<std::pair<std::string_view, LogLevel>, 5> log_levels{
    {{"trace", LogLevel::trace},
     {"debug", LogLevel::debug},
     {"info", LogLevel::info},
     {"warn", LogLevel::warn},
     {"error", LogLevel::error}}};

using O = ServeOptions;
using V = std::string_view;
constexpr std::array specs{
    SettingSpec{"data", Shape::list, "DIR",
                "Where the log is kept: one directory per replica, three in all, each on its own "
                "drive; or one, which gets three sub-directories.",
                store_data},
    SettingSpec{"http", Shape::single, "HOST:PORT",
                "Where the Kinesis API and /metrics listen. Port 0 takes a free one. Default "
                "127.0.0.1:4567.",
                [](O& o, V v) { return store_listener(o.http, v); }},
    SettingSpec{"https", Shape::single, "HOST:PORT",
                "Where the same is served over TLS. Needs --tls-cert and --tls-key. "
                "Port 0 takes a free one.",
                [](O& o, V v) { return store_listener(o.https, v); }},
    SettingSpec{"tls-cert", Shape::single, "FILE",
                "Certificate of --https as PEM, with what leads to its root behind it. SIGHUP "
                "reads it again. 'penstock certificate make' makes one.",
                [](O& o, V v) { return store_file(o.tls_cert, v); }},
    SettingSpec{"tls-key", Shape::single, "FILE", "Its private key as PEM, without a password.",
                [](O& o, V v) { return store_file(o.tls_key, v); }},
    SettingSpec{"key-file", Shape::single, "FILE",
                "The key that seals credentials, outside the data directories. A first start makes "
                "it. Needed unless --unsigned.",
                [](O& o, V v) { return store_secret_file(o.key_file, v); }},
    SettingSpec{"keys-file", Shape::single, "FILE",
                "Keys that streams can be encrypted with, outside the data directories. SIGHUP "
                "reads it again. 'penstock keys make' makes it.",
                [](O& o, V v) { return store_secret_file(o.keys_file, v); }},
    SettingSpec{"unsigned", Shape::flag, "",
                "Answer requests without a signature: no credentials are needed, and only programs "
                "on this machine are answered, on a loopback address.",
                [](O& o, V v) { return store_flag(o.unsigned_requests, v); }},
    SettingSpec{"local-socket", Shape::single, "NAME",
                "Unix socket for root and the node's own user, where `penstock credentials` goes: "
                "a path, @NAME (abstract) or none. Default @penstock-PORT.",
                store_local_socket},
    SettingSpec{"discard-credentials", Shape::flag, "",
                "Start although the key file cannot open the credentials, and forget them.",
                [](O& o, V v) { return store_flag(o.discard_credentials, v); }},
    SettingSpec{"port", Shape::list, "DEVARGS",
                "Where packets come from: a DPDK virtual device (net_af_packet0,iface=eth1), a PCI "
                "address (0000:01:00.0), or kernel:ADDR for plain UDP sockets.",
                store_port},
    SettingSpec{"address", Shape::list, "IP/PREFIX",
                "Address of the --port before it, answered for ARP, ND and ping. A port with none "
                "takes every destination address and answers nothing.",
                store_address},
    SettingSpec{"mtu", Shape::list, "BYTES",
                "Largest IP packet of the --port before it, 1280 to 9000, where the device is "
                "DPDK's own (memif, tap, a NIC). Ports on an interface use the interface's.",
                store_mtu},
    SettingSpec{"rss", Shape::list, "USE",
                "Whether the --port before it spreads flows over the lanes by hashing: auto "
                "(default) where its device can, on to insist, off to leave packets on the first "
                "lane.",
                store_rss},
    SettingSpec{"door", Shape::list, "SPEC",
                "A UDP port whose datagrams become records: udp:PORT=STREAM[,key=source|fixed:TEXT]"
                "[,framing=datagram|lines][,ports=one|per-lane][,from=PREFIX][,quota=BYTES/s]. "
                "per-lane: lane i has PORT + i.",
                store_door},
    SettingSpec{"lanes", Shape::single, "CPULIST",
                "CPUs to run lanes on, one lane each, such as 1 or 2-3. Default: one lane on the "
                "last CPU this process may use.",
                store_lanes},
    SettingSpec{
        "ack-level", Shape::single, "LEVEL",
        "When a record is acknowledged: durable on two replicas (quorum, the default) or on "
        "all three (all).",
        [](O& o, V v) { return store_choice(o.ack_level, v, ack_levels); }},
    SettingSpec{"shard-quota", Shape::single, "QUOTA",
                "What a shard of a PROVISIONED stream takes and gives per second through the API: "
                "aws (default: 1 MiB and 1000 records in, 2 MiB and 5 reads out), parts of it, "
                "such as in=4MiB,out-calls=50, or unlimited.",
                [](O& o, V v) { return read_shard_quota(v, o.shard_quota); }},
    SettingSpec{"on-demand", Shape::single, "WHEN",
                "When shards of ON_DEMAND streams are split and merged: off, or parts of "
                "in=1MiB,in-records=1000,split-after=5,merge-after=900,shards-max=200 (default).",
                [](O& o, V v) { return read_on_demand(v, o.on_demand); }},
    SettingSpec{"rate-limits", Shape::single, "LIMITS",
                "How often a second each operation that is not about records may be asked for: "
                "unlimited (default) or aws.",
                [](O& o, V v) { return store_choice(o.rate_limits, v, rate_limit_choices); }},
    SettingSpec{"poll", Shape::single, "MODE",
                "How an idle lane waits: adaptive (default) sleeps, busy spins.",
                [](O& o, V v) { return store_choice(o.poll, v, poll_modes); }},
    SettingSpec{"hugepages", Shape::single, "USE",
                "Packet memory of DPDK ports in huge pages: auto (default), require or never.",
                [](O& o, V v) { return store_choice(o.hugepages, v, huge_page_uses); }},
    SettingSpec{"http-threads", Shape::single, "N", "Control threads that serve HTTP. Default 1.",
                [](O& o, V v) { return store_number(o.http_threads, v, 1, 64); }},
    SettingSpec{"consumers-max", Shape::single, "N",
                "Consumers (enhanced fan-out) that a stream may have. Default 20.",
                [](O& o, V v) { return store_number(o.consumers_max, v, 1, 1000); }},
    SettingSpec{"existing", Shape::flag, "",
                "Refuse to make a new set: the data must be there already. For unattended starts, "
                "where an empty directory means a failed mount.",
                [](O& o, V v) { return store_flag(o.existing, v); }},
    SettingSpec{"accept-loss", Shape::flag, "",
                "Start although records have no good copy left. They are reported and skipped.",
                [](O& o, V v) { return store_flag(o.accept_loss, v); }},
    SettingSpec{"force", Shape::flag, "",
                "Take a network interface even if it carries the default route or a login.",
                [](O& o, V v) { return store_flag(o.force, v); }},
    SettingSpec{
        "region", Shape::single, "NAME[,NAME]",
        "Regions that are served, each with streams of its own; doors write to those of the "
        "first. Default us-east-1.",
        store_regions},
    SettingSpec{"account", Shape::single, "DIGITS",
                "Account number named in ARNs. Default 000000000000.", store_account},
    SettingSpec{
        "linger-us", Shape::single, "MICROSECONDS",
        "How long small writes gather before they are made durable together when the drives "
        "are idle. Default 200.",
        [](O& o, V v) { return store_number(o.linger_us, v, 0, 1'000'000); }},
    SettingSpec{
        "direct-threshold", Shape::single, "SIZE",
        "A shard with more than this pending skips the journal. Default 64KiB.",
        [](O& o, V v) { return store_size(o.direct_threshold_bytes, v, 4 * kib, 512 * kib, 1); }},
    SettingSpec{
        "replica-lag", Shape::single, "SIZE",
        "A replica with more than this in flight is left behind and refilled later. Default "
        "32MiB.",
        [](O& o, V v) { return store_size(o.replica_lag_bytes, v, 4 * mib, 16 * gib, 1); }},
    SettingSpec{"scrub", Shape::single, "SIZE|off",
                "Bytes per second of what is stored that are read back, verified and mended in the "
                "background, of all copies together. Default 16MiB.",
                store_scrub},
    SettingSpec{"scrub-every", Shape::single, "HOURS",
                "From the beginning of one such pass over everything to that of the next; 0: one "
                "after the other. Default 24.",
                [](O& o, V v) { return store_number(o.scrub_every_h, v, 0, 8760); }},
    SettingSpec{"memory", Shape::single, "SIZE",
                "Memory per lane for records that are not in a segment yet. Default 128MiB.",
                [](O& o, V v) { return store_size(o.memory_bytes, v, 32 * mib, 1024 * gib, mib); }},
    SettingSpec{
        "journal-size", Shape::single, "SIZE",
        "Journal per group and replica of a new set. Default 64MiB.",
        [](O& o, V v) { return store_size(o.journal_bytes, v, 16 * mib, 64 * gib, 4 * mib); }},
    SettingSpec{
        "container-size", Shape::single, "SIZE",
        "Size of the segment files of a new set. Default 256MiB.",
        [](O& o, V v) { return store_size(o.container_bytes, v, 16 * mib, 64 * gib, mib); }},
    SettingSpec{"groups", Shape::single, "N",
                "Shard groups of a new set: the most lanes it can ever use. Default 2.",
                [](O& o, V v) { return store_number(o.groups, v, 1, 256); }},
    SettingSpec{"log-level", Shape::single, "LEVEL", "trace, debug, info (default), warn or error.",
                [](O& o, V v) { return store_choice(o.log_level, v, log_levels); }},
};

[[nodiscard]] const SettingSpec* find_spec(std::string_view key) noexcept {
    const auto* found = std::ranges::find(specs, key, &SettingSpec::key);
    return found == specs.end() ? nullptr : found;
}

[[nodiscard]] std::string unknown_key(std::string_view key) {
    std::array<std::string_view, specs.size()> known;
    std::ranges::transform(specs, known.begin(), &SettingSpec::key);
    std::string line = "unknown key " + quoted(key);
    if (const std::string_view meant = nearest(key, known); !meant.empty()) {
        return line + "; did you mean " + quoted(meant) + "?";
    }
    line += "; known are";
    for (const SettingSpec& spec : specs) {
        line += (spec.key == specs.front().key ? " " : ", ") + std::string(spec.key);
    }
    return line;
}

// Ports and what belongs to them are one list, or an address could end up at another port.
[[nodiscard]] std::string_view list_of(std::string_view key) noexcept {
    return key == "address" || key == "mtu" || key == "rss" ? std::string_view("port") : key;
}

// Walks one parsed file into settings.
class ConfigWalk {
public:
    ConfigWalk(std::string_view file_name, std::vector<Setting>& out)
        : file_name_(file_name), out_(out) {}

    // Empty when all is well, else the error line.
    [[nodiscard]] std::string walk(const toml::table& table) {
        for (const auto& [key, node] : table) {
            const std::string_view name = key.str();
            const SettingSpec* spec = find_spec(name);
            if (spec == nullptr) {
                return at(key.source()) + unknown_key(name);
            }
            std::string problem;
            if (name == "port") {
                problem = ports(node);
            } else if (list_of(name) == "port") {
                problem = at(key.source()) + quoted(name) +
                          " stands alone; expected it inside a [[port]] table";
            } else {
                problem = values(*spec, node);
            }
            if (!problem.empty()) {
                return problem;
            }
        }
        return {};
    }

private:
    [[nodiscard]] std::string at(const toml::source_region& where) const {
        return file_name_ + ":" + std::to_string(where.begin.line) + ": ";
    }

    [[nodiscard]] std::string add(const SettingSpec& spec, const toml::node& node) {
        Setting setting{std::string(spec.key), {}, at(node.source()) + std::string(spec.key)};
        if (const auto* text = node.as_string(); text != nullptr && spec.shape != Shape::flag) {
            setting.value = text->get();
        } else if (const auto* number = node.as_integer();
                   number != nullptr && (spec.shape == Shape::single || spec.key == "mtu")) {
            setting.value = std::to_string(number->get());
        } else if (const auto* flag = node.as_boolean();
                   flag != nullptr && spec.shape == Shape::flag) {
            setting.value = flag->get() ? "true" : "false";
        } else {
            const char* expected = spec.shape == Shape::flag     ? "true or false"
                                   : spec.key == "mtu"           ? "one whole number"
                                   : spec.key == "rss"           ? "one string"
                                   : spec.shape == Shape::single ? "one string or whole number"
                                                                 : "strings";
            return setting.origin + ": found a value of another type; expected " + expected;
        }
        out_.push_back(std::move(setting));
        return {};
    }

    [[nodiscard]] std::string values(const SettingSpec& spec, const toml::node& node) {
        const auto* array = node.as_array();
        if (array == nullptr || spec.shape != Shape::list) {
            return add(spec, node);
        }
        for (const toml::node& item : *array) {
            if (std::string problem = add(spec, item); !problem.empty()) {
                return problem;
            }
        }
        return {};
    }

    [[nodiscard]] std::string ports(const toml::node& node) {
        const auto* array = node.as_array();
        if (array == nullptr || !array->is_homogeneous<toml::table>()) {
            return at(node.source()) +
                   "port: found a plain value; expected tables: [[port]] with device = \"…\" and "
                   "address = [\"IP/PREFIX\", …]";
        }
        for (const toml::node& item : *array) {
            if (std::string problem = port(*item.as_table()); !problem.empty()) {
                return problem;
            }
        }
        return {};
    }

    [[nodiscard]] std::string port(const toml::table& table) {
        for (const auto& [key, value] : table) {
            const std::string_view name = key.str();
            if (name != "device" && (name == "port" || list_of(name) != "port")) {
                return at(key.source()) + "unknown key " + quoted(name) +
                       " in [[port]]; known are device, address, mtu, rss";
            }
        }
        const toml::node* device = table.get("device");
        if (device == nullptr) {
            return at(table.source()) + "[[port]] without 'device'; expected device = \"DEVARGS\"";
        }
        if (std::string problem = add(*find_spec("port"), *device); !problem.empty()) {
            return problem;
        }
        const toml::node* addresses = table.get("address");
        if (addresses != nullptr) {
            if (std::string problem = values(*find_spec("address"), *addresses); !problem.empty()) {
                return problem;
            }
        }
        for (const char* once : {"mtu", "rss"}) {
            if (const toml::node* node = table.get(once); node != nullptr) {
                if (std::string problem = add(*find_spec(once), *node); !problem.empty()) {
                    return problem;
                }
            }
        }
        return {};
    }

    std::string file_name_;
    std::vector<Setting>& out_;
};

[[nodiscard]] std::string apply_all(ServeOptions& options, std::span<const Setting> settings) {
    std::vector<std::string_view> seen;
    for (const Setting& setting : settings) {
        const SettingSpec* spec = find_spec(setting.key);
        if (spec == nullptr) {
            return setting.origin + ": " + unknown_key(setting.key);
        }
        if (spec->shape != Shape::list) {
            if (std::ranges::find(seen, spec->key) != seen.end()) {
                return setting.origin + ": found twice; expected once";
            }
            seen.push_back(spec->key);
        }
        if (const auto allowed = spec->apply(options, setting.value)) {
            return setting.origin + ": found " + quoted(setting.value) + "; " + *allowed;
        }
    }
    return {};
}

[[nodiscard]] std::string check_lanes(ServeOptions& options, std::span<const unsigned> cpus) {
    if (options.lane_cpus.empty()) {
        options.lane_cpus = {cpus.back()};
    }
    std::string known;
    for (const unsigned cpu : cpus) {
        known += (known.empty() ? "" : ",") + std::to_string(cpu);
    }
    for (const unsigned cpu : options.lane_cpus) {
        if (std::ranges::find(cpus, cpu) == cpus.end()) {
            return "--lanes: found CPU " + std::to_string(cpu) +
                   "; expected CPUs this process may run on: " + known;
        }
    }
    return {};
}

// What single values cannot show. Names the flag, whichever way the value came.
[[nodiscard]] std::string check_together(ServeOptions& options, std::span<const unsigned> cpus) {
    if (options.data.empty()) {
        return "--data: not given; expected one directory, or three on three drives";
    }
    if (options.data.size() != 1 && options.data.size() != replica_count) {
        return "--data: found " + std::to_string(options.data.size()) +
               " directories; expected one, or three on three drives";
    }
    for (std::size_t i = 0; i < options.data.size(); ++i) {
        for (std::size_t j = 0; j < i; ++j) {
            if (options.data[i] == options.data[j]) {
                return "--data: found " + quoted(options.data[i]) +
                       " twice; expected three different directories";
            }
        }
    }
    if (options.unsigned_requests) {
        for (const auto& [flag, text] :
             {std::pair{"--http: ", options.http}, std::pair{"--https: ", options.https}}) {
            const auto address = parse_http_address(text);
            const auto allowed = address ? http::check_bind_address(address->host)
                                         : std::expected<void, std::string>{};
            if (!allowed) {
                return flag + allowed.error();
            }
        }
    } else if (options.key_file.empty()) {
        return "--key-file: not given; expected a file to seal credentials with, outside the data "
               "directories (one that is not there yet is made), or --unsigned";
    }
    if (std::string problem = check_lanes(options, cpus); !problem.empty()) {
        return problem;
    }
    std::vector<DoorSpec> doors;
    std::string why;
    for (const std::string& text : options.doors) {
        doors.push_back(*parse_door(text, why));
    }
    if (!check_doors(doors, static_cast<unsigned>(options.lane_cpus.size()), why)) {
        return why;
    }
    if (!options.https.empty() && (options.tls_cert.empty() || options.tls_key.empty())) {
        return std::string("--https: needs --tls-cert and --tls-key, found no ") +
               (options.tls_cert.empty() ? "--tls-cert" : "--tls-key") +
               "; 'penstock certificate make' makes both";
    }
    if (options.https.empty() && !(options.tls_cert.empty() && options.tls_key.empty())) {
        return "--tls-cert, --tls-key: found but no --https; expected the address to speak TLS on, "
               "such as --https 127.0.0.1:4568";
    }
    if (!options.doors.empty() && options.ports.empty()) {
        return "--door: found " + quoted(options.doors.front()) +
               " but no --port; expected a port that its datagrams arrive at, such as --port "
               "kernel:127.0.0.1";
    }
    return {};
}

}  // namespace

std::span<const SettingSpec> setting_specs() noexcept {
    return specs;
}

std::optional<std::uint64_t> parse_size(std::string_view text) noexcept {
    struct Unit {
        std::string_view name;
        std::uint64_t bytes;
    };
    static constexpr std::array units{Unit{"KiB", kib}, Unit{"MiB", mib}, Unit{"GiB", gib},
                                      Unit{"TiB", 1024 * gib}, Unit{"B", 1}};
    std::uint64_t factor = 1;
    for (const Unit& unit : units) {
        if (text.ends_with(unit.name)) {
            text.remove_suffix(unit.name.size());
            factor = unit.bytes;
            break;
        }
    }
    const auto number = parse_number(text);
    if (!number || *number > std::numeric_limits<std::uint64_t>::max() / factor) {
        return std::nullopt;
    }
    return *number * factor;
}

std::optional<HttpAddress> parse_http_address(std::string_view text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string_view::npos) {
        return std::nullopt;
    }
    std::string_view host = text.substr(0, colon);
    const auto port = parse_number(text.substr(colon + 1));
    if (host.starts_with('[') && host.ends_with(']')) {
        host = host.substr(1, host.size() - 2);
    } else if (host.find(':') != std::string_view::npos) {
        return std::nullopt;  // an IPv6 address without brackets: where would its port begin?
    }
    if (host.empty() || !port || *port > 65535) {
        return std::nullopt;
    }
    return HttpAddress{std::string(host), static_cast<std::uint16_t>(*port)};
}

std::expected<std::vector<Setting>, std::string> parse_config(std::string_view text,
                                                              std::string_view file_name) {
    std::vector<Setting> settings;
    try {
        const toml::table table = toml::parse(text, file_name);
        if (std::string problem = ConfigWalk(file_name, settings).walk(table); !problem.empty()) {
            return std::unexpected(std::move(problem));
        }
    } catch (const toml::parse_error& error) {
        std::string line = std::string(file_name) + ":" +
                           std::to_string(error.source().begin.line) +
                           ": not TOML: " + std::string(error.description());
        std::ranges::replace(line, '\n', ' ');
        return std::unexpected(std::move(line));
    }
    return settings;
}

std::expected<std::vector<Setting>, std::string> read_config(const std::string& path) {
    errno = 0;
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    if (!file || !(text << file.rdbuf())) {
        // An empty file sets no character and so fails the stream too.
        if (file && file.peek() == std::ifstream::traits_type::eof() && errno == 0) {
            return std::vector<Setting>{};
        }
        return std::unexpected("--config: cannot read " + quoted(path) + ": " +
                               (errno != 0 ? std::strerror(errno) : "not a file"));
    }
    return parse_config(text.str(), path);
}

std::expected<ServeOptions, std::string> resolve_settings(std::span<const Setting> file,
                                                          std::span<const Setting> flags,
                                                          std::span<const unsigned> cpus) {
    ServeOptions options;
    // The file is checked whole, also where a flag overrides it: a bad value there is a mistake
    // whichever flags today's command line happens to carry.
    if (std::string problem = apply_all(options, file); !problem.empty()) {
        return std::unexpected(std::move(problem));
    }
    options = ServeOptions{};
    std::vector<Setting> merged;
    std::ranges::copy_if(file, std::back_inserter(merged), [&](const Setting& setting) {
        return std::ranges::none_of(
            flags, [&](const Setting& flag) { return list_of(flag.key) == list_of(setting.key); });
    });
    merged.insert(merged.end(), flags.begin(), flags.end());
    std::string problem = apply_all(options, merged);
    if (problem.empty()) {
        problem = check_together(options, cpus);
    }
    if (!problem.empty()) {
        return std::unexpected(std::move(problem));
    }
    return options;
}

SetGeometry geometry_of(const ServeOptions& options) noexcept {
    SetGeometry geometry;
    geometry.data_groups = options.groups;
    geometry.journal_file_bytes = options.journal_bytes / geometry.journal_files;
    geometry.container_bytes = options.container_bytes;
    geometry.chunk_units_max = static_cast<std::uint32_t>(std::min<std::uint64_t>(
        geometry.chunk_units_max, options.container_bytes / geometry.chunk_unit_bytes));
    return geometry;
}

}  // namespace penstock
