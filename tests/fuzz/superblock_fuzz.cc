// Feeds arbitrary bytes to the superblock's reader, as they are and with magic, version and checksum
// made right. I-2: what decodes is byte for byte what an encoder would have written.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "storage/base/crc32c.h"
#include "storage/replica/superblock.h"

namespace {

using namespace penstock;

void check_slot(Bytes slot) {
    const auto decoded = decode_superblock(slot);
    if (!decoded) {
        return;
    }
    if (decoded->must_be_read_only()) {
        return;  // what a newer version wrote in the reserved bytes is not kept
    }
    SuperblockSlot again;
    encode_superblock(*decoded, again);
    if (again.size() > slot.size() || std::memcmp(again.data(), slot.data(), again.size()) != 0) {
        std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
    check_slot(copy);
    static_cast<void>(choose_superblock(copy));
    // A whole slot with the magic, the version and the checksum as an encoder would have put them.
    SuperblockSlot slot{};
    std::memcpy(slot.data(), copy.data(), std::min(copy.size(), slot.size()));
    std::memcpy(slot.data(), "PNSTKSB1\1\0\0\0\0\0\0\0", 16);
    const std::uint32_t checksum = crc32c(slot);
    std::memcpy(slot.data() + 12, &checksum, sizeof checksum);
    check_slot(slot);
    return 0;
}
