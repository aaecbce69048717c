#include "control/keys/key_ring.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "control/auth/crypto.h"
#include "control/auth/key_file.h"
#include "control/auth/secret_file.h"
#include "control/http/text.h"
#include "storage/base/descriptor.h"

namespace penstock::keys {

namespace {

constexpr std::size_t secret_bytes = 32;
constexpr std::size_t file_bytes_max = 1U << 20;
constexpr std::string_view heading =
    "# Keys of encrypted streams: key ID STATE SECRET ALIASES. Keep a copy away from the data.\n";

bool is_hex(char c) noexcept {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

std::string_view take_word(std::string_view& line) {
    const std::size_t from = line.find_first_not_of(" \t");
    line.remove_prefix(std::min(from, line.size()));
    const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
    const std::string_view word = line.substr(0, end);
    line.remove_prefix(end);
    return word;
}

std::expected<Key, std::string> parse_key(std::string_view line) {
    Key key;
    if (const auto word = take_word(line); word != "key") {
        return std::unexpected("expected `key`, found `" + std::string(word.substr(0, 40)) + "`");
    }
    key.id = take_word(line);
    if (!is_key_id(key.id)) {
        return std::unexpected("expected a key id such as `penstock keys make` gives");
    }
    const std::string_view state = take_word(line);
    if (state != "enabled" && state != "disabled") {
        return std::unexpected("expected `enabled` or `disabled` behind the id");
    }
    key.enabled = state == "enabled";
    auto secret = auth::from_hex(take_word(line));
    if (!secret || secret->size() != secret_bytes) {
        return std::unexpected("expected 64 hexadecimal digits behind the state");
    }
    key.secret = std::move(*secret);
    for (std::string_view alias = take_word(line); !alias.empty(); alias = take_word(line)) {
        if (!is_alias(alias)) {
            return std::unexpected("expected aliases such as alias/orders, found `" +
                                   std::string(alias.substr(0, 40)) + "`");
        }
        key.aliases.emplace_back(alias);
    }
    return key;
}

std::string random_id() {
    const std::string digits = auth::to_hex(auth::random_bytes(16));
    return digits.substr(0, 8) + "-" + digits.substr(8, 4) + "-4" + digits.substr(13, 3) + "-8" +
           digits.substr(17, 3) + "-" + digits.substr(20);
}

struct LockedFile {
    Descriptor file;  // its lock ends with it
    bool made = false;
};

std::unexpected<std::string> cannot(const char* what) {
    const int code = errno;
    return std::unexpected(std::string("cannot be ") + what + ": " + std::strerror(code));
}

// Whether `fd` is what stands at `path`.
bool is_at(int fd, const std::string& path) noexcept {
    struct stat opened{};
    struct stat there{};
    return ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &there) == 0 &&
           opened.st_dev == there.st_dev && opened.st_ino == there.st_ino;
}

// The lock is on the file itself, which nobody but its owner may open: so nobody else can hold it.
// Since a change replaces the file, the one that was waited for may not be the one that is there
// when the wait is over. Nothing: there is no file, and none was to be made.
std::expected<std::optional<LockedFile>, std::string> lock_file(const std::string& path,
                                                                bool may_make) {
    constexpr int tries_max = 1000;
    for (int i = 0; i < tries_max; ++i) {
        LockedFile locked{Descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), false};
        if (locked.file.get() < 0 && errno == ENOENT) {
            if (!may_make) {
                return std::nullopt;
            }
            if (auto directory = auth::make_directory_of(path); !directory) {
                return std::unexpected(std::move(directory.error()));
            }
            locked.file =
                Descriptor(::open(path.c_str(), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
            if (locked.file.get() < 0 && errno == EEXIST) {
                continue;  // somebody else made it just now
            }
            locked.made = true;
        }
        if (locked.file.get() < 0) {
            return cannot(locked.made ? "made" : "read");
        }
        while (::flock(locked.file.get(), LOCK_EX) != 0) {
            if (errno != EINTR) {
                return cannot("locked");
            }
        }
        if (is_at(locked.file.get(), path)) {
            return locked;
        }
    }
    return std::unexpected("was replaced " + std::to_string(tries_max) +
                           " times while this command waited for it; see who changes it, and try "
                           "again");
}

}  // namespace

bool is_key_id(std::string_view text) noexcept {
    if (text.size() != 36) {
        return false;
    }
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? text[i] != '-' : !is_hex(text[i])) {
            return false;
        }
    }
    return true;
}

bool is_alias(std::string_view text) noexcept {
    constexpr std::string_view prefix = "alias/";
    if (!text.starts_with(prefix) || text.size() == prefix.size() || text.size() > 256) {
        return false;
    }
    return std::all_of(text.begin(), text.end(), [](char c) {
        return http::is_letter_or_digit(c) || c == ':' || c == '/' || c == '_' || c == '-';
    });
}

std::string fingerprint(const Key& key) {
    return auth::to_hex(
        auth::derive_key(key.secret, key.id, "penstock stream key fingerprint v1").substr(0, 4));
}

