#include "control/node/node.h"

#include "control/auth/key_file.h"
#include "control/catalog/embedded_catalog.h"
#include "control/http/guard.h"
#include "control/http/server.h"
#include "control/keys/key_store.h"
#include "control/kinesis/records/read_call.h"
#include "control/kinesis/service.h"
#include "control/node/capture.h"
#include "control/node/catalog_log.h"
#include "control/node/descriptors.h"
#include "control/node/key_report.h"
#include "control/node/local_socket.h"
#include "control/node/node_metrics.h"
#include "control/node/node_texts.h"
#include "control/node/on_demand_scaler.h"
#include "control/node/pages.h"
#include "control/node/request_metrics.h"
#include "control/node/supervisor.h"
#include "control/rest/handler.h"
#include "dataplane/lane/lane_set.h"
#include "dataplane/port/port.h"
#include "storage/base/counted.h"
#include "storage/io/durability_probe.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/replica/set.h"

namespace penstock {

namespace {

constexpr std::chrono::seconds lock_wait{5};

// Everything an engine needs to know of the set's directories.
UringOptions engine_options(const ReplicaSet& set, bool huge_pages, int wake_fd) {
    UringOptions options;
    for (unsigned r = 0; r < replica_count; ++r) {
        const ReplicaPlace place = set.directory(r);
        options.directory_fds[r] = place.fd;
        options.flush_modes[r] = set.durability(r).mode;
        options.lock_fds[r] = place.lock_fd;
    }
    options.entries = 1024;
    options.huge_pages = huge_pages;
    options.wake_fd = wake_fd;
    return options;
}

// Where the storage layer's helpers run: beside the lanes, or anywhere if lanes have every CPU.
std::optional<cpu_set_t> cpus_beside(const std::vector<unsigned>& lane_cpus) {
    cpu_set_t cpus;
    if (::sched_getaffinity(0, sizeof cpus, &cpus) != 0) {
        return std::nullopt;
    }
    cpu_set_t beside = cpus;
    for (const unsigned cpu : lane_cpus) {
        CPU_CLR(cpu, &beside);
    }
    return CPU_COUNT(&beside) == 0 ? cpus : beside;
}

class NodeImpl;

// Routes what is not the Kinesis API to the pages and to REST.
class FrontHandler final : public http::HttpHandler {
public:
    // `gate` is null where requests are not signed. `kinesis` is null on the local socket.
    FrontHandler(const NodePages& pages, RequestCounters& requests, auth::Gate* gate,
                 const rest::RestOptions& options, std::unique_ptr<kinesis::KinesisHandler> kinesis)
        : pages_(pages), requests_(requests), gate_(gate), kinesis_(std::move(kinesis)) {
        if (kinesis_ != nullptr) {
            rest_ = std::make_unique<rest::RestHandler>(*kinesis_, gate_, options);
        }
    }
    // REST hears the last answers of what it asked for.
    ~FrontHandler() override { kinesis_.reset(); }

    void handle(std::unique_ptr<http::HttpExchange> exchange) override {
        requests_.begin(*exchange);
        const http::HttpRequest& request = exchange->request();
        const bool is_ours = rest::is_ours(request.path) || NodePages::has(request.path);
        const bool is_preflight = request.method == "OPTIONS" && request.has_header("Origin");
        if (kinesis_ != nullptr && (!is_ours || is_preflight)) {
            return kinesis_->handle(std::move(exchange));
        }
        kinesis::add_headers(ids_, *exchange);
        if (pages_.handle(*exchange, gate_)) {
            return;
        }
        if (rest_ != nullptr) {
            return rest_->handle(std::move(exchange));
        }
        exchange->respond(http::HttpResponse::text(
            404,
            "The local socket has the node's own pages: /metrics, /v1/node, /v1/replicas, "
            "/v1/capture, /v1/credentials"));
    }

    // Those of GetRecords, in whichever dialect.
    std::size_t large_answer_bytes(const http::HttpRequest& request) const override {
        const bool is_large =
            http_operation_of(request) == static_cast<std::size_t>(kinesis::Operation::get_records);
        return is_large ? kinesis::get_records_answer_bytes : 0;
    }

