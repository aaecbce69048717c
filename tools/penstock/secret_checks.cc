#include "tools/penstock/secret_checks.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>

#include "control/auth/key_file.h"
#include "control/keys/key_ring.h"

namespace penstock {
namespace {

using enum FindingLevel;
namespace fs = std::filesystem;

// For the shell, as one word.
[[nodiscard]] std::string quoted(const std::string& text) {
    constexpr std::string_view plain =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+:@%,";
    if (text.find_first_not_of(plain) == std::string::npos) {
        return text;
    }
    std::string out = "'";
    for (const char c : text) {
        out += c == '\'' ? "'\\''" : std::string(1, c);
    }
    return out + "'";
}

[[nodiscard]] bool is_missing(const std::string& path) {
    struct stat info{};
    return ::stat(path.c_str(), &info) != 0 && errno == ENOENT;
}

// What a refused file wants: to be moved, to be its owner's alone, or to be another one.
[[nodiscard]] std::string mend_of(const std::string& path, const std::string& why) {
    if (why.starts_with("found within")) {
        return "mv " + quoted(path) + " /etc/penstock/" +
               quoted(fs::path(path).filename().string());
    }
    struct stat info{};
    const bool is_file = ::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
    if (is_file && (info.st_mode & 077) != 0) {
        return "chmod 600 " + quoted(path);
    }
    return why.starts_with("cannot be read") ? "chown $(id -u) " + quoted(path)
                                             : "cp -p COPY " + quoted(path);
}

// A drive that is lost or taken away should not take the keys with the data, nor the data's copies.
[[nodiscard]] bool shares_file_system(const std::string& path,
                                      std::span<const std::string> directories) {
    struct stat file{};
    if (::stat(path.c_str(), &file) != 0) {
        return false;
    }
    return std::ranges::any_of(directories, [&](const std::string& directory) {
        struct stat info{};
        return ::stat(directory.c_str(), &info) == 0 && info.st_dev == file.st_dev;
    });
}

void found_sound(const std::string& id, const std::string& path, std::string what,
                 std::span<const std::string> directories, Findings& findings) {
    if (shares_file_system(path, directories)) {
        findings.push_back({note, id, path,
                            std::move(what) + "; it shares a file system with data, and would be "
                                              "lost or taken with it",
                            "mv " + quoted(path) + " /OTHER/DRIVE/"});
    } else {
        findings.push_back({ok, id, path, std::move(what), ""});
    }
}

}  // namespace

void check_key_file(const std::string& path, std::span<const std::string> directories,
                    Findings& findings) {
    const std::string id = "key-file";
    if (const auto key = auth::read_key_file(path, directories); key) {
        return found_sound(id, path, "seals credentials, and is its owner's alone", directories,
                           findings);
    } else if (key.error().fault == auth::KeyFileFault::refused) {
        findings.push_back({error, id, path, key.error().why, mend_of(path, key.error().why)});
        return;
    }
    const bool has_data = std::ranges::any_of(directories, [](const std::string& directory) {
        std::error_code none;
        return fs::exists(directory + "/superblock", none);
    });
    if (has_data) {
        findings.push_back({warning, id, path,
                            "is not there, but the node's data is: credentials that it has made "
                            "need the file that sealed them",
                            "cp -p COPY " + quoted(path)});
    } else {
        findings.push_back({ok, id, path, "is not there yet: a first start makes it", ""});
    }
}

void check_keys_file(const std::string& path, std::span<const std::string> directories,
                     Findings& findings) {
    const std::string id = "keys-file";
    const auto ring = keys::read_key_ring(path, directories);
    if (!ring) {
        findings.push_back({error, id, path, ring.error(),
                            is_missing(path) && !ring.error().starts_with("found within")
                                ? "penstock keys make --keys-file " + quoted(path)
                                : mend_of(path, ring.error())});
        return;
    }
    const auto enabled = std::ranges::count_if(ring->keys(), &keys::Key::enabled);
    found_sound(id, path,
                std::to_string(ring->keys().size()) + " keys of streams, " +
                    std::to_string(enabled) + " enabled, and is its owner's alone",
                directories, findings);
    if (ring->find_alias(keys::default_alias) == nullptr) {
        findings.push_back({note, "keys-alias", path,
                            "no key has " + std::string(keys::default_alias) +
                                ", which requests mean that name no key",
                            "penstock keys make --keys-file " + quoted(path) + " --alias " +
                                std::string(keys::default_alias)});
    }
}

}  // namespace penstock
