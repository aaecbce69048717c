#include "storage/replica/set.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <filesystem>
#include <system_error>

#include "storage/base/check.h"
#include "storage/io/directory.h"
#include "storage/io/durability_probe.h"
#include "storage/replica/make_directory.h"
#include "storage/replica/superblock_file.h"

namespace penstock {
namespace {

using Directories = std::array<std::unique_ptr<ReplicaDirectory>, replica_count>;

// The superblocks of the directories that are open.
class DirectoryStore final : public SuperblockStore {
public:
    explicit DirectoryStore(Directories& directories) noexcept : directories_(directories) {}

    Result<std::vector<std::byte>> read(unsigned replica) override {
        if (directories_[replica] == nullptr) {
            return fail(Errc::io_failed);
        }
        return read_superblock_file(directories_[replica]->fd());
    }
    Status write_slot(unsigned replica, unsigned slot, const SuperblockSlot& bytes) override {
        if (directories_[replica] == nullptr) {
            return fail(Errc::io_failed);
        }
        return write_superblock_slot(directories_[replica]->fd(), slot, bytes);
    }

private:
    Directories& directories_;
};

[[nodiscard]] constexpr ReplicaMask bit(unsigned replica) noexcept {
    return static_cast<ReplicaMask>(1U << replica);
}

// The three places of an opening, before it is known which replica each one is.
struct Places {
    std::array<std::string, replica_count> paths;
    std::array<PlaceState, replica_count> states;
    std::array<DirectoryScan, replica_count> scans;
    Directories directories;
};

// Locks and reads a directory that has a superblock. One without is only looked at: it may be the
// mount point of a drive that did not mount.
void find_place(Places& places, unsigned i) {
    PlaceState& state = places.states[i];
    places.scans[i] = scan_directory(places.paths[i]);
    state = {};
    state.kind = places.scans[i].kind;
    state.error = places.scans[i].error;
    if (state.kind != PlaceKind::readable) {
        return;
    }
    auto opened = ReplicaDirectory::open(places.paths[i], ReplicaDirectory::Create::no);
    if (!opened) {
        state.error = opened.error();
        state.kind = state.error.code == Errc::locked ? PlaceKind::locked : PlaceKind::absent;
        return;
    }
    places.directories[i] = std::move(*opened);
    state = place_from(read_superblock_file(places.directories[i]->fd()));
    judge_with_scan(state, places.scans[i]);
}

void swap_places(Places& places, unsigned a, unsigned b) {
    std::swap(places.paths[a], places.paths[b]);
    std::swap(places.states[a], places.states[b]);
    std::swap(places.scans[a], places.scans[b]);
    std::swap(places.directories[a], places.directories[b]);
}

// Puts each superblock at the place of its index, so that the order of the options does not matter.
// Where two claim one index the first stays, and the decision says what is wrong.
void arrange(Places& places) {
    for (unsigned round = 0; round < replica_count; ++round) {
        for (unsigned i = 0; i < replica_count; ++i) {
            const PlaceState& state = places.states[i];
            if (state.kind != PlaceKind::readable || state.superblock.replica_index == i) {
                continue;
            }
            const unsigned home = state.superblock.replica_index;
            const PlaceState& there = places.states[home];
            if (there.kind != PlaceKind::readable || there.superblock.replica_index != home) {
                swap_places(places, i, home);
            }
        }
    }
}

[[nodiscard]] Status refuse_same_directories(const ReplicaSetOptions& options,
                                             std::string& message) {
    const auto& paths = options.directories;
    for (unsigned i = 0; i < replica_count; ++i) {
        for (unsigned j = i + 1; j < replica_count; ++j) {
            struct stat a{};
            struct stat b{};
            const bool both =
                ::stat(paths[i].c_str(), &a) == 0 && ::stat(paths[j].c_str(), &b) == 0;
            if ((both && a.st_dev == b.st_dev && a.st_ino == b.st_ino) || paths[i] == paths[j]) {
                message =
                    "expected three different directories, found one given twice: " + paths[i] +
                    " and " + paths[j];
                return fail(Errc::invalid_argument);
            }
        }
    }
    return {};
}

// A set is about to be made: the directories that hold nothing yet are made, locked and looked at
// again under their lock.
[[nodiscard]] Status claim_empty_directories(Places& places, std::string& message) {
    for (unsigned i = 0; i < replica_count; ++i) {
        if (places.directories[i] != nullptr) {
            continue;
        }
        const std::string& path = places.paths[i];
        if (places.states[i].kind == PlaceKind::missing) {
            if (auto made = make_directories(path); !made) {
                message = "cannot make the directory " + path + ": " + describe(made.error());
                return made;
            }
        }
        auto opened = ReplicaDirectory::open(path, ReplicaDirectory::Create::no);
        if (!opened) {
            message = "cannot open and lock " + path + ": " + describe(opened.error());
            return std::unexpected(opened.error());
        }
        places.directories[i] = std::move(*opened);
        const DirectoryScan again = scan_directory(path);
        if (again.kind != PlaceKind::empty) {
            message = "expected " + path +
                      " to stay empty while a set is made, found files in it: "
                      "another process makes one there; start again";
            return fail(Errc::locked);
        }
        places.states[i].kind = PlaceKind::empty;
    }
    return {};
}

[[nodiscard]] std::string describe_epoch(Epoch epoch) {
    return std::to_string(value(epoch));
}

}  // namespace

struct ReplicaSet::Core {
    Directories directories;
    DirectoryStore store{directories};
    std::array<std::string, replica_count> paths;
    std::array<std::string, replica_count> reasons;
    std::array<Superblock, replica_count> superblocks;  // as last written or read
    std::array<DurabilityReport, replica_count> durability{};
    std::array<std::uint64_t, replica_count> roster{};
    std::uint64_t roster_version = 0;
    std::uint64_t roster_version_tried = 0;
    SetGeometry geometry;
    Epoch epoch{};
    ReplicaMask voting = 0;
    ReplicaMask filling = 0;
    bool read_only = false;
    Errc read_only_cause = Errc::ok;
    bool made_new = false;
    bool probe = true;

