// Where a reader gets the bytes of containers from: the real directories, or the simulated disks.
//
// Runs on: one thread at a time.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"

namespace penstock {

// Bytes of one container on one replica. Offset, memory and length are multiples of block_bytes.
struct ContainerRead {
    unsigned replica = replica_count;
    std::uint32_t group = 0;
    std::uint32_t container = 0;
    std::uint64_t offset = 0;
    MutableBytes into;
};

class ContainerFiles {
public:
    // Reads that may be under way at once.
    static constexpr unsigned reads_max = 256;

    virtual ~ContainerFiles() = default;
    // Reads up to bytes.size() bytes of a container; short at its end. Aligned to block_bytes.
    [[nodiscard]] virtual Result<std::size_t> read(unsigned replica, std::uint32_t group,
                                                   std::uint32_t container, std::uint64_t offset,
                                                   MutableBytes into) = 0;
    // Begins a read under a number below reads_max that is not in use; finish() gives what read()
    // would have given, and until then the memory is lent. Here it is read at once.
    virtual void start(unsigned number, const ContainerRead& what);
    // Hands what was started to the drives.
    virtual void submit() {}
    // Whether finish() would not have to wait.
    [[nodiscard]] virtual bool ready(unsigned /*number*/) { return true; }
    // Waits until a read that was not ready is; there is one.
    virtual void wait_for_any() {}
    [[nodiscard]] virtual Result<std::size_t> finish(unsigned number);

private:
    std::array<Result<std::size_t>, reads_max> done_{};
};

// The real directories, opened on demand with O_DIRECT, reopened when a directory is replaced.
[[nodiscard]] std::unique_ptr<ContainerFiles> open_container_files(
    std::array<std::string, 3> directories);

// File name of a container within a replica directory: "segment-<group>-<container>".
[[nodiscard]] std::string container_name(std::uint32_t group, std::uint32_t container);

}  // namespace penstock
