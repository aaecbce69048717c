#include "storage/base/check.h"

#include <execinfo.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

namespace penstock {

void check_failed(const char* condition, const char* file, int line) noexcept {
    std::fprintf(stderr, "penstock: bug: %s does not hold at %s:%d\n", condition, file, line);
    // Addresses for `addr2line -e penstock`, since a core dump is rarely kept.
    void* frames[32];
    const int count = ::backtrace(frames, 32);
    ::backtrace_symbols_fd(frames, count, STDERR_FILENO);
    std::abort();
}

}  // namespace penstock
