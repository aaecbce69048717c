// Whatever stands in a superblock file: it is decoded without a bad access, and what is accepted is
// encoded to the same bytes again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/replica/superblock.h"

namespace {

using namespace penstock;

// docs/formats/superblock.md; the checksum covers the slot with this field as zero.
constexpr std::size_t checksum_offset = 12;

void slot(Bytes bytes) {
    const auto read = decode_superblock(bytes);
    if (!read) {
        return;
    }
    SuperblockSlot again{};
    encode_superblock(*read, again);
    const auto same = decode_superblock(again);
    PENSTOCK_CHECK(same && *same == *read);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input{reinterpret_cast<const std::byte*>(data), size};
    slot(input);
    (void)choose_superblock(input);
    // A sound superblock with the input laid over it and its checksum mended, so that the fields
    // behind the checksum are looked at too.
    SuperblockSlot mended{};
    Superblock sound;
    encode_superblock(sound, mended);
    const std::size_t count = std::min(size, mended.size() - 16);
    std::copy_n(input.begin(), count, mended.begin() + 16);
    store(mended.data() + checksum_offset, std::uint32_t{0});
    store(mended.data() + checksum_offset, crc32c(mended));
    slot(mended);
    return 0;
}
