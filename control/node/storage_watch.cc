#include "control/node/storage_watch.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "storage/segment/container_files.h"

namespace penstock {

namespace {

// A drive has to have this much less in use before it counts as emptier, so that one that goes up
// and down at a border is not told of each time.
constexpr double hysteresis = 0.02;
constexpr std::uint64_t fall_window_ms = 60'000;
constexpr std::uint64_t progress_lines_ms = 15'000;
// Lines of what scrubbing found and mended, in a minute; what is lost is told always.
constexpr unsigned lines_in_minute = 10;

std::string number_text(double value, const char* unit) {
    char text[48];
    std::snprintf(text, sizeof text, value < 10 ? "%.1f %s" : "%.0f %s", value, unit);
    return text;
}

}  // namespace

std::string bytes_text(double bytes) {
    constexpr std::array<const char*, 5> units{"bytes", "KiB", "MiB", "GiB", "TiB"};
    std::size_t unit = 0;
    while (bytes >= 1024 && unit + 1 < units.size()) {
        bytes /= 1024;
        ++unit;
    }
    return unit == 0 ? std::to_string(static_cast<std::uint64_t>(bytes)) + " bytes"
                     : number_text(bytes, units[unit]);
}

std::string duration_text(double seconds) {
    if (seconds < 120) {
        return std::to_string(static_cast<std::uint64_t>(std::ceil(seconds))) + " s";
    }
    if (seconds < 2 * 3600) {
        return std::to_string(static_cast<std::uint64_t>(std::round(seconds / 60))) + " min";
    }
    return seconds < 48 * 3600 ? number_text(seconds / 3600, "h")
                               : number_text(seconds / 86'400, "days");
}

std::string StorageWatch::place(unsigned replica) const {
    return "replica " + std::to_string(replica) + " (" + options_.directories[replica] + ")";
}

// -- How full -------------------------------------------------------------------------------------

void StorageWatch::look_at_room(std::uint64_t now_ms,
                                const std::array<DriveRoom, replica_count>& rooms,
                                std::uint64_t reusable_bytes, bool is_full) {
    std::string rest;
    for (unsigned r = 0; r < replica_count; ++r) {
        const DriveRoom& room = rooms[r];
        if (!room.known || room.size_bytes == 0) {
            continue;
        }
        const auto beside = static_cast<std::uint64_t>(
            std::ranges::count_if(rooms, [&room](const DriveRoom& other) {
                return other.known && other.file_system == room.file_system;
            }));
        const std::uint64_t left = room.free_bytes + beside * reusable_bytes;
        const double used =
            std::max(0.0, 1 - static_cast<double>(left) / static_cast<double>(room.size_bytes));
        rest += (rest.empty() ? "" : ", ") + options_.directories[r] + " " +
                bytes_text(static_cast<double>(left));
        Filling& filling = fillings_[r];
        if (filling.since_ms == 0) {
            filling.since_ms = now_ms;
            filling.left_bytes = left;
        } else if (now_ms - filling.since_ms >= fall_window_ms) {
            const double fallen =
                static_cast<double>(filling.left_bytes) - static_cast<double>(left);
            filling.falls_per_s = fallen * 1000 / static_cast<double>(now_ms - filling.since_ms);
            filling.since_ms = now_ms;
            filling.left_bytes = left;
        }
        unsigned level = 0;
        while (level < filling_from.size() &&
               used >= filling_from[level] - (level < filling.level ? hysteresis : 0)) {
            ++level;
        }
        // Replicas on one drive are told of once.
        const bool told =
            std::ranges::any_of(rooms.begin(), rooms.begin() + r, [&room](const DriveRoom& other) {
                return other.known && other.file_system == room.file_system;
            });
        if (level > filling.level && !told) {
            const double seconds =
                filling.falls_per_s > 0 ? static_cast<double>(left) / filling.falls_per_s : 0;
            options_.say(
                true, place(r) + ": its drive is " + std::to_string(std::lround(used * 100)) +
                          " % full, " + bytes_text(static_cast<double>(left)) + " left" +
                          (seconds > 0 ? ", enough for " + duration_text(seconds) +
                                             " at the rate of the last minute"
                                       : "") +
                          "; shorten retention, delete streams, remove what else is on the drive, "
                          "or move the replica to a larger one; when two drives are full, writes "
                          "are refused");
        } else if (level < filling.level && level == 0 && !told) {
            options_.say(false, place(r) + ": its drive has room again, " +
                                    bytes_text(static_cast<double>(left)) + " are left");
        }
        filling.level = level;
    }
    if (is_full != was_full_) {
        was_full_ = is_full;
        options_.say(is_full,
                     is_full ? "the drives are full: writes are refused, everything else goes on; "
                               "shorten retention, delete streams, or remove what else is on the "
                               "drives (left: " +
                                   rest + "); writes resume by themselves"
                             : "the drives have room again: writes are taken (left: " + rest + ")");
    }
}

// -- Refills --------------------------------------------------------------------------------------

void StorageWatch::look_at_refill(std::uint64_t now_ms, unsigned replica, bool is_refilling,
                                  std::uint64_t missing_bytes) {
    Refill& refill = refills_[replica];
    RefillProgress& progress = refill.progress;
    if (!is_refilling) {
        refill = Refill{};
        return;
    }
    if (missing_bytes > progress.total_bytes || refill.began_ms == 0) {
        // It began, or lacks more than was known: the manifest says so step by step.
        refill.began_ms = refill.began_ms == 0 ? now_ms : refill.began_ms;
        refill.told_ms = now_ms;
        progress.total_bytes = std::max(progress.total_bytes, missing_bytes);
        progress.left_bytes = missing_bytes;
        refill.last_ms = now_ms;
        return;
    }
    const std::uint64_t passed_ms = now_ms - refill.last_ms;
    if (passed_ms < 500) {
        return;
    }
    const double copied = progress.left_bytes > missing_bytes
                              ? static_cast<double>(progress.left_bytes - missing_bytes)
                              : 0;
    const double rate = copied * 1000 / static_cast<double>(passed_ms);
    progress.bytes_per_s = progress.bytes_per_s == 0 ? rate : (3 * progress.bytes_per_s + rate) / 4;
    progress.left_bytes = missing_bytes;
    progress.seconds_left =
        progress.bytes_per_s > 0 ? static_cast<double>(missing_bytes) / progress.bytes_per_s : 0;
    refill.last_ms = now_ms;
    if (now_ms - refill.told_ms >= progress_lines_ms && missing_bytes != 0) {
        refill.told_ms = now_ms;
        options_.say(false, place(replica) + ": " +
                                std::to_string(static_cast<unsigned>(progress.share_done() * 100)) +
                                " % of what it lacked is copied, " +
                                bytes_text(static_cast<double>(missing_bytes)) + " of " +
                                bytes_text(static_cast<double>(progress.total_bytes)) +
                                " are left, " + bytes_text(progress.bytes_per_s) + "/s" +
                                (progress.seconds_left > 0
                                     ? ", about " + duration_text(progress.seconds_left) + " to go"
                                     : ""));
    }
}

std::string StorageWatch::refilled(std::uint64_t now_ms, unsigned replica) const {
    const Refill& refill = refills_[replica];
    if (refill.progress.total_bytes == 0) {
        return "";
    }
    const double seconds = static_cast<double>(now_ms - refill.began_ms) / 1000;
    return bytes_text(static_cast<double>(refill.progress.total_bytes)) + " in " +
           duration_text(seconds);
}

// -- Scrubbing ------------------------------------------------------------------------------------

std::string StorageWatch::line_of(const ScrubEvent& event) const {
    const std::string records = "records " + std::to_string(event.from) + " to " +
                                std::to_string(event.until - 1) + " of " +
                                options_.name_of(event.shard);
    const std::string where = container_name(value(event.group), event.container) + " at byte " +
                              std::to_string(event.offset) + ", " + std::to_string(event.bytes) +
                              " bytes";
    switch (event.kind) {
        case ScrubEvent::Kind::repaired:
            return "scrub: " + place(event.replica) + " had a damaged copy (" + where + ", " +
                   records + "); it was written again from replica " +
                   std::to_string(event.source) + "; if this goes on, replace the drive";
        case ScrubEvent::Kind::unkept:
            return "scrub: " + place(event.replica) + " does not keep what is written to it (" +
                   where + ", " + records +
                   "); the other replicas have it; replace the drive with `penstock replica "
                   "replace`";
        case ScrubEvent::Kind::lost:
            return "scrub: LOST: no replica has a good copy of " + records + " (" + where +
                   " on each); readers get an error for exactly these, all others are there; see "
                   "docs/operations/scrub.md";
        case ScrubEvent::Kind::unresolved:
            return "scrub: no good copy of " + records + " was found (" + where +
                   "), and not every replica could be looked at: nothing is given up; bring the "
                   "absent replica back";
    }
    return "";
}

void StorageWatch::tell(std::uint64_t now_ms, const std::vector<ScrubEvent>& events) {
    if (now_ms - minute_ms_ >= 60'000) {
        if (untold_ != 0) {
            options_.say(true, "scrub: " + std::to_string(untold_) +
                                   " more places like these within the last minute");
        }
        minute_ms_ = now_ms;
        lines_in_minute_ = 0;
        untold_ = 0;
    }
    for (const ScrubEvent& event : events) {
        if (event.kind == ScrubEvent::Kind::lost || lines_in_minute_ < lines_in_minute) {
            ++lines_in_minute_;
            options_.say(true, line_of(event));
        } else {
            ++untold_;
        }
    }
}

}  // namespace penstock
