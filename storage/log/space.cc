// Room in the segments: containers, the chunks cut from them, and what may be admitted.
//
// A record is admitted only when room for it in a segment is certain, at run time and once more in
// the recovery after a crash, which moves it into a chunk of its own (R3). Otherwise the journal
// could never be freed, and a node that was killed on full drives could not start. So the file
// systems are asked to keep the space of a container first, which is quick; the zeroes that make
// its writes cheap follow before it is used.
#include <algorithm>

#include "storage/log/group_core.h"
#include "storage/segment/reader.h"

namespace penstock {

namespace {

constexpr std::uint64_t retry_ns = 1'000'000'000;
constexpr std::int64_t out_of_space = -28;  // ENOSPC
// A container is there in time also when much more comes than of late.
constexpr double growth_ns_most = 10e9;

}  // namespace

// Units that what is pending of `waiting` shards, and `more_bytes` without a place, take at most:
// now, if they have none yet, and in a recovery. A chunk is left when the next write does not fit,
// at worst half empty.
std::uint64_t GroupCore::needed_units(std::uint64_t more_bytes,
                                      std::uint64_t waiting) const noexcept {
    const std::uint64_t bytes = pending_total + unplaced_total + 2 * more_bytes;
    return 2 * bytes / options.geometry.chunk_unit_bytes + 2 * waiting + 4;
}

// Free units, and those that enough file systems have promised.
std::uint64_t GroupCore::room_units() const noexcept {
    std::uint64_t units = table.space().free_units();
    for (const PromisedContainer& container : promised) {
        if (replicas.is_quorum(static_cast<ReplicaMask>(container.on & replicas.taking))) {
            units += options.geometry.container_bytes / options.geometry.chunk_unit_bytes;
        }
    }
    return units;
}

// Units that shards with more than their share of memory leave to those with less, so that these
// find room also while a flood waits for more to be reserved.
std::uint64_t GroupCore::margin_units() const noexcept {
    const std::uint64_t container =
        options.geometry.container_bytes / options.geometry.chunk_unit_bytes;
    if (shards.size() < 2 || reserve_failed || pool.share_bytes() == 0) {
        return 0;  // nobody to leave it to, or the disks are full for all
    }
    const std::uint64_t idle = shards.size() - waiting_shards;
    const std::uint64_t shares = shards.size() * pool.share_bytes();
    // Any shard may just have taken a unit for what still counts as pending.
    return std::min(2 * (2 * shares / options.geometry.chunk_unit_bytes + idle) + shards.size(),
                    container);
}

bool GroupCore::has_room(const ShardLog& shard, std::uint64_t bytes,
                         std::uint64_t margin) noexcept {
    const std::uint64_t waiting = waiting_shards + (shard.buffers == nullptr ? 1 : 0);
    const std::uint64_t needed = needed_units(bytes, waiting) + margin;
    const std::uint64_t container =
        options.geometry.container_bytes / options.geometry.chunk_unit_bytes;
    if (bytes > options.geometry.chunk_unit_bytes) {
        // It takes units in a row, which scattered free ones may not have.
        const bool in_a_row = needed <= container &&
                              table.space().find(static_cast<std::uint32_t>(needed)).has_value();
        return in_a_row || (!promised.empty() && needed <= room_units());
    }
    return needed <= room_units();
}

// -- Containers -----------------------------------------------------------------------------------

bool GroupCore::ensure_container_file(unsigned replica, std::uint32_t container) noexcept {
    auto& files = containers[replica];
    if (files.size() <= container) {
        files.resize(container + 1, no_file);
    }
    if (files[container] != no_file) {
        return true;
    }
    const auto opened = engine.open(replica, container_name(value(options.group), container),
                                    OpenMode::create_or_existing);
    if (!opened) {
        return false;
    }
    files[container] = *opened;
    return true;
}

// Asks every replica that takes writes for the container's space or zeroes, off the lane's thread.
// Spread over `pace_ns`, if anything.
void GroupCore::begin_round(ContainerRound& round, std::uint32_t container, IoKind kind,
                            std::uint64_t pace_ns) noexcept {
    round = ContainerRound{};
    round.container = container;
    round.round = ++grow_round;
    round.asked = replicas.taking;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((replicas.taking >> r & 1) == 0) {
            continue;
        }
        const auto bit = static_cast<ReplicaMask>(1U << r);
        if (!ensure_container_file(r, container)) {
            round.no_space = static_cast<ReplicaMask>(round.no_space | bit);
            continue;
        }
        const auto size = engine.size_bytes(containers[r][container]);
        if (!size) {
            replica_failed(r, size.error());
            continue;
        }
        if (*size >= options.geometry.container_bytes) {  // left over from an earlier try
            round.ok = static_cast<ReplicaMask>(round.ok | bit);
            continue;
        }
        const std::uint64_t have = kind == IoKind::reserve ? 0 : align_down(*size, block_bytes);
        const Cookie cookie{
            kind == IoKind::reserve ? OpKind::container_reserve : OpKind::container_grow,
            static_cast<std::uint16_t>(value(options.group)), round.round, container, r};
        if (engine.queue({.kind = kind,
                          .file = containers[r][container],
                          .offset = have,
                          .length = options.geometry.container_bytes - have,
                          .cookie = cookie.pack(),
                          .pace_ns = pace_ns})) {
            round.outstanding = static_cast<ReplicaMask>(round.outstanding | bit);
        }
    }
    round.active = true;
}

