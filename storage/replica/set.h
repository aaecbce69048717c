// The replica set: opens the three directories of a node, arbitrates its epoch through their
// superblocks, and watches that they stay what they were.
//
// Runs on: one thread at a time, never a lane: calls block on the drives.
// Allocates: freely.
// Guarantees: LOG-PROTOCOL 1, 2 and 4. After open() the epoch is durable on two voting replicas,
// and no other process can have opened two of them. Format: docs/formats/superblock.md,
// docs/operations/replicas.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/clock.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/io/engine.h"
#include "storage/replica/decide.h"
#include "storage/replica/geometry.h"
#include "storage/replica/superblock.h"

namespace penstock {

class ReplicaDirectory;
struct DurabilityReport;

// Where superblocks are read and written: real directories or an engine's.
class SuperblockStore {
public:
    virtual ~SuperblockStore() = default;
    // Both slots; shorter if the file is. Errors: not_found (no such file), io_failed.
    [[nodiscard]] virtual Result<std::vector<std::byte>> read(unsigned replica) = 0;
    // Makes the file if need be and writes one slot; durable on return.
    [[nodiscard]] virtual Status write_slot(unsigned replica, unsigned slot,
                                            const SuperblockSlot& bytes) = 0;
};

// Draws ids. Never null; the simulator passes its seeded one.
using RandomSource = std::function<std::uint64_t()>;
[[nodiscard]] RandomSource system_random();

// Over the engine's directories. The engine may have nothing else in flight during calls.
[[nodiscard]] std::unique_ptr<SuperblockStore> engine_superblocks(IoEngine& engine);

// -- The algorithm, over any store ----------------------------------------------------------------

struct OpenSetOptions {
    ReplicaMask reachable = all_replicas;  // the others count as absent
    SetGeometry for_new;                   // sizes of a set that is made; its set_id is drawn
    bool existing = false;                 // never make a new set
    bool allow_read_only = false;          // one voting replica is enough to look
    std::int64_t now_ms = 0;
    RandomSource random;
};

struct OpenedSet {
    bool read_only = false;  // nothing was promised; nothing may be written
    bool made_new = false;
    Epoch epoch{};  // ours, promised on every replica of `voting`; read-only: the highest
    SetGeometry geometry;
    ReplicaMask voting = 0;                             // ≥ 2 of them, unless read-only
    ReplicaMask filling = 0;                            // promised too
    std::array<Superblock, replica_count> superblocks;  // as they are on disk now
    OpenDecision decision;
    std::string message;  // for people: one line for each thing that is not as it should be
};

// Decides, then makes the set or promises highest + 1, before anything else is read. Errors are
// those of the decision, or io_failed / not_enough_replicas if the promise reached fewer than two.
[[nodiscard]] Result<OpenedSet> open_set(SuperblockStore& store,
                                         const std::array<PlaceState, replica_count>& places,
                                         const OpenSetOptions& options,
                                         const std::array<std::string, replica_count>& names,
                                         std::string& message);

// The same on an engine's directories, reading their superblocks first.
[[nodiscard]] Result<OpenedSet> open_set_on(IoEngine& engine, const OpenSetOptions& options,
                                            std::string& message);

// What a superblock file's bytes, or the failure to read them, say about its place.
[[nodiscard]] PlaceState place_from(const Result<std::vector<std::byte>>& bytes);

// What a store holds at one place, as far as its superblock tells.
[[nodiscard]] PlaceState read_place(SuperblockStore& store, unsigned replica);

// Writes the superblock's next generation; `superblock` then is what is on disk.
[[nodiscard]] Status advance_superblock(SuperblockStore& store, unsigned replica,
                                        Superblock& superblock);

// -- Real directories -----------------------------------------------------------------------------

struct ReplicaSetOptions {
    std::array<std::string, replica_count> directories;
    SetGeometry for_new;
    bool existing = false;
    bool allow_read_only = false;
    bool probe_durability = true;  // measure each drive's flush at open
    RandomSource random;           // empty: the system's
};

enum class ReturnKind : std::uint8_t { none, returning, filling };
struct ReturnOffer {
    ReturnKind kind = ReturnKind::none;
    std::string reason;  // for people
};

// The directory of a replica, as engines and readers open it.
struct ReplicaPlace {
    std::string path;
    int fd = -1;       // -1 while it is not open
    int lock_fd = -1;  // registered in rings, so that the lock outlives us as long as writes do
};

class ReplicaSet {
public:
    // Opens, locks, decides, promises. `message` is for people, on success too. Directories are put
    // in the order of their superblocks' indices, so directory(i) need not be
    // options.directories[i]. Errors: not_enough_replicas, foreign, corrupt, unsupported, locked,
    // not_empty, not_found, io_failed.
    [[nodiscard]] static Result<std::unique_ptr<ReplicaSet>> open(const ReplicaSetOptions& options,
                                                                  std::string& message);
    ~ReplicaSet();
    ReplicaSet(const ReplicaSet&) = delete;
    ReplicaSet& operator=(const ReplicaSet&) = delete;

