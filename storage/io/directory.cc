#include "storage/io/directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace penstock {

namespace {

constexpr const char* lock_name = "lock";

Errc code_of(int os_errno) noexcept {
    switch (os_errno) {
        case ENOENT:
            return Errc::not_found;
        case ENOTDIR:
            return Errc::invalid_argument;
        case ENOSPC:
            return Errc::no_space;
        default:
            return Errc::io_failed;
    }
}

std::unexpected<Error> fail_errno() noexcept {
    const int error = errno;
    return fail(code_of(error), error);
}

// Makes the directory and its entry durable. Its parent must exist.
Status make_directory(const std::string& path) {
    if (::mkdir(path.c_str(), 0750) != 0) {
        if (errno == EEXIST) {
            return {};
        }
        return fail_errno();
    }
    std::string trimmed = path;
    while (trimmed.size() > 1 && trimmed.back() == '/') {
        trimmed.pop_back();
    }
    const std::size_t slash = trimmed.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : trimmed.substr(0, slash + 1);
    const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno();
    }
    const bool synced = ::fsync(fd) == 0;
    const int error = errno;
    ::close(fd);
    if (!synced) {
        return fail(Errc::io_failed, error);
    }
    return {};
}

}  // namespace

ReplicaDirectory::ReplicaDirectory(std::string path, int fd, int lock_fd)
    : path_(std::move(path)), fd_(fd), lock_fd_(lock_fd) {}

ReplicaDirectory::~ReplicaDirectory() {
    ::close(lock_fd_);
    ::close(fd_);
}

Result<std::unique_ptr<ReplicaDirectory>> ReplicaDirectory::open(const std::string& path,
                                                                 Create create) {
    if (create == Create::yes) {
        PENSTOCK_TRY_VOID(make_directory(path));
    }
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno();
    }
    const int lock_fd = ::openat(fd, lock_name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (lock_fd < 0) {
        const auto error = fail_errno();
        ::close(fd);
        return error;
    }
    std::unique_ptr<ReplicaDirectory> directory(new ReplicaDirectory(path, fd, lock_fd));
    struct flock whole{};
    whole.l_type = F_WRLCK;
    whole.l_whence = SEEK_SET;
    if (::fcntl(lock_fd, F_OFD_SETLK, &whole) != 0) {
        const int error = errno;
        return fail(error == EAGAIN || error == EACCES ? Errc::locked : Errc::io_failed, error);
    }
    // Someone may have replaced the directory or the lock between the calls.
    PENSTOCK_TRY_VOID(directory->same_as_path());
    return directory;
}

Status ReplicaDirectory::same_as_path() const {
    struct stat now{};
    struct stat opened{};
    if (::stat(path_.c_str(), &now) != 0) {
        const int error = errno;
        return fail(error == ENOENT || error == ENOTDIR ? Errc::not_found : Errc::io_failed, error);
    }
    if (::fstat(fd_, &opened) != 0) {
        return fail_errno();
    }
    if (now.st_dev != opened.st_dev || now.st_ino != opened.st_ino) {
        return fail(Errc::foreign);
    }
    if (::fstatat(fd_, lock_name, &now, AT_SYMLINK_NOFOLLOW) != 0) {
        return fail_errno();
    }
    if (::fstat(lock_fd_, &opened) != 0) {
        return fail_errno();
    }
    if (now.st_dev != opened.st_dev || now.st_ino != opened.st_ino) {
        return fail(Errc::foreign);
    }
    return {};
}

}  // namespace penstock
