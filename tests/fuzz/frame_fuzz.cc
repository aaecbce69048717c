// Feeds arbitrary bytes to everything that reads the log's own formats: frames and their records,
// journal blocks, state blocks. Each input is also tried with its checksums made right, so that what
// lies behind them is reached. What is checked besides memory safety: an accepted frame lies inside
// the input, and so do the records it is walked for.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "storage/base/crc32c.h"
#include "storage/format/block.h"
#include "storage/format/frame.h"

namespace {

using namespace penstock;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

bool within(Bytes inner, Bytes outer) {
    return inner.empty() || (inner.data() >= outer.data() &&
                             inner.data() + inner.size() <= outer.data() + outer.size());
}

void check_one_frame(Bytes input) {
    FrameHeader header;
    static_cast<void>(check_frame_header(input, 0, header));
    if (check_frame(input, 0, header) != FrameFault::none) {
        return;
    }
    require(header.total_bytes() <= align_up(input.size(), frame_alignment));
    const Bytes payload = input.subspan(sizeof(FrameHeader), header.payload_bytes);
    const bool sound = records_add_up(header, payload);
    RecordWalker walker(header, payload);
    RecordView record;
    std::uint64_t count = 0;
    while (walker.next(record)) {
        require(within(record.data, payload));
        ++count;
    }
    const std::uint64_t expected = header.kind == FrameKind::records ? header.record_count : 0;
    require(!sound || (!walker.malformed() && count == expected));
}

// The same bytes with the magic and both checksums as a writer would have put them.
void check_mended_frame(Bytes input) {
    if (input.size() < sizeof(FrameHeader)) {
        return;
    }
    std::vector<std::byte> bytes(input.begin(), input.end());
    FrameHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.magic = frame_magic;
    header.version = frame_version;
    header.payload_bytes =
        static_cast<std::uint32_t>(std::min<std::size_t>(header.payload_bytes, bytes.size() - sizeof header));
    header.payload_crc = crc32c(Bytes(bytes).subspan(sizeof header, header.payload_bytes));
    seal_header(header, bytes.data());
    check_one_frame(bytes);
}

template <typename Header>
void check_blocks(Bytes input, std::uint32_t magic) {
    Header header;
    static_cast<void>(check_block(input, 0, 0, header));
    if (input.size() < sizeof(Header)) {
        return;
    }
    std::vector<std::byte> bytes(input.begin(), input.end());
    std::memcpy(&header, bytes.data(), sizeof header);
    header.magic = magic;
    header.version = block_version;
    if constexpr (requires { header.payload_crc; }) {
        header.payload_bytes = static_cast<std::uint32_t>(
            std::min<std::size_t>(header.payload_bytes, bytes.size() - sizeof header));
        header.payload_crc = crc32c(Bytes(bytes).subspan(sizeof header, header.payload_bytes));
    }
    seal_header(header, bytes.data());
    static_cast<void>(check_block(bytes, header.set_id, header.group, header));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // A copy of its own, so that one byte too far is seen, and aligned as frames are.
    const std::vector<std::byte> copy(reinterpret_cast<const std::byte*>(data),
                                      reinterpret_cast<const std::byte*>(data) + size);
    check_one_frame(copy);
    check_mended_frame(copy);
    check_blocks<JournalBlockHeader>(copy, journal_magic);
    check_blocks<StateBlockHeader>(copy, state_magic);
    return 0;
}
