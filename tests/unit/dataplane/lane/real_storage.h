// The storage of one lane on three real directories, for tests of lanes with io_uring.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "dataplane/lane/lane.h"
#include "storage/io/uring_engine.h"
#include "storage/log/frame_pool.h"
#include "tests/unit/dataplane/lane/support.h"

namespace penstock::test {

class RealStorage {
public:
    RealStorage() {
        std::string name =
            (std::filesystem::temp_directory_path() / "penstock-lane-XXXXXX").string();
        if (mkdtemp(name.data()) == nullptr) {
            return;
        }
        root_ = name;
        for (unsigned i = 0; i < replica_count; ++i) {
            const std::filesystem::path place = root_ / std::to_string(i);
            std::filesystem::create_directory(place);
            directory_fds_[i] = ::open(place.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
        // An engine opened once shows whether the kernel allows it.
        UringOptions options;
        options.directory_fds = directory_fds_;
        if (auto opened = UringEngine::open(options); !opened) {
            reason_ = UringEngine::explain_open_failure(opened.error());
        } else {
            usable_ = true;
        }
    }
    ~RealStorage() {
        engine_.reset();
        for (const int fd : directory_fds_) {
            if (fd >= 0) {
                ::close(fd);
            }
        }
        if (!root_.empty()) {
            std::error_code ignored;
            std::filesystem::remove_all(root_, ignored);
        }
    }
    RealStorage(const RealStorage&) = delete;
    RealStorage& operator=(const RealStorage&) = delete;

    [[nodiscard]] bool usable() const noexcept { return usable_; }
    [[nodiscard]] const std::string& reason() const noexcept { return reason_; }

    Status open(Lane& lane, const std::vector<GroupId>& groups, unsigned group_count,
                Clock& clock) {
        UringOptions options;
        options.directory_fds = directory_fds_;
        options.wake_fd = lane.wake_fd();
        PENSTOCK_TRY(engine, UringEngine::open(options));
        engine_ = std::move(engine);
        PENSTOCK_TRY(pool, FramePool::open(*engine_, 64U << 20));
        pool_ = std::move(pool);
        lane.set_engine(*engine_, true);
        for (const GroupId id : groups) {
            GroupOptions group_options;
            group_options.group = id;
            group_options.epoch = Epoch{1};
            group_options.geometry = small_geometry(group_count);
            PENSTOCK_TRY(group, ShardGroup::recover(group_options, *engine_, clock, *pool_));
            lane.add_group(std::move(group), id);
        }
        return {};
    }

private:
    std::filesystem::path root_;
    std::array<int, replica_count> directory_fds_{-1, -1, -1};
    bool usable_ = false;
    std::string reason_;
    std::unique_ptr<UringEngine> engine_;
    std::unique_ptr<FramePool> pool_;
};

}  // namespace penstock::test
