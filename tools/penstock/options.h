// The command line of `penstock`, and the settings of a node as both the flags and the
// configuration file give them.
//
// Flags and file keys are the same settings under the same names. Each is checked here, before
// anything starts; what is wrong is answered with one line that names the setting, what was found
// and what is allowed.
//
// Runs on: the main thread, before any other exists. Throws nothing.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/shard_quota.h"
#include "dataplane/eal.h"
#include "dataplane/lane/idle.h"
#include "dataplane/port/port.h"
#include "storage/base/ids.h"
#include "storage/replica/geometry.h"
#include "tools/penstock/capture_command.h"
#include "tools/penstock/certificate_command.h"
#include "tools/penstock/consume_command.h"
#include "tools/penstock/credentials_command.h"
#include "tools/penstock/keys_command.h"
#include "tools/penstock/top_command.h"

namespace penstock {

enum class LogLevel : std::uint8_t { trace, debug, info, warn, error };

// One `--port` and the `--address`, `--mtu` and `--rss` options that follow it.
struct PortOption {
    std::string devargs;
    std::vector<std::string> addresses;
    std::uint16_t mtu = 0;  // 0: as the device has it
    std::optional<RssMode> rss = std::nullopt;
    friend bool operator==(const PortOption&, const PortOption&) = default;
};

struct ServeOptions {
    std::vector<std::string> data;  // one directory, or one per replica
    std::string http = "127.0.0.1:4567";
    std::string https;     // empty: TLS is not spoken
    std::string tls_cert;  // both files, when it is
    std::string tls_key;
    bool unsigned_requests = false;
    std::string key_file;
    std::string keys_file;     // empty: no stream can be encrypted
    std::string local_socket;  // empty: named after the HTTP address
    bool discard_credentials = false;
    std::vector<PortOption> ports;
    std::string lanes;                // as given; empty: one lane on the last CPU we may use
    std::vector<unsigned> lane_cpus;  // what `lanes` names, one lane each, never empty
    std::vector<std::string> doors;   // each accepted by parse_door()
    AckLevel ack_level = AckLevel::quorum;
    // Empty: unlimited.
    std::optional<kinesis::ShardQuotaLimits> shard_quota = kinesis::ShardQuotaLimits{};
    kinesis::OnDemandLimits on_demand;
    bool rate_limits = false;  // of operations, as AWS has them
    IdlePolicy poll = IdlePolicy::adaptive;
    EalOptions::HugePages hugepages = EalOptions::HugePages::automatic;
    unsigned http_threads = 1;
    unsigned consumers_max = 20;
    bool existing = false;
    bool accept_loss = false;
    bool force = false;  // take an interface with the default route or a login
    std::vector<std::string> regions{"us-east-1"};
    std::string account = "000000000000";
    std::uint64_t linger_us = 200;
    std::uint64_t direct_threshold_bytes = 64U << 10;
    std::uint64_t replica_lag_bytes = 32U << 20;
    std::uint64_t scrub_bytes_per_s = 16U << 20;  // 0: off
    unsigned scrub_every_h = 24;
    std::uint64_t memory_bytes = 128U << 20;  // frames of one lane
    // Used when a new set is made; an existing set keeps its own.
    std::uint64_t journal_bytes = 64U << 20;  // per group and replica
    std::uint64_t container_bytes = 256U << 20;
    unsigned groups = 2;
    LogLevel log_level = LogLevel::info;
    friend bool operator==(const ServeOptions&, const ServeOptions&) = default;
};

// The sizes of a new set, without its id.
[[nodiscard]] SetGeometry geometry_of(const ServeOptions& options) noexcept;
// Host and port of `ServeOptions::http`, which the parser has checked. Brackets of an IPv6 address
// are gone.
struct HttpAddress {
    std::string host;
    std::uint16_t port = 0;
};
[[nodiscard]] std::optional<HttpAddress> parse_http_address(std::string_view text);

enum class InspectView : std::uint8_t {
    summary,
    verify,
    superblock,
    journal,
    segments,
    manifest,
    catalog
};

struct InspectOptions {
    InspectView view = InspectView::summary;
    std::vector<std::string> data;  // one directory, or one per replica
    bool json = false;
};

enum class CommandKind : std::uint8_t {
    none,  // `exit_code` and the texts say it all: help, or an error
    serve,
    doctor,
    inspect,
    replica_status,
    replica_replace,
    replica_watch,
    certificate_make,
    capture,
    consume,
    top,
    credentials,
    keys,
    port_release,
    version
};

// `--data DIR…`, `--json` and what else doctor, replica and port take.
struct CommandArguments {
    std::vector<std::string> data;
    bool json = false;
    std::vector<std::string> ports;  // of doctor and `port release`, as serve has them
    std::string lanes;
    std::string key_file;  // of doctor, as serve has it
    std::string keys_file;
    std::string directory;  // of `replica replace`: the empty one to be filled
    bool wait = false;      // and until it is
    std::string http = "127.0.0.1:4567";
    std::string local_socket;  // empty: named after the address
};

struct CommandLine {
    CommandKind kind = CommandKind::none;
    ServeOptions serve;
    InspectOptions inspect;
    CommandArguments arguments;
    CaptureOptions capture;
    ConsumeArguments consume;
    TopArguments top;
    CertificateOptions certificate;
    CredentialsArguments credentials;
    KeysArguments keys;
    int exit_code = 0;
    std::string out;  // for standard output
    std::string err;  // for standard error
};

// `arguments` without the program's own name. `allowed_cpus` are the CPUs this process may run on,
// in ascending order, at least one.
[[nodiscard]] CommandLine parse_command_line(std::span<const std::string> arguments,
                                             std::span<const unsigned> allowed_cpus);

// CPUs this process may run on.
[[nodiscard]] std::vector<unsigned> allowed_cpus();

}  // namespace penstock
