// Writes the clear text of a datagram, block after block, into memory of the caller's.
//
// Runs on: any thread. Allocates: nothing.
// Guarantees: never writes outside its memory; what does not fit is not written at all.
// Format: docs/formats/session.md, "Blocks".
#pragma once

#include <cstdint>
#include <span>
#include <type_traits>

#include "dataplane/session/blocks.h"
#include "storage/base/bytes.h"

namespace penstock::session {

// One record as a client hands it in.
struct RecordOut {
    Bytes key;
    Bytes data;
    const Hash128* explicit_hash = nullptr;
    std::uint16_t alias = 0;
    bool uses_alias = false;  // no key then
    bool defines_alias = false;
    std::uint16_t skip = 0;  // offsets passed over before it
};
[[nodiscard]] std::size_t encoded_bytes(const RecordOut& record) noexcept;
// `to` has encoded_bytes(record).
void encode_record(const RecordOut& record, std::byte* to) noexcept;

class TextWriter {
public:
    explicit TextWriter(MutableBytes memory) noexcept : memory_(memory) {}
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    [[nodiscard]] std::size_t room() const noexcept { return memory_.size() - size_; }
    [[nodiscard]] Bytes text() const noexcept { return memory_.first(size_); }

    // A block that is one of the structs with its length filled in. False: no room.
    template <typename Block>
    bool add(const Block& block) noexcept {
        static_assert(std::is_trivially_copyable_v<Block>);
        return add_bytes({reinterpret_cast<const std::byte*>(&block), sizeof block});
    }
    bool add_ping(bool wants_size) noexcept;
    bool add_path(BlockType type, const std::array<std::byte, 8>& value) noexcept;
    bool add_ask_map(const Hash128& from) noexcept;
    // PADDING up to this size of the whole text; less than a block's header is left as it is.
    void pad_to(std::size_t size) noexcept;
    // As many of the results, from the front, as fit; 0 adds nothing.
    std::size_t add_results(ResultsBlock head, std::span<const ResultEntry> entries) noexcept;
    // The same of a map; the flag for more is set when not all of them fit.
    std::size_t add_map(MapBlock head, std::span<const MapEntry> entries) noexcept;
    // A piece of a part: `head` without its block's length.
    bool add_fragment(FragmentBlock head, Bytes piece) noexcept;

    // -- A part, record by record: begin, add until false, end
    // ------------------------------------- False: no room for the header and one byte more. Type,
    // length and count are filled in by end_part().
    bool begin_part(const BatchBlock& head) noexcept;
    // False: no room, or the batch has no offset left. The part is as it was then.
    bool add_record(const RecordOut& record) noexcept;
    // Without records there is no part: the header is taken back and the answer is false.
    bool end_part(std::uint8_t flags) noexcept;
    // Offset behind the last record added.
    [[nodiscard]] std::uint16_t next_offset() const noexcept {
        return static_cast<std::uint16_t>(next_offset_);
    }

private:
    bool add_bytes(Bytes bytes) noexcept;

    MutableBytes memory_;
    std::size_t size_ = 0;
    std::size_t part_at_ = 0;
    std::uint32_t part_records_ = 0;
    std::uint32_t next_offset_ = 0;
};

}  // namespace penstock::session
