// A storage node in the simulator: the real replica set, groups and reader on simulated disks, and
// the control thread's part in taking replicas out and back in.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "storage/io/sim_world.h"
#include "storage/log/frame_pool.h"
#include "storage/log/group.h"
#include "storage/replica/set.h"
#include "storage/segment/reader.h"

namespace penstock::test {

// Container files of the simulated disks.
class SimContainerFiles final : public ContainerFiles {
public:
    explicit SimContainerFiles(SimWorld& world) : world_(world), engine_(world.make_engine()) {}
    Result<std::size_t> read(unsigned replica, std::uint32_t group, std::uint32_t container,
                             std::uint64_t offset, MutableBytes into) override;

private:
    SimWorld& world_;
    std::unique_ptr<IoEngine> engine_;
};

struct NodeOptions {
    SetGeometry geometry;  // of a set that is made; set_id is drawn
    unsigned groups = 1;
    ReplicaMask reachable = all_replicas;  // the others' mounts failed
    bool existing = false;
    bool accept_loss = false;
    bool allow_read_only = false;
    bool take_back = true;  // replicas that failed are looked for and taken back
    std::size_t pool_bytes = 48U << 20;
    std::uint64_t scrub_bytes_per_s = 0;  // passes follow one another at once
};

// Small sizes, so that files roll, fill and are reused within a short run.
[[nodiscard]] SetGeometry small_geometry();

// A superblock for an empty directory that is to be filled in place of replica `index`.
[[nodiscard]] Status prepare_blank(SimWorld& world, unsigned index);

class SimNode {
public:
    // Opens the set, promises an epoch, recovers the groups.
    [[nodiscard]] static Result<std::unique_ptr<SimNode>> start(SimWorld& world,
                                                                const NodeOptions& options,
                                                                std::string& message);
    ~SimNode();
    SimNode(const SimNode&) = delete;
    SimNode& operator=(const SimNode&) = delete;

    // A turn of every group, its completions, and what the control thread would do. Waits for I/O
    // when there is nothing to do.
    void step();
    // Steps until `done` or until so much simulated time has passed. False: time is over.
    bool step_until(const std::function<bool()>& done, std::uint64_t timeout_ns = 60'000'000'000);

    [[nodiscard]] ShardGroup& group(unsigned index) { return *groups_[index]->group; }
    [[nodiscard]] FramePool& pool(unsigned index) { return *groups_[index]->pool; }
    [[nodiscard]] unsigned group_count() const { return static_cast<unsigned>(groups_.size()); }
    [[nodiscard]] const OpenedSet& opened() const { return opened_; }
    [[nodiscard]] std::uint64_t set_id() const { return opened_.geometry.set_id; }
    [[nodiscard]] ReplicaMask out() const { return out_; }
    // Every replica takes writes, votes, and has all it should have.
    [[nodiscard]] bool whole() const;
    [[nodiscard]] unsigned failures() const { return failures_; }
    void drain();
    void hold_back(bool hold) { options_.take_back = !hold; }
    // What scrubbing found, in order.
    [[nodiscard]] const std::vector<ScrubEvent>& scrubbed() const { return scrubbed_; }

private:
    struct Group {
        std::unique_ptr<IoEngine> engine;
        std::unique_ptr<FramePool> pool;
        std::unique_ptr<ShardGroup> group;
        SimNode* node = nullptr;
    };
    SimNode(SimWorld& world, const NodeOptions& options) : world_(world), options_(options) {}
    Status recover_groups();
    void control();
    void take_out(unsigned replica);
    void try_return(unsigned replica);
    void finish_filling();
    static void on_replica(void* context, unsigned replica, Error why) noexcept;
    static void on_scrub(void* context, const ScrubEvent& event) noexcept;

    SimWorld& world_;
    NodeOptions options_;
    OpenedSet opened_;
    std::unique_ptr<IoEngine> control_;
    std::unique_ptr<SuperblockStore> store_;
    std::vector<std::unique_ptr<Group>> groups_;
    std::array<std::uint64_t, replica_count> identity_{};
    std::array<std::uint64_t, replica_count> out_since_ns_{};
    ReplicaMask failed_ = 0;
    ReplicaMask out_ = 0;
    ReplicaMask filling_ = 0;
    std::uint64_t next_control_ns_ = 0;
    unsigned failures_ = 0;
    std::vector<ScrubEvent> scrubbed_;
};

}  // namespace penstock::test
