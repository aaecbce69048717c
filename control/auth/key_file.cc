#include "control/auth/key_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

#include "control/auth/crypto.h"
#include "control/auth/secret_file.h"
#include "storage/base/descriptor.h"

namespace penstock::auth {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t key_bytes = 32;

std::unexpected<KeyFileProblem> refused(std::string why) {
    return std::unexpected(KeyFileProblem{KeyFileFault::refused, std::move(why)});
}

bool is_within(const fs::path& path, const fs::path& directory) {
    auto at = path.begin();
    for (const fs::path& part : directory) {
        if (part.empty()) {
            continue;  // after a slash at the end
        }
        if (at == path.end() || *at != part) {
            return false;
        }
        ++at;
    }
    return true;
}

// Whoever copies or loses a data directory must not copy or lose the key with it.
std::string place_problem(const std::string& path, std::span<const std::string> data_directories) {
    std::error_code error;
    const fs::path file = fs::weakly_canonical(fs::absolute(path, error), error);
    for (const std::string& directory : data_directories) {
        if (is_within(file, fs::weakly_canonical(fs::absolute(directory, error), error))) {
            return "found within the data directory " + directory +
                   "; expected a file outside the data directories, on another drive if possible";
        }
    }
    return {};
}

}  // namespace

std::expected<std::string, KeyFileProblem> read_secret_file(
    const std::string& path, std::span<const std::string> data_directories, std::size_t bytes_max) {
    if (std::string problem = place_problem(path, data_directories); !problem.empty()) {
        return refused(std::move(problem));
    }
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) {
        const int code = errno;
        return std::unexpected(
            KeyFileProblem{code == ENOENT ? KeyFileFault::missing : KeyFileFault::refused,
                           std::string("cannot be read: ") + std::strerror(code)});
    }
    struct stat info{};
    if (::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode)) {
        return refused("expected a regular file");
    }
    if ((info.st_mode & 077) != 0) {
        return refused("others than its owner may use it; run: chmod 600 " + path);
    }
    std::string text(bytes_max + 1, '\0');
    std::size_t size = 0;
    while (size < text.size()) {
        const ssize_t got = ::read(file.get(), text.data() + size, text.size() - size);
        if (got < 0 && errno != EINTR) {
            return refused(std::string("cannot be read: ") + std::strerror(errno));
        }
        if (got == 0) {
            break;
        }
        size += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    }
    if (size > bytes_max) {
        return refused("is larger than " + std::to_string(bytes_max) +
                       " bytes, which no such file is");
    }
    text.resize(size);
    return text;
}

std::expected<std::string, KeyFileProblem> read_key_file(
    const std::string& path, std::span<const std::string> data_directories) {
    // Room for a little more than there may be, so that what is wrong is told as such.
    const auto text = read_secret_file(path, data_directories, 4096);
    if (!text) {
        return std::unexpected(text.error());
    }
    std::string_view digits = *text;
    if (digits.ends_with('\n')) {
        digits.remove_suffix(1);
    }
    const auto key = from_hex(digits);
    if (!key || key->size() != key_bytes) {
        return refused(
            "expected 64 hexadecimal digits and nothing else; bring back the file that the "
            "set's credentials were made with (for a new set, name one that is not there yet)");
    }
    return *key;
}

std::string key_file_problem(const std::string& path,
                             std::span<const std::string> data_directories) {
    const auto key = read_key_file(path, data_directories);
    if (key) {
        return {};
    }
    if (key.error().fault != KeyFileFault::missing) {
        return key.error().why;
    }
    // make_key_file() makes one directory at most.
    fs::path place = fs::path(path).parent_path();
    if (!place.empty() && ::access(place.c_str(), F_OK) != 0 && errno == ENOENT) {
        place = place.parent_path();
    }
    const std::string directory = place.empty() ? "." : place.string();
    if (::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) != 0) {
        return "there is no such file, and none can be made: " + directory + ": " +
               std::strerror(errno) + "; expected a directory that the node may write to";
    }
    return {};
}

std::expected<std::string, KeyFileProblem> make_key_file(
    const std::string& path, std::span<const std::string> data_directories) {
    if (std::string problem = place_problem(path, data_directories); !problem.empty()) {
        return refused(std::move(problem));
    }
    const std::string key = random_bytes(key_bytes);
    if (auto written = write_secret_file(path, to_hex(key) + "\n", IfThere::refuse); !written) {
        return refused(std::move(written.error()));
    }
    return key;
}

}  // namespace penstock::auth
