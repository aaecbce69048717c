// Keys of a session, derived from its secret: HKDF-SHA256 (RFC 5869).
//
// Runs on: control threads, and clients; a lane is handed what comes out.
// Allocates: what OpenSSL does. Guarantees: the same key never for two of session, owner epoch,
// node, lane, direction and key epoch.
// Format: docs/formats/session.md, "Keys".
#pragma once

#include <array>
#include <cstdint>

#include "dataplane/session/datagram.h"
#include "storage/base/bytes.h"

namespace penstock::session {

using Secret = std::array<std::byte, 32>;  // of a session, a PSK, or HKDF's own
using Random = std::array<std::byte, random_bytes>;

struct KeyMaterial {
    std::array<std::byte, 16> key{};  // AES-128
    std::array<std::byte, nonce_bytes> salt{};
    friend bool operator==(const KeyMaterial&, const KeyMaterial&) = default;
};

// Whose lane keys they are.
struct KeyContext {
    std::uint64_t session = 0;
    std::uint64_t owner_epoch = 0;
    std::uint64_t node = 0;
};

// Once per session; lane_key() takes it.
[[nodiscard]] Secret session_prk(const Secret& secret) noexcept;
[[nodiscard]] KeyMaterial lane_key(const Secret& prk, const KeyContext& context, std::uint16_t lane,
                                   Direction direction, std::uint8_t key_epoch) noexcept;

[[nodiscard]] KeyMaterial open_key(const Secret& psk, std::uint64_t psk_id,
                                   const Random& client) noexcept;
[[nodiscard]] KeyMaterial accept_key(const Secret& psk, std::uint64_t psk_id, const Random& client,
                                     const Random& server) noexcept;
[[nodiscard]] Secret psk_session_secret(const Secret& psk, std::uint64_t psk_id,
                                        const Random& client, const Random& server) noexcept;

}  // namespace penstock::session
