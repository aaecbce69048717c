// One control thread of the HTTP server: its loop, its connections, its handler.
//
// Runs on: the thread that calls run(); counters are read by any. Allocates: per connection.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <future>
#include <list>
#include <memory>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "control/http/connection.h"
#include "control/http/loop.h"
#include "control/http/server.h"

namespace penstock::http {

// How many there are: added to on one thread, subtracted from on another, read on any.
class SharedCount {
public:
    void add() noexcept { value_.fetch_add(1, std::memory_order_relaxed); }
    void subtract() noexcept { value_.fetch_sub(1, std::memory_order_relaxed); }
    [[nodiscard]] std::uint64_t get() const noexcept {
        return value_.load(std::memory_order_relaxed);
    }

private:
    std::atomic<std::uint64_t> value_{0};
};

// Thrown away between two sweeps of what lingering peers still send, of all together: enough for
// those who have not noticed yet, and no work to speak of for those who do not mean to.
inline constexpr std::size_t discarded_per_sweep_bytes_max = 32 * 1024 * 1024;

// Written by one control thread, read by any.
struct ThreadCounters {
    Counter timed_out;
    Counter refused;
    std::array<Counter, ending_count> closed;
    SharedCount open;  // connections: the acceptor adds one when it hands it over
    Counter requests;
    Counter requests_http2;  // of these
    Counter guarded;
    Counter malformed;
    Counter received_bytes;
    Counter sent_bytes;
};

// One control thread: its loop, its connections, its handler.
class Worker final : public ResponseSink {
public:
    Worker(const ServerOptions& options, std::unique_ptr<LoopThread> loop)
        : options_(options), loop_(std::move(loop)) {
        context_.limits = options.limits;
        context_.times = options.times;
        context_.complete_refusal = options.complete_refusal;
        context_.body_budget->limit_bytes = options.body_memory_max_bytes;
    }

    // The whole life of the thread. `ready` is told when the handler exists.
    void run(const HandlerFactory& factory, std::promise<std::string>& ready);

    [[nodiscard]] LoopThread& loop() noexcept { return *loop_; }
    [[nodiscard]] ThreadCounters& counters() noexcept { return counters_; }
    [[nodiscard]] const ConnectionCounters& connection_counters() const noexcept {
        return *context_.counters;
    }
    [[nodiscard]] const AnswerCounters& answer_counters() const noexcept {
        return *context_.answer_counters;
    }
    // `secure`: it came to the port that speaks TLS.
    void adopt(int fd, bool secure);
    // Closes the connection that has been without a request for longest. False: all are busy.
    [[nodiscard]] bool make_room();
    void begin_stop();

    void respond(ConnectionId id, StreamId stream, HttpResponse&& response) override;
    void resume(ConnectionId id, StreamId stream) override;
    [[nodiscard]] bool is_open(ConnectionId id) const noexcept override {
        return peers_.contains(static_cast<std::uint64_t>(id));
    }

private:
    struct Peer {
        std::uint64_t id = 0;
        int fd = -1;
        bool secure = false;
        std::unique_ptr<Connection> connection;
        std::uint32_t interest = EPOLLIN;
        std::uint64_t linger_until_ms = 0;  // 0: not lingering
        std::size_t refused = 0;
        bool dirty = false;
        bool has_asked = false;
        std::uint64_t begun_ms = 0;
        std::list<Peer*>::iterator place;       // in asked_ or strangers_
        std::list<Peer*>* bodies = nullptr;     // the one of the three below that it is in
        std::list<Peer*>::iterator body_place;  // there
    };

    void on_events(std::uint64_t id, std::uint32_t events);
    [[nodiscard]] bool read_from(Peer& peer);
    [[nodiscard]] bool discard_input(Peer& peer);
    void note_body(Peer& peer, bool has_just_asked);
    void move_to(std::list<Peer*>& bodies, Peer& peer);
    void reclaim_bodies();
    void set_interest(Peer& peer, std::uint32_t interest);
    void take_requests(Peer& peer);
    void dispatch(Peer& peer, IncomingRequest&& incoming);
    [[nodiscard]] bool write_to(Peer& peer);
    void settle(Peer& peer);
    void mark_dirty(Peer& peer);
    void settle_dirty();
    void close_peer(std::uint64_t id, Ending ending);
    void refuse_peer(int fd, bool secure);
    void sweep();
    void sweep_peer(Peer& peer);
    void end_when_done();
    void renew_time();

    const ServerOptions& options_;
    std::unique_ptr<LoopThread> loop_;
    ConnectionContext context_;
    ThreadCounters counters_;
    std::unique_ptr<HttpHandler> handler_;
    std::unordered_map<std::uint64_t, std::unique_ptr<Peer>> peers_;
    // Those that came last are last.
    std::list<Peer*> strangers_;  // without any request yet
    // Those that had a request last are last.
    std::list<Peer*> asked_;
    // The same peers by what they hold of bodies, so that those who hold something are found
    // however many hold nothing: each of the two in the order in which they began to, or asked
    // last.
    std::list<Peer*> bodiless_;
    std::list<Peer*> strangers_with_body_;
    std::list<Peer*> askers_with_body_;
    std::vector<std::uint64_t> dirty_;
    std::uint64_t next_id_ = 1;
    std::uint64_t date_ms_ = 0;
    std::size_t discard_left_bytes_ = discarded_per_sweep_bytes_max;
    bool sweeping_ = false;
    bool stopping_ = false;
    bool ended_ = false;
};

}  // namespace penstock::http
