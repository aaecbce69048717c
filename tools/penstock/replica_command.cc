#include "tools/penstock/replica_command.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>

#include "storage/replica/set.h"
#include "tools/penstock/data_directories.h"
#include "tools/penstock/json_text.h"

namespace penstock {
namespace {

using Row = std::array<std::string, 8>;

[[nodiscard]] std::string hex(std::uint64_t number) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(number));
    return text;
}

// Space the files take on the drive, which for pre-written files is their size.
[[nodiscard]] std::uint64_t used_bytes(const std::string& directory) {
    std::uint64_t total = 0;
    std::error_code error;
    for (std::filesystem::recursive_directory_iterator it(directory, error), end;
         !error && it != end; it.increment(error)) {
        struct stat info{};
        if (::lstat(it->path().c_str(), &info) == 0 && S_ISREG(info.st_mode)) {
            total += static_cast<std::uint64_t>(info.st_blocks) * 512;
        }
    }
    return total;
}

[[nodiscard]] std::string size_text(std::uint64_t bytes) {
    char text[32];
    std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / (1024.0 * 1024.0));
    return text;
}

[[nodiscard]] Row row_of(const PlaceState& place, const std::string& directory) {
    Row row{directory, "-", "-", "-", describe(place.kind), "-", "-", "-"};
    if (place.kind == PlaceKind::readable) {
        const Superblock& s = place.superblock;
        row = {directory,
               hex(s.geometry.set_id),
               std::to_string(s.replica_index),
               hex(s.replica_id),
               describe(s.state),
               std::to_string(value(s.epoch_promised)),
               std::to_string(superblock_version),
               "-"};
    } else if (place.error.detail != 0) {
        row[4] += std::string(": ") + describe(reason_of(place.error));
    }
    if (place.kind != PlaceKind::missing && place.kind != PlaceKind::absent) {
        row[7] = size_text(used_bytes(directory));
    }
    return row;
}

void print_table(const std::vector<Row>& rows, std::ostream& out) {
    std::array<std::size_t, 8> width{};
    for (const Row& row : rows) {
        for (std::size_t i = 0; i < row.size(); ++i) {
            width[i] = std::max(width[i], row[i].size());
        }
    }
    for (const Row& row : rows) {
        std::string line;
        for (std::size_t i = 0; i < row.size(); ++i) {
            line += row[i];
            if (i + 1 < row.size()) {
                line += std::string(width[i] - row[i].size() + 2, ' ');
            }
        }
        out << line << '\n';
    }
}

struct Seen {
    std::array<std::string, replica_count> directories;
    std::array<PlaceState, replica_count> places;
};

// Superblocks at the places of their indices, so that the order of --data does not matter.
[[nodiscard]] Seen look(const std::array<std::string, replica_count>& directories) {
    Seen seen{directories, {}};
    for (unsigned i = 0; i < replica_count; ++i) {
        seen.places[i] = inspect_place(directories[i]);
    }
    for (unsigned round = 0; round < replica_count; ++round) {
        for (unsigned i = 0; i < replica_count; ++i) {
            const unsigned home = seen.places[i].superblock.replica_index;
            if (seen.places[i].kind == PlaceKind::readable && home != i &&
                (seen.places[home].kind != PlaceKind::readable ||
                 seen.places[home].superblock.replica_index != home)) {
                std::swap(seen.places[i], seen.places[home]);
                std::swap(seen.directories[i], seen.directories[home]);
            }
        }
    }
    return seen;
}

void print_json(const std::vector<Row>& rows, const std::string& verdict, bool writable,
                std::ostream& out) {
    static constexpr std::array<const char*, 8> keys{"directory", "set",   "replica", "replica_id",
                                                     "state",     "epoch", "format",  "size"};
    out << "{\"writable\":" << (writable ? "true" : "false") << ",\"note\":" << json_text(verdict)
        << ",\"replicas\":[";
    for (std::size_t r = 1; r < rows.size(); ++r) {
        out << (r == 1 ? "{" : ",{");
        for (std::size_t i = 0; i < keys.size(); ++i) {
            out << (i == 0 ? "" : ",") << json_text(keys[i]) << ':' << json_text(rows[r][i]);
        }
        out << '}';
    }
    out << "]}\n";
}

// The member that a new directory stands in for: the one that no directory shows, or the one whose
// place the target is.
[[nodiscard]] std::expected<unsigned, std::string> missing_member(const Seen& seen,
                                                                  const std::string& target) {
    std::vector<unsigned> missing;
    for (unsigned i = 0; i < replica_count; ++i) {
        if (seen.places[i].kind == PlaceKind::readable) {
            continue;
        }
        if (std::filesystem::path(seen.directories[i]).lexically_normal() ==
            std::filesystem::path(target).lexically_normal()) {
            return i;
        }
        missing.push_back(i);
    }
    if (missing.size() == 1) {
        return missing[0];
    }
    if (missing.empty()) {
        return std::unexpected<std::string>(
            "all three replicas are there: only a replica that is gone can be replaced");
    }
    return std::unexpected("several replicas are gone, and " + target +
                           " is none of the --data directories: name one of those");
}

}  // namespace

int replica_status(const std::vector<std::string>& dirs, bool json, std::ostream& out) {
    const auto directories = expand_data_directories(dirs);
    if (!directories) {
        out << directories.error() << '\n';
        return 2;
    }
    const Seen seen = look(*directories);
    std::vector<Row> rows{
        {"directory", "set", "replica", "replica id", "state", "epoch", "format", "size"}};
    for (unsigned i = 0; i < replica_count; ++i) {
        rows.push_back(row_of(seen.places[i], seen.directories[i]));
    }
    const OpenDecision decision = decide_open(seen.places, false);
    const std::string note = explain(decision, seen.places, seen.directories);
    const bool writable = decision.action == OpenAction::open;
    if (json) {
        print_json(rows, note, writable, out);
    } else {
        print_table(rows, out);
        out << (note.empty() ? "all three replicas vote" : note) << '\n';
    }
    return writable ? 0 : 1;
}

int replica_replace(const std::vector<std::string>& dirs, const std::string& target,
                    std::ostream& out, std::ostream& err) {
    const auto directories = expand_data_directories(dirs);
    if (!directories) {
        err << directories.error() << '\n';
        return 2;
    }
    const auto index = missing_member(look(*directories), target);
    if (!index) {
        err << "replica replace: " << index.error() << '\n';
        return 1;
    }
    return replica_replace(dirs, *index, target, out, err);
}

int replica_replace(const std::vector<std::string>& dirs, unsigned replica,
                    const std::string& target, std::ostream& out, std::ostream& err) {
    const auto directories = expand_data_directories(dirs);
    if (!directories || replica >= replica_count) {
        err << (directories ? "replica replace: expected replica 0, 1 or 2" : directories.error())
            << '\n';
        return 2;
    }
    const Seen seen = look(*directories);
    std::string message;
    const Status done = prepare_replacement(
        seen.directories, replica, target.empty() ? seen.directories[replica] : target, message);
    (done ? out : err) << (done ? "" : "replica replace: ") << message << '\n';
    return done ? 0 : 1;
}

}  // namespace penstock
