#include "control/node/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

namespace penstock {
namespace {

// Of the limit, what is left to containers, journals, ports and rings: at most so many, and at
// most half. Each control thread opens every container file that it reads from.
constexpr std::size_t files_max = 4096;

}  // namespace

std::size_t raise_descriptor_limit() noexcept {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return 1024;
    }
    if (limit.rlim_cur < limit.rlim_max) {
        const rlimit raised{limit.rlim_max, limit.rlim_max};
        if (::setrlimit(RLIMIT_NOFILE, &raised) == 0) {
            limit = raised;
        }
    }
    return limit.rlim_cur;
}

std::size_t connections_within(std::size_t descriptors, unsigned threads,
                               std::size_t wanted) noexcept {
    const std::size_t files = std::min(files_max, descriptors / 2);
    return std::clamp<std::size_t>((descriptors - files) / std::max(threads, 1U), 16, wanted);
}

}  // namespace penstock
