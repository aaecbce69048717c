#include "dataplane/door/door.h"

#include <algorithm>
#include <cstring>

#include "dataplane/wire/partition_hash.h"
#include "storage/base/check.h"

namespace penstock {

namespace {
// A quota smaller than this would never let a full datagram pass.
constexpr std::uint64_t datagram_bytes_max = 65535;
}  // namespace

DoorQuota::DoorQuota(std::uint64_t bytes_per_s) noexcept
    : ns_per_byte_(1e9 / static_cast<double>(bytes_per_s)),
      burst_ns_(static_cast<std::uint64_t>(
          ns_per_byte_ * static_cast<double>(std::max(bytes_per_s, datagram_bytes_max)))) {
    PENSTOCK_CHECK(bytes_per_s != 0);
}

// A token bucket kept as one number, so that the lanes of a door share it with one exchange: the
// bucket is empty when the bytes taken are paid for one burst ahead of now.
bool DoorQuota::take(std::uint64_t bytes, std::uint64_t now_ns) noexcept {
    const auto cost = static_cast<std::uint64_t>(ns_per_byte_ * static_cast<double>(bytes));
    std::uint64_t paid_until = paid_until_ns_.load(std::memory_order_relaxed);
    for (;;) {
        const std::uint64_t next = std::max(paid_until, now_ns) + cost;
        if (next > now_ns + burst_ns_) {
            return false;
        }
        if (paid_until_ns_.compare_exchange_weak(paid_until, next, std::memory_order_relaxed)) {
            return true;
        }
    }
}

bool DoorCursor::next(DoorRecord& out) noexcept {
    while (!rest_.empty()) {
        Bytes data = rest_;
        if (framing_ == DoorFraming::datagram) {
            rest_ = {};
        } else {
            const void* const feed = std::memchr(rest_.data(), '\n', rest_.size());
            if (feed == nullptr) {
                rest_ = {};
            } else {
                data = rest_.first(
                    static_cast<std::size_t>(static_cast<const std::byte*>(feed) - rest_.data()));
                rest_ = rest_.subspan(data.size() + 1);
            }
            if (!data.empty() && data.back() == std::byte{'\r'}) {
                data = data.first(data.size() - 1);
            }
            if (data.empty()) {
                continue;
            }
        }
        out = prototype_;
        out.data = data;
        return true;
    }
    return false;
}

Door::Door(const DoorSpec& spec, DoorQuota* quota) : spec_(spec), quota_(quota) {
    if (spec_.key == DoorKey::fixed) {
        fixed_hash_ = partition_hash(as_bytes(spec_.fixed_key));
    } else {
        sources_ = std::make_unique<std::array<CachedSource, cached_sources>>();
    }
}

bool Door::allowed(const IpAddress& source) const noexcept {
    return spec_.from.empty() ||
           std::any_of(spec_.from.begin(), spec_.from.end(),
                       [&](const IpPrefix& prefix) { return prefix.contains(source); });
}

const Door::CachedSource& Door::source_key(const IpAddress& source) noexcept {
    // Fibonacci hashing of the address's words; the top eight bits choose the slot.
    const auto high = load<std::uint64_t>(source.bytes.data());
    const auto low = load<std::uint64_t>(source.bytes.data() + 8);
    const std::uint64_t mixed = (high ^ (low * 0xC2B2AE3D27D4EB4FU)) * 0x9E3779B97F4A7C15U;
    static_assert(cached_sources == 256);
    CachedSource& slot = (*sources_)[mixed >> 56];
    if (slot.address != source || slot.text_size == 0) {
        slot.address = source;
        slot.text_size = static_cast<std::uint8_t>(format_address(source, slot.text));
        slot.hash = partition_hash(as_bytes({slot.text.data(), slot.text_size}));
    }
    return slot;
}

DropReason Door::admit(const Decoded& datagram, std::uint64_t now_ns,
                       DoorRecord& prototype) noexcept {
    const auto refuse = [this](DropReason reason) noexcept {
        counters_.drops.add(reason);
        return reason;
    };
    counters_.packets.add();
    counters_.bytes.add(datagram.payload.size());
    if (!allowed(datagram.source)) {
        return refuse(DropReason::source_not_allowed);
    }
    if (datagram.payload.empty()) {
        return refuse(DropReason::empty_datagram);
    }
    if (quota_ != nullptr && !quota_->take(datagram.payload.size(), now_ns)) {
        return refuse(DropReason::door_quota);
    }
    if (spec_.key == DoorKey::fixed) {
        prototype = {as_bytes(spec_.fixed_key), {}, fixed_hash_};
    } else {
        const CachedSource& source = source_key(datagram.source);
        prototype = {as_bytes({source.text.data(), source.text_size}), {}, source.hash};
    }
    return DropReason::none;
}

DoorSet::DoorSet(std::span<const DoorSpec> specs,
                 std::span<const std::unique_ptr<DoorQuota>> quotas, unsigned lane_count)
    : by_port_(65536, 0) {
    PENSTOCK_CHECK(quotas.size() == specs.size());
    for (std::size_t i = 0; i < specs.size(); ++i) {
        doors_.push_back(std::make_unique<Door>(specs[i], quotas[i].get()));
        for (unsigned at = 0; at < specs[i].udp_port_count(lane_count); ++at) {
            PENSTOCK_CHECK(specs[i].port + at < by_port_.size());
            PENSTOCK_CHECK(by_port_[specs[i].port + at] == 0);
            by_port_[specs[i].port + at] = static_cast<std::uint16_t>(i + 1);
        }
    }
}

std::vector<std::unique_ptr<DoorQuota>> make_quotas(std::span<const DoorSpec> specs) {
    std::vector<std::unique_ptr<DoorQuota>> quotas;
    for (const DoorSpec& spec : specs) {
        quotas.push_back(spec.quota_bytes_per_s == 0
                             ? nullptr
                             : std::make_unique<DoorQuota>(spec.quota_bytes_per_s));
    }
    return quotas;
}

}  // namespace penstock
