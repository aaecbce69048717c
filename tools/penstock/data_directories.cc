#include "tools/penstock/data_directories.h"

namespace penstock {

std::expected<std::array<std::string, replica_count>, std::string> expand_data_directories(
    const std::vector<std::string>& given) {
    std::array<std::string, replica_count> directories;
    for (const std::string& directory : given) {
        if (directory.empty()) {
            return std::unexpected<std::string>(
                "--data: expected a directory, found an empty name");
        }
    }
    if (given.size() != 1 && given.size() != replica_count) {
        return std::unexpected("--data: expected one directory or three, found " +
                               std::to_string(given.size()) +
                               ": give one that holds all replicas, or one per drive");
    }
    for (unsigned i = 0; i < replica_count; ++i) {
        std::string path = given.size() == 1 ? given[0] : given[i];
        while (path.size() > 1 && path.ends_with('/')) {
            path.pop_back();
        }
        if (given.size() == 1) {
            path += (path == "/" ? "replica-" : "/replica-") + std::to_string(i);
        }
        directories[i] = std::move(path);
    }
    return directories;
}

}  // namespace penstock