    void stopping() override {
        if (kinesis_ != nullptr) {
            kinesis_->stopping();
        }
    }

private:
    const NodePages& pages_;
    RequestCounters& requests_;
    auth::Gate* gate_;
    kinesis::RequestIds ids_;
    std::unique_ptr<rest::RestHandler> rest_;
    std::unique_ptr<kinesis::KinesisHandler> kinesis_;
};

// Ids for answers that no handler gave, of all control threads: they are few.
class RefusalIds {
public:
    void add_to(http::HttpResponse& response) {
        const std::lock_guard lock(mutex_);
        response.headers.emplace_back("x-amzn-RequestId", ids_.request_id());
        response.headers.emplace_back("x-amz-id-2", ids_.extended_id());
    }

private:
    std::mutex mutex_;
    kinesis::RequestIds ids_;
};

http::ServerCounters sum_of(http::ServerCounters a, const http::ServerCounters& b) {
    a.connections_accepted += b.connections_accepted;
    a.connections_refused += b.connections_refused;
    a.connections_timed_out += b.connections_timed_out;
    a.connections_open += b.connections_open;
    for (std::size_t i = 0; i < http::ending_count; ++i) {
        a.connections_closed[i] += b.connections_closed[i];
    }
    a.requests += b.requests;
    a.requests_http2 += b.requests_http2;
    a.large_answer_bytes += b.large_answer_bytes;
    a.requests_held += b.requests_held;
    a.http2_connections += b.http2_connections;
    a.http2_streams_reset += b.http2_streams_reset;
    a.http2_floods += b.http2_floods;
    a.tls_handshakes += b.tls_handshakes;
    a.tls_resumptions += b.tls_resumptions;
    a.tls_failures += b.tls_failures;
    a.requests_refused += b.requests_refused;
    a.requests_malformed += b.requests_malformed;
    a.received_bytes += b.received_bytes;
    a.sent_bytes += b.sent_bytes;
    return a;
}

class NodeImpl final : public Node {
public:
    explicit NodeImpl(NodeOptions options) : options_(std::move(options)) {}
    ~NodeImpl() override { stop(); }

    bool start(std::string& why) {
        // A certificate or key that cannot be used is found before anything is locked or made.
        return open_tls(why) && open_keys(why) && check_key_file(why) && open_set(why) &&
               open_catalog(why) && open_credentials(why) && open_ports(why) && start_lanes(why) &&
               start_streams(why) && start_http(why) && start_local(why);
    }

    StopReport stop() override {
        if (stopped_) {
            return report_;
        }
        stopped_ = true;
        if (local_server_ != nullptr) {
            local_server_->stop();
            remove_local(options_.local_socket);
        }
        if (server_ != nullptr) {
            server_->stop();
        }
        if (supervisor_ != nullptr) {
            supervisor_->stop();
        }
        if (scaler_ != nullptr) {
            scaler_->stop();
        }
        streams_.reset();
        if (metrics_ != nullptr) {
            metrics_->close();
        }
        if (lanes_ != nullptr) {
            const DrainOutcome outcome = lanes_->stop();
            report_ = {outcome.finished, options_.drain_deadline_ns, outcome.left_bytes};
        }
        // Groups ended with their lanes' threads; pools and engines go after them.
        credentials_.reset();
        catalog_.reset();
        catalog_log_.reset();
        ports_.clear();
        eal_.reset();
        set_.reset();
        return report_;
    }

    std::uint16_t http_port() const noexcept override {
        return server_ == nullptr ? 0 : server_->port();
    }
    std::uint16_t https_port() const noexcept override {
        return server_ == nullptr ? 0 : server_->tls_port();
    }

    void reload_certificate() override {
        if (tls_ == nullptr) {
            say(false, "there is no TLS certificate to reload");
            return;
        }
        if (const auto loaded = tls_->reload()) {
            say_certificate(*loaded);
        } else {
            say(true, loaded.error() + "; the one loaded before stays in use");
        }
    }

