// Sizes fixed when a replica set is made; they stand in every superblock.
#pragma once

#include <cstdint>

namespace penstock {

struct SetGeometry {
    std::uint64_t set_id = 0;         // random, never 0; every block and frame carries it
    std::uint32_t data_groups = 2;    // lanes ≤ data groups
    std::uint32_t journal_files = 4;  // per group and replica; ≥ 3
    std::uint64_t journal_file_bytes = 16U << 20;
    std::uint64_t container_bytes = 128U << 20;  // segment files grow by one of these
    std::uint32_t chunk_unit_bytes = 1U << 20;   // smallest chunk, multiple of block_bytes
    std::uint32_t chunk_units_max = 32;          // largest chunk
    std::uint64_t manifest_bytes = 4U << 20;     // each of the two slots, grows by itself
    friend bool operator==(const SetGeometry&, const SetGeometry&) = default;
};

}  // namespace penstock
