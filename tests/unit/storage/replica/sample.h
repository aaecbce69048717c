// Superblocks for tests.
#pragma once

#include "storage/replica/superblock.h"

namespace penstock {

inline Superblock sample_superblock(unsigned index = 1) {
    Superblock s;
    s.geometry.set_id = 0x1122334455667788;
    s.geometry.data_groups = 2;
    s.geometry.journal_files = 4;
    s.geometry.journal_file_bytes = 16U << 20;
    s.geometry.container_bytes = 256U << 20;
    s.geometry.chunk_unit_bytes = 1U << 20;
    s.geometry.chunk_units_max = 64;
    s.geometry.manifest_bytes = 4U << 20;
    s.roster = {0xa0a0a0a0a0a0a0a0, 0xb1b1b1b1b1b1b1b1, 0xc2c2c2c2c2c2c2c2};
    s.roster_version = 1;
    s.replica_index = static_cast<std::uint8_t>(index);
    s.replica_id = s.roster[index];
    s.state = ReplicaState::voting;
    s.epoch_promised = Epoch{7};
    s.generation = 9;
    s.created_ms = 1'700'000'000'000;
    return s;
}

}  // namespace penstock
