// The open algorithm of LOG-PROTOCOL 1 and 2 over any superblock store.
#include <sys/random.h>

#include <algorithm>
#include <cstring>

#include "storage/base/check.h"
#include "storage/replica/set.h"

namespace penstock {
namespace {

// The engine's own I/O memory holds both slots.
class EngineStore final : public SuperblockStore {
public:
    explicit EngineStore(IoEngine& engine)
        : engine_(engine), buffer_(engine.allocate_buffer(superblock_file_bytes)) {}

    Result<std::vector<std::byte>> read(unsigned replica) override {
        PENSTOCK_TRY(file, engine_.open(replica, superblock_name, OpenMode::read_only));
        auto got = request(IoKind::read, file, 0, superblock_file_bytes);
        engine_.close(file);
        if (!got) {
            return std::unexpected(got.error());
        }
        return std::vector<std::byte>(buffer_, buffer_ + *got);
    }

    Status write_slot(unsigned replica, unsigned slot, const SuperblockSlot& bytes) override {
        PENSTOCK_TRY(file, engine_.open(replica, superblock_name, OpenMode::create_or_existing));
        const Status written = write_to(file, slot, bytes);
        engine_.close(file);
        return written;
    }

private:
    [[nodiscard]] Result<std::uint64_t> request(IoKind kind, FileHandle file, std::uint64_t offset,
                                                std::uint64_t length) {
        if (buffer_ == nullptr) {
            return fail(Errc::no_memory_room);
        }
        return run_one(engine_, {.kind = kind,
                                 .file = file,
                                 .offset = offset,
                                 .data = buffer_,
                                 .length = length,
                                 .cookie = 0});
    }

    [[nodiscard]] Status write_to(FileHandle file, unsigned slot, const SuperblockSlot& bytes) {
        PENSTOCK_TRY(size, engine_.size_bytes(file));
        if (size < superblock_file_bytes) {
            PENSTOCK_TRY_VOID(request(IoKind::allocate, file, 0, superblock_file_bytes));
        }
        if (buffer_ == nullptr) {
            return fail(Errc::no_memory_room);
        }
        std::memcpy(buffer_, bytes.data(), bytes.size());
        PENSTOCK_TRY(moved, request(IoKind::write_durable, file, slot * superblock_slot_bytes,
                                    superblock_slot_bytes));
        return moved == superblock_slot_bytes ? Status{} : fail(Errc::io_failed);
    }

