// A whole node: replica set, catalog, lanes, streams, HTTP, metrics, and the supervisor that takes
// replicas out and brings them back.
//
// Runs on: start() and stop() on the caller's thread.
// Guarantees: LOG-PROTOCOL 2's order: the set is locked and its epoch promised before any log is
// read, the catalog first, then the groups; HTTP answers last.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/shard_quota.h"
#include "dataplane/door/door.h"
#include "dataplane/eal.h"
#include "dataplane/lane/idle.h"
#include "dataplane/port/port.h"
#include "dataplane/wire/address.h"
#include "storage/base/ids.h"
#include "storage/replica/geometry.h"

namespace penstock {

struct NodePort {
    std::string device;
    std::vector<IpPrefix> addresses;
    std::uint16_t mtu = 0;  // 0: as the device has it
    RssMode rss = RssMode::automatic;
};

struct NodeOptions {
    std::array<std::string, replica_count> directories;
    SetGeometry geometry_for_new;
    bool existing = false;
    bool accept_loss = false;
    // Requests need no signature: loopback only, and no secret is asked of anybody on this machine.
    bool unsigned_requests = false;
    std::string key_file;   // seals the credentials; must be given unless unsigned_requests
    std::string keys_file;  // the keys of encrypted streams; empty: none can be
    // Where no key file may be, besides `directories`: what an operator takes for the data.
    std::vector<std::string> data_roots;
    // Start without the credentials that the key file cannot open, and forget them.
    bool discard_credentials = false;
    // Where programs of this machine's root reach a node whose requests are signed: a path, @NAME,
    // "none", or empty for default_local_socket().
    std::string local_socket;
    std::string http_host = "127.0.0.1";
    std::uint16_t http_port = 4567;
    // The port that speaks TLS; without a host there is none.
    std::string https_host;
    std::uint16_t https_port = 0;
    std::string tls_certificate;  // files
    std::string tls_key;
    unsigned http_threads = 1;
    unsigned consumers_max = 20;  // of a stream
    std::vector<NodePort> ports;
    bool force_ports = false;
    std::vector<unsigned> lane_cpus;  // one lane each
    bool pin_lanes = true;
    std::vector<DoorSpec> doors;
    AckLevel ack_level = AckLevel::quorum;
    std::optional<kinesis::ShardQuotaLimits> shard_quota;  // empty: unlimited
    kinesis::OnDemandLimits on_demand;
    bool rate_limits = false;  // of operations, as Kinesis has them
    IdlePolicy poll = IdlePolicy::adaptive;
    EalOptions::HugePages huge_pages = EalOptions::HugePages::automatic;
    std::vector<std::string> regions{"us-east-1"};  // the first is that of doors
    std::string account = "000000000000";
    std::uint64_t linger_ns = 200'000;
    std::uint32_t direct_threshold_bytes = 64U << 10;
    std::uint64_t replica_lag_bytes_max = 32U << 20;
    std::uint64_t scrub_bytes_per_s = 0;  // of all groups together; 0: off
    std::uint64_t scrub_interval_ns = 0;
    std::uint64_t memory_bytes = 128U << 20;  // of one lane
    std::uint64_t drain_deadline_ns = 10'000'000'000;
    std::string version;
    // One line for an operator; from any thread. `urgent`: something is wrong.
    std::function<void(bool urgent, std::string_view line)> log;
};

// What is known of a node's data when it has stopped. Nothing that was acknowledged is lost either
// way: it is durable in the journal or in its segment.
struct StopReport {
    bool drained = true;  // everything taken is in its segment
    std::uint64_t drain_deadline_ns = 0;
    // Of frames that are not settled in their segments. The next start moves what was acknowledged
    // of them.
    std::uint64_t left_bytes = 0;
};

class Node {
public:
    // On failure `why` says what was expected, what was found and what to do.
    [[nodiscard]] static std::unique_ptr<Node> start(NodeOptions options, std::string& why);
    // Stops as stop() does.
    virtual ~Node() = default;
    // Takes no more packets and requests, moves everything to its segment as long as the deadline
    // allows, ends all threads. Called again it only reports.
    virtual StopReport stop() = 0;
    [[nodiscard]] virtual std::uint16_t http_port() const noexcept = 0;
    // 0: TLS is not spoken.
    [[nodiscard]] virtual std::uint16_t https_port() const noexcept = 0;
    // Reads certificate and key again and logs what came of it. Open connections go on, and if the
    // files are not good, new ones too, with what was there before. From any thread.
    virtual void reload_certificate() = 0;
    // Reads the keys file again and logs what came of it. With an error the keys before stay in
    // use. From any thread, one at a time.
    virtual void reload_keys() = 0;
};

}  // namespace penstock
