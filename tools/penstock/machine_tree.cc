#include "tools/penstock/machine_tree.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace penstock {
namespace {

namespace fs = std::filesystem;

[[nodiscard]] std::string trimmed(const std::string& text) {
    const auto first = text.find_first_not_of(" \t\n");
    if (first == std::string::npos) {
        return "";
    }
    return text.substr(first, text.find_last_not_of(" \t\n") - first + 1);
}

[[nodiscard]] std::optional<unsigned> whole_number(std::string_view text) {
    unsigned number = 0;
    const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (code != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

[[nodiscard]] std::vector<unsigned> cpus_of(const std::string& text) {
    std::vector<unsigned> cpus;
    std::istringstream in(text);
    std::string range;
    while (std::getline(in, range, ',')) {
        const auto dash = range.find('-');
        const auto first = whole_number(std::string_view(range).substr(0, dash));
        const auto last = dash == std::string::npos
                              ? first
                              : whole_number(std::string_view(range).substr(dash + 1));
        // The kernel has no more CPUs than this.
        for (unsigned cpu = first.value_or(1); cpu <= last.value_or(0) && cpu < 8192; ++cpu) {
            cpus.push_back(cpu);
        }
    }
    std::ranges::sort(cpus);
    return cpus;
}

}  // namespace

MachineTree::MachineTree(const std::string& root) {
    std::error_code error;
    const fs::path real = fs::canonical(root, error);
    root_ = error ? root : real.string();
    if (root_ == "/") {
        root_.clear();
    }
}

bool MachineTree::exists(const std::string& path) const {
    std::error_code error;
    return fs::exists(root_ + path, error);
}

bool MachineTree::is_directory(const std::string& path) const {
    std::error_code error;
    return fs::is_directory(root_ + path, error);
}

std::string MachineTree::text(const std::string& path) const {
    std::ifstream in(root_ + path);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
}

std::string MachineTree::line(const std::string& path) const {
    std::ifstream in(root_ + path);
    std::string line;
    std::getline(in, line);
    return trimmed(line);
}

std::uint64_t MachineTree::number(const std::string& path) const {
    const std::string found = line(path);
    std::uint64_t number = 0;
    std::from_chars(found.data(), found.data() + found.size(), number);
    return number;
}

std::string MachineTree::value(const std::string& path, const std::string& key) const {
    std::istringstream in(text(path));
    std::string line;
    while (std::getline(in, line)) {
        if (!line.starts_with(key)) {
            continue;
        }
        const std::string rest = trimmed(line.substr(key.size()));
        if (rest.starts_with(':')) {
            return trimmed(rest.substr(1));
        }
        if (line.size() > key.size() && (line[key.size()] == ' ' || line[key.size()] == '\t')) {
            return rest;
        }
    }
    return "";
}

std::vector<unsigned> MachineTree::cpus(const std::string& path) const {
    return cpus_of(line(path));
}

std::vector<unsigned> MachineTree::allowed_cpus() const {
    return cpus_of(value("/proc/self/status", "Cpus_allowed_list"));
}

std::vector<std::string> MachineTree::list(const std::string& path) const {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator it(root_ + path, error), end; !error && it != end;
         it.increment(error)) {
        names.push_back(it->path().filename().string());
    }
    std::ranges::sort(names);
    return names;
}

std::string MachineTree::link_name(const std::string& path) const {
    std::error_code error;
    return fs::read_symlink(root_ + path, error).filename().string();
}

std::string MachineTree::real(const std::string& path) const {
    std::error_code error;
    const std::string found = fs::canonical(root_ + path, error).string();
    return error || !found.starts_with(root_) ? "" : found.substr(root_.size());
}

std::optional<unsigned> MachineTree::node_of_device(const std::string& path) const {
    for (std::string at = real(path); at.size() > 1; at = at.substr(0, at.rfind('/'))) {
        if (exists(at + "/numa_node")) {
            return whole_number(line(at + "/numa_node"));  // "-1": the firmware does not say
        }
    }
    return std::nullopt;
}

std::set<unsigned> MachineTree::nodes() const {
    std::set<unsigned> nodes;
    for (const std::string& name : list("/sys/devices/system/node")) {
        if (name.starts_with("node")) {
            if (const auto node = whole_number(std::string_view(name).substr(4))) {
                nodes.insert(*node);
            }
        }
    }
    return nodes;
}

std::optional<unsigned> MachineTree::node_of_cpu(unsigned cpu) const {
    for (const unsigned node : nodes()) {
        const auto own = cpus("/sys/devices/system/node/node" + std::to_string(node) + "/cpulist");
        if (std::ranges::binary_search(own, cpu)) {
            return node;
        }
    }
    return std::nullopt;
}

std::string cpu_text(const std::vector<unsigned>& cpus) {
    std::string text;
    for (const unsigned cpu : cpus) {
        text += (text.empty() ? "" : ",") + std::to_string(cpu);
    }
    return text;
}

std::vector<unsigned> without(const std::vector<unsigned>& cpus,
                              const std::vector<unsigned>& others) {
    std::vector<unsigned> rest;
    for (const unsigned cpu : cpus) {
        if (std::ranges::find(others, cpu) == others.end()) {
            rest.push_back(cpu);
        }
    }
    return rest;
}

}  // namespace penstock
