// The vectors of tests/golden/session-v1.json, and bytes from their hexadecimal.
#pragma once

#include <nlohmann/json.hpp>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/base/bytes.h"

namespace penstock::session::test {

using Buffer = std::vector<std::byte>;

inline Buffer from_hex(const std::string& text) {
    Buffer out;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2) {
        out.push_back(static_cast<std::byte>(std::stoul(text.substr(i, 2), nullptr, 16)));
    }
    return out;
}

template <std::size_t size>
std::array<std::byte, size> array_of(const std::string& text) {
    const Buffer bytes = from_hex(text);
    std::array<std::byte, size> out{};
    if (bytes.size() != size) {
        throw std::runtime_error("expected " + std::to_string(size) + " bytes, found " + text);
    }
    std::copy(bytes.begin(), bytes.end(), out.begin());
    return out;
}

inline std::string to_hex(Bytes bytes) {
    static const char* const digits = "0123456789abcdef";
    std::string out;
    for (const std::byte byte : bytes) {
        out += digits[static_cast<unsigned>(byte) >> 4];
        out += digits[static_cast<unsigned>(byte) & 15U];
    }
    return out;
}

inline std::uint64_t number_of(const std::string& hex) {
    return std::stoull(hex, nullptr, 16);
}

inline nlohmann::json vectors() {
    const char* const root = std::getenv("PENSTOCK_SOURCE_ROOT");
    if (root == nullptr) {
        throw std::runtime_error("PENSTOCK_SOURCE_ROOT must name the source tree");
    }
    return nlohmann::json::parse(
        std::ifstream(std::string(root) + "/tests/golden/session-v1.json"));
}

// The datagram of that name.
inline nlohmann::json vector_of(const std::string& name) {
    const auto all = vectors();
    for (const auto& datagram : all.at("datagrams")) {
        if (datagram.at("name").get<std::string>() == name) {
            return datagram;
        }
    }
    throw std::runtime_error("no vector is called " + name);
}

}  // namespace penstock::session::test
