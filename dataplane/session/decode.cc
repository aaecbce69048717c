#include "dataplane/session/decode.h"

#include <algorithm>

#include "storage/log/append.h"

namespace penstock::session {
namespace {

constexpr std::size_t key_characters_max = 256;

std::uint8_t byte_at(Bytes bytes, std::size_t at) noexcept {
    return static_cast<std::uint8_t>(bytes[at]);
}

// Length of the UTF-8 character that begins there; 0 if none does. RFC 3629, without surrogates
// and overlong forms.
std::size_t character_bytes(Bytes text, std::size_t at) noexcept {
    const std::uint8_t lead = byte_at(text, at);
    if (lead < 0x80) {
        return 1;
    }
    const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
    if (lead < 0xC2 || lead > 0xF4 || at + length > text.size()) {
        return 0;
    }
    const std::uint8_t second = byte_at(text, at + 1);
    const std::uint8_t low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const std::uint8_t high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    if (second < low || second > high) {
        return 0;
    }
    for (std::size_t i = 2; i < length; ++i) {
        if ((byte_at(text, at + i) & 0xC0U) != 0x80) {
            return 0;
        }
    }
    return length;
}

bool is_ascii(Bytes text) noexcept {
    std::size_t at = 0;
    std::uint64_t seen = 0;
    for (; at + 8 <= text.size(); at += 8) {
        seen |= load<std::uint64_t>(text.data() + at);
    }
    for (; at < text.size(); ++at) {
        seen |= byte_at(text, at);
    }
    return (seen & 0x8080'8080'8080'8080U) == 0;
}

// Takes values from the front of bytes; after one that isn't there whole nothing more comes.
class Taker {
public:
    explicit Taker(Bytes bytes) noexcept : rest_(bytes) {}
    template <typename T>
    [[nodiscard]] bool take(T& out) noexcept {
        if (rest_.size() < sizeof(T)) {
            return false;
        }
        out = load<T>(rest_.data());
        rest_ = rest_.subspan(sizeof(T));
        return true;
    }
    [[nodiscard]] bool take(std::size_t size, Bytes& out) noexcept {
        if (rest_.size() < size) {
            return false;
        }
        out = rest_.first(size);
        rest_ = rest_.subspan(size);
        return true;
    }
    [[nodiscard]] Bytes rest() const noexcept { return rest_; }

private:
    Bytes rest_;
};

// One record; `next_offset` is where it stands unless it skips, and afterwards the one behind it.
bool take_record(Taker& from, std::uint32_t& next_offset, RecordView& out) noexcept {
    RecordHeader header;
    if (!from.take(header) || header.reserved != 0 ||
        header.flags >
            (record_explicit_hash | record_uses_alias | record_defines_alias | record_skips)) {
        return false;
    }
    out.flags = header.flags;
    out.alias = 0;
    out.key = {};
    const bool uses = out.uses_alias();
    if (uses && out.defines_alias()) {
        return false;
    }
    if (out.has_explicit_hash() && !from.take(out.explicit_hash)) {
        return false;
    }
    if (uses) {
        out.alias = header.key_bytes;
    } else if (header.key_bytes == 0 || header.key_bytes > max_key_bytes) {
        return false;
    }
    if (out.defines_alias() && !from.take(out.alias)) {
        return false;
    }
    if ((header.flags & record_skips) != 0) {
        std::uint16_t skip = 0;
        if (!from.take(skip) || skip == 0 || skip >= batch_records_max) {
            return false;
        }
        next_offset += skip;
    }
    if (next_offset >= batch_records_max) {
        return false;
    }
    out.offset = static_cast<std::uint16_t>(next_offset++);
    return (uses || (from.take(header.key_bytes, out.key) && is_partition_key(out.key))) &&
           from.take(header.data_bytes, out.data);
}

bool is_part_header(const BatchBlock& part) noexcept {
    const bool starts = (part.block.flags & part_starts_flow) != 0;
    return (part.block.flags & ~(part_starts_flow | part_is_last)) == 0 && part.reserved == 0 &&
           part.record_count != 0 && part.record_count <= batch_records_max &&
           part.first_offset < batch_records_max && part.shard != 0 && part.batch != 0 &&
           part.batch <= batch_number_max && part.follows < part.batch &&
           (part.follows != 0 || starts);
}

bool is_fragment(const FragmentBlock& block, std::size_t piece_bytes) noexcept {
    const std::uint64_t end = std::uint64_t{block.offset} + piece_bytes;
    return block.reserved == 0 && block.reserved_too == 0 &&
           block.fragment_bytes >= fragment_bytes_min &&
           block.fragment_bytes <= fragment_bytes_max && block.offset % block.fragment_bytes == 0 &&
           piece_bytes != 0 && block.total_bytes <= max_record_bytes + fragmented_extra_bytes &&
           (end == block.total_bytes
                ? piece_bytes <= block.fragment_bytes
                : end < block.total_bytes && piece_bytes == block.fragment_bytes);
}

}  // namespace

bool is_partition_key(Bytes key) noexcept {
    if (key.empty() || key.size() > max_key_bytes) {
        return false;
    }
    if (is_ascii(key)) {
        return key.size() <= key_characters_max;
    }
    std::size_t characters = 0;
    for (std::size_t at = 0; at < key.size(); ++characters) {
        const std::size_t length = character_bytes(key, at);
        if (length == 0) {
            return false;
        }
        at += length;
    }
    return characters <= key_characters_max;
}

bool BlockWalker::next(BlockHeader& header, Bytes& block) noexcept {
    if (rest_.size() < sizeof(BlockHeader)) {
        return false;
    }
    header = load<BlockHeader>(rest_.data());
    if (header.length < sizeof(BlockHeader) || header.length > rest_.size()) {
        return false;
    }
    block = rest_.first(header.length);
    rest_ = rest_.subspan(header.length);
    return true;
}

bool decode_records(Bytes bytes, const BatchBlock& header, std::span<RecordView> records,
                    std::uint16_t& end_offset) noexcept {
    if (records.size() < header.record_count) {
        return false;
    }
    Taker from(bytes);
    std::uint32_t next_offset = header.first_offset;
    for (RecordView& record : records.first(header.record_count)) {
        if (!take_record(from, next_offset, record)) {
            return false;
        }
    }
    end_offset = static_cast<std::uint16_t>(next_offset);
    return from.rest().empty();
}

ClientText::ClientText()
    : part_store_(std::make_unique<PartView[]>(parts_max)),
      record_store_(std::make_unique<RecordView[]>(records_max)) {}

// One datagram's decoding: how much of the stores is used.
struct ClientDecoder {
    ClientText& out;
    std::size_t parts = 0;
    std::size_t records = 0;
    std::size_t subscribes = 0;
    std::size_t pulls = 0;

