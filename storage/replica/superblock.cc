#include "storage/replica/superblock.h"

#include <algorithm>
#include <bit>

#include "storage/base/crc32c.h"

namespace penstock {
namespace {

// "PNSTKSB1" as it lies on disk.
constexpr std::uint64_t superblock_magic = 0x3142534b54534e50ULL;

// Bytes 0..159 of a slot; the rest of the 4096 is zero. All of it lies in the first 512-byte
// sector, which drives write whole, so a torn first write is either complete or invisible.
struct DiskSuperblock {
    std::uint64_t magic;
    std::uint32_t version;
    std::uint32_t checksum;
    std::uint64_t set_id;
    std::uint64_t replica_id;
    std::uint64_t generation;
    std::uint64_t epoch_promised;
    std::int64_t created_ms;
    std::uint64_t refuse_features;
    std::uint64_t read_only_features;
    std::uint8_t replica_index;
    std::uint8_t state;
    std::uint16_t reserved_a;
    std::uint32_t data_groups;
    std::uint32_t journal_files;
    std::uint32_t chunk_unit_bytes;
    std::uint32_t chunk_units_max;
    std::uint32_t reserved_b;
    std::uint64_t journal_file_bytes;
    std::uint64_t container_bytes;
    std::uint64_t manifest_bytes;
    std::uint64_t roster_version;
    std::uint64_t roster[replica_count];
};
static_assert(sizeof(DiskSuperblock) == 152);
static_assert(offsetof(DiskSuperblock, version) == 8);
static_assert(offsetof(DiskSuperblock, checksum) == 12);
static_assert(offsetof(DiskSuperblock, set_id) == 16);
static_assert(offsetof(DiskSuperblock, replica_id) == 24);
static_assert(offsetof(DiskSuperblock, generation) == 32);
static_assert(offsetof(DiskSuperblock, epoch_promised) == 40);
static_assert(offsetof(DiskSuperblock, created_ms) == 48);
static_assert(offsetof(DiskSuperblock, refuse_features) == 56);
static_assert(offsetof(DiskSuperblock, read_only_features) == 64);
static_assert(offsetof(DiskSuperblock, replica_index) == 72);
static_assert(offsetof(DiskSuperblock, state) == 73);
static_assert(offsetof(DiskSuperblock, data_groups) == 76);
static_assert(offsetof(DiskSuperblock, journal_files) == 80);
static_assert(offsetof(DiskSuperblock, chunk_unit_bytes) == 84);
static_assert(offsetof(DiskSuperblock, chunk_units_max) == 88);
static_assert(offsetof(DiskSuperblock, journal_file_bytes) == 96);
static_assert(offsetof(DiskSuperblock, container_bytes) == 104);
static_assert(offsetof(DiskSuperblock, manifest_bytes) == 112);
static_assert(offsetof(DiskSuperblock, roster_version) == 120);
static_assert(offsetof(DiskSuperblock, roster) == 128);
static_assert(std::has_unique_object_representations_v<DiskSuperblock>);
static_assert(sizeof(DiskSuperblock) <= 512);

[[nodiscard]] std::uint32_t slot_checksum(Bytes slot) noexcept {
    constexpr std::size_t at = offsetof(DiskSuperblock, checksum);
    constexpr std::array<std::byte, 4> zero{};
    std::uint32_t crc = crc32c(slot.first(at));
    crc = crc32c_extend(crc, zero);
    return crc32c_extend(crc, slot.subspan(at + 4));
}

[[nodiscard]] bool all_zero(Bytes bytes) noexcept {
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

[[nodiscard]] std::unexpected<Error> refuse(Errc code, SuperblockReason reason) noexcept {
    return fail(code, 0, static_cast<std::uint32_t>(reason));
}

[[nodiscard]] SuperblockReason check_roster(const Superblock& s) noexcept {
    if (s.roster_version == 0) {
        return SuperblockReason::bad_roster;
    }
    for (unsigned i = 0; i < replica_count; ++i) {
        if (s.roster[i] == 0 || s.roster[i] == s.roster[(i + 1) % replica_count]) {
            return SuperblockReason::bad_roster;
        }
        // An id stands at its own index or, for a replacement not yet complete, nowhere.
        if (i != s.replica_index && s.roster[i] == s.replica_id) {
            return SuperblockReason::bad_roster;
        }
    }
    if (s.state == ReplicaState::voting && s.roster[s.replica_index] != s.replica_id) {
        return SuperblockReason::bad_roster;
    }
    return SuperblockReason::ok;
}

[[nodiscard]] SuperblockReason check_fields(const Superblock& s) noexcept {
    if ((s.refuse_features & ~known_refuse_features) != 0) {
        return SuperblockReason::unknown_feature;
    }
    if (s.geometry.set_id == 0) {
        return SuperblockReason::bad_set_id;
    }
    if (s.replica_id == 0) {
        return SuperblockReason::bad_replica_id;
    }
    if (s.replica_index >= replica_count) {
        return SuperblockReason::bad_replica_index;
    }
    if (s.state != ReplicaState::filling && s.state != ReplicaState::voting) {
        return SuperblockReason::bad_state;
    }
    if (s.generation == 0) {
        return SuperblockReason::bad_generation;
    }
    if (!valid_geometry(s.geometry)) {
        return SuperblockReason::bad_geometry;
    }
    return check_roster(s);
}

}  // namespace

const char* describe(ReplicaState state) noexcept {
    switch (state) {
        case ReplicaState::blank:
            return "blank";
        case ReplicaState::filling:
            return "filling";
        case ReplicaState::voting:
            return "voting";
    }
    return "unknown";
}

const char* describe(SuperblockReason reason) noexcept {
    switch (reason) {
        case SuperblockReason::ok:
            return "intact";
        case SuperblockReason::unwritten:
            return "never written";
        case SuperblockReason::bad_magic:
            return "does not begin with the superblock's magic";
        case SuperblockReason::bad_checksum:
            return "the checksum does not match the bytes";
        case SuperblockReason::unknown_version:
            return "written by a newer format version";
        case SuperblockReason::unknown_feature:
            return "uses a feature that this version does not know";
        case SuperblockReason::bad_set_id:
            return "the set id is zero";
        case SuperblockReason::bad_replica_id:
            return "the replica id is zero";
        case SuperblockReason::bad_replica_index:
            return "the replica index is not 0, 1 or 2";
        case SuperblockReason::bad_state:
            return "the state is neither filling nor voting";
        case SuperblockReason::bad_generation:
            return "the generation is zero or belongs in the other slot";
        case SuperblockReason::bad_geometry:
            return "the sizes are out of bounds";
        case SuperblockReason::bad_reserved:
            return "bytes that must be zero are not";
        case SuperblockReason::bad_roster:
            return "the roster contradicts the replica";
        case SuperblockReason::count_:
            break;
    }
    return "unknown";
}

bool valid_geometry(const SetGeometry& g) noexcept {
    const auto blocks = [](std::uint64_t bytes, std::uint64_t max) {
        return bytes >= block_bytes && bytes <= max && bytes % block_bytes == 0;
    };
    constexpr std::uint64_t tebibyte = 1ULL << 40;
    return g.data_groups >= 1 && g.data_groups <= 4096 && g.journal_files >= 3 &&
           g.journal_files <= 4096 && blocks(g.journal_file_bytes, tebibyte) &&
           blocks(g.container_bytes, tebibyte) && blocks(g.manifest_bytes, tebibyte) &&
           blocks(g.chunk_unit_bytes, 1ULL << 30) && g.container_bytes % g.chunk_unit_bytes == 0 &&
           g.chunk_units_max >= 1 && g.chunk_units_max <= 1U << 20;
}

void encode_superblock(const Superblock& s, SuperblockSlot& out) noexcept {
    const SetGeometry& g = s.geometry;
    DiskSuperblock disk{
        .magic = superblock_magic,
        .version = superblock_version,
        .checksum = 0,
        .set_id = g.set_id,
        .replica_id = s.replica_id,
        .generation = s.generation,
        .epoch_promised = value(s.epoch_promised),
        .created_ms = s.created_ms,
        .refuse_features = s.refuse_features,
        .read_only_features = s.read_only_features,
        .replica_index = s.replica_index,
        .state = static_cast<std::uint8_t>(s.state),
        .reserved_a = 0,
        .data_groups = g.data_groups,
        .journal_files = g.journal_files,
        .chunk_unit_bytes = g.chunk_unit_bytes,
        .chunk_units_max = g.chunk_units_max,
        .reserved_b = 0,
        .journal_file_bytes = g.journal_file_bytes,
        .container_bytes = g.container_bytes,
        .manifest_bytes = g.manifest_bytes,
        .roster_version = s.roster_version,
        .roster = {s.roster[0], s.roster[1], s.roster[2]},
    };
    out.fill(std::byte{0});
    store(out.data(), disk);
    disk.checksum = slot_checksum(out);
    store(out.data(), disk);
}

Result<Superblock> decode_superblock(Bytes slot) noexcept {
    if (slot.size() < superblock_slot_bytes || all_zero(slot.first(superblock_slot_bytes))) {
        // A shorter file with bytes in it is damage, not a slot that was never written.
        return all_zero(slot) ? refuse(Errc::not_found, SuperblockReason::unwritten)
                              : refuse(Errc::corrupt, SuperblockReason::bad_checksum);
    }
    slot = slot.first(superblock_slot_bytes);
    const auto disk = load<DiskSuperblock>(slot.data());
    if (disk.magic != superblock_magic) {
        return refuse(Errc::corrupt, SuperblockReason::bad_magic);
    }
    // Magic, version, checksum and the checksum's rule stay in all versions, so that damage to the
    // version field is not taken for a newer version.
    if (disk.checksum != slot_checksum(slot)) {
        return refuse(Errc::corrupt, SuperblockReason::bad_checksum);
    }
    if (disk.version != superblock_version) {
        return disk.version == 0 ? refuse(Errc::corrupt, SuperblockReason::unknown_version)
                                 : refuse(Errc::unsupported, SuperblockReason::unknown_version);
    }
    Superblock s;
    s.geometry = {.set_id = disk.set_id,
                  .data_groups = disk.data_groups,
                  .journal_files = disk.journal_files,
                  .journal_file_bytes = disk.journal_file_bytes,
                  .container_bytes = disk.container_bytes,
                  .chunk_unit_bytes = disk.chunk_unit_bytes,
                  .chunk_units_max = disk.chunk_units_max,
                  .manifest_bytes = disk.manifest_bytes};
    s.replica_id = disk.replica_id;
    s.replica_index = disk.replica_index;
    s.state = static_cast<ReplicaState>(disk.state);
    s.epoch_promised = Epoch{disk.epoch_promised};
    s.generation = disk.generation;
    s.created_ms = disk.created_ms;
    s.roster = {disk.roster[0], disk.roster[1], disk.roster[2]};
    s.roster_version = disk.roster_version;
    s.refuse_features = disk.refuse_features;
    s.read_only_features = disk.read_only_features;
    const SuperblockReason reason = check_fields(s);
    if (reason == SuperblockReason::unknown_feature) {
        return refuse(Errc::unsupported, reason);
    }
    if (reason != SuperblockReason::ok) {
        return refuse(Errc::corrupt, reason);
    }
    // A build that knows no feature must not guess what a newer one keeps there.
    const bool newer = s.must_be_read_only();
    if (!newer && (disk.reserved_a != 0 || disk.reserved_b != 0 ||
                   !all_zero(slot.subspan(sizeof(DiskSuperblock))))) {
        return refuse(Errc::corrupt, SuperblockReason::bad_reserved);
    }
    return s;
}

Result<Superblock> choose_superblock(Bytes file) noexcept {
    std::array<Result<Superblock>, 2> slots{fail(Errc::not_found), fail(Errc::not_found)};
    for (unsigned i = 0; i < 2; ++i) {
        const std::size_t at = std::min(file.size(), i * superblock_slot_bytes);
        const std::size_t length = std::min(file.size() - at, superblock_slot_bytes);
        slots[i] = decode_superblock(file.subspan(at, length));
        // A slot written elsewhere in the file is misdirected I/O.
        if (slots[i] && superblock_slot_of(slots[i]->generation) != i) {
            slots[i] = refuse(Errc::corrupt, SuperblockReason::bad_generation);
        }
    }
    // Never fall back past a slot of a newer format: what it says may be what counts.
    for (const auto& slot : slots) {
        if (!slot && slot.error().code == Errc::unsupported) {
            return slot;
        }
    }
    if (slots[0] && slots[1]) {
        return slots[0]->generation > slots[1]->generation ? slots[0] : slots[1];
    }
    for (const auto& slot : slots) {
        if (slot) {
            return slot;
        }
    }
    for (const auto& slot : slots) {
        if (slot.error().code == Errc::not_found) {
            return refuse(Errc::not_found, SuperblockReason::unwritten);
        }
    }
    return slots[0];
}

}  // namespace penstock
