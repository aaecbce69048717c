#include "storage/base/result.h"

#include <cstring>

namespace penstock {

const char* describe(Errc code) noexcept {
    switch (code) {
        case Errc::ok:
            return "no error";
        case Errc::invalid_argument:
            return "a value is out of range";
        case Errc::not_found:
            return "it does not exist";
        case Errc::already_exists:
            return "it exists already";
        case Errc::io_failed:
            return "an I/O operation failed";
        case Errc::no_space:
            return "the device or a bounded area is full";
        case Errc::corrupt:
            return "stored bytes fail their checksum";
        case Errc::foreign:
            return "stored bytes belong to another set, replica or shard";
        case Errc::unsupported:
            return "a format version or feature this build does not know";
        case Errc::not_enough_replicas:
            return "fewer than two voting replicas are usable";
        case Errc::locked:
            return "another process holds the directory";
        case Errc::fenced:
            return "a newer epoch was promised elsewhere";
        case Errc::no_memory_room:
            return "a bounded pool or queue is full";
        case Errc::closed:
            return "the shard takes no more records";
        case Errc::too_large:
            return "a record or request exceeds its limit";
        case Errc::lost:
            return "a committed range has no good copy left";
        case Errc::wait_for_replica:
            return "an absent replica may hold the missing frame";
        case Errc::timed_out:
            return "it took too long";
        case Errc::canceled:
            return "it was stopped before it finished";
        case Errc::trimmed:
            return "the position lies before the trim horizon";
        case Errc::not_empty:
            return "the place holds data that is not ours to overwrite";
        case Errc::unavailable:
            return "it is not available right now";
    }
    return "an unknown error";
}

std::string describe(const Error& error) {
    std::string text = describe(error.code);
    if (error.os_errno != 0) {
        text += " (";
        text +=
            strerrorname_np(error.os_errno) != nullptr ? strerrorname_np(error.os_errno) : "errno";
        text += ": ";
        text += strerrordesc_np(error.os_errno) != nullptr ? strerrordesc_np(error.os_errno)
                                                           : std::to_string(error.os_errno);
        text += ")";
    }
    return text;
}

}  // namespace penstock
