// An IoEngine on the simulated disks; SimWorld::make_engine() gives one. Semantics and faults stand
// in sim_world.h.
//
// Runs on: the simulation's one thread.
// Guarantees: every accepted request is answered exactly once, with -ECANCELED after a crash.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "storage/io/engine.h"
#include "storage/io/sim_disk.h"

namespace penstock {

class SimWorld;

class SimEngine final : public IoEngine {
public:
    explicit SimEngine(SimWorld& world);
    // Waits until what is in flight has landed, as closing the ring does.
    ~SimEngine() override;

    [[nodiscard]] Result<FileHandle> open(unsigned replica, std::string_view name,
                                          OpenMode mode) override;
    void close(FileHandle file) override;
    [[nodiscard]] Result<std::uint64_t> size_bytes(FileHandle file) override;
    [[nodiscard]] Status remove(unsigned replica, std::string_view name) override;
    [[nodiscard]] bool queue(const IoRequest& request) noexcept override;
    void submit() noexcept override;
    [[nodiscard]] std::size_t reap(std::span<IoCompletion> out) noexcept override;
    void wait(std::uint64_t timeout_ns) noexcept override;
    [[nodiscard]] std::size_t in_flight() const noexcept override { return in_flight_; }
    [[nodiscard]] std::byte* allocate_buffer(std::size_t bytes) override;

private:
    friend class SimWorld;

    struct OpenFile {
        std::shared_ptr<SimDirectory> directory;
        std::shared_ptr<SimFile> file;  // null: the handle is free
        bool read_only = false;
    };
    struct Buffer {
        std::byte* data = nullptr;
        std::size_t bytes = 0;
    };
    struct Finished {
        IoCompletion completion;
        std::shared_ptr<SimFile> written;  // null unless a write
        std::uint64_t landing = 0;
    };

    [[nodiscard]] bool dead() const noexcept;
    [[nodiscard]] OpenFile& opened(FileHandle file) noexcept;
    // The process died: everything accepted is answered with -ECANCELED.
    void cancel_all(std::span<const std::uint64_t> cookies_in_flight);
    void finished(const SimOp& op);

    SimWorld& world_;
    std::uint64_t generation_;
    std::array<std::shared_ptr<SimDirectory>, replica_count> directories_;
    std::vector<OpenFile> files_;
    std::vector<std::unique_ptr<SimOp>> queued_;
    std::deque<Finished> ready_;
    std::vector<Buffer> buffers_;
    std::size_t in_flight_ = 0;
    std::size_t on_disk_ = 0;  // submitted, not finished
};

}  // namespace penstock
