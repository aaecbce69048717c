// Producer sessions on a lane: what session::SessionLane asks of it is done here with the lane's
// ports, routes and shard groups.
//
// Runs on: the lane; made before it runs.
// Allocates: when made.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/door/routes.h"
#include "dataplane/port/port.h"
#include "dataplane/session/session_lane.h"
#include "storage/log/group.h"

namespace penstock {

class Lane;

// What control threads want to know of sessions.
enum class SessionEvent : std::uint8_t { activated, ended, wants_keys };

struct LaneSessionsOptions {
    unsigned lane = 0;
    unsigned lane_count = 1;
    std::uint16_t base_port = 0;  // lane i has base_port + i
    session::SessionLane::Limits limits;
    // Shared by the lanes; outlives them.
    const session::Aead* aead = nullptr;
    // Random, of this lane and start alone.
    session::KeyMaterial challenge_key;
    std::unique_ptr<session::Cmac> cookies;
    // Called on the lane's thread; must not wait. May be null.
    void (*on_event)(void* context, SessionEvent event,
                     const session::Session& session) noexcept = nullptr;
    void* event_context = nullptr;
    // A request to open a session by a PSK; false: no room. Null: there are no PSKs.
    bool (*on_open)(void* context, const session::Peer& from, Bytes datagram) noexcept = nullptr;
};

class LaneSessions final : private session::SessionHost {
public:
    explicit LaneSessions(LaneSessionsOptions options);

    // Once, by the lane that owns this.
    void attach(Lane& lane) noexcept { lane_ = &lane; }

    // Whether datagrams to this UDP port are of sessions.
    [[nodiscard]] bool is_port(std::uint16_t udp_port) const noexcept {
        return udp_port >= options_.base_port &&
               udp_port < options_.base_port + options_.lane_count;
    }
    [[nodiscard]] std::uint16_t base_port() const noexcept { return options_.base_port; }

    // -- A turn
    // -------------------------------------------------------------------------------------
    // `routes` until the turn's end; null: every stream is missing.
    void begin_turn(const RouteTable* routes, std::uint64_t now_ns, std::int64_t clock_ms) noexcept;
    // A datagram to a session port, which stays where it is until take_offered().
    void offer(const Decoded& decoded, unsigned port_number) noexcept;
    // Whether there is room for another offer.
    [[nodiscard]] bool is_full() const noexcept { return offered_ == offers_.size(); }
    // Those offered are taken, in place. Refusals are counted in `drops`, too.
    void take_offered(DropCounters& drops) noexcept;
    // Answers what is due. Returns the work done.
    std::size_t flush() noexcept;
    // When flush() has work without any new event; UINT64_MAX if never.
    [[nodiscard]] std::uint64_t next_due_ns() const noexcept { return sessions_.next_due_ns(); }

    [[nodiscard]] session::SessionLane& sessions() noexcept { return sessions_; }

private:
    session::PartStatus place(const session::Session& session, ShardUid shard,
                              session::ShardPlace& out) noexcept override;
    AppendVerdict append(const session::ShardPlace& place, const RecordIn& record, AckLevel level,
                         Appended& out) noexcept override;
    AppendVerdict known(const session::ShardPlace& place, const ProducerMark& mark,
                        Appended& out) noexcept override;
    void wait_commit(const session::ShardPlace& place, CommitWaiter& waiter) noexcept override;
    std::size_t map(const session::Session& session, const Hash128& from,
                    std::span<session::MapEntry> out, bool& more) noexcept override;
    std::uint32_t map_epoch(const session::Session& session) noexcept override;
    session::CreditState credit() noexcept override;
    bool send(const session::Peer& to, Bytes datagram) noexcept override;
    bool is_busy_opening() noexcept override { return false; }
    bool opening(const session::Peer& from, Bytes datagram) noexcept override;
    void activated(const session::Session& session) noexcept override;
    void ended(const session::Session& session) noexcept override;
    void wants_keys(const session::Session& session) noexcept override;
    void tell(SessionEvent event, const session::Session& session) noexcept;

    LaneSessionsOptions options_;
    Lane* lane_ = nullptr;
    session::SessionLane sessions_;
    const RouteTable* routes_ = nullptr;
    std::uint32_t map_epoch_ = 0;  // changes with the routes
    std::uint64_t now_ns_ = 0;
    std::int64_t clock_ms_ = 0;
    // Since then the lane's memory has room for nobody.
    std::uint64_t no_memory_until_ns_ = 0;
    std::array<session::SessionLane::Incoming, session::SessionLane::burst_max> offers_;
    std::array<DropReason, session::SessionLane::burst_max> verdicts_;
    std::size_t offered_ = 0;
};

}  // namespace penstock