    void reload_keys() override {
        if (!keys_->has_file()) {
            return;
        }
        if (const auto read = keys_->reload(); !read) {
            say(true, read.error() + "; the keys read before stay in use");
            return;
        }
        streams_->keys_changed();
        say_keys();
        say_unusable_keys();
    }

private:
    void say(bool urgent, const std::string& line) const {
        if (options_.log) {
            options_.log(urgent, line);
        }
    }

    bool open_set(std::string& why) {
        ReplicaSetOptions options;
        options.directories = options_.directories;
        options.for_new = options_.geometry_for_new;
        options.existing = options_.existing;
        options.allow_read_only = true;
        std::string message;
        auto set = ReplicaSet::open(options, message);
        // A killed process's lock lives as long as its last writes; the kernel ends both soon.
        const auto until = std::chrono::steady_clock::now() + lock_wait;
        // Two of three locked is the same: what could be opened then could only be read.
        const auto is_held = [&] {
            return (set ? (*set)->read_only_cause() : set.error().code) == Errc::locked;
        };
        for (bool told = false; is_held() && std::chrono::steady_clock::now() < until;
             told = true) {
            if (!told) {
                say(false,
                    "the directories are locked: waiting for the last writes of the process that "
                    "held them");
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            message.clear();
            set = fail(Errc::locked);  // closes what was opened, before it is opened again
            set = ReplicaSet::open(options, message);
        }
        if (!set) {
            why = message.empty() ? describe(set.error()) : message;
            return false;
        }
        set_ = std::move(*set);
        if (!message.empty()) {
            say(!set_->made_new(), message);
        }
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((set_->present() >> r & 1) != 0) {
                say(set_->durability(r).suspicious, "replica " + std::to_string(r) + " " +
                                                        set_->directory(r).path + ": " +
                                                        set_->durability(r).describe());
            }
        }
        return true;
    }

    bool open_catalog(std::string& why) {
        CatalogLog::Options options;
        options.geometry = set_->geometry();
        options.epoch = set_->epoch();
        options.voting = set_->voting();
        options.filling = set_->filling();
        options.read_only = set_->read_only();
        options.accept_loss = options_.accept_loss;
        options.make_engine = [this]() -> Result<std::unique_ptr<IoEngine>> {
            UringOptions engine = engine_options(*set_, false, -1);
            engine.entries = 64;
            auto made = UringEngine::open(engine);
            if (!made) {
                engine_why_ = UringEngine::explain_open_failure(made.error());
                return std::unexpected(made.error());
            }
            return std::unique_ptr<IoEngine>(std::move(*made));
        };
        options.on_replica_failed = [this](unsigned replica, Error error) {
            report(replica, error);
        };
        auto log = CatalogLog::open(std::move(options));
        if (!log) {
            why = !engine_why_.empty() ? engine_why_
                                       : "catalog, " + recovery_failure(GroupId{0}, log.error());
            return false;
        }
        catalog_log_ = std::move(*log);
        auto catalog = EmbeddedCatalog::open(*catalog_log_, clock_);
        if (!catalog) {
            why = "catalog: " + describe(catalog.error());
            return false;
        }
        catalog_ = std::move(*catalog);
        return true;
    }

    // Where no file with secrets may be.
    std::vector<std::string> data_directories() const {
        std::vector<std::string> all = options_.data_roots;
        all.insert(all.end(), options_.directories.begin(), options_.directories.end());
        return all;
    }

    bool check_key_file(std::string& why) const {
        if (options_.key_file.empty()) {
            return true;
        }
        const std::string problem = auth::key_file_problem(options_.key_file, data_directories());
        if (!problem.empty()) {
            why = "--key-file " + options_.key_file + ": " + problem;
        }
        return problem.empty();
    }