    [[nodiscard]] bool add_batch(Bytes block) noexcept {
        if (block.size() < sizeof(BatchBlock) || parts == ClientText::parts_max) {
            return false;
        }
        PartView& part = out.part_store_[parts];
        part.header = load<BatchBlock>(block.data());
        part.is_fragment = false;
        part.piece = {};
        const auto room =
            std::span(out.record_store_.get(), ClientText::records_max).subspan(records);
        if (!is_part_header(part.header) || !decode_records(block.subspan(sizeof(BatchBlock)),
                                                            part.header, room, part.end_offset)) {
            return false;
        }
        part.records = room.first(part.header.record_count);
        records += part.header.record_count;
        ++parts;
        return true;
    }

    [[nodiscard]] bool add_fragment(Bytes block) noexcept {
        if (block.size() <= sizeof(FragmentBlock) || parts == ClientText::parts_max) {
            return false;
        }
        PartView& part = out.part_store_[parts++];
        part.fragment = load<FragmentBlock>(block.data());
        part.header = part.fragment.part;
        part.is_fragment = true;
        part.records = {};
        part.end_offset = 0;
        part.piece = block.subspan(sizeof(FragmentBlock));
        return is_part_header(part.header) && is_fragment(part.fragment, part.piece.size());
    }

    [[nodiscard]] bool add_path_response(Bytes block) noexcept {
        if (block.size() != sizeof(PathBlock)) {
            return false;
        }
        out.path_response = load<PathBlock>(block.data()).value;
        out.has_path_response = true;
        return true;
    }

