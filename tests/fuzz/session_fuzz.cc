// What comes to a session port, from outside and from an authenticated client: headers, texts, and
// the records of parts that were put together of pieces. What is checked besides memory safety:
// views stay inside the input, offsets rise, and a text that is taken is written the same again.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <span>
#include <vector>

#include "dataplane/session/decode.h"
#include "dataplane/session/encode.h"
#include "storage/log/append.h"

namespace {

using namespace penstock;
using namespace penstock::session;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

bool within(Bytes inner, Bytes outer) {
    return inner.empty() || (inner.data() >= outer.data() &&
                             inner.data() + inner.size() <= outer.data() + outer.size());
}

void check_records(std::span<const RecordView> records, const BatchBlock& part, Bytes input) {
    std::uint32_t next = part.first_offset;
    for (const RecordView& record : records) {
        require(within(record.key, input) && within(record.data, input));
        require(record.offset >= next && record.offset < batch_records_max);
        require(record.uses_alias() ? record.key.empty() : is_partition_key(record.key));
        next = record.offset + 1U;
    }
}

// The part's block as an encoder makes it.
void check_round_trip(const PartView& part, Bytes block) {
    std::vector<std::byte> memory(block.size() + 1);
    TextWriter writer(memory);
    require(writer.begin_part(part.header));
    for (const RecordView& record : part.records) {
        RecordOut out{record.key, record.data};
        out.explicit_hash = record.has_explicit_hash() ? &record.explicit_hash : nullptr;
        out.alias = record.alias;
        out.uses_alias = record.uses_alias();
        out.defines_alias = record.defines_alias();
        out.skip = static_cast<std::uint16_t>(record.offset - writer.next_offset());
        require(writer.add_record(out));
    }
    require(writer.end_part(part.header.block.flags));
    require(writer.next_offset() == part.end_offset);
    require(std::ranges::equal(writer.text(), block));
}

void check_text(Bytes text) {
    static ClientText out;
    BlockType fault = BlockType::none;
    if (!decode_client(text, out, fault)) {
        return;
    }
    BlockWalker walker(text);
    BlockHeader header;
    Bytes block;
    std::size_t parts = 0;
    while (walker.next(header, block)) {
        if (header.type != BlockType::batch && header.type != BlockType::fragment) {
            continue;
        }
        const PartView& part = out.parts[parts++];
        if (part.is_fragment) {
            require(within(part.piece, text) && !part.piece.empty());
            require(part.fragment.offset + part.piece.size() <= part.fragment.total_bytes);
        } else {
            require(part.records.size() == part.header.record_count);
            check_records(part.records, part.header, text);
            check_round_trip(part, block);
        }
    }
    require(walker.intact() && parts == out.parts.size());
}

void check_part(Bytes bytes) {
    static std::vector<RecordView> records(batch_records_max);
    if (bytes.size() < sizeof(BatchBlock)) {
        return;
    }
    auto head = load<BatchBlock>(bytes.data());
    head.record_count = static_cast<std::uint16_t>(1 + head.record_count % batch_records_max);
    head.first_offset %= batch_records_max;
    std::uint16_t end = 0;
    const Bytes rest = bytes.subspan(sizeof head);
    if (decode_records(rest, head, records, end)) {
        check_records(std::span(records).first(head.record_count), head, rest);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // In a block of exactly its size, so that one byte too many is noticed.
    const auto copy = std::make_unique<std::byte[]>(size);
    if (size != 0) {
        std::memcpy(copy.get(), data, size);
    }
    const Bytes input{copy.get(), size};
    Header header;
    require(check_at_server(input, header) < DropReason::count_);
    require(check_at_client(input, header) < DropReason::count_);
    if (size <= clear_bytes_max) {
        check_text(input);
    }
    check_part(input);
    return 0;
}
