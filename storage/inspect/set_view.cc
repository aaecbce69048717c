#include "storage/inspect/set_view.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "storage/replica/set.h"
#include "storage/replica/superblock_file.h"

namespace penstock {

bool lock_is_held(const std::string& directory) {
    const int fd = ::open((directory + "/lock").c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        return false;
    }
    struct flock probe{};
    probe.l_type = F_WRLCK;
    probe.l_whence = SEEK_SET;
    const bool held = ::fcntl(fd, F_OFD_GETLK, &probe) == 0 && probe.l_type != F_UNLCK;
    ::close(fd);
    return held;
}

SetView look_at_set(const std::array<std::string, replica_count>& directories) {
    SetView view;
    view.directories = directories;
    for (unsigned i = 0; i < replica_count; ++i) {
        view.places[i] = inspect_place(directories[i]);
    }
    for (unsigned round = 0; round < replica_count; ++round) {
        for (unsigned i = 0; i < replica_count; ++i) {
            const unsigned home = view.places[i].superblock.replica_index;
            const bool home_taken = view.places[home].kind == PlaceKind::readable &&
                                    view.places[home].superblock.replica_index == home;
            if (view.places[i].kind == PlaceKind::readable && home != i && !home_taken) {
                std::swap(view.places[i], view.places[home]);
                std::swap(view.directories[i], view.directories[home]);
            }
        }
    }
    for (unsigned i = 0; i < replica_count; ++i) {
        view.locked[i] = lock_is_held(view.directories[i]);
    }
    view.decision = decide_open(view.places, true);
    view.members = static_cast<ReplicaMask>(view.decision.voting | view.decision.filling);
    return view;
}

namespace {

Difference about(unsigned replica, DifferenceLevel level, std::string what) {
    Difference out;
    out.level = level;
    out.kind = DifferenceKind::superblock;
    out.replica = static_cast<int>(replica);
    out.file = superblock_name;
    out.what = std::move(what);
    return out;
}

// Each change is written to both slots, so a slot that does not decode is damage even where the
// other one is enough.
void compare_slots(const SetView& view, unsigned replica, std::vector<Difference>& out) {
    const int fd = ::open(view.directories[replica].c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    const auto bytes = read_superblock_file(fd);
    ::close(fd);
    if (!bytes) {
        return;
    }
    for (unsigned slot = 0; slot < 2; ++slot) {
        const std::uint64_t offset = std::uint64_t{slot} * superblock_slot_bytes;
        const Bytes all(*bytes);
        const Bytes part = all.subspan(std::min<std::uint64_t>(offset, all.size()));
        const auto decoded = decode_superblock(
            part.first(std::min<std::size_t>(part.size(), superblock_slot_bytes)));
        if (!decoded) {
            Difference difference =
                about(replica, DifferenceLevel::damage,
                      std::string("slot ") + std::to_string(slot) + ": " +
                          describe(reason_of(decoded.error())) + "; the other slot is enough");
            difference.offset = offset;
            difference.bytes = superblock_slot_bytes;
            out.push_back(std::move(difference));
        }
    }
}

}  // namespace

void compare_superblocks(const SetView& view, std::vector<Difference>& out) {
    const auto highest = value(view.decision.highest_promised);
    for (unsigned i = 0; i < replica_count; ++i) {
        const PlaceState& place = view.places[i];
        const PlaceVerdict verdict = view.decision.verdicts[i];
        if ((view.members >> i & 1) == 0) {
            std::string what = view.directories[i] + ": " + describe(verdict);
            if (place.kind == PlaceKind::damaged || place.kind == PlaceKind::unsupported) {
                what += std::string(" (") + describe(reason_of(place.error)) + ")";
            } else if (place.kind == PlaceKind::absent) {
                what += " (" + describe(place.error) + ")";
            }
            Difference difference = about(i, DifferenceLevel::damage, std::move(what));
            difference.kind = DifferenceKind::place;
            difference.file.clear();
            out.push_back(std::move(difference));
            continue;
        }
        compare_slots(view, i, out);
        const Superblock& superblock = place.superblock;
        if (superblock.state == ReplicaState::filling) {
            out.push_back(about(i, DifferenceLevel::note, "is being filled: it does not vote yet"));
        }
        if (value(superblock.epoch_promised) != highest) {
            out.push_back(about(i, DifferenceLevel::note,
                                "promised epoch " +
                                    std::to_string(value(superblock.epoch_promised)) +
                                    ", the newest is " + std::to_string(highest) +
                                    ": it was away at the last start"));
        }
        if (superblock.roster_version != view.decision.roster_version) {
            out.push_back(about(i, DifferenceLevel::note,
                                "roster version " + std::to_string(superblock.roster_version) +
                                    ", the newest is " +
                                    std::to_string(view.decision.roster_version)));
        }
    }
}

}  // namespace penstock
