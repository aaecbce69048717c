// Which units of a group's container files are free, the same on every replica.
//
// Runs on: the lane that owns the group.
// Allocates: when a container is added.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace penstock {

struct UnitRun {
    std::uint32_t container = 0;
    std::uint32_t unit = 0;
    std::uint32_t units = 0;
};

class SegmentSpace {
public:
    explicit SegmentSpace(std::uint32_t units_per_container) noexcept
        : units_per_container_(units_per_container) {}

    void add_container(std::uint32_t container, std::uint32_t units);
    [[nodiscard]] std::uint32_t units_per_container() const noexcept {
        return units_per_container_;
    }
    [[nodiscard]] bool has_container(std::uint32_t container) const noexcept;
    [[nodiscard]] std::uint32_t container_count() const noexcept {
        return static_cast<std::uint32_t>(containers_.size());
    }
    // Units of a container, taken or not.
    [[nodiscard]] std::uint32_t units_of(std::uint32_t container) const noexcept {
        return static_cast<std::uint32_t>(containers_[container].taken.size());
    }
    // A run of free units, the lowest that fits; nothing if no container has one. Marks nothing.
    [[nodiscard]] std::optional<UnitRun> find(std::uint32_t units) noexcept;
    // Marks units taken. False if any of them is not free or does not exist.
    [[nodiscard]] bool mark_taken(const UnitRun& run) noexcept;
    void give(const UnitRun& run) noexcept;
    [[nodiscard]] std::uint64_t free_units() const noexcept { return free_; }
    [[nodiscard]] std::uint64_t total_units() const noexcept { return total_; }

private:
    struct Container {
        std::vector<bool> taken;
        std::uint32_t free = 0;
        std::uint32_t first_free = 0;  // no free unit before it
    };
    std::uint32_t units_per_container_;
    std::vector<Container> containers_;
    std::uint64_t free_ = 0;
    std::uint64_t total_ = 0;
};

}  // namespace penstock
