// A door: one UDP port, or one for each lane, whose datagrams become records of one stream, for
// devices that cannot be changed. Best effort: every datagram refused has a counted reason.
//
// Runs on: parsing on a control thread; a Door on its lane's thread alone, one per lane.
// Allocates: when made, never afterwards.
// Format: docs/formats/door.md.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dataplane/drop.h"
#include "dataplane/wire/address.h"
#include "dataplane/wire/packet.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"

namespace penstock {

enum class DoorKey : std::uint8_t { source, fixed };
enum class DoorFraming : std::uint8_t { datagram, lines };
// per_lane: lane i has the UDP port `port` + i, so that a device can deliver datagrams to the lane
// they are for. One door all the same.
enum class DoorPorts : std::uint8_t { one, per_lane };

struct DoorSpec {
    std::uint16_t port = 0;
    std::string stream;
    DoorKey key = DoorKey::source;
    std::string fixed_key;  // with DoorKey::fixed
    DoorFraming framing = DoorFraming::datagram;
    DoorPorts ports = DoorPorts::one;
    std::vector<IpPrefix> from;           // empty: everyone
    std::uint64_t quota_bytes_per_s = 0;  // 0: no quota

    // How many UDP ports it has with so many lanes, from `port` upwards.
    [[nodiscard]] unsigned udp_port_count(unsigned lane_count) const noexcept {
        return ports == DoorPorts::per_lane ? lane_count : 1;
    }
    // Whether a datagram to this port of the door is meant for the lane.
    [[nodiscard]] bool is_for(unsigned lane, std::uint16_t udp_port) const noexcept {
        return ports == DoorPorts::one || udp_port == port + lane;
    }
    friend bool operator==(const DoorSpec&, const DoorSpec&) = default;
};

// `udp:PORT=STREAM[,key=source|fixed:TEXT][,framing=datagram|lines][,ports=one|per-lane]
// [,from=PREFIX][,quota=BYTES/s]`.
// On failure `why` names the part, what was found and what is allowed.
[[nodiscard]] Result<DoorSpec> parse_door(std::string_view text, std::string& why);
// With so many lanes: Errc::already_exists, with `why`, when two doors share a UDP port,
// Errc::invalid_argument when a door's ports go beyond the last there is.
[[nodiscard]] Status check_doors(std::span<const DoorSpec> doors, unsigned lane_count,
                                 std::string& why);
// The spec as the parser reads it, every default spelled out.
[[nodiscard]] std::string to_text(const DoorSpec& spec);

// One record of a door. The views live until the next admit() of the same door and while the packet
// is held, whichever ends first.
struct DoorRecord {
    Bytes key;
    Bytes data;
    Hash128 hash;  // of the key: chooses the shard
};

// Bytes per second over all lanes of one door, with a burst of one second (at least one largest
// datagram). Time is passed in. Runs on: any lane.
class DoorQuota {
public:
    explicit DoorQuota(std::uint64_t bytes_per_s) noexcept;
    // Takes `bytes` out, or nothing when they don't fit now.
    [[nodiscard]] bool take(std::uint64_t bytes, std::uint64_t now_ns) noexcept;

private:
    double ns_per_byte_;
    std::uint64_t burst_ns_;
    // The moment at which everything taken so far is paid for.
    std::atomic<std::uint64_t> paid_until_ns_{0};
};

// Of one door on one lane.
struct DoorCounters {
    Counter packets;  // datagrams that arrived for the door, taken or not
    Counter bytes;    // their payload
    Counter records;  // records made; what becomes of them the lane counts into `drops`
    DropCounters drops;
};

// Walks the records of one datagram.
class DoorCursor {
public:
    DoorCursor(Bytes payload, const DoorRecord& prototype, DoorFraming framing) noexcept
        : rest_(payload), prototype_(prototype), framing_(framing) {}
    // False when there is no further record.
    [[nodiscard]] bool next(DoorRecord& out) noexcept;

private:
    Bytes rest_;
    DoorRecord prototype_;
    DoorFraming framing_;
};

class Door {
public:
    // `quota` is shared by the door's lanes, null for none; it must outlive the door.
    Door(const DoorSpec& spec, DoorQuota* quota);
    Door(const Door&) = delete;
    Door& operator=(const Door&) = delete;

