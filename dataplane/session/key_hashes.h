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
    static constexpr std::size_t sets = 1024;
    // Of a set. Keys as many as a quarter of all places then rarely push each other out.
    static constexpr std::size_t ways = 4;

    // Where a key belongs, and how it is told apart there.
    struct Place {
        std::uint32_t set = 0;
        std::uint32_t tag = 0;  // never 0
    };

    // Null if it isn't known. `place` is for set().
    [[nodiscard]] const Hash128* find(Bytes key, Place& place) const noexcept {
        place = place_of(key);
        const Tags& tags = tags_[place.set];
        for (std::size_t way = 0; way < ways; ++way) {
            if (tags[way] == place.tag) {
                const Entry& entry = entries_[place.set * ways + way];
                if (entry.size == key.size() &&
                    std::memcmp(entry.key.data(), key.data(), key.size()) == 0) {
                    return &entry.hash;
                }
            }
        }
        return nullptr;
    }
    void set(const Place& place, Bytes key, const Hash128& hash) noexcept {
        if (key.empty() || key.size() > key_bytes_max) {
            return;
        }
        Tags& tags = tags_[place.set];
        std::size_t way = 0;
        while (way < ways && tags[way] != 0) {
            ++way;
        }
        if (way == ways) {
            way = turn_++ % ways;
        }
        tags[way] = place.tag;
        Entry& entry = entries_[place.set * ways + way];
        std::memcpy(entry.key.data(), key.data(), key.size());
        entry.size = static_cast<std::uint8_t>(key.size());
        entry.hash = hash;
    }

private:
    using Tags = std::array<std::uint32_t, ways>;
    struct alignas(64) Entry {
        Hash128 hash;
        std::uint8_t size = 0;  // 0: none
        std::array<std::byte, key_bytes_max> key{};
    };
    static_assert(sizeof(Entry) == 64);

    [[nodiscard]] static Place place_of(Bytes key) noexcept {
        std::uint64_t mixed = key.size();
        std::size_t at = 0;
        for (; at + 8 <= key.size(); at += 8) {
            mixed = spread(mixed ^ load<std::uint64_t>(key.data() + at));
        }
        std::uint64_t rest = 0;
        if (key.size() >= 8) {
            // What is left and a part of what was mixed already: one load.
            rest = load<std::uint64_t>(key.data() + key.size() - 8);
        } else {
            std::memcpy(&rest, key.data(), key.size());
        }
        mixed = spread(mixed ^ rest);
        return {static_cast<std::uint32_t>(mixed % sets),
                static_cast<std::uint32_t>(mixed >> 32) | 1U};
    }

    std::unique_ptr<Tags[]> tags_ = std::make_unique<Tags[]>(sets);
    std::unique_ptr<Entry[]> entries_ = std::make_unique<Entry[]>(sets * ways);
    std::uint32_t turn_ = 0;
};

}  // namespace penstock::session