    bool open_credentials(std::string& why) {
        auth::CredentialStoreOptions options;
        options.key_file = options_.key_file;
        options.data_directories = data_directories();
        options.account = options_.account;
        options.discard = options_.discard_credentials;
        options.log = [this](bool urgent, std::string_view line) {
            say(urgent, std::string(line));
        };
        auto opened = auth::CredentialStore::open(*catalog_, clock_, std::move(options));
        if (!opened) {
            why = opened.error();
            return false;
        }
        credentials_ = std::move(*opened);
        return true;
    }

    bool open_keys(std::string& why) {
        if (options_.keys_file.empty()) {
            keys_ = std::make_unique<keys::KeyStore>();
            return true;
        }
        auto opened = keys::KeyStore::open(options_.keys_file, data_directories());
        if (!opened) {
            why = opened.error();
            return false;
        }
        keys_ = std::move(*opened);
        say_keys();
        return true;
    }

    void say_keys() const {
        const auto ring = keys_->ring();
        const auto disabled = std::count_if(ring->keys().begin(), ring->keys().end(),
                                            [](const keys::Key& key) { return !key.enabled; });
        say(false, "keys file " + options_.keys_file + ": " + counted(ring->keys().size(), "key") +
                       (disabled == 0 ? "" : ", " + std::to_string(disabled) + " disabled"));
    }

    void say_unusable_keys() {
        const std::string line =
            unusable_keys(*streams_->table(), options_.keys_file, clock_.wall_ms());
        if (!line.empty()) {
            say(true, line);
        }
    }

    bool open_ports(std::string& why) {
        std::vector<std::string> pci;
        unsigned dpdk_ports = 0;
        unsigned jumbo_ports = 0;
        for (const NodePort& port : options_.ports) {
            const auto kind = port_kind(port.device, why);
            if (!kind) {
                return false;
            }
            dpdk_ports += *kind != PortKind::kernel ? 1U : 0U;
            jumbo_ports += port_takes_jumbo(port.device, port.mtu) ? 1U : 0U;
            if (*kind == PortKind::dpdk_pci) {
                pci.push_back(port.device.substr(0, port.device.find(',')));
            }
        }
        const auto lane_count = static_cast<unsigned>(options_.lane_cpus.size());
        if (dpdk_ports != 0) {
            EalOptions eal;
            eal.huge_pages = options_.huge_pages;
            eal.memory_mb = eal_memory_mb(dpdk_ports, lane_count, jumbo_ports);
            eal.cpus = options_.lane_cpus;
            eal.pci_addresses = pci;
            auto started = Eal::start(eal, why);
            if (!started) {
                return false;
            }
            eal_ = std::move(*started);
            say(false, eal_->describe());
        }
        for (const NodePort& port : options_.ports) {
            PortOptions open;
            open.device = port.device;
            open.addresses = port.addresses;
            open.mtu = port.mtu;
            open.rss = port.rss;
            for (const DoorSpec& door : options_.doors) {
                if (door.ports == DoorPorts::one) {
                    open.udp_ports.push_back(door.port);
                    continue;
                }
                for (unsigned lane = 0; lane < lane_count; ++lane) {
                    open.lane_udp_ports.push_back(
                        {static_cast<std::uint16_t>(door.port + lane), lane});
                }
            }
            open.lane_count = lane_count;
            open.force = options_.force_ports;
            auto opened = open_port(open, why);
            if (!opened) {
                return false;
            }
            say(false, (*opened)->describe());
            ports_.push_back(std::move(*opened));
        }
        return true;
    }

    bool start_lanes(std::string& why) {
        const SetGeometry& geometry = set_->geometry();
        LaneSetOptions lanes;
        if (options_.pin_lanes) {
            lanes.cpus = options_.lane_cpus;
            helper_cpus_ = cpus_beside(options_.lane_cpus);
        }
        lanes.lane_count = static_cast<unsigned>(options_.lane_cpus.size());
        lanes.group_count = geometry.data_groups;
        lanes.doors = options_.doors;
        for (const auto& port : ports_) {
            lanes.ports.push_back(port.get());
        }
        lanes.idle.policy = options_.poll;
        lanes.clock = &clock_;
        lanes.stop_deadline_ns = options_.drain_deadline_ns;
        auto made = LaneSet::make(std::move(lanes), why);
        if (!made) {
            return false;
        }
        lanes_ = std::move(*made);
        engines_.resize(lanes_->lane_count());
        pools_.resize(lanes_->lane_count());
        failures_.resize(lanes_->lane_count());
        std::string lane_why;
        const Status started =
            lanes_->start([this](Lane& lane) { return prepare(lane); }, lane_why);
        if (!started) {
            why = lane_why;
            for (const std::string& failure : failures_) {
                if (!failure.empty()) {
                    why = failure;
                }
            }
            return false;
        }
        return true;
    }