    [[nodiscard]] bool add_ask_map(Bytes block) noexcept {
        if (block.size() != ask_map_bytes) {
            return false;
        }
        out.map_from = load<Hash128>(block.data() + sizeof(BlockHeader));
        out.wants_map = true;
        return true;
    }

    [[nodiscard]] bool add_close(Bytes block) noexcept {
        if (block.size() != sizeof(CloseBlock)) {
            return false;
        }
        const auto close = load<CloseBlock>(block.data());
        out.close_code = close.code;
        out.closes = true;
        return close.reserved == 0;
    }

    [[nodiscard]] bool add_subscribe(Bytes block) noexcept {
        if (block.size() != sizeof(SubscribeBlock) ||
            subscribes == ClientText::consumer_blocks_max) {
            return false;
        }
        SubscribeBlock& subscribe = out.subscribe_store_[subscribes++];
        subscribe = load<SubscribeBlock>(block.data());
        const auto is_zero = [](std::uint8_t byte) { return byte == 0; };
        return subscribe.shard != 0 && subscribe.start != SubscribeStart::none &&
               subscribe.start <= SubscribeStart::at_time &&
               std::ranges::all_of(subscribe.reserved, is_zero) &&
               std::ranges::all_of(subscribe.reserved_too, is_zero);
    }

    [[nodiscard]] bool add_pull(Bytes block) noexcept {
        if (block.size() != sizeof(PullBlock) || pulls == ClientText::consumer_blocks_max) {
            return false;
        }
        PullBlock& pull = out.pull_store_[pulls++];
        pull = load<PullBlock>(block.data());
        return pull.reserved == 0;
    }

    [[nodiscard]] bool add_report(Bytes block) noexcept {
        if (block.size() != sizeof(ReportBlock)) {
            return false;
        }
        out.report = load<ReportBlock>(block.data());
        out.has_report = true;
        return out.report.reserved == 0;
    }

    [[nodiscard]] bool add_ping(Bytes block, std::uint8_t flags) noexcept {
        out.wants_report = true;
        out.wants_size |= (flags & ping_wants_size) != 0;
        return block.size() == sizeof(BlockHeader);
    }

    // Of the flags of a block none is unknown.
    [[nodiscard]] static bool knows_flags(const BlockHeader& header) noexcept {
        switch (header.type) {
            case BlockType::batch:
            case BlockType::fragment:
                return true;  // looked at with the rest
            case BlockType::ping:
                return header.flags <= ping_wants_size;
            case BlockType::pull:
                return header.flags <= pull_again;
            default:
                return header.flags == 0;
        }
    }

    [[nodiscard]] bool add(const BlockHeader& header, Bytes block) noexcept {
        if (!knows_flags(header)) {
            return false;
        }
        out.wants_answer |= header.type != BlockType::padding && header.type != BlockType::report &&
                            header.type != BlockType::path_response;
        switch (header.type) {
            case BlockType::padding:
                return true;
            case BlockType::batch:
                return add_batch(block);
            case BlockType::fragment:
                return add_fragment(block);
            case BlockType::ping:
                return add_ping(block, header.flags);
            case BlockType::path_response:
                return add_path_response(block);
            case BlockType::ask_map:
                return add_ask_map(block);
            case BlockType::close:
                return add_close(block);
            case BlockType::subscribe:
                return add_subscribe(block);
            case BlockType::pull:
                return add_pull(block);
            case BlockType::report:
                return add_report(block);
            default:
                return false;
        }
    }

    [[nodiscard]] bool decode(Bytes text, BlockType& fault_block) noexcept {
        out.wants_report = out.wants_size = out.wants_map = out.has_path_response = false;
        out.closes = out.has_report = out.wants_answer = false;
        BlockWalker walker(text);
        BlockHeader header;
        Bytes block;
        while (walker.next(header, block)) {
            if (!add(header, block)) {
                fault_block = header.type;
                return false;
            }
        }
        out.parts = {out.part_store_.get(), parts};
        out.subscribes = std::span(out.subscribe_store_).first(subscribes);
        out.pulls = std::span(out.pull_store_).first(pulls);
        fault_block = BlockType::none;
        return walker.intact() && !text.empty();
    }
};

bool decode_client(Bytes text, ClientText& out, BlockType& fault_block) noexcept {
    return ClientDecoder{out}.decode(text, fault_block);
}

}  // namespace penstock::session
