// Reads the records a ReadPlan points at, verifying every frame, on the reader's own thread.
//
// Runs on: any one thread per reader.
// Guarantees: a record handed out passed its frame's checksums and belongs to the asked shard and
// sequence (promise 6). A bad copy is skipped for another replica's and counted.
// Format: docs/formats/frame.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/result.h"
#include "storage/log/read_plan.h"

namespace penstock {

// Where a reader gets file bytes from: the real directories, or the simulated disks.
class ContainerFiles {
public:
    virtual ~ContainerFiles() = default;
    // Reads up to bytes.size() bytes of a container; short at its end. Aligned to block_bytes.
    [[nodiscard]] virtual Result<std::size_t> read(unsigned replica, std::uint32_t group,
                                                   std::uint32_t container, std::uint64_t offset,
                                                   MutableBytes into) = 0;
};

// The real directories, opened on demand with O_DIRECT, reopened when a directory is replaced.
[[nodiscard]] std::unique_ptr<ContainerFiles> open_container_files(
    std::array<std::string, 3> directories);

// File name of a container within a replica directory: "segment-<group>-<container>".
[[nodiscard]] std::string container_name(std::uint32_t group, std::uint32_t container);

struct ReadOutcome {
    Sequence next_sequence = 0;  // where to go on
    std::uint64_t bytes = 0;     // data + keys handed out
    std::uint32_t records = 0;
    std::uint32_t bad_copies = 0;  // frames a replica could not give intact
    bool stale = false;            // the plan's place was reused meanwhile: plan again
};

class SegmentReader {
public:
    explicit SegmentReader(ContainerFiles& files, std::uint64_t set_id);
    ~SegmentReader();
    SegmentReader(const SegmentReader&) = delete;
    SegmentReader& operator=(const SegmentReader&) = delete;
    // Calls `take` for each record from plan.first_sequence on, in order, until it returns false,
    // or the plan's bytes end. Views are good during the call only. Errors: lost (no good copy of
    // the frame at out.next_sequence), io_failed.
    [[nodiscard]] Status read(const ReadPlan& plan,
                              const std::function<bool(const RecordView&)>& take, ReadOutcome& out);

private:
    struct Core;
    std::unique_ptr<Core> core_;
};

}  // namespace penstock
