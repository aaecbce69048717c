// Sealing: how the contents of one record, its partition key and its data, are encrypted and
// authenticated while they are copied into a frame. What the keys are and who has them is the
// control plane's business; here is only what a record carries of it.
//
// Runs on: a sealer on one lane; everything else is pure.
// Allocates: nothing.
// Format: docs/formats/frame.md, "A sealed record".
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "storage/base/bytes.h"

namespace penstock {

// What a sealed record has between its header and its contents.
struct RecordSeal {
    std::uint32_t generation = 0;  // of its stream's data keys, from 1
    std::uint8_t nonce[12] = {};   // never used twice with one data key
    std::uint8_t tag[16] = {};     // AES-256-GCM's
};
static_assert(sizeof(RecordSeal) == 32);
static_assert(std::has_unique_object_representations_v<RecordSeal>);

// Where a record stands, as its reader finds it out without opening it. It is authenticated with
// the contents, so that what was written for one place opens in no other.
struct RecordPlace {
    std::uint64_t shard = 0;
    std::uint64_t sequence = 0;
    std::int64_t arrival_ms = 0;
};

// What is authenticated, followed by the record's explicit hash and producer mark as they stand in
// the frame.
struct SealContext {
    RecordPlace place;
    std::uint32_t generation = 0;
    std::uint32_t data_bytes = 0;
    std::uint16_t key_bytes = 0;
    std::uint8_t flags = 0;  // the record's
    std::uint8_t version = 1;
    std::uint32_t reserved = 0;
};
static_assert(sizeof(SealContext) == 40);
static_assert(std::has_unique_object_representations_v<SealContext>);

// One record to be sealed.
struct SealInput {
    RecordPlace place;
    std::uint8_t flags = 0;
    Bytes extras;  // explicit hash and producer mark, as they stand in the frame
    Bytes partition_key;
    Bytes data;
};

// Seals the records that one lane appends to one stream.
class RecordSealer {
public:
    virtual ~RecordSealer() = default;
    // Writes the sealed key and, behind it, the sealed data at `to`: as many bytes as they have in
    // clear. A sealer that cannot do this aborts: clear text must not go out in its place.
    virtual void seal(const SealInput& input, RecordSeal& seal, std::byte* to) noexcept = 0;
};

}  // namespace penstock