    // Checks one decoded datagram against allow-list and quota and sets `prototype` to its key and
    // hash. Counts packets, bytes and, unless the answer is `none`, the drop.
    [[nodiscard]] DropReason admit(const Decoded& datagram, std::uint64_t now_ns,
                                   DoorRecord& prototype) noexcept;

    // admit(), then `emit(const DoorRecord&)` for every record, counted. A datagram without any
    // record (empty, or only empty lines) is dropped as empty_datagram.
    template <typename Emit>
    DropReason take(const Decoded& datagram, std::uint64_t now_ns, Emit&& emit) noexcept {
        DoorRecord record;
        if (const DropReason reason = admit(datagram, now_ns, record); reason != DropReason::none) {
            return reason;
        }
        DoorCursor cursor(datagram.payload, record, spec_.framing);
        std::uint64_t count = 0;
        while (cursor.next(record)) {
            emit(static_cast<const DoorRecord&>(record));
            ++count;
        }
        counters_.records.add(count);
        if (count == 0) {
            counters_.drops.add(DropReason::empty_datagram);
            return DropReason::empty_datagram;
        }
        return DropReason::none;
    }

    [[nodiscard]] const DoorSpec& spec() const noexcept { return spec_; }
    [[nodiscard]] DoorCounters& counters() noexcept { return counters_; }
    [[nodiscard]] const DoorCounters& counters() const noexcept { return counters_; }

private:
    // Text and hash of recently seen source addresses, direct-mapped.
    struct CachedSource {
        IpAddress address;
        Hash128 hash;
        std::array<char, ip_text_max> text{};
        std::uint8_t text_size = 0;
    };
    static constexpr std::size_t cached_sources = 256;

    [[nodiscard]] bool allowed(const IpAddress& source) const noexcept;
    [[nodiscard]] const CachedSource& source_key(const IpAddress& source) noexcept;

    DoorSpec spec_;
    DoorQuota* quota_;
    Hash128 fixed_hash_;
    std::unique_ptr<std::array<CachedSource, cached_sources>> sources_;
    DoorCounters counters_;
};

// All doors of one lane, found by UDP port. Made before the lane runs.
class DoorSet {
public:
    // `quotas[i]` belongs to `specs[i]`; entries may be null. check_doors() must have passed.
    DoorSet(std::span<const DoorSpec> specs, std::span<const std::unique_ptr<DoorQuota>> quotas,
            unsigned lane_count = 1);

    static constexpr std::size_t npos = ~std::size_t{0};
    // Index into the specs the set was made of, or npos. Every port of a door leads to it.
    [[nodiscard]] std::size_t find(std::uint16_t udp_port) const noexcept {
        const std::uint16_t slot = by_port_[udp_port];
        return slot == 0 ? npos : slot - 1U;
    }
    [[nodiscard]] std::size_t size() const noexcept { return doors_.size(); }
    [[nodiscard]] Door& operator[](std::size_t index) noexcept { return *doors_[index]; }
    [[nodiscard]] const Door& operator[](std::size_t index) const noexcept {
        return *doors_[index];
    }

private:
    std::vector<std::unique_ptr<Door>> doors_;
    std::vector<std::uint16_t> by_port_;  // index + 1, 0 for none
};

// One quota per spec (null where a spec has none), to be shared by the lanes' DoorSets.
[[nodiscard]] std::vector<std::unique_ptr<DoorQuota>> make_quotas(std::span<const DoorSpec> specs);

}  // namespace penstock