    IoEngine& engine_;
    std::byte* buffer_;
};

[[nodiscard]] constexpr ReplicaMask bit(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

[[nodiscard]] std::uint64_t draw(const RandomSource& random) {
    std::uint64_t id = 0;
    while (id == 0) {
        id = random();
    }
    return id;
}

void add_line(std::string& text, const std::string& line) {
    text += (text.empty() ? "" : "\n") + line;
}

// The superblocks of a set that is being made: those that are on disk already, the others drawn so
// that they fit.
[[nodiscard]] std::array<Superblock, replica_count> plan_new_set(
    const OpenDecision& decision, const std::array<PlaceState, replica_count>& places,
    const OpenSetOptions& options) {
    SetGeometry geometry = decision.geometry;
    std::array<std::uint64_t, replica_count> roster = decision.roster;
    if (geometry.set_id == 0) {
        geometry = options.for_new;
        geometry.set_id = draw(options.random);
        for (unsigned i = 0; i < replica_count; ++i) {
            do {
                roster[i] = draw(options.random);
            } while (std::count(roster.begin(), roster.begin() + i, roster[i]) != 0);
        }
    }
    std::array<Superblock, replica_count> planned;
    for (unsigned i = 0; i < replica_count; ++i) {
        if (places[i].kind == PlaceKind::readable) {
            planned[i] = places[i].superblock;
            continue;
        }
        planned[i].geometry = geometry;
        planned[i].replica_id = roster[i];
        planned[i].replica_index = static_cast<std::uint8_t>(i);
        planned[i].created_ms = options.now_ms;
        planned[i].roster = roster;
        planned[i].roster_version = std::max<std::uint64_t>(decision.roster_version, 1);
        planned[i].state = ReplicaState::filling;
    }
    return planned;
}

// Two rounds, so that a replica that votes shows that all three superblocks were durable: a crash
// in between leaves a set that is known to be unfinished.
[[nodiscard]] Status make_set(SuperblockStore& store, OpenedSet& set,
                              const std::array<PlaceState, replica_count>& places,
                              const OpenSetOptions& options, std::string& message,
                              const std::array<std::string, replica_count>& names) {
    set.superblocks = plan_new_set(set.decision, places, options);
    for (const ReplicaState round : {ReplicaState::filling, ReplicaState::voting}) {
        for (unsigned i = 0; i < replica_count; ++i) {
            if (set.superblocks[i].state == round && set.superblocks[i].generation != 0) {
                continue;  // written by the interrupted attempt
            }
            if (round == ReplicaState::filling &&
                set.superblocks[i].state == ReplicaState::voting) {
                continue;
            }
            set.superblocks[i].state = round;
            if (auto written = advance_superblock(store, i, set.superblocks[i]); !written) {
                add_line(message, "replica " + std::to_string(i) + " (" + names[i] +
                                      ") could not be made: " + describe(written.error()));
                return written;
            }
        }
    }
    set.made_new = true;
    set.voting = all_replicas;
    set.geometry = set.superblocks[0].geometry;
    return {};
}

// Highest + 1, durable on every voting replica and on those being filled; two voting ones must take
// it. One that fails is out of the set.
[[nodiscard]] Status promise(SuperblockStore& store, OpenedSet& set, std::string& message,
                             const std::array<std::string, replica_count>& names) {
    set.epoch = Epoch{value(set.decision.highest_promised) + 1};
    Error last{};
    for (unsigned i = 0; i < replica_count; ++i) {
        if (((set.voting | set.filling) & bit(i)) == 0) {
            continue;
        }
        set.superblocks[i].epoch_promised = set.epoch;
        if (set.superblocks[i].roster_version < set.decision.roster_version) {
            set.superblocks[i].roster = set.decision.roster;
            set.superblocks[i].roster_version = set.decision.roster_version;
        }
        if (auto written = advance_superblock(store, i, set.superblocks[i]); !written) {
            last = written.error();
            add_line(message,
                     "replica " + std::to_string(i) + " (" + names[i] +
                         ") is left out, its superblock cannot be written: " + describe(last));
            set.voting &= static_cast<ReplicaMask>(~bit(i));
            set.filling &= static_cast<ReplicaMask>(~bit(i));
        }
    }
    if (std::popcount(set.voting) < static_cast<int>(quorum_count)) {
        add_line(message, "expected the new epoch to be durable on two voting replicas, reached " +
                              std::to_string(std::popcount(set.voting)) +
                              ": mend the drives named above");
        return fail(Errc::not_enough_replicas, last.os_errno);
    }
    return {};
}

}  // namespace

RandomSource system_random() {
    return [] {
        std::uint64_t drawn = 0;
        // 8 bytes are never cut short once the kernel's pool is ready, which the call waits for.
        while (getrandom(&drawn, sizeof drawn, 0) != static_cast<ssize_t>(sizeof drawn)) {
        }
        return drawn;
    };
}

std::unique_ptr<SuperblockStore> engine_superblocks(IoEngine& engine) {
    return std::make_unique<EngineStore>(engine);
}

Status advance_superblock(SuperblockStore& store, unsigned replica, Superblock& superblock) {
    // Both slots, one after the other, the older first: the damage of one slot then never takes a
    // promise or a state back.
    for (unsigned round = 0; round < 2; ++round) {
        Superblock next = superblock;
        ++next.generation;
        SuperblockSlot bytes;
        encode_superblock(next, bytes);
        PENSTOCK_TRY_VOID(store.write_slot(replica, superblock_slot_of(next.generation), bytes));
        superblock.generation = next.generation;
    }
    return {};
}

PlaceState read_place(SuperblockStore& store, unsigned replica) {
    return place_from(store.read(replica));
}

PlaceState place_from(const Result<std::vector<std::byte>>& bytes) {
    PlaceState place;
    if (!bytes) {
        place.error = bytes.error();
        place.kind = bytes.error().code == Errc::not_found ? PlaceKind::empty : PlaceKind::absent;
        return place;
    }
    auto superblock = choose_superblock(*bytes);
    if (superblock) {
        place.kind = PlaceKind::readable;
        place.superblock = *superblock;
        return place;
    }
    place.error = superblock.error();
    place.kind = place.error.code == Errc::not_found     ? PlaceKind::empty
                 : place.error.code == Errc::unsupported ? PlaceKind::unsupported
                                                         : PlaceKind::damaged;
    return place;
}

Result<OpenedSet> open_set(SuperblockStore& store,
                           const std::array<PlaceState, replica_count>& places,
                           const OpenSetOptions& options,
                           const std::array<std::string, replica_count>& names,
                           std::string& message) {
    PENSTOCK_CHECK(options.random != nullptr);
    OpenedSet set;
    set.decision = decide_open(places, options.existing);
    message = explain(set.decision, places, names);
    for (unsigned i = 0; i < replica_count; ++i) {
        set.superblocks[i] = places[i].superblock;
    }
    switch (set.decision.action) {
        case OpenAction::refuse:
            return fail(set.decision.error);
        case OpenAction::open_read_only:
            if (!options.allow_read_only) {
                return fail(set.decision.error);
            }
            set.read_only = true;
            set.voting = set.decision.voting;
            set.filling = set.decision.filling;
            set.epoch = set.decision.highest_promised;
            set.geometry = set.decision.geometry;
            set.message = message;
            return set;
        case OpenAction::make_new:
            if (!valid_geometry(options.for_new)) {
                add_line(message, "the sizes for a new set are out of bounds");
                return fail(Errc::invalid_argument);
            }
            if (auto made = make_set(store, set, places, options, message, names); !made) {
                return std::unexpected(made.error());
            }
            break;
        case OpenAction::open:
            set.voting = set.decision.voting;
            set.filling = set.decision.filling;
            set.geometry = set.decision.geometry;
            break;
    }
    if (auto promised = promise(store, set, message, names); !promised) {
        return std::unexpected(promised.error());
    }
    set.message = message;
    return set;
}

Result<OpenedSet> open_set_on(IoEngine& engine, const OpenSetOptions& options,
                              std::string& message) {
    const auto store = engine_superblocks(engine);
    std::array<PlaceState, replica_count> places;
    std::array<std::string, replica_count> names;
    for (unsigned i = 0; i < replica_count; ++i) {
        names[i] = "disk " + std::to_string(i);
        if ((options.reachable & bit(i)) != 0) {
            places[i] = read_place(*store, i);
        }
    }
    return open_set(*store, places, options, names, message);
}

}  // namespace penstock