    // On the lane's thread: its engine, its memory, its groups.
    Status prepare(Lane& lane) {
        std::string& failure = failures_[lane.index()];
        UringOptions wanted = engine_options(*set_, true, lane.wake_fd());
        wanted.helper_cpus = helper_cpus_;
        auto engine = UringEngine::open(wanted);
        if (!engine) {
            failure = UringEngine::explain_open_failure(engine.error());
            return std::unexpected(engine.error());
        }
        engines_[lane.index()] = std::move(*engine);
        UringEngine& own = *engines_[lane.index()];
        auto pool = FramePool::open(own, options_.memory_bytes);
        if (!pool) {
            failure = "lane " + std::to_string(lane.index()) + ": no memory for " +
                      std::to_string(options_.memory_bytes >> 20) +
                      " MiB of frames; lower --memory";
            return std::unexpected(pool.error());
        }
        pools_[lane.index()] = std::move(*pool);
        lane.set_engine(own, true);
        for (std::uint32_t id = 1; id <= set_->geometry().data_groups; ++id) {
            if (lanes_->lane_of(GroupId{id}) != lane.index()) {
                continue;
            }
            GroupOptions group;
            group.group = GroupId{id};
            group.epoch = set_->epoch();
            group.geometry = set_->geometry();
            group.voting = set_->voting();
            group.filling = set_->filling();
            group.linger_ns = options_.linger_ns;
            group.direct_threshold_bytes = options_.direct_threshold_bytes;
            group.replica_lag_bytes_max = options_.replica_lag_bytes_max;
            group.accept_loss = options_.accept_loss;
            group.scrub_bytes_per_s = options_.scrub_bytes_per_s / set_->geometry().data_groups;
            group.scrub_interval_ns = options_.scrub_interval_ns;
            auto recovered = ShardGroup::recover(group, own, clock_, *pools_[lane.index()]);
            if (!recovered) {
                failure = recovery_failure(GroupId{id}, recovered.error());
                return std::unexpected(recovered.error());
            }
            (*recovered)
                ->observe_replicas(
                    [](void* self, unsigned replica, Error error) noexcept {
                        static_cast<NodeImpl*>(self)->report(replica, error);
                    },
                    this);
            (*recovered)
                ->observe_scrub(
                    [](void* self, const ScrubEvent& event) noexcept {
                        static_cast<NodeImpl*>(self)->report(event);
                    },
                    this);
            lane.add_group(std::move(*recovered), GroupId{id});
        }
        return {};
    }

    bool start_streams(std::string& why) {
        kinesis::StreamStoreOptions streams;
        for (const DoorSpec& door : options_.doors) {
            streams.door_streams.push_back(door.stream);
        }
        streams.publish = [this](std::unique_ptr<const RouteTable> table) {
            lanes_->publish(std::move(table));
        };
        streams.keys = keys_.get();
        streams.log = [this](std::string_view line) { say(true, std::string(line)); };
        streams.on_demand = options_.on_demand;
        auto opened = kinesis::StreamStore::open(*catalog_, *lanes_, clock_, std::move(streams));
        if (!opened) {
            why = "streams: " + describe(opened.error());
            return false;
        }
        streams_ = std::move(*opened);
        if (!check_regions(why)) {
            return false;
        }
        say_unusable_keys();
        supervisor_ = std::make_unique<Supervisor>(
            *set_, *lanes_, *catalog_log_,
            Supervisor::Options{
                .log = [this](bool urgent,
                              std::string_view line) { say(urgent, std::string(line)); },
                .name_of = [this](ShardUid shard) { return shard_text(*streams_, shard); },
                .group_count = set_->geometry().data_groups});
        {
            const std::lock_guard lock(early_mutex_);
            for (const auto& [replica, error] : early_) {
                supervisor_->report(replica, error);
            }
            supervising_ = supervisor_.get();
        }
        supervisor_->start();
        scaler_ = std::make_unique<OnDemandScaler>(
            *lanes_, *streams_, clock_,
            OnDemandScaler::Options{
                .limits = options_.on_demand,
                .log = [this](std::string_view line) { say(false, std::string(line)); },
                .records = [this] { return open_records(); }});
        scaler_->start();
        return true;
    }

