#include "tools/penstock/nearest.h"

#include <algorithm>
#include <vector>

namespace penstock {

namespace {

constexpr std::size_t mistakes_max = 3;

}  // namespace

std::size_t edit_distance(std::string_view a, std::string_view b) {
    std::vector<std::size_t> row(b.size() + 1);
    for (std::size_t j = 0; j <= b.size(); ++j) {
        row[j] = j;
    }
    for (std::size_t i = 0; i < a.size(); ++i) {
        std::size_t diagonal = row[0];
        row[0] = i + 1;
        for (std::size_t j = 0; j < b.size(); ++j) {
            const std::size_t change = diagonal + (a[i] == b[j] ? 0 : 1);
            diagonal = row[j + 1];
            row[j + 1] = std::min({row[j] + 1, row[j + 1] + 1, change});
        }
    }
    return row[b.size()];
}

std::string_view nearest(std::string_view word, std::span<const std::string_view> known) {
    std::string_view found;
    std::size_t best = mistakes_max + 1;
    for (const std::string_view one : known) {
        // A short word is near to everything that is short.
        if (const std::size_t d = edit_distance(word, one); d < best && d < one.size()) {
            best = d;
            found = one;
        }
    }
    return found;
}

}  // namespace penstock
