// A replica's directory, opened and locked: what an engine works in.
//
// The lock is an open-file-description lock on the file `lock` inside. It is tied to the open file,
// not to the process: registered in a ring (UringOptions::lock_fds), it outlives the process as
// long as its writes do (LOG-PROTOCOL 2). The file stays when the directory is closed; its being
// there means nothing.
//
// Runs on: any thread that may block.
#pragma once

#include <memory>
#include <string>

#include "storage/base/result.h"

namespace penstock {

class ReplicaDirectory {
public:
    enum class Create : bool { no, yes };

    // Errors: not_found (no such directory), locked (another process holds it, or its last writes
    // are still under way), invalid_argument (not a directory), io_failed.
    [[nodiscard]] static Result<std::unique_ptr<ReplicaDirectory>> open(const std::string& path,
                                                                        Create create);
    // Closes both descriptors; the lock goes with its last holder.
    ~ReplicaDirectory();
    ReplicaDirectory(const ReplicaDirectory&) = delete;
    ReplicaDirectory& operator=(const ReplicaDirectory&) = delete;

    [[nodiscard]] int fd() const noexcept { return fd_; }
    [[nodiscard]] int lock_fd() const noexcept { return lock_fd_; }
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    // Whether the path still leads here and the lock file is still the locked one (LOG-PROTOCOL 4).
    // Errors: not_found (removed or not mounted), foreign (another directory is there now),
    // io_failed.
    [[nodiscard]] Status same_as_path() const;

private:
    ReplicaDirectory(std::string path, int fd, int lock_fd);

    std::string path_;
    int fd_ = -1;
    int lock_fd_ = -1;
};

}  // namespace penstock