// Notes an answer, or looks again when a replica left (a cookie of kind none). True once: when
// nobody who takes writes owes an answer.
bool GroupCore::round_over(ContainerRound& round, const Cookie& cookie,
                           std::int64_t result) noexcept {
    if (!round.active || (cookie.kind != OpKind::none && cookie.generation != round.round)) {
        return false;  // of a replica that had left, and the round ended without it
    }
    if (cookie.kind != OpKind::none) {
        const auto bit = static_cast<ReplicaMask>(1U << cookie.replica);
        round.outstanding = static_cast<ReplicaMask>(round.outstanding & ~bit);
        if (result >= 0) {
            round.ok = static_cast<ReplicaMask>(round.ok | bit);
        } else if (result == out_of_space) {
            round.no_space = static_cast<ReplicaMask>(round.no_space | bit);
        } else if ((replicas.taking & bit) != 0) {
            replica_failed(
                cookie.replica,
                Error{Errc::io_failed, static_cast<std::uint16_t>(-result), cookie.replica});
        }
    }
    // A replica that failed just now has ended the round itself by leaving.
    if (!round.active || (round.outstanding & replicas.taking) != 0) {
        return false;
    }
    round.active = false;
    return true;
}

// A container that others keep the space of, and a replica that came back since was not asked for.
PromisedContainer* GroupCore::promise_to_ask_for() noexcept {
    const auto unasked = std::ranges::find_if(promised, [this](const PromisedContainer& one) {
        const bool grows = growth.active && growth.container == one.container;
        return !grows && (replicas.taking & ~one.asked) != 0;
    });
    return unasked == promised.end() ? nullptr : &*unasked;
}

// Has the space of one more container kept.
void GroupCore::reserve_space() noexcept {
    // Files without a manifest would look like a set that lost its own.
    if (reservation.active || now_ns < reserve_retry_ns || !replicas.has_quorum() ||
        !manifest_written) {
        return;
    }
    // First a replica that came back is asked for what the others keep already.
    if (PromisedContainer* unasked = promise_to_ask_for(); unasked != nullptr) {
        unasked->asked = replicas.taking;
        begin_round(reservation, unasked->container, IoKind::reserve, 0);
        complete_reserve(Cookie{}, 0);
        return;
    }
    std::uint32_t number = 0;
    while (table.space().has_container(number) || (growth.active && growth.container == number) ||
           std::ranges::any_of(promised, [number](const PromisedContainer& one) {
               return one.container == number;
           })) {
        ++number;
    }
    begin_round(reservation, number, IoKind::reserve, 0);
    complete_reserve(Cookie{}, 0);
}

void GroupCore::complete_reserve(const Cookie& cookie, std::int64_t result) noexcept {
    if (!round_over(reservation, cookie, result)) {
        return;
    }
    const auto on = static_cast<ReplicaMask>(reservation.ok & reservation.asked & replicas.taking);
    reserve_failed = !replicas.is_quorum(on);
    if (reserve_failed) {
        reserve_retry_ns = now_ns + retry_ns;  // or when something was freed
    } else {
        const auto again =
            std::ranges::find(promised, reservation.container, &PromisedContainer::container);
        if (again != promised.end()) {
            again->on = on;
        } else if (!table.space().has_container(reservation.container) &&
                   !(growth.active && growth.container == reservation.container)) {
            promised.push_back({reservation.container, reservation.asked, on});
        }
    }
    refresh_full();
}

// Adds a promised container on every replica that takes writes.
void GroupCore::grow_space() noexcept {
    if (growth.active || now_ns < growth_retry_ns || !replicas.has_quorum()) {
        return;
    }
    if (promised.empty()) {
        reserve_space();
        return;
    }
    begin_round(growth, promised.front().container, IoKind::allocate, growth_pace_ns());
    complete_grow(Cookie{}, 0);
}

// Time for one replica's part of a container, of three that are written one after another: half of
// what the free units last at the rate at which they were taken since the last growth began.
std::uint64_t GroupCore::growth_pace_ns() noexcept {
    const std::uint64_t free = table.space().free_units();
    const std::uint64_t used = table.space().total_units() - free;
    const std::uint64_t taken = used - std::min(growth_used_units, used);
    const std::uint64_t passed_ns = now_ns - growth_began_ns;
    const bool known = growth_began_ns != 0 && !recovering;
    growth_began_ns = now_ns;
    growth_used_units = used;
    if (!known) {
        return 0;
    }
    const double lasts_ns = static_cast<double>(free) * static_cast<double>(passed_ns) /
                            static_cast<double>(std::max<std::uint64_t>(taken, 1));
    return static_cast<std::uint64_t>(std::min(lasts_ns / 2, growth_ns_most)) / replica_count;
}

