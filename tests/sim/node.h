// A storage node in the simulator: a replica set, one group and a reader on simulated disks, and the
// model that knows what was acknowledged.
#pragma once

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "storage/io/sim_world.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/segment/reader.h"

namespace penstock::test {

// Container files of the simulated disks.
class SimContainerFiles final : public ContainerFiles {
  public:
    explicit SimContainerFiles(SimWorld& world) : world_(world), engine_(world.make_engine()) {}
    Result<std::size_t> read(unsigned replica, std::uint32_t group, std::uint32_t container,
                             std::uint64_t offset, MutableBytes into) override {
        // Replicas come and go, so every read opens anew.
        world_.attach(*engine_, replica);
        PENSTOCK_TRY(file, engine_->open(replica, container_name(group, container), OpenMode::read_only));
        auto got = run_one(*engine_, {.kind = IoKind::read,
                                      .file = file,
                                      .offset = offset,
                                      .data = into.data(),
                                      .length = into.size()});
        engine_->close(file);
        if (!got) {
            return std::unexpected(got.error());
        }
        return static_cast<std::size_t>(*got);
    }

  private:
    SimWorld& world_;
    std::unique_ptr<IoEngine> engine_;
};

// What the model keeps of a record: enough to tell any two apart.
struct ModelRecord {
    Sequence sequence = 0;
    std::string data;
    bool acked = false;
};

}  // namespace penstock::test
