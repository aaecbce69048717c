// /proc and /sys of a machine, read below one root directory, so that a test can lay out a machine
// that is not there.
//
// Runs on: any thread. What cannot be read is empty, never an error.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <vector>

namespace penstock {

class MachineTree {
public:
    // Paths given to the functions are those of the machine: "/sys/...".
    explicit MachineTree(const std::string& root = "/");

    [[nodiscard]] bool exists(const std::string& path) const;
    [[nodiscard]] std::string text(const std::string& path) const;
    // The first line, without what blank surrounds it.
    [[nodiscard]] std::string line(const std::string& path) const;
    [[nodiscard]] std::uint64_t number(const std::string& path) const;
    // The value of "KEY: value" or "KEY   value" in a file of such lines.
    [[nodiscard]] std::string value(const std::string& path, const std::string& key) const;
    // "0-3,8" as CPUs, in ascending order.
    [[nodiscard]] std::vector<unsigned> cpus(const std::string& path) const;
    // Those that /proc/self/status says this process may run on.
    [[nodiscard]] std::vector<unsigned> allowed_cpus() const;
    // Names in a directory, sorted.
    [[nodiscard]] std::vector<std::string> list(const std::string& path) const;
    [[nodiscard]] bool is_directory(const std::string& path) const;
    // Last part of what a symbolic link points to.
    [[nodiscard]] std::string link_name(const std::string& path) const;
    // The path without symbolic links.
    [[nodiscard]] std::string real(const std::string& path) const;

    // The NUMA node of the device at `path` or of what it hangs on.
    [[nodiscard]] std::optional<unsigned> node_of_device(const std::string& path) const;
    [[nodiscard]] std::optional<unsigned> node_of_cpu(unsigned cpu) const;
    [[nodiscard]] std::set<unsigned> nodes() const;

private:
    std::string root_;
};

// "1,2,5"
[[nodiscard]] std::string cpu_text(const std::vector<unsigned>& cpus);
// What stands in the one and not in the other.
[[nodiscard]] std::vector<unsigned> without(const std::vector<unsigned>& cpus,
                                            const std::vector<unsigned>& others);

}  // namespace penstock
