// Reads the records a ReadPlan points at, verifying every frame, on the reader's own thread.
//
// While records are handed out, the drive reads the next pieces of the plan (read_ahead.h). A plan
// that goes on where an earlier one ended is not read again from its index point.
//
// Runs on: any one thread per reader.
// Guarantees: a record handed out passed its frame's checksums and belongs to the asked shard and
// sequence (promise 6). A bad copy is skipped for another replica's and counted.
// Format: docs/formats/frame.md.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "storage/base/result.h"
#include "storage/log/read_plan.h"
#include "storage/segment/container_files.h"

namespace penstock {

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
    // or the plan's bytes end: a frame that ends behind them is left to the next plan if there
    // were records before it. Views are good during the call only. Errors: lost (no good copy of
    // the frame at out.next_sequence, up to plan.lost_until if that is known), io_failed.
    [[nodiscard]] Status read(const ReadPlan& plan,
                              const std::function<bool(const RecordView&)>& take, ReadOutcome& out);

private:
    struct Core;
    std::unique_ptr<Core> core_;
};

}  // namespace penstock