    // Streams of the first region are kept without its name: that one must stay the first.
    bool check_regions(std::string& why) const {
        std::map<std::string, std::size_t> not_served;
        for (const auto& [name, view] : *streams_->table()) {
            const std::size_t slash = name.find('/');
            if (slash == std::string::npos) {
                continue;
            }
            const std::string region = name.substr(0, slash);
            if (region == options_.regions.front()) {
                why = "streams of " + region +
                      " are kept as those of a further region; expected the region that was first "
                      "until now to be named first in --region, found " +
                      region;
                return false;
            }
            if (std::ranges::find(options_.regions, region) == options_.regions.end()) {
                ++not_served[region];
            }
        }
        for (const auto& [region, count] : not_served) {
            say(true, "region " + region + ": " + std::to_string(count) +
                          (count == 1 ? " stream is" : " streams are") +
                          " kept and not served; add it to --region to reach " +
                          (count == 1 ? "it" : "them"));
        }
        return true;
    }

    std::unique_ptr<kinesis::RecordSource> open_records() const {
        return std::make_unique<kinesis::SegmentRecordSource>(open_container_files(set_->paths()),
                                                              set_->geometry().set_id);
    }

    bool open_tls(std::string& why) {
        if (options_.https_host.empty()) {
            return true;
        }
        auto opened = http::TlsContext::open({options_.tls_certificate, options_.tls_key}, clock_);
        if (!opened) {
            why = opened.error();
            return false;
        }
        tls_ = std::move(*opened);
        say_certificate(tls_->certificate());
        return true;
    }

    void say_certificate(const http::TlsCertificate& certificate) const {
        const bool bad = !certificate.warning.empty();
        say(bad, "TLS certificate " + options_.tls_certificate + " (" + certificate.subject +
                     ") is in use" + (bad ? ", but " + certificate.warning : ""));
    }

