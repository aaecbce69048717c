// What a simulated disk holds: files as durable content plus writes not flushed yet. The fault
// model stands in sim_world.h.
//
// Runs on: the simulation's one thread.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/io/engine.h"
#include "storage/io/sim_random.h"

namespace penstock {

class SimEngine;

using SimBlock = std::array<std::byte, block_bytes>;
// Null means zeroes. Shared between images and snapshots, so copies of whole disks are cheap.
using SimBlockPtr = std::shared_ptr<const SimBlock>;

// The bytes of a file at one moment.
class SimImage {
public:
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_bytes_; }
    void resize(std::uint64_t size_bytes);
    // Grows the file to hold the block where needed.
    void set(std::uint64_t block, SimBlockPtr content);
    [[nodiscard]] SimBlockPtr get(std::uint64_t block) const noexcept;
    // Returns bytes copied: less than asked for at the end of the file.
    std::size_t read(std::uint64_t offset, MutableBytes into) const noexcept;
    // Any offset and length; never past the end. Returns bytes written.
    std::size_t overwrite(std::uint64_t offset, Bytes from);

private:
    std::uint64_t size_bytes_ = 0;
    std::vector<SimBlockPtr> blocks_;
};

// One block as one write left it, not flushed yet.
struct SimVersion {
    // Landings are numbered over the whole world.
    std::uint64_t landing = 0;
    SimBlockPtr content;
};
// Landing of a block whose flush failed: no later flush reaches it.
inline constexpr std::uint64_t never_flushed = UINT64_MAX;

struct SimFile {
    SimImage durable;
    SimImage visible;
    std::map<std::uint64_t, std::vector<SimVersion>> unflushed;  // by block, oldest first
    // Writes up to this landing were known to be finished by whoever wrote them.
    std::uint64_t reaped_landing = 0;
    std::uint64_t reserved_bytes = 0;  // space from the file's start that is kept for it

    // Space that the file takes on its disk.
    [[nodiscard]] std::uint64_t held_bytes() const noexcept;
    // A write of whole blocks that only reads see.
    void write_unflushed(std::uint64_t offset, Bytes data, std::uint64_t landing);
    // A write of whole blocks that is durable.
    void write_durable(std::uint64_t offset, Bytes data);
    void flush(std::uint64_t up_to_landing);
    // What a flush up to here should have kept is beyond any flush now.
    void fail_flush(std::uint64_t up_to_landing);
    // Decides the fate of all that is unflushed.
    void lose_power(SimRandom& random, std::uint32_t survives_per_million,
                    std::uint32_t tears_per_million);
    // All visible content becomes durable, as after a copy that was synced.
    void settle();
};

// A directory of one replica. Engines and open files keep it when another takes its place.
struct SimDirectory {
    unsigned replica = 0;
    std::uint64_t identity = 0;
    bool gone = false;
    std::map<std::string, std::shared_ptr<SimFile>> files;

    [[nodiscard]] std::uint64_t used_bytes() const noexcept;
};

// One accepted request.
struct SimOp {
    std::uint64_t id = 0;
    SimEngine* engine = nullptr;  // null once the process that asked is dead
    IoRequest request;
    std::shared_ptr<SimDirectory> directory;
    std::shared_ptr<SimFile> file;
    std::vector<std::byte> data;  // of a write, as it was when queued
    std::uint32_t data_crc = 0;
    std::uint64_t flush_up_to = 0;
    int fail_errno = 0;  // what it shall fail with, 0 for none
    bool never_stored = false;
    bool lie = false;
    bool cut = false;  // its disk went away while it was in flight
    std::uint64_t stored_offset = 0;
    std::int64_t result = 0;
    std::uint64_t landing = 0;
};

}  // namespace penstock
