// Checks for bugs: on in release, abort with the place. Never used on input.
#pragma once

namespace penstock {
[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;
}

#define PENSTOCK_CHECK(condition)                                     \
    do {                                                              \
        if (!(condition)) [[unlikely]] {                              \
            ::penstock::check_failed(#condition, __FILE__, __LINE__); \
        }                                                             \
    } while (false)
