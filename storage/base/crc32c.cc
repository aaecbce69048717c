#include "storage/base/crc32c.h"

#include <isa-l.h>

namespace penstock {

// ISA-L neither inverts on entry nor on exit, and takes a non-const pointer it does not write to.
std::uint32_t crc32c_extend(std::uint32_t crc, Bytes more) noexcept {
    if (more.empty()) {
        return crc;
    }
    auto* bytes = reinterpret_cast<unsigned char*>(const_cast<std::byte*>(more.data()));
    return ~crc32_iscsi(bytes, static_cast<int>(more.size()), ~crc);
}

std::uint32_t crc32c(Bytes bytes) noexcept {
    return crc32c_extend(0, bytes);
}

}  // namespace penstock
