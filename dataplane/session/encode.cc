#include "dataplane/session/encode.h"

#include <algorithm>
#include <cstring>

namespace penstock::session {
namespace {

constexpr std::size_t block_bytes_max = UINT16_MAX;

void put(std::byte*& to, Bytes bytes) noexcept {
    if (!bytes.empty()) {
        std::memcpy(to, bytes.data(), bytes.size());
        to += bytes.size();
    }
}
template <typename T>
void put(std::byte*& to, const T& value) noexcept {
    store(to, value);
    to += sizeof(T);
}

}  // namespace

std::size_t encoded_bytes(const RecordOut& record) noexcept {
    return sizeof(RecordHeader) + (record.explicit_hash != nullptr ? sizeof(Hash128) : 0) +
           (record.defines_alias ? 2 : 0) + (record.skip != 0 ? 2 : 0) +
           (record.uses_alias ? 0 : record.key.size()) + record.data.size();
}

void encode_record(const RecordOut& record, std::byte* to) noexcept {
    RecordHeader header;
    header.flags = static_cast<std::uint8_t>(
        (record.explicit_hash != nullptr ? record_explicit_hash : 0) |
        (record.uses_alias ? record_uses_alias : 0) |
        (record.defines_alias ? record_defines_alias : 0) | (record.skip != 0 ? record_skips : 0));
    header.key_bytes =
        record.uses_alias ? record.alias : static_cast<std::uint16_t>(record.key.size());
    header.data_bytes = static_cast<std::uint32_t>(record.data.size());
    put(to, header);
    if (record.explicit_hash != nullptr) {
        put(to, *record.explicit_hash);
    }
    if (record.defines_alias) {
        put(to, record.alias);
    }
    if (record.skip != 0) {
        put(to, record.skip);
    }
    if (!record.uses_alias) {
        put(to, record.key);
    }
    put(to, record.data);
}

bool TextWriter::add_bytes(Bytes bytes) noexcept {
    if (room() < bytes.size()) {
        return false;
    }
    std::byte* to = memory_.data() + size_;
    put(to, bytes);
    size_ += bytes.size();
    return true;
}

bool TextWriter::add_ping(bool wants_size) noexcept {
    return add(BlockHeader{BlockType::ping, wants_size ? ping_wants_size : std::uint8_t{0},
                           sizeof(BlockHeader)});
}

bool TextWriter::add_path(BlockType type, const std::array<std::byte, 8>& value) noexcept {
    return add(PathBlock{{type, 0, sizeof(PathBlock)}, value});
}

bool TextWriter::add_ask_map(const Hash128& from) noexcept {
    if (room() < ask_map_bytes) {
        return false;
    }
    return add(BlockHeader{BlockType::ask_map, 0, ask_map_bytes}) && add(from);
}

void TextWriter::pad_to(std::size_t size) noexcept {
    size = std::min(size, memory_.size());
    if (size < size_ + sizeof(BlockHeader)) {
        return;
    }
    const std::size_t length = std::min(size - size_, block_bytes_max);
    store(memory_.data() + size_,
          BlockHeader{BlockType::padding, 0, static_cast<std::uint16_t>(length)});
    std::memset(memory_.data() + size_ + sizeof(BlockHeader), 0, length - sizeof(BlockHeader));
    size_ += length;
}

std::size_t TextWriter::add_results(ResultsBlock head,
                                    std::span<const ResultEntry> entries) noexcept {
    if (room() < sizeof head + sizeof(ResultEntry)) {
        return 0;
    }
    const std::size_t count =
        std::min({entries.size(), (room() - sizeof head) / sizeof(ResultEntry),
                  (block_bytes_max - sizeof head) / sizeof(ResultEntry)});
    if (count == 0) {
        return 0;
    }
    head.block = {BlockType::results, 0,
                  static_cast<std::uint16_t>(sizeof head + count * sizeof(ResultEntry))};
    add(head);
    add_bytes(std::as_bytes(entries.first(count)));
    return count;
}

std::size_t TextWriter::add_map(MapBlock head, std::span<const MapEntry> entries) noexcept {
    if (room() < sizeof head + sizeof(MapEntry)) {
        return 0;
    }
    const std::size_t count = std::min({entries.size(), (room() - sizeof head) / sizeof(MapEntry),
                                        (block_bytes_max - sizeof head) / sizeof(MapEntry)});
    if (count == 0) {
        return 0;
    }
    const std::uint8_t more = head.block.flags | (count < entries.size() ? map_has_more : 0);
    head.block = {BlockType::map, more,
                  static_cast<std::uint16_t>(sizeof head + count * sizeof(MapEntry))};
    add(head);
    add_bytes(std::as_bytes(entries.first(count)));
    return count;
}

bool TextWriter::add_fragment(FragmentBlock head, Bytes piece) noexcept {
    const std::size_t length = sizeof head + piece.size();
    if (room() < length || length > block_bytes_max) {
        return false;
    }
    head.part.block.type = BlockType::fragment;
    head.part.block.length = static_cast<std::uint16_t>(length);
    return add(head) && add_bytes(piece);
}

bool TextWriter::begin_part(const BatchBlock& head) noexcept {
    part_at_ = size_;
    part_records_ = 0;
    next_offset_ = head.first_offset;
    return room() > sizeof head && add(head);
}

bool TextWriter::add_record(const RecordOut& record) noexcept {
    const std::size_t bytes = encoded_bytes(record);
    if (room() < bytes || size_ - part_at_ + bytes > block_bytes_max ||
        next_offset_ + record.skip >= batch_records_max) {
        return false;
    }
    encode_record(record, memory_.data() + size_);
    size_ += bytes;
    ++part_records_;
    next_offset_ += record.skip + 1U;
    return true;
}

bool TextWriter::end_part(std::uint8_t flags) noexcept {
    if (part_records_ == 0) {
        size_ = part_at_;
        return false;
    }
    auto head = load<BatchBlock>(memory_.data() + part_at_);
    head.block = {BlockType::batch, flags, static_cast<std::uint16_t>(size_ - part_at_)};
    head.record_count = static_cast<std::uint16_t>(part_records_);
    store(memory_.data() + part_at_, head);
    return true;
}

}  // namespace penstock::session
