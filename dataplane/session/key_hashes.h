// Hashes of the partition keys that came lately: devices send the same ones again and again, and an
// MD5 costs more than decrypting the record.
//
// Runs on: the lane. Allocates: when made.
// Guarantees: a hash is that of its key, whatever comes; keys made to push each other out cost an
// MD5 each, as they would without this.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <memory>

#include "dataplane/session/slot_index.h"
#include "storage/base/bytes.h"
#include "storage/base/ids.h"

namespace penstock::session {

class KeyHashes {
public:
    static constexpr std::size_t key_bytes_max = 47;
    static constexpr std::size_t places = 4096;

    // Null if it isn't known. `place` is where set() keeps it.
    [[nodiscard]] const Hash128* find(Bytes key, std::uint32_t& place) const noexcept {
        place = place_of(key);
        const Entry& entry = entries_[place];
        return entry.size == key.size() && key.size() <= key_bytes_max &&
                       std::memcmp(entry.key.data(), key.data(), key.size()) == 0
                   ? &entry.hash
                   : nullptr;
    }
    void set(std::uint32_t place, Bytes key, const Hash128& hash) noexcept {
        if (key.empty() || key.size() > key_bytes_max) {
            return;
        }
        Entry& entry = entries_[place];
        std::memcpy(entry.key.data(), key.data(), key.size());
        entry.size = static_cast<std::uint8_t>(key.size());
        entry.hash = hash;
    }

private:
    struct alignas(64) Entry {
        Hash128 hash;
        std::uint8_t size = 0;  // 0: none
        std::array<std::byte, key_bytes_max> key{};
    };
    static_assert(sizeof(Entry) == 64);

    // Of every byte of keys that are kept.
    [[nodiscard]] static std::uint32_t place_of(Bytes key) noexcept {
        std::uint64_t mixed = key.size();
        std::size_t at = 0;
        for (; at + 8 <= key.size(); at += 8) {
            mixed = spread(mixed ^ load<std::uint64_t>(key.data() + at));
        }
        std::uint64_t rest = 0;
        std::memcpy(&rest, key.data() + at, key.size() - at);
        return static_cast<std::uint32_t>(spread(mixed ^ rest) >> 20) % places;
    }

    std::unique_ptr<Entry[]> entries_ = std::make_unique<Entry[]>(places);
};

}  // namespace penstock::session