    bool start_http(std::string& why) {
        if (options_.shard_quota) {
            quotas_ = std::make_unique<kinesis::ShardQuotas>(*options_.shard_quota);
        }
        if (options_.rate_limits) {
            rates_ = std::make_unique<kinesis::RateLimits>();
        }
        NodeMetrics::Sources sources;
        sources.quotas = quotas_.get();
        sources.rates = rates_.get();
        sources.lanes = lanes_.get();
        sources.supervisor = supervisor_.get();
        sources.streams = streams_.get();
        for (const auto& port : ports_) {
            sources.ports.push_back(port.get());
        }
        sources.group_count = set_->geometry().data_groups;
        sources.version = options_.version;
        // The last one is the local socket's.
        for (unsigned i = 0; i < std::max(options_.http_threads, 1U) + 1; ++i) {
            requests_.push_back(std::make_unique<RequestCounters>(clock_));
            sources.requests.push_back(requests_.back().get());
        }
        for (unsigned i = 0; !options_.unsigned_requests && i + 1 < requests_.size(); ++i) {
            gates_.push_back(std::make_unique<auth::Gate>(
                *credentials_, clock_, auth::GateOptions{options_.regions, options_.account}));
            sources.gates.push_back(gates_.back().get());
        }
        sources.http = [this] {
            http::ServerCounters sum;
            for (const auto* serving : {&serving_, &serving_local_}) {
                if (const http::HttpServer* server = serving->load(); server != nullptr) {
                    sum = sum_of(sum, server->counters());
                }
            }
            return sum;
        };
        sources.tls = tls_.get();
        sources.fan_out = &subscriptions_->counters;
        sources.on_demand = &scaler_->counters();
        metrics_ = std::make_unique<NodeMetrics>(std::move(sources));
        status_pages_ = std::make_unique<metrics::StatusPages>(
            metrics_->registry(), [this] { return metrics_->not_ready(); });
        std::vector<Port*> ports;
        for (const auto& port : ports_) {
            ports.push_back(port.get());
        }
        capture_ = std::make_unique<CapturePage>(*lanes_, std::move(ports), options_.version);
        credentials_page_ = std::make_unique<auth::CredentialsPage>(*credentials_, options_.account,
                                                                    options_.regions.front());
        pages_ = std::make_unique<NodePages>(NodePages::Parts{
            *status_pages_, *metrics_, *capture_, *credentials_page_, options_.account,
            options_.regions.front(),
            "arn:aws:penstock:" + options_.regions.front() + ":" + options_.account + ":node"});
        if (!http::check_bind_address(options_.http_host)) {
            say(true, "HTTP on " + options_.http_host +
                          ": requests are signed, but whoever can listen on the network can read "
                          "them and their answers");
        }
        http::ServerOptions server;
        server.guarded = options_.unsigned_requests;
        server.host = options_.http_host;
        server.port = options_.http_port;
        if (tls_ != nullptr) {
            server.tls = tls_.get();
            server.tls_host = options_.https_host;
            server.tls_port = options_.https_port;
        }
        server.threads = options_.http_threads;
        server.connections_max =
            connections_within(raise_descriptor_limit(), server.threads, server.connections_max);
        server.log = [this](std::string_view line) { say(true, std::string(line)); };
        server.complete_refusal = [ids = std::make_shared<RefusalIds>()](
                                      http::HttpResponse& response) { ids->add_to(response); };
        kinesis::ServiceOptions service;
        service.account = options_.account;
        service.regions = options_.regions;
        service.ack_level = options_.ack_level;
        service.subscriptions = subscriptions_;
        service.consumers_max = options_.consumers_max;
        service.quotas = quotas_.get();
        service.rates = rates_.get();
        auto opened = http::HttpServer::open(
            std::move(server),
            [this, service](http::LoopThread& loop) -> std::unique_ptr<http::HttpHandler> {
                const auto sources_factory = [this] { return open_records(); };
                auth::Gate* gate =
                    options_.unsigned_requests ? nullptr : gates_[loop.index()].get();
                return std::make_unique<FrontHandler>(
                    *pages_, *requests_[loop.index()], gate,
                    rest::RestOptions{options_.account, options_.regions.front()},
                    std::make_unique<kinesis::KinesisHandler>(loop, *streams_, *lanes_, clock_,
                                                              sources_factory, service, gate));
            });
        if (!opened) {
            why = opened.error();
            return false;
        }
        server_ = std::move(*opened);
        serving_ = server_.get();
        return true;
    }

    // Where the first credential is made: by a program that the kernel says is root's or our own.
    bool start_local(std::string& why) {
        if (options_.unsigned_requests || options_.local_socket == "none") {
            options_.local_socket.clear();
            return true;
        }
        if (options_.local_socket.empty()) {
            options_.local_socket = default_local_socket(options_.http_host, server_->port());
        }
        const auto fd = listen_local(options_.local_socket);
        if (!fd) {
            options_.local_socket.clear();
            why = fd.error();
            return false;
        }
        http::ServerOptions server;
        server.guarded = false;
        server.listen_fd = *fd;
        server.admit = is_trusted;
        server.connections_max = 64;
        server.log = [this](std::string_view line) { say(true, std::string(line)); };
        auto opened = http::HttpServer::open(
            std::move(server), [this](http::LoopThread&) -> std::unique_ptr<http::HttpHandler> {
                return std::make_unique<FrontHandler>(*pages_, *requests_.back(), nullptr,
                                                      rest::RestOptions{}, nullptr);
            });
        if (!opened) {
            why = opened.error();
            return false;
        }
        local_server_ = std::move(*opened);
        serving_local_ = local_server_.get();
        return true;
    }

