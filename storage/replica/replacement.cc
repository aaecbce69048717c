// A new replica for a set that lost one: an empty directory becomes one to be filled.
#include <sys/stat.h>

#include <algorithm>

#include "storage/base/check.h"
#include "storage/base/clock.h"
#include "storage/io/directory.h"
#include "storage/replica/make_directory.h"
#include "storage/replica/set.h"
#include "storage/replica/superblock_file.h"

namespace penstock {
namespace {

[[nodiscard]] bool same_directory(const std::string& a, const std::string& b) noexcept {
    struct stat sa{};
    struct stat sb{};
    return a == b || (::stat(a.c_str(), &sa) == 0 && ::stat(b.c_str(), &sb) == 0 &&
                      sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino);
}

// The set as the directories show it, each superblock at the place of its index.
struct KnownSet {
    std::array<PlaceState, replica_count> places;
    std::array<std::string, replica_count> directories;
    OpenDecision decision;
};

[[nodiscard]] KnownSet look(const std::array<std::string, replica_count>& directories) {
    KnownSet known;
    // A stranger that claims a place must not hide the member; those left over are not needed.
    std::array<PlaceState, replica_count> found;
    for (unsigned i = 0; i < replica_count; ++i) {
        found[i] = inspect_place(directories[i]);
    }
    known.decision = decide_open(found, true);
    for (unsigned i = 0; i < replica_count; ++i) {
        const PlaceVerdict verdict = known.decision.verdicts[i];
        if (found[i].kind != PlaceKind::readable || verdict == PlaceVerdict::superseded ||
            verdict == PlaceVerdict::other_set) {
            continue;
        }
        const unsigned index = found[i].superblock.replica_index;
        known.places[index] = found[i];
        known.directories[index] = directories[i];
    }
    return known;
}

[[nodiscard]] const Superblock* any_member(const KnownSet& known) noexcept {
    for (const PlaceState& place : known.places) {
        if (place.kind == PlaceKind::readable) {
            return &place.superblock;
        }
    }
    return nullptr;
}

[[nodiscard]] Status check_set(const KnownSet& known, unsigned index, std::string& message) {
    const Superblock* member = any_member(known);
    if (known.decision.error == Errc::foreign && member == nullptr) {
        message = known.decision.row->message;
        return fail(Errc::foreign);
    }
    if (member == nullptr) {
        message =
            "expected a readable superblock of the set in at least one directory, found none: "
            "give the directories of the set with --data";
        return fail(Errc::not_found);
    }
    if (known.decision.highest_promised == Epoch{0}) {
        message = "this set was never opened and holds nothing yet: start the node to finish it";
        return fail(Errc::invalid_argument);
    }
    if (member->must_be_read_only()) {
        message = "the set uses a feature that this version cannot write: run the newer version";
        return fail(Errc::unsupported);
    }
    if (known.places[index].kind == PlaceKind::readable) {
        message = "replica " + std::to_string(index) + " is alive in " + known.directories[index] +
                  ": only a replica that is gone can be replaced";
        return fail(Errc::already_exists);
    }
    return {};
}

// The target, made if missing, locked, and empty under its lock.
[[nodiscard]] Result<std::unique_ptr<ReplicaDirectory>> claim(const std::string& target,
                                                              std::string& message) {
    const auto refuse_content = [&](const DirectoryScan& scan) {
        message = "expected " + target + " to be an empty directory, found " +
                  (scan.kind == PlaceKind::absent ? describe(scan.error)
                   : scan.first_other.empty()     ? std::string("a superblock in it")
                                                  : scan.first_other + " in it") +
                  ": move its contents away or give another directory";
        return fail(scan.kind == PlaceKind::absent ? scan.error.code : Errc::not_empty,
                    scan.error.os_errno);
    };
    DirectoryScan scan = scan_directory(target);
    if (scan.kind == PlaceKind::missing) {
        if (auto made = make_directories(target); !made) {
            message = "cannot make the directory " + target + ": " + describe(made.error());
            return std::unexpected(made.error());
        }
    } else if (inspect_place(target).kind != PlaceKind::empty) {
        return refuse_content(scan);
    }
    auto opened = ReplicaDirectory::open(target, ReplicaDirectory::Create::no);
    if (!opened) {
        message = "cannot open and lock " + target + ": " + describe(opened.error());
        return std::unexpected(opened.error());
    }
    scan = scan_directory(target);
    if (inspect_place(target).kind != PlaceKind::empty) {
        return refuse_content(scan);
    }
    return std::move(*opened);
}

class OneDirectoryStore final : public SuperblockStore {
public:
    explicit OneDirectoryStore(int directory_fd) noexcept : fd_(directory_fd) {}
    Result<std::vector<std::byte>> read(unsigned) override { return read_superblock_file(fd_); }
    Status write_slot(unsigned, unsigned slot, const SuperblockSlot& bytes) override {
        return write_superblock_slot(fd_, slot, bytes);
    }

private:
    int fd_;
};

}  // namespace

Status prepare_replacement(const std::array<std::string, replica_count>& directories,
                           unsigned index, const std::string& target, std::string& message) {
    PENSTOCK_CHECK(index < replica_count);
    const KnownSet known = look(directories);
    PENSTOCK_TRY_VOID(check_set(known, index, message));
    for (const std::string& member : known.directories) {
        if (!member.empty() && same_directory(member, target)) {
            message = target + " is a replica of this set and alive: nothing to replace";
            return fail(Errc::already_exists);
        }
    }
    PENSTOCK_TRY(directory, claim(target, message));
    SystemClock clock;
    const RandomSource random = system_random();
    Superblock fresh;
    fresh.geometry = any_member(known)->geometry;
    fresh.replica_index = static_cast<std::uint8_t>(index);
    fresh.state = ReplicaState::filling;
    fresh.epoch_promised = known.decision.highest_promised;
    fresh.created_ms = clock.wall_ms();
    fresh.roster = known.decision.roster;
    fresh.roster_version = known.decision.roster_version;
    do {
        fresh.replica_id = random();
    } while (fresh.replica_id == 0 || std::ranges::count(fresh.roster, fresh.replica_id) != 0);
    OneDirectoryStore store{directory->fd()};
    if (auto written = advance_superblock(store, index, fresh); !written) {
        message = "cannot write the superblock of " + target + ": " + describe(written.error());
        return written;
    }
    message = target + " is now replica " + std::to_string(index) +
              " of the set, to be filled: a running node notices it within seconds";
    return {};
}

}  // namespace penstock