    void measure(unsigned i);
    void measure_all();
    [[nodiscard]] std::string find_change(unsigned i);
    [[nodiscard]] std::string accept(unsigned i, const PlaceState& place);
    [[nodiscard]] Status enter_into_roster(unsigned i);
};

ReplicaSet::ReplicaSet(std::unique_ptr<Core> core) noexcept : core_(std::move(core)) {}
ReplicaSet::~ReplicaSet() = default;

Result<std::unique_ptr<ReplicaSet>> ReplicaSet::open(const ReplicaSetOptions& options,
                                                     std::string& message) {
    PENSTOCK_TRY_VOID(refuse_same_directories(options, message));
    Places places;
    places.paths = options.directories;
    for (unsigned i = 0; i < replica_count; ++i) {
        find_place(places, i);
    }
    arrange(places);
    if (decide_open(places.states, options.existing).action == OpenAction::make_new) {
        PENSTOCK_TRY_VOID(claim_empty_directories(places, message));
    }
    auto core = std::make_unique<Core>();
    core->directories = std::move(places.directories);
    core->paths = places.paths;
    SystemClock clock;
    OpenSetOptions set_options;
    set_options.for_new = options.for_new;
    set_options.existing = options.existing;
    set_options.allow_read_only = options.allow_read_only;
    set_options.now_ms = clock.wall_ms();
    set_options.random = options.random ? options.random : system_random();
    PENSTOCK_TRY(opened, open_set(core->store, places.states, set_options, core->paths, message));

    core->superblocks = opened.superblocks;
    core->geometry = opened.geometry;
    core->epoch = opened.epoch;
    core->voting = opened.voting;
    core->filling = opened.filling;
    core->read_only = opened.read_only;
    core->read_only_cause = opened.read_only ? opened.decision.error : Errc::ok;
    core->made_new = opened.made_new;
    core->probe = options.probe_durability && !opened.read_only;
    for (unsigned i = 0; i < replica_count; ++i) {
        if (((core->voting | core->filling) & bit(i)) == 0) {
            core->directories[i].reset();
            core->reasons[i] = "was not in the set when it was opened";
            continue;
        }
        if (core->superblocks[i].roster_version >= core->roster_version) {
            core->roster = core->superblocks[i].roster;
            core->roster_version = core->superblocks[i].roster_version;
        }
    }
    core->measure_all();
    return std::unique_ptr<ReplicaSet>(new ReplicaSet(std::move(core)));
}

Epoch ReplicaSet::epoch() const noexcept {
    return core_->epoch;
}
const SetGeometry& ReplicaSet::geometry() const noexcept {
    return core_->geometry;
}
bool ReplicaSet::read_only() const noexcept {
    return core_->read_only;
}
Errc ReplicaSet::read_only_cause() const noexcept {
    return core_->read_only_cause;
}
bool ReplicaSet::made_new() const noexcept {
    return core_->made_new;
}
ReplicaMask ReplicaSet::voting() const noexcept {
    return core_->voting;
}
ReplicaMask ReplicaSet::filling() const noexcept {
    return core_->filling;
}
ReplicaMask ReplicaSet::present() const noexcept {
    return static_cast<ReplicaMask>(core_->voting | core_->filling);
}
std::array<std::string, replica_count> ReplicaSet::paths() const {
    return core_->paths;
}
const std::string& ReplicaSet::reason(unsigned replica) const {
    return core_->reasons[replica];
}
const DurabilityReport& ReplicaSet::durability(unsigned replica) const {
    return core_->durability[replica];
}

ReplicaPlace ReplicaSet::directory(unsigned replica) const {
    ReplicaPlace place{.path = core_->paths[replica]};
    if (const auto& open = core_->directories[replica]; open != nullptr) {
        place.fd = open->fd();
        place.lock_fd = open->lock_fd();
    }
    return place;
}

void ReplicaSet::Core::measure(unsigned i) {
    durability[i] = {};
    if (probe) {
        durability[i] = probe_durability(directories[i]->fd());
    }
}

void ReplicaSet::Core::measure_all() {
    if (!probe) {
        return;
    }
    std::array<int, replica_count> fds;
    for (unsigned i = 0; i < replica_count; ++i) {
        fds[i] = ((voting | filling) & bit(i)) != 0 ? directories[i]->fd() : -1;
    }
    probe_durability(fds, durability);
}

// Empty if the open directory is still what it was; otherwise what changed.
std::string ReplicaSet::Core::find_change(unsigned i) {
    if (const Status same = directories[i]->same_as_path(); !same) {
        return "its path no longer leads to the directory that was opened, which was removed, "
               "remounted or replaced: " +
               describe(same.error());
    }
    const PlaceState place = read_place(store, i);
    if (place.kind != PlaceKind::readable) {
        const bool unread = place.error.code == Errc::io_failed;
        return "its superblock can no longer be read: " +
               (unread ? describe(place.error) : std::string(describe(reason_of(place.error))));
    }
    const Superblock& found = place.superblock;
    if (found.geometry != geometry || found.replica_id != superblocks[i].replica_id ||
        found.replica_index != i) {
        return "its superblock is now that of another replica";
    }
    // Read-only openings promise nothing, so a writer elsewhere is none of their business.
    if (!read_only && found.epoch_promised > epoch) {
        return "it promised epoch " + describe_epoch(found.epoch_promised) +
               " to another process, ours is " + describe_epoch(epoch);
    }
    if (!read_only && found.epoch_promised < epoch) {
        return "its superblock went back to epoch " + describe_epoch(found.epoch_promised) +
               ", ours is " + describe_epoch(epoch);
    }
    if (!read_only && found.state != superblocks[i].state) {
        return std::string("its superblock now says ") + describe(found.state);
    }
    return {};
}

ReplicaMask ReplicaSet::check() {
    ReplicaMask leaving = 0;
    for (unsigned i = 0; i < replica_count; ++i) {
        if ((present() & bit(i)) == 0) {
            continue;
        }
        if (std::string change = core_->find_change(i); !change.empty()) {
            core_->reasons[i] = std::move(change);
            leaving |= bit(i);
        }
    }
    return leaving;
}

void ReplicaSet::drop(unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    core_->directories[replica].reset();
    core_->voting &= static_cast<ReplicaMask>(~bit(replica));
    core_->filling &= static_cast<ReplicaMask>(~bit(replica));
    core_->durability[replica] = {};
}

// Why the superblock found at a place that was out cannot come (back) into the set; empty if it
// can.
std::string ReplicaSet::Core::accept(unsigned i, const PlaceState& place) {
    if (place.kind != PlaceKind::readable) {
        std::string text =
            std::string("has no superblock that can be read: ") + describe(place.kind);
        const bool known = place.error.detail != 0;
        return known ? text + ", " + describe(reason_of(place.error)) : text;
    }
    const Superblock& found = place.superblock;
    if (found.geometry.set_id != geometry.set_id) {
        return "belongs to another replica set";
    }
    if (found.geometry != geometry) {
        return "disagrees about the sizes of the set";
    }
    if (found.replica_index != i) {
        return "is replica " + std::to_string(found.replica_index) + ", expected " +
               std::to_string(i);
    }
    if (found.must_be_read_only()) {
        return "uses a feature that this version cannot write";
    }
    for (unsigned other = 0; other < replica_count; ++other) {
        if (other != i && directories[other] != nullptr &&
            superblocks[other].replica_id == found.replica_id) {
            return "is a copy of replica " + std::to_string(other);
        }
    }
    if (found.epoch_promised > epoch) {
        return "promised epoch " + describe_epoch(found.epoch_promised) +
               " to another process, ours is " + describe_epoch(epoch);
    }
    if (found.state == ReplicaState::voting && found.roster[i] != roster[i]) {
        return "holds a replica that was replaced";
    }
    return {};
}

ReturnOffer ReplicaSet::look_for_return(unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    Core& core = *core_;
    const std::string& path = core.paths[replica];
    if (core.read_only) {
        return {.reason = "the set is open for reading only"};
    }
    if ((present() & bit(replica)) != 0) {
        return {.reason = path + " is in the set"};
    }
    const DirectoryScan scan = scan_directory(path);
    if (scan.kind != PlaceKind::readable) {
        std::string text =
            path + " " +
            (scan.kind == PlaceKind::absent ? describe(scan.error)
                                            : std::string("is ") + describe(scan.kind));
        if (scan.kind == PlaceKind::empty || scan.kind == PlaceKind::missing) {
            text += ": mount its drive, or `penstock replica replace " + path +
                    "` makes it a new replica";
        }
        return {.reason = text};
    }
    auto opened = ReplicaDirectory::open(path, ReplicaDirectory::Create::no);
    if (!opened) {
        return {.reason = path + " cannot be opened: " + describe(opened.error())};
    }
    PlaceState place = place_from(read_superblock_file((*opened)->fd()));
    judge_with_scan(place, scan);
    if (std::string refusal = core.accept(replica, place); !refusal.empty()) {
        return {.reason = path + " " + refusal};
    }
    // Fencing: nobody may open the returning replica under an older epoch, nor its late writes
    // count.
    core.directories[replica] = std::move(*opened);
    Superblock& superblock = core.superblocks[replica];
    superblock = place.superblock;
    superblock.epoch_promised = core.epoch;
    superblock.roster = core.roster;
    superblock.roster_version = core.roster_version;
    if (auto promised = advance_superblock(core.store, replica, superblock); !promised) {
        core.directories[replica].reset();
        return {.reason = path + " cannot be written: " + describe(promised.error())};
    }
    const bool votes = superblock.state == ReplicaState::voting;
    (votes ? core.voting : core.filling) |= bit(replica);
    core.reasons[replica].clear();
    core.measure(replica);
    return {.kind = votes ? ReturnKind::returning : ReturnKind::filling, .reason = {}};
}

// A replica that takes another's place is made known to both other voting replicas first: then no
// two replicas that can open the set accept the one it replaced, which lacks what the new one
// commits.
Status ReplicaSet::Core::enter_into_roster(unsigned i) {
    const std::uint64_t id = superblocks[i].replica_id;
    if (roster[i] == id) {
        return {};
    }
    std::array<std::uint64_t, replica_count> next = roster;
    next[i] = id;
    // Epochs are never shared by two processes, so neither are versions; nor is one used again
    // after an attempt that failed half-way.
    const std::uint64_t version =
        std::max({roster_version + 1, roster_version_tried + 1, value(epoch) << 16});
    roster_version_tried = version;
    unsigned written = 0;
    Error last{};
    for (unsigned other = 0; other < replica_count; ++other) {
        if (other == i || (voting & bit(other)) == 0) {
            continue;
        }
        Superblock changed = superblocks[other];
        changed.roster = next;
        changed.roster_version = version;
        const Status done = advance_superblock(store, other, changed);
        // After a failure the next write goes to the same slot again and spares the good one.
        superblocks[other].generation = changed.generation;
        if (done) {
            superblocks[other] = changed;
            ++written;
        } else {
            last = done.error();
        }
    }
    if (written < quorum_count) {
        return fail(last.code == Errc::ok ? Errc::not_enough_replicas : last.code, last.os_errno);
    }
    roster = next;
    roster_version = version;
    return {};
}

Status ReplicaSet::mark_voting(unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    Core& core = *core_;
    if (core.read_only || (core.filling & bit(replica)) == 0) {
        return fail(Errc::invalid_argument, 0, replica);
    }
    PENSTOCK_TRY_VOID(core.enter_into_roster(replica));
    Superblock next = core.superblocks[replica];
    next.state = ReplicaState::voting;
    next.roster = core.roster;
    next.roster_version = core.roster_version;
    PENSTOCK_TRY_VOID(advance_superblock(core.store, replica, next));
    core.superblocks[replica] = next;
    core.filling &= static_cast<ReplicaMask>(~bit(replica));
    core.voting |= bit(replica);
    return {};
}

Status ReplicaSet::mark_filling(unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    Core& core = *core_;
    if (core.read_only || (core.voting & bit(replica)) == 0) {
        return fail(Errc::invalid_argument, 0, replica);
    }
    // What it holds is given up, so two others must vote.
    const auto others = static_cast<ReplicaMask>(core.voting & ~bit(replica));
    if (std::popcount(others) < static_cast<int>(quorum_count)) {
        return fail(Errc::not_enough_replicas, 0, replica);
    }
    Superblock next = core.superblocks[replica];
    next.state = ReplicaState::filling;
    PENSTOCK_TRY_VOID(advance_superblock(core.store, replica, next));
    core.superblocks[replica] = next;
    core.voting &= static_cast<ReplicaMask>(~bit(replica));
    core.filling |= bit(replica);
    return {};
}

}  // namespace penstock
