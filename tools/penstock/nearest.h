// What somebody may have meant who typed a word that is not known.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

namespace penstock {

// How many letters have to be put in, left out or changed to make one of the other.
[[nodiscard]] std::size_t edit_distance(std::string_view a, std::string_view b);
// The nearest of `known`; empty where none is near enough to be a typing mistake.
[[nodiscard]] std::string_view nearest(std::string_view word,
                                       std::span<const std::string_view> known);

}  // namespace penstock
