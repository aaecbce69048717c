#include "storage/replica/make_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace penstock {
namespace {

[[nodiscard]] Status flush_parent(const std::string& path) noexcept {
    const std::size_t slash = path.find_last_of('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    const int fd = ::open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return fail(Errc::io_failed, errno);
    }
    const int failed = ::fsync(fd) == 0 ? 0 : errno;
    ::close(fd);
    return failed == 0 ? Status{} : fail(Errc::io_failed, failed);
}

}  // namespace

Status make_directories(const std::string& path) {
    for (std::size_t end = 0; end != std::string::npos;) {
        end = path.find('/', end + 1);
        const std::string part = path.substr(0, end);
        if (part.empty() || part.ends_with('/')) {
            continue;
        }
        if (::mkdir(part.c_str(), 0750) == 0) {
            PENSTOCK_TRY_VOID(flush_parent(part));
        } else if (errno != EEXIST) {
            return fail(errno == ENOSPC ? Errc::no_space : Errc::io_failed, errno);
        }
    }
    return {};
}

}  // namespace penstock
