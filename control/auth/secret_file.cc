#include "control/auth/secret_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "storage/base/descriptor.h"

namespace penstock::auth {

namespace {

std::unexpected<std::string> failed(int code) {
    return std::unexpected(std::string("cannot be written: ") + std::strerror(code));
}

std::string directory_of(const std::string& path) {
    const std::string parent = std::filesystem::path(path).parent_path().string();
    return parent.empty() ? "." : parent;
}

Descriptor open_directory(const std::string& path) {
    return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

// What was made or renamed in a directory is lost with the power until that directory is durable.
bool make_durable(const std::string& directory) {
    const Descriptor opened = open_directory(directory);
    return opened.get() >= 0 && ::fsync(opened.get()) == 0;
}

bool write_all(int fd, std::string_view text) noexcept {
    while (!text.empty()) {
        const ssize_t done = ::write(fd, text.data(), text.size());
        if (done < 0 && errno != EINTR) {
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(done, 0)));
    }
    return true;
}

bool keep_owner(int fd, const std::string& path) noexcept {
    struct stat before{};
    return ::stat(path.c_str(), &before) != 0 || ::fchown(fd, before.st_uid, before.st_gid) == 0;
}

bool move_where_none_is(const std::string& from, const std::string& to) noexcept {
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) {
        return true;
    }
    // Some file systems can do this, but not that.
    return errno == EINVAL && ::link(from.c_str(), to.c_str()) == 0 && ::unlink(from.c_str()) == 0;
}

}  // namespace

std::expected<void, std::string> make_directory_of(const std::string& path) {
    const std::string directory = directory_of(path);
    if (::mkdir(directory.c_str(), 0700) == 0 && !make_durable(directory_of(directory))) {
        return failed(errno);
    }
    return {};  // Where it cannot be made, what is to be put in says why.
}

std::expected<void, std::string> write_secret_file(const std::string& path, std::string_view text,
                                                   IfThere if_there) {
    if (auto made = make_directory_of(path); !made) {
        return made;
    }
    std::string fresh = path + ".XXXXXX";
    const Descriptor file(::mkostemp(fresh.data(), O_CLOEXEC));  // mode 0600
    if (file.get() < 0) {
        return failed(errno);
    }
    const bool replaces = if_there == IfThere::replace;
    const bool done =
        write_all(file.get(), text) && (!replaces || keep_owner(file.get(), path)) &&
        ::fsync(file.get()) == 0 &&
        (replaces ? ::rename(fresh.c_str(), path.c_str()) == 0 : move_where_none_is(fresh, path));
    if (!done) {
        const int code = errno;
        ::unlink(fresh.c_str());
        return failed(code);
    }
    return make_durable(directory_of(path)) ? std::expected<void, std::string>{} : failed(errno);
}

}  // namespace penstock::auth
