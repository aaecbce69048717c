// The one error vocabulary of the project and the shape functions return it in.
//
// Guarantees: an Error is 8 bytes and trivially copyable; numbers of Errc are never reused.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <utility>

namespace penstock {

enum class Errc : std::uint16_t {
    ok = 0,
    invalid_argument = 1,     // a caller's value is out of range
    not_found = 2,            // the named thing does not exist
    already_exists = 3,       // the named thing exists
    io_failed = 4,            // the operating system refused an I/O; os_errno says how
    no_space = 5,             // the device or a bounded area is full
    corrupt = 6,              // stored bytes fail their checksum or contradict themselves
    foreign = 7,              // stored bytes belong to another set, replica, group or shard
    unsupported = 8,          // a format version or feature bit this build does not know
    not_enough_replicas = 9,  // fewer than two voting replicas can be read or written
    locked = 10,              // another process holds the directory
    fenced = 11,              // a newer epoch was promised elsewhere
    no_memory_room = 12,      // a bounded pool or queue is full; retry later
    closed = 13,              // the shard takes no more records
    too_large = 14,           // a record or request exceeds its limit
    lost = 15,                // a range that was committed has no good copy left
    wait_for_replica = 16,    // doubt: an absent replica may hold the missing frame
    timed_out = 17,
    canceled = 18,     // the thing was stopped before it finished
    trimmed = 19,      // the position lies before the trim horizon
    not_empty = 20,    // the place holds data that is not ours to overwrite
    unavailable = 21,  // right now; retry
};

// What a person is told about an Errc when nothing more specific is known.
[[nodiscard]] const char* describe(Errc code) noexcept;

struct Error {
    Errc code = Errc::ok;
    std::uint16_t os_errno = 0;  // 0 when the operating system was not involved
    std::uint32_t detail = 0;    // meaning is the callee's: a replica index, a shard, a line

    friend bool operator==(const Error&, const Error&) = default;
};
static_assert(sizeof(Error) == 8);

// "the device or a bounded area is full (ENOSPC: No space left on device)"
[[nodiscard]] std::string describe(const Error& error);

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

[[nodiscard]] inline std::unexpected<Error> fail(Errc code, int os_errno = 0,
                                                 std::uint32_t detail = 0) noexcept {
    return std::unexpected<Error>(
        Error{code, static_cast<std::uint16_t>(os_errno < 0 ? -os_errno : os_errno), detail});
}

}  // namespace penstock

#define PENSTOCK_CONCAT_(a, b) a##b
#define PENSTOCK_CONCAT(a, b) PENSTOCK_CONCAT_(a, b)

// Returns the error of `expr` from the calling function, which must return a Result.
#define PENSTOCK_TRY_VOID(expr)                            \
    do {                                                   \
        if (auto penstock_try_ = (expr); !penstock_try_) { \
            return std::unexpected(penstock_try_.error()); \
        }                                                  \
    } while (false)

// Declares `var` with the value of `expr`, or returns its error.
#define PENSTOCK_TRY(var, expr)                                                   \
    auto PENSTOCK_CONCAT(penstock_try_, __LINE__) = (expr);                       \
    if (!PENSTOCK_CONCAT(penstock_try_, __LINE__)) {                              \
        return std::unexpected(PENSTOCK_CONCAT(penstock_try_, __LINE__).error()); \
    }                                                                             \
    auto var = std::move(*PENSTOCK_CONCAT(penstock_try_, __LINE__))
