// The datagrams of producer sessions from outside: the header in clear, and what can be said of a
// datagram before anything is decrypted.
//
// Runs on: any thread; pure. Allocates: nothing.
// Guarantees: never reads outside the datagram; each has exactly one verdict (promise 5).
// Format: docs/formats/session.md.
#pragma once

#include <cstdint>
#include <type_traits>

#include "dataplane/drop.h"
#include "storage/base/bytes.h"

namespace penstock::session {

inline constexpr std::uint8_t protocol_version = 1;

enum class DatagramType : std::uint8_t { none, open, retry, accept, data, server };
enum class Direction : std::uint8_t { to_server = 1, to_client = 2 };

struct Header {
    std::uint8_t version = protocol_version;
    DatagramType type = DatagramType::none;
    std::uint8_t flags = 0;
    std::uint8_t key_epoch = 0;
    std::uint16_t lane = 0;
    std::uint16_t reserved = 0;
    std::uint64_t session = 0;  // the PSK's id in open, retry and accept
    std::uint64_t packet_number = 0;
    std::uint32_t map_epoch = 0;
    std::uint32_t sent_at_us = 0;  // of the sender's clock, modulo 2^32
    friend bool operator==(const Header&, const Header&) = default;
};
static_assert(sizeof(Header) == 32);
static_assert(std::has_unique_object_representations_v<Header>);

inline constexpr std::size_t header_bytes = sizeof(Header);
inline constexpr std::size_t tag_bytes = 16;
inline constexpr std::size_t nonce_bytes = 12;
// A header, one block and a tag.
inline constexpr std::size_t datagram_bytes_min = header_bytes + 4 + tag_bytes;
// An Ethernet frame of 9000 bytes less the headers of IPv4 and UDP.
inline constexpr std::size_t datagram_bytes_max = 8972;
// What every path is taken to carry until more is proved.
inline constexpr std::size_t datagram_bytes_first = 1200;
inline constexpr std::size_t clear_bytes_max = datagram_bytes_max - header_bytes - tag_bytes;

// Packet numbers of one key: GCM's bound stays below 2^-54 with jumbo datagrams.
inline constexpr unsigned key_epoch_shift = 28;
inline constexpr std::uint64_t packet_number_max = (std::uint64_t{1} << (key_epoch_shift + 8)) - 1;
[[nodiscard]] constexpr std::uint8_t key_epoch_of(std::uint64_t packet_number) noexcept {
    return static_cast<std::uint8_t>(packet_number >> key_epoch_shift);
}

// Where the parts of OPEN, RETRY and ACCEPT stand.
inline constexpr std::size_t random_bytes = 32;
inline constexpr std::size_t cookie_bytes = 24;
inline constexpr std::size_t open_bytes = datagram_bytes_first;
inline constexpr std::size_t open_clear_bytes =
    open_bytes - header_bytes - random_bytes - cookie_bytes - tag_bytes;
inline constexpr std::size_t retry_bytes = header_bytes + random_bytes + cookie_bytes;

// What a server may be sent, by its outside: `none` for DATA and OPEN that may be looked at
// further. `out` is filled unless the answer is session_truncated.
[[nodiscard]] DropReason check_at_server(Bytes datagram, Header& out) noexcept;

// What a client may be sent. `none` for SERVER, RETRY and ACCEPT.
[[nodiscard]] DropReason check_at_client(Bytes datagram, Header& out) noexcept;

}  // namespace penstock::session
