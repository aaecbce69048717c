// Superblock files in real directories, and what else stands in a directory.
//
// Runs on: any thread but lanes: blocks on the drive.
// Guarantees: a read comes from the device, not from a cache, where the file system has O_DIRECT; a
// write is durable on return.
// Format: docs/formats/superblock.md.
#pragma once

#include <string>
#include <vector>

#include "storage/base/result.h"
#include "storage/replica/decide.h"
#include "storage/replica/superblock.h"

namespace penstock {

// Both slots; shorter if the file is. Errors: not_found, io_failed.
[[nodiscard]] Result<std::vector<std::byte>> read_superblock_file(int directory_fd);

// Makes the file if need be: 8 KiB of zeroes and a durable directory entry, before the slot.
[[nodiscard]] Status write_superblock_slot(int directory_fd, unsigned slot,
                                           const SuperblockSlot& bytes);

// What a directory holds, without a lock and without touching it.
struct DirectoryScan {
    PlaceKind kind = PlaceKind::absent;  // absent, missing, empty, foreign_data or readable (has a
                                         // superblock file; its content was not looked at)
    Error error;
    std::string first_other;  // a file that is neither superblock nor lock, if any
};
[[nodiscard]] DirectoryScan scan_directory(const std::string& path);

// Adds what the other files tell to what a superblock file told: an unwritten superblock beside
// data is damage, not an empty directory.
void judge_with_scan(PlaceState& place, const DirectoryScan& scan) noexcept;

}  // namespace penstock
