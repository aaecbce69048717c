// Where GetRecords gets the records from that a lane's plan points at.
//
// Runs on: one control thread per source.
#pragma once

#include <functional>
#include <memory>

#include "storage/base/result.h"
#include "storage/log/read_plan.h"
#include "storage/segment/reader.h"

namespace penstock::kinesis {

class RecordSource {
public:
    virtual ~RecordSource() = default;
    // As SegmentReader::read.
    [[nodiscard]] virtual Status read(const ReadPlan& plan,
                                      const std::function<bool(const RecordView&)>& take,
                                      ReadOutcome& out) = 0;
};
// Called once per control thread, on it.
using RecordSourceFactory = std::function<std::unique_ptr<RecordSource>()>;

// The segments and lent frames of a replica set.
class SegmentRecordSource final : public RecordSource {
public:
    SegmentRecordSource(std::unique_ptr<ContainerFiles> files, std::uint64_t set_id)
        : files_(std::move(files)), reader_(*files_, set_id) {}
    [[nodiscard]] Status read(const ReadPlan& plan,
                              const std::function<bool(const RecordView&)>& take,
                              ReadOutcome& out) override {
        return reader_.read(plan, take, out);
    }

private:
    std::unique_ptr<ContainerFiles> files_;
    SegmentReader reader_;
};

}  // namespace penstock::kinesis
