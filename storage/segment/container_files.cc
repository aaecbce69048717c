#include "storage/segment/container_files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <vector>

#include "storage/io/read_ring.h"

namespace penstock {

void ContainerFiles::start(unsigned number, const ContainerRead& what) {
    done_[number] = read(what.replica, what.group, what.container, what.offset, what.into);
}

Result<std::size_t> ContainerFiles::finish(unsigned number) {
    return done_[number];
}

namespace {

class DirectoryFiles final : public ContainerFiles {
public:
    explicit DirectoryFiles(std::array<std::string, 3> directories)
        : directories_(std::move(directories)) {}
    ~DirectoryFiles() override {
        ring_.reset();  // waits for what is under way
        for (const auto& [key, open] : files_) {
            ::close(open.fd);
        }
        close_replaced();
    }
    DirectoryFiles(const DirectoryFiles&) = delete;
    DirectoryFiles& operator=(const DirectoryFiles&) = delete;

    Result<std::size_t> read(unsigned replica, std::uint32_t group, std::uint32_t container,
                             std::uint64_t offset, MutableBytes into) override {
        PENSTOCK_TRY(fd, file(replica, group, container));
        std::size_t have = 0;
        while (have < into.size()) {
            const ssize_t got = ::pread(fd, into.data() + have, into.size() - have,
                                        static_cast<off_t>(offset + have));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                const int error = errno;
                forget(key_of(replica, group, container));
                return fail(Errc::io_failed, error, replica);
            }
            if (got == 0) {
                break;
            }
            have += static_cast<std::size_t>(got);
        }
        return have;
    }

    void start(unsigned number, const ContainerRead& what) override {
        Started& started = started_[number];
        started = {};
        if (!ring_asked_for_) {
            // Here and not when this is made: the ring belongs to the thread that reads.
            ring_asked_for_ = true;
            if (auto ring = ReadRing::open()) {
                ring_ = std::move(*ring);
            }
        }
        if (ring_ == nullptr) {
            ContainerFiles::start(number, what);
            return;
        }
        const auto fd = file(what.replica, what.group, what.container);
        if (!fd) {
            started.error = fd.error();
            return;
        }
        started.key = key_of(what.replica, what.group, what.container);
        started.replica = what.replica;
        started.in_ring = true;
        ++under_way_;
        ring_->start(number, *fd, what.offset, what.into);
    }

    void submit() override {
        if (ring_ != nullptr) {
            ring_->submit();
        }
    }

    bool ready(unsigned number) override {
        return !started_[number].in_ring || ring_->ready(number);
    }

    void wait_for_any() override {
        if (ring_ != nullptr) {
            ring_->wait_for_any();
        }
    }

    Result<std::size_t> finish(unsigned number) override {
        const Started started = started_[number];
        if (started.error.code != Errc::ok) {
            return std::unexpected(started.error);
        }
        if (!started.in_ring) {
            return ContainerFiles::finish(number);
        }
        auto got = ring_->finish(number);
        if (!got) {
            forget(started.key);
            got = fail(Errc::io_failed, got.error().os_errno, started.replica);
        }
        if (--under_way_ == 0) {
            close_replaced();
        }
        return got;
    }

private:
    using Key = std::uint64_t;
    struct Open {
        int fd = -1;
        dev_t device = 0;
        ino_t inode = 0;
        unsigned uses = 0;
    };
    struct Started {
        Key key = 0;
        unsigned replica = 0;
        bool in_ring = false;
        Error error;
    };
    static_assert(reads_max <= ReadRing::reads_max);

    static Key key_of(unsigned replica, std::uint32_t group, std::uint32_t container) {
        return (std::uint64_t{replica} << 60) | (std::uint64_t{group} << 32) | container;
    }

    void forget(Key key) {
        const auto found = files_.find(key);
        if (found != files_.end()) {
            // Reads of it may be under way, and continue on this descriptor.
            replaced_.push_back(found->second.fd);
            files_.erase(found);
        }
        if (under_way_ == 0) {
            close_replaced();
        }
    }

    void close_replaced() {
        for (const int fd : replaced_) {
            ::close(fd);
        }
        replaced_.clear();
    }

    // A replica's directory may be replaced under a running node, so every so often the path is
    // looked at again.
    Result<int> file(unsigned replica, std::uint32_t group, std::uint32_t container) {
        constexpr unsigned look_again_after = 64;
        const Key key = key_of(replica, group, container);
        const auto found = files_.find(key);
        if (found != files_.end() && ++found->second.uses % look_again_after != 0) {
            return found->second.fd;
        }
        const std::string path = directories_[replica] + "/" + container_name(group, container);
        if (found != files_.end()) {
            struct stat now{};
            if (::stat(path.c_str(), &now) == 0 && now.st_dev == found->second.device &&
                now.st_ino == found->second.inode) {
                return found->second.fd;
            }
            forget(key);
        }
        int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (fd < 0 && errno == EINVAL) {
            fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // a file system without O_DIRECT
        }
        if (fd < 0) {
            return fail(errno == ENOENT ? Errc::not_found : Errc::io_failed, errno, replica);
        }
        struct stat info{};
        if (::fstat(fd, &info) != 0) {
            const int code = errno;
            ::close(fd);
            return fail(Errc::io_failed, code, replica);
        }
        files_[key] = {fd, info.st_dev, info.st_ino, 0};
        return fd;
    }

    std::array<std::string, 3> directories_;
    std::map<Key, Open> files_;
    std::vector<int> replaced_;
    std::unique_ptr<ReadRing> ring_;
    bool ring_asked_for_ = false;
    unsigned under_way_ = 0;
    std::array<Started, reads_max> started_{};
};

}  // namespace

std::string container_name(std::uint32_t group, std::uint32_t container) {
    return "segment-" + std::to_string(group) + "-" + std::to_string(container);
}

std::unique_ptr<ContainerFiles> open_container_files(std::array<std::string, 3> directories) {
    return std::make_unique<DirectoryFiles>(std::move(directories));
}

}  // namespace penstock
