#include "storage/segment/space.h"

#include <algorithm>

#include "storage/base/check.h"

namespace penstock {

void SegmentSpace::add_container(std::uint32_t container, std::uint32_t units) {
    if (container >= containers_.size()) {
        containers_.resize(container + 1);
    }
    Container& added = containers_[container];
    PENSTOCK_CHECK(added.taken.empty());
    added.taken.assign(units, false);
    added.free = units;
    free_ += units;
    total_ += units;
}

bool SegmentSpace::has_container(std::uint32_t container) const noexcept {
    return container < containers_.size() && !containers_[container].taken.empty();
}

std::optional<UnitRun> SegmentSpace::find(std::uint32_t units) noexcept {
    for (std::uint32_t number = 0; number < containers_.size(); ++number) {
        Container& container = containers_[number];
        if (container.free < units) {
            continue;
        }
        const auto end = static_cast<std::uint32_t>(container.taken.size());
        std::uint32_t run = 0;
        bool seen_free = false;
        for (std::uint32_t unit = container.first_free; unit < end; ++unit) {
            if (container.taken[unit]) {
                run = 0;
                continue;
            }
            if (!seen_free) {
                seen_free = true;
                container.first_free = unit;
            }
            if (++run == units) {
                return UnitRun{number, unit + 1 - units, units};
            }
        }
    }
    return std::nullopt;
}

bool SegmentSpace::mark_taken(const UnitRun& run) noexcept {
    if (!has_container(run.container)) {
        return false;
    }
    Container& container = containers_[run.container];
    if (run.units == 0 || run.unit + std::uint64_t{run.units} > container.taken.size()) {
        return false;
    }
    for (std::uint32_t unit = run.unit; unit < run.unit + run.units; ++unit) {
        if (container.taken[unit]) {
            return false;
        }
    }
    for (std::uint32_t unit = run.unit; unit < run.unit + run.units; ++unit) {
        container.taken[unit] = true;
    }
    container.free -= run.units;
    free_ -= run.units;
    return true;
}

void SegmentSpace::give(const UnitRun& run) noexcept {
    PENSTOCK_CHECK(has_container(run.container));
    Container& container = containers_[run.container];
    for (std::uint32_t unit = run.unit; unit < run.unit + run.units; ++unit) {
        PENSTOCK_CHECK(container.taken[unit]);
        container.taken[unit] = false;
    }
    container.free += run.units;
    container.first_free = std::min(container.first_free, run.unit);
    free_ += run.units;
}

}  // namespace penstock