std::expected<KeyRing, std::string> KeyRing::parse(std::string_view text) {
    KeyRing ring;
    for (std::size_t number = 1; !text.empty(); ++number) {
        const std::size_t end = std::min(text.find('\n'), text.size());
        std::string_view line = text.substr(0, end);
        text.remove_prefix(std::min(end + 1, text.size()));
        if (line.find_first_not_of(" \t\r") == std::string_view::npos || line.front() == '#') {
            continue;
        }
        const auto at_line = [number](const std::string& why) {
            return std::unexpected("line " + std::to_string(number) + ": " + why);
        };
        if (line.ends_with('\r')) {
            line.remove_suffix(1);
        }
        auto key = parse_key(line);
        if (!key) {
            return at_line(key.error());
        }
        if (ring.find(key->id) != nullptr) {
            return at_line("key " + key->id + " is there twice");
        }
        for (const std::string& alias : key->aliases) {
            if (ring.find_alias(alias) != nullptr ||
                std::count(key->aliases.begin(), key->aliases.end(), alias) > 1) {
                return at_line(alias + " is there twice; an alias names one key");
            }
        }
        if (ring.keys_.size() == keys_max || key->aliases.size() > aliases_max) {
            return at_line("expected at most " + std::to_string(keys_max) + " keys with at most " +
                           std::to_string(aliases_max) + " aliases each");
        }
        ring.keys_.push_back(std::move(*key));
    }
    return ring;
}

std::string KeyRing::to_text() const {
    std::string text(heading);
    for (const Key& key : keys_) {
        text +=
            "key " + key.id + (key.enabled ? " enabled " : " disabled ") + auth::to_hex(key.secret);
        for (const std::string& alias : key.aliases) {
            text += " " + alias;
        }
        text += "\n";
    }
    return text;
}

const Key* KeyRing::find(std::string_view id) const noexcept {
    const auto it =
        std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.id == id; });
    return it == keys_.end() ? nullptr : &*it;
}

const Key* KeyRing::find_alias(std::string_view alias) const noexcept {
    const auto it = std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) {
        return std::find(key.aliases.begin(), key.aliases.end(), alias) != key.aliases.end();
    });
    return it == keys_.end() ? nullptr : &*it;
}

std::expected<Key*, std::string> KeyRing::get(std::string_view id) {
    for (Key& key : keys_) {
        if (key.id == id) {
            return &key;
        }
    }
    return std::unexpected("there is no key " + std::string(id) +
                           "; `penstock keys list` shows those there are");
}

std::expected<std::string, std::string> KeyRing::make_key(std::span<const std::string> aliases) {
    if (keys_.size() == keys_max) {
        return std::unexpected("there are " + std::to_string(keys_max) +
                               " keys already, which is the most there may be");
    }
    KeyRing changed = *this;
    changed.keys_.push_back({random_id(), auth::random_bytes(secret_bytes), true, {}});
    const std::string id = changed.keys_.back().id;
    for (const std::string& alias : aliases) {
        if (auto done = changed.set_alias(alias, id); !done) {
            return std::unexpected(done.error());
        }
    }
    *this = std::move(changed);
    return id;
}

std::expected<void, std::string> KeyRing::set_enabled(std::string_view id, bool enabled) {
    auto key = get(id);
    if (!key) {
        return std::unexpected(key.error());
    }
    (*key)->enabled = enabled;
    return {};
}

std::expected<void, std::string> KeyRing::set_alias(std::string_view alias, std::string_view id) {
    if (!is_alias(alias)) {
        return std::unexpected(
            "expected an alias such as alias/orders (letters, digits and :/_-), "
            "found `" +
            std::string(alias) + "`");
    }
    auto key = get(id);
    if (!key) {
        return std::unexpected(key.error());
    }
    if ((*key)->aliases.size() >= aliases_max) {
        return std::unexpected("key " + std::string(id) + " has " + std::to_string(aliases_max) +
                               " aliases already, which is the most it may have");
    }
    for (Key& other : keys_) {
        std::erase(other.aliases, alias);
    }
    (*key)->aliases.emplace_back(alias);
    return {};
}

std::expected<void, std::string> KeyRing::remove(std::string_view id) {
    auto key = get(id);
    if (!key) {
        return std::unexpected(key.error());
    }
    if ((*key)->enabled) {
        return std::unexpected("key " + std::string(id) +
                               " is enabled; what was sealed with it can never be read again "
                               "without it. Disable it first, and see what fails");
    }
    std::erase_if(keys_, [&](const Key& other) { return other.id == id; });
    return {};
}

std::expected<KeyRing, std::string> read_key_ring(const std::string& path,
                                                  std::span<const std::string> data_directories) {
    const auto text = auth::read_secret_file(path, data_directories, file_bytes_max);
    if (!text) {
        return std::unexpected(
            text.error().fault == auth::KeyFileFault::missing
                ? text.error().why +
                      "; bring it back, or make a first one with `penstock keys make --keys-file " +
                      path + "`"
                : text.error().why);
    }
    return KeyRing::parse(*text);
}

std::expected<void, std::string> write_key_ring(const std::string& path, const KeyRing& ring) {
    return auth::write_secret_file(path, ring.to_text(), auth::IfThere::replace);
}

std::expected<void, std::string> change_key_ring(
    const std::string& path, bool may_make,
    const std::function<std::expected<void, std::string>(KeyRing&)>& edit) {
    const auto locked = lock_file(path, may_make);
    if (!locked) {
        return std::unexpected(locked.error());
    }
    const auto change = [&]() -> std::expected<void, std::string> {
        auto ring = read_key_ring(path, {});
        if (!ring) {
            return std::unexpected(std::move(ring.error()));
        }
        if (auto edited = edit(*ring); !edited) {
            return edited;
        }
        return write_key_ring(path, *ring);
    };
    auto done = change();
    if (!done && *locked && (*locked)->made) {
        ::unlink(path.c_str());
    }
    return done;
}

}  // namespace penstock::keys