    [[nodiscard]] Epoch epoch() const noexcept;
    [[nodiscard]] const SetGeometry& geometry() const noexcept;
    [[nodiscard]] bool read_only() const noexcept;
    // Why it is: locked (another process holds what is missing for a quorum, so a later attempt may
    // do better), not_enough_replicas, unsupported; ok when the set can be written.
    [[nodiscard]] Errc read_only_cause() const noexcept;
    [[nodiscard]] bool made_new() const noexcept;
    [[nodiscard]] ReplicaMask voting() const noexcept;   // open, and their superblock votes
    [[nodiscard]] ReplicaMask filling() const noexcept;  // open, being filled
    [[nodiscard]] ReplicaMask present() const noexcept;  // both
    [[nodiscard]] ReplicaPlace directory(unsigned replica) const;
    [[nodiscard]] std::array<std::string, replica_count> paths() const;
    // As measured when the directory was opened; zeroes if it is not open or was not measured.
    [[nodiscard]] const DurabilityReport& durability(unsigned replica) const;

    // The once-a-second identity check. Replicas that must leave the set; reason(i) says why. The
    // caller takes them out of its groups, then calls drop().
    [[nodiscard]] ReplicaMask check();
    [[nodiscard]] const std::string& reason(unsigned replica) const;

    // Closes the directory and gives up its lock; rings that registered lock_fd still hold it.
    void drop(unsigned replica);

    // For a replica that is out: looks whether its directory is there (again). A voting member of
    // this set or one to be filled is locked, fenced with our epoch and held open.
    [[nodiscard]] ReturnOffer look_for_return(unsigned replica);

    // The replica is complete. Its id is entered into the roster of two other voting replicas
    // before it votes.
    [[nodiscard]] Status mark_voting(unsigned replica);
    // The replica must be filled from nothing before it may vote again.
    [[nodiscard]] Status mark_filling(unsigned replica);

private:
    struct Core;
    explicit ReplicaSet(std::unique_ptr<Core> core) noexcept;
    std::unique_ptr<Core> core_;
};

// -- Looking and mending, beside a running node or without one ------------------------------------

// What a directory holds. Takes no lock and changes nothing, so it works while a node runs.
[[nodiscard]] PlaceState inspect_place(const std::string& directory);

// Makes `target` a replica to be filled in place of member `index` of the set that `directories`
// show. Creates `target` if it is missing, refuses it if it is not empty. Takes its lock meanwhile.
// Errors: not_found (no superblock of the set is readable), not_empty, already_exists (the member
// is alive elsewhere), locked, foreign, io_failed. `message` is for people either way.
[[nodiscard]] Status prepare_replacement(const std::array<std::string, replica_count>& directories,
                                         unsigned index, const std::string& target,
                                         std::string& message);

}  // namespace penstock