void GroupCore::hurry_growth() noexcept {
    if (growth.active && !growth.hurried) {
        growth.hurried = true;
        engine.hurry_allocates();
    }
}

void GroupCore::complete_grow(const Cookie& cookie, std::int64_t result) noexcept {
    Joining& join = joining[cookie.replica];
    // Files of a replica that comes back (refill.cc).
    if (cookie.kind == OpKind::container_grow && join.step == Joining::Step::files &&
        cookie.generation == join.round) {
        --join.outstanding;
        join.failed = join.failed || result < 0;
        if (join.outstanding == 0) {
            finish_join(cookie.replica);
        }
        return;
    }
    if (!round_over(growth, cookie, result)) {
        return;
    }
    if ((replicas.taking & ~(growth.ok | growth.no_space)) != 0) {
        growth_retry_ns = now_ns;  // somebody came back meanwhile, or could not be asked: again
        return;
    }
    // Promised no longer: it is there, or the promise did not hold.
    std::erase_if(promised, [this](const PromisedContainer& one) {
        return one.container == growth.container;
    });
    if (!replicas.is_quorum(static_cast<ReplicaMask>(growth.ok & replicas.taking))) {
        growth_retry_ns = now_ns + retry_ns;
        refresh_full();
        return;
    }
    const ReplicaMask full = growth.no_space;
    record(ContainerEntry{growth.container,
                          static_cast<std::uint32_t>(options.geometry.container_bytes /
                                                     options.geometry.chunk_unit_bytes)});
    // One full drive among good ones: that replica is out until there is room.
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((full >> r & 1) != 0) {
            replica_failed(r, Error{Errc::no_space, 28, r});
        }
    }
    refresh_full();
}

// Sees to it that there is room ahead of need, and notes when there cannot be.
void GroupCore::refresh_full() noexcept {
    const std::uint64_t unit = options.geometry.chunk_unit_bytes;
    const std::uint64_t needed = needed_units(0, waiting_shards);
    const std::uint64_t free = table.space().free_units();
    // A whole container is kept ahead of need: making one takes long.
    const std::uint64_t ahead =
        std::max(options.geometry.container_bytes / unit, table.space().total_units() / 16);
    if (!recovering) {
        if (free < std::max(needed, ahead)) {
            grow_space();
        }
        if (free < std::max(needed, ahead / 4)) {
            hurry_growth();
        }
        std::uint64_t without_chunk = 0;
        for (const ShardLog* shard : shard_order) {
            without_chunk += shard->has_chunk ? 0 : 1;
        }
        if (room_units() <
                std::max(needed + needed / 2 + margin_units(), ahead + 2 * without_chunk) ||
            promise_to_ask_for() != nullptr) {
            reserve_space();
        }
    }
    disk_full = reserve_failed && needed_units(unit, waiting_shards + 1) > room_units();
}

// -- Chunks ---------------------------------------------------------------------------------------

// Asks for the shard's next chunk: taken in the manifest before it is first written (R3). `ahead`:
// nothing waits for it yet.
void GroupCore::want_chunk(ShardLog& shard, std::uint64_t at_least, bool ahead) noexcept {
    if (shard.next_chunk_asked) {
        return;
    }
    const auto needed = static_cast<std::uint32_t>(
        (at_least + options.geometry.chunk_unit_bytes - 1) / options.geometry.chunk_unit_bytes);
    // More than what is needed only while what was admitted keeps its room.
    const std::uint64_t room = room_units();
    const std::uint64_t kept = needed_units(0, waiting_shards) + margin_units();
    const std::uint64_t spare = room > kept ? room - kept : 0;
    if (ahead && spare < needed) {
        return;
    }
    std::optional<UnitRun> run;
    const std::uint64_t wish = std::min<std::uint64_t>(std::max(needed, shard.chunk_units), spare);
    for (auto units = std::max(needed, static_cast<std::uint32_t>(wish)); !run; units /= 2) {
        units = std::max(units, needed);
        run = table.space().find(units);
        if (units == needed) {
            break;
        }
    }
    out_of_room = !run && promised.empty() && reserve_failed;
    if (!run) {
        grow_space();
        hurry_growth();
        return;
    }
    const auto missing = static_cast<ReplicaMask>(all_replicas & ~replicas.taking);
    const std::uint64_t uid = value(shard.uid);
    const std::uint64_t ordinal = shard.table->next_ordinal;
    shard.next_chunk_asked = true;
    shard.next_chunk_ordinal = ordinal;
    shard.next_chunk_bytes = std::uint64_t{run->units} * options.geometry.chunk_unit_bytes;
    record(TakeChunkEntry{.uid = uid,
                          .ordinal = ordinal,
                          .container = run->container,
                          .unit = run->unit,
                          .units = run->units,
                          .missing = missing},
           [this, uid, ordinal] {
               const auto found = shards.find(uid);
               if (found != shards.end() && found->second->next_chunk_ordinal == ordinal) {
                   found->second->next_chunk_ready = true;
               }
           });
}

}  // namespace penstock