    // From lanes and the catalog's thread, also before the supervisor is there.
    void report(unsigned replica, Error error) {
        const std::lock_guard lock(early_mutex_);
        if (supervising_ != nullptr) {
            supervising_->report(replica, error);
        } else {
            early_.emplace_back(replica, error);
        }
    }

    // From lanes. Groups scrub once all of them are there, and the supervisor soon after.
    void report(const ScrubEvent& event) {
        const std::lock_guard lock(early_mutex_);
        if (supervising_ != nullptr) {
            supervising_->report(event);
        }
    }

    NodeOptions options_;
    SystemClock clock_;
    std::unique_ptr<kinesis::ShardQuotas> quotas_;  // null: unlimited
    std::unique_ptr<kinesis::RateLimits> rates_;    // the same
    std::unique_ptr<ReplicaSet> set_;
    std::string engine_why_;
    std::mutex early_mutex_;
    std::vector<std::pair<unsigned, Error>> early_;
    Supervisor* supervising_ = nullptr;
    std::unique_ptr<CatalogLog> catalog_log_;
    std::unique_ptr<EmbeddedCatalog> catalog_;
    std::unique_ptr<auth::CredentialStore> credentials_;
    std::unique_ptr<keys::KeyStore> keys_;
    std::unique_ptr<Eal> eal_;
    std::vector<std::unique_ptr<Port>> ports_;
    // The lanes' threads use these until they end, and the groups before them.
    std::optional<cpu_set_t> helper_cpus_;  // of the engines of pinned lanes
    std::vector<std::unique_ptr<UringEngine>> engines_;
    std::vector<std::unique_ptr<FramePool>> pools_;
    std::vector<std::string> failures_;
    std::unique_ptr<LaneSet> lanes_;
    std::unique_ptr<kinesis::StreamStore> streams_;
    std::unique_ptr<Supervisor> supervisor_;
    std::unique_ptr<OnDemandScaler> scaler_;
    std::shared_ptr<kinesis::SubscriptionTable> subscriptions_ =
        std::make_shared<kinesis::SubscriptionTable>();
    std::vector<std::unique_ptr<RequestCounters>> requests_;  // by control thread
    std::unique_ptr<NodeMetrics> metrics_;
    std::unique_ptr<metrics::StatusPages> status_pages_;
    std::unique_ptr<CapturePage> capture_;
    std::unique_ptr<http::TlsContext> tls_;
    std::unique_ptr<auth::CredentialsPage> credentials_page_;
    std::unique_ptr<NodePages> pages_;
    std::vector<std::unique_ptr<auth::Gate>> gates_;  // by control thread; none when unsigned
    std::unique_ptr<http::HttpServer> server_;
    std::unique_ptr<http::HttpServer> local_server_;
    std::atomic<const http::HttpServer*> serving_{nullptr};
    std::atomic<const http::HttpServer*> serving_local_{nullptr};
    bool stopped_ = false;
    StopReport report_;
};

}  // namespace

std::unique_ptr<Node> Node::start(NodeOptions options, std::string& why) {
    const auto loopback = http::check_bind_address(options.http_host);
    if (!loopback && options.unsigned_requests) {
        why = loopback.error();
        return nullptr;
    }
    if (options.key_file.empty() && !options.unsigned_requests) {
        why =
            "--key-file: not given; expected a file to seal credentials with, outside the data "
            "directories (one that is not there yet is made), or --unsigned";
        return nullptr;
    }
    if (options.unsigned_requests && !options.https_host.empty()) {
        if (const auto bind = http::check_bind_address(options.https_host); !bind) {
            why = bind.error();
            return nullptr;
        }
    }
    auto node = std::make_unique<NodeImpl>(std::move(options));
    if (!node->start(why)) {
        return nullptr;
    }
    return node;
}

}  // namespace penstock
