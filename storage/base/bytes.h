// Little-endian loads and stores, spans of bytes, alignment arithmetic.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

namespace penstock {

static_assert(std::endian::native == std::endian::little, "formats are little-endian structs");

using Bytes = std::span<const std::byte>;
using MutableBytes = std::span<std::byte>;

// Unit of O_DIRECT I/O; every file offset and length we write is a multiple.
inline constexpr std::uint64_t block_bytes = 4096;

template <typename T>
    requires std::is_trivially_copyable_v<T>
[[nodiscard]] inline T load(const void* from) noexcept {
    T value;
    std::memcpy(&value, from, sizeof(T));
    return value;
}

template <typename T>
    requires std::is_trivially_copyable_v<T>
inline void store(void* to, const T& value) noexcept {
    std::memcpy(to, &value, sizeof(T));
}

[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t unit) noexcept {
    return (value + unit - 1) / unit * unit;
}
[[nodiscard]] constexpr std::uint64_t align_down(std::uint64_t value, std::uint64_t unit) noexcept {
    return value / unit * unit;
}

[[nodiscard]] inline Bytes as_bytes(std::string_view text) noexcept {
    return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}
[[nodiscard]] inline std::string_view as_text(Bytes bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace penstock
