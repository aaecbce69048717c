// Reads messages of AWS' event streams, written from their description and not from the encoder.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

namespace penstock::kinesis {

struct EventRead {
    std::map<std::string, std::string> headers;
    std::string payload;
};

// CRC-32 of IEEE 802.3, bit by bit.
inline std::uint32_t plain_crc32(std::string_view bytes) {
    std::uint32_t crc = 0xffffffff;
    for (const char c : bytes) {
        crc ^= static_cast<unsigned char>(c);
        for (int bit = 0; bit < 8; ++bit) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320U : 0U);
        }
    }
    return ~crc;
}

inline std::uint32_t read_u32(std::string_view bytes) {
    std::uint32_t value = 0;
    for (const char c : bytes.substr(0, 4)) {
        value = value << 8 | static_cast<unsigned char>(c);
    }
    return value;
}

// Takes the first message off `bytes`; nothing when it is not complete (`bytes` stays) or broken
// (`bytes` becomes empty).
inline std::optional<EventRead> read_event(std::string_view& bytes) {
    const auto broken = [&bytes]() -> std::optional<EventRead> {
        bytes = {};
        return std::nullopt;
    };
    if (bytes.size() < 12) {
        return std::nullopt;
    }
    const std::size_t total = read_u32(bytes);
    const std::size_t headers_size = read_u32(bytes.substr(4));
    if (read_u32(bytes.substr(8)) != plain_crc32(bytes.substr(0, 8)) || total < 16 ||
        headers_size > total - 16) {
        return broken();
    }
    if (bytes.size() < total) {
        return std::nullopt;
    }
    if (read_u32(bytes.substr(total - 4)) != plain_crc32(bytes.substr(0, total - 4))) {
        return broken();
    }
    EventRead event;
    std::string_view headers = bytes.substr(12, headers_size);
    while (!headers.empty()) {
        const std::size_t name = static_cast<unsigned char>(headers[0]);
        if (headers.size() < name + 4 || headers[name + 1] != 7) {
            return broken();
        }
        const std::size_t value =
            static_cast<std::size_t>(static_cast<unsigned char>(headers[name + 2]) << 8 |
                                     static_cast<unsigned char>(headers[name + 3]));
        if (headers.size() < name + 4 + value) {
            return broken();
        }
        event.headers[std::string(headers.substr(1, name))] = headers.substr(name + 4, value);
        headers.remove_prefix(name + 4 + value);
    }
    event.payload = bytes.substr(12 + headers_size, total - 16 - headers_size);
    bytes.remove_prefix(total);
    return event;
}

}  // namespace penstock::kinesis
