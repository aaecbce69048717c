#include "storage/format/block.h"

#include "storage/base/crc32c.h"

namespace penstock {

namespace {

template <typename Header>
void seal(Header& header, std::byte* block) noexcept {
    header.header_crc = 0;
    store(block, header);
    header.header_crc = crc32c({block + 8, sizeof(Header) - 8});
    store(block, header);
}

template <typename Header>
BlockFault check(Bytes bytes, std::uint32_t magic, std::uint64_t set_id, std::uint32_t group,
                 Header& out) noexcept {
    if (bytes.size() < sizeof(Header)) {
        return BlockFault::truncated;
    }
    // Either proves that a block was written here; a header has both.
    const bool named = load<std::uint32_t>(bytes.data()) == magic;
    const bool sound =
        crc32c({bytes.data() + 8, sizeof(Header) - 8}) == load<std::uint32_t>(bytes.data() + 4);
    if (!named || !sound) {
        return named || sound ? BlockFault::header_damaged : BlockFault::not_a_block;
    }
    out = load<Header>(bytes.data());
    if (out.version != block_version || out.refuse_flags != 0) {
        return BlockFault::unknown_version;
    }
    if (out.set_id != set_id || out.group != group) {
        return BlockFault::foreign;
    }
    return BlockFault::none;
}

}  // namespace

const char* describe(BlockFault fault) noexcept {
    switch (fault) {
        case BlockFault::none:
            return "intact";
        case BlockFault::not_a_block:
            return "not a block";
        case BlockFault::header_damaged:
            return "header damaged";
        case BlockFault::payload_damaged:
            return "payload damaged";
        case BlockFault::foreign:
            return "of another set or group";
        case BlockFault::unknown_version:
            return "unknown format version";
        case BlockFault::malformed:
            return "malformed";
        case BlockFault::truncated:
            return "truncated";
    }
    return "unknown";
}

void seal_header(JournalBlockHeader& header, std::byte* block) noexcept {
    seal(header, block);
}
void seal_header(StateBlockHeader& header, std::byte* block) noexcept {
    seal(header, block);
}

BlockFault check_block(Bytes bytes, std::uint64_t set_id, std::uint32_t group,
                       JournalBlockHeader& out) noexcept {
    const BlockFault fault = check(bytes, journal_magic, set_id, group, out);
    if (fault == BlockFault::none &&
        (out.used_bytes < sizeof(JournalBlockHeader) || out.used_bytes > journal_block_bytes_max ||
         out.number == 0)) {
        return BlockFault::malformed;
    }
    return fault;
}

BlockFault check_block(Bytes bytes, std::uint64_t set_id, std::uint32_t group,
                       StateBlockHeader& out) noexcept {
    const BlockFault fault = check(bytes, state_magic, set_id, group, out);
    if (fault != BlockFault::none) {
        return fault;
    }
    if (out.kind == StateKind::none || out.kind > StateKind::delta) {
        return BlockFault::malformed;
    }
    if (bytes.size() < sizeof(StateBlockHeader) + std::uint64_t{out.payload_bytes}) {
        return BlockFault::truncated;
    }
    if (crc32c(bytes.subspan(sizeof(StateBlockHeader), out.payload_bytes)) != out.payload_crc) {
        return BlockFault::payload_damaged;
    }
    return BlockFault::none;
}

}  // namespace penstock
