#include "storage/replica/superblock_file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "storage/base/descriptor.h"
#include "storage/replica/set.h"

namespace penstock {
namespace {

struct alignas(block_bytes) FileBytes {
    std::array<std::byte, superblock_file_bytes> bytes{};
};

// Some file systems (older tmpfs) refuse O_DIRECT with EINVAL.
[[nodiscard]] int open_direct(int directory_fd, int flags) noexcept {
    const char* name = superblock_name.data();
    const int fd = ::openat(directory_fd, name, flags | O_DIRECT | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd >= 0 || errno != EINVAL) {
        return fd;
    }
    return ::openat(directory_fd, name, flags | O_CLOEXEC | O_NOFOLLOW, 0640);
}

[[nodiscard]] Status write_all(int fd, const std::byte* data, std::size_t length,
                               std::uint64_t offset) noexcept {
    const ssize_t written = ::pwrite(fd, data, length, static_cast<off_t>(offset));
    if (written < 0) {
        return fail(errno == ENOSPC ? Errc::no_space : Errc::io_failed, errno);
    }
    if (static_cast<std::size_t>(written) != length) {
        return fail(Errc::io_failed, EIO);
    }
    // A failed flush is never retried; the caller takes the replica out.
    if (::fdatasync(fd) != 0) {
        return fail(Errc::io_failed, errno);
    }
    return {};
}

// Files that do not make a directory other people's: the lock, what mkfs makes, and the scratch
// file of a durability probe that was killed.
[[nodiscard]] bool holds_no_data(std::string_view name) noexcept {
    return name == "." || name == ".." || name == "lock" || name == "lost+found" ||
           name == "durability-probe.tmp";
}

}  // namespace

Result<std::vector<std::byte>> read_superblock_file(int directory_fd) {
    const Descriptor file{open_direct(directory_fd, O_RDONLY)};
    if (file.get() < 0) {
        return fail(errno == ENOENT ? Errc::not_found : Errc::io_failed, errno);
    }
    const auto buffer = std::make_unique<FileBytes>();
    std::size_t done = 0;
    while (done < superblock_file_bytes) {
        const ssize_t got = ::pread(file.get(), buffer->bytes.data() + done,
                                    superblock_file_bytes - done, static_cast<off_t>(done));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            return fail(Errc::io_failed, errno);
        }
        done += static_cast<std::size_t>(got);
        // A read that ends within a block has met the end of the file.
        if (got == 0 || done % block_bytes != 0) {
            break;
        }
    }
    return std::vector<std::byte>(buffer->bytes.begin(),
                                  buffer->bytes.begin() + static_cast<std::ptrdiff_t>(done));
}

Status write_superblock_slot(int directory_fd, unsigned slot, const SuperblockSlot& bytes) {
    const Descriptor file{open_direct(directory_fd, O_RDWR | O_CREAT)};
    if (file.get() < 0) {
        return fail(errno == ENOSPC ? Errc::no_space : Errc::io_failed, errno);
    }
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) {
        return fail(Errc::io_failed, errno);
    }
    const auto buffer = std::make_unique<FileBytes>();
    if (info.st_size < static_cast<off_t>(superblock_file_bytes)) {
        // What a shorter file holds is kept: it may be the other slot.
        PENSTOCK_TRY(old, read_superblock_file(directory_fd));
        std::copy(old.begin(), old.end(), buffer->bytes.begin());
        PENSTOCK_TRY_VOID(write_all(file.get(), buffer->bytes.data(), superblock_file_bytes, 0));
        if (::fsync(file.get()) != 0 || ::fsync(directory_fd) != 0) {
            return fail(Errc::io_failed, errno);
        }
    }
    std::memcpy(buffer->bytes.data(), bytes.data(), bytes.size());
    return write_all(file.get(), buffer->bytes.data(), superblock_slot_bytes,
                     slot * superblock_slot_bytes);
}

DirectoryScan scan_directory(const std::string& path) {
    DirectoryScan scan;
    const std::unique_ptr<DIR, int (*)(DIR*)> directory{::opendir(path.c_str()), &::closedir};
    if (directory == nullptr) {
        scan.kind = errno == ENOENT ? PlaceKind::missing : PlaceKind::absent;
        scan.error = fail(errno == ENOENT ? Errc::not_found : Errc::io_failed, errno).error();
        return scan;
    }
    bool has_superblock = false;
    for (;;) {
        errno = 0;
        const dirent* entry = ::readdir(directory.get());
        if (entry == nullptr) {
            break;
        }
        const std::string_view name = entry->d_name;
        if (name == superblock_name) {
            has_superblock = true;
        } else if (!holds_no_data(name) && scan.first_other.empty()) {
            scan.first_other = name;
        }
    }
    if (errno != 0) {
        scan.error = fail(Errc::io_failed, errno).error();
        return scan;
    }
    scan.kind = has_superblock             ? PlaceKind::readable
                : scan.first_other.empty() ? PlaceKind::empty
                                           : PlaceKind::foreign_data;
    return scan;
}

void judge_with_scan(PlaceState& place, const DirectoryScan& scan) noexcept {
    if (place.kind == PlaceKind::empty && !scan.first_other.empty()) {
        place.kind = PlaceKind::damaged;
        place.error =
            fail(Errc::corrupt, 0, static_cast<std::uint32_t>(SuperblockReason::unwritten)).error();
    }
}

PlaceState inspect_place(const std::string& directory) {
    PlaceState place;
    const DirectoryScan scan = scan_directory(directory);
    if (scan.kind != PlaceKind::readable) {
        place.kind = scan.kind;
        place.error = scan.error;
        return place;
    }
    const Descriptor fd{::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)};
    if (fd.get() < 0) {
        place.error = fail(Errc::io_failed, errno).error();
        return place;
    }
    place = place_from(read_superblock_file(fd.get()));
    judge_with_scan(place, scan);
    return place;
}

}  // namespace penstock
