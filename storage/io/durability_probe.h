// Measures how a drive makes a write durable, and which of two ways is cheaper.
//
// Writes and syncs a scratch file in the directory, which is removed afterwards: overwrites of 4
// KiB and of 256 KiB, once with O_DSYNC semantics (FUA where the drive has it) and once with a
// plain write and fdatasync. Both are true promises of the kernel; only their price differs.
//
// Runs on: any thread that may block, below 150 ms on a usual drive, bounded on a slow one.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "storage/base/result.h"
#include "storage/io/uring_engine.h"

namespace penstock {

struct DurabilityReport {
    Status status;                      // why nothing was measured; the defaults below hold then
    FlushMode mode = FlushMode::dsync;  // the cheaper one; dsync unless the other is 10 % cheaper
    // Medians in microseconds; 0 when not measured.
    double dsync_4k_us = 0;
    double dsync_256k_us = 0;
    double flush_4k_us = 0;  // write + fdatasync together
    double flush_256k_us = 0;
    bool direct = false;      // O_DIRECT works here
    std::string file_system;  // "ext4", "xfs", ..., or its magic number
    std::string device;       // "nvme0n1"; empty where no block device is behind
    std::string write_cache;  // "write back" (volatile) or "write through"; empty: unknown
    int fua = -1;             // 1 the drive has FUA, 0 it has not, -1 unknown
    // A drive that says it has a volatile write cache answers a flush faster than any can.
    bool suspicious = false;

    // One line for people: what was measured, and what is odd about it.
    [[nodiscard]] std::string describe() const;
};

[[nodiscard]] DurabilityReport probe_durability(int directory_fd);

// Several directories, so that a start waits for the slowest drive and not for all in turn: each
// file system is measured once, all of them at the same time. A descriptor of -1 is passed over.
void probe_durability(std::span<const int> directory_fds, std::span<DurabilityReport> reports);

}  // namespace penstock
