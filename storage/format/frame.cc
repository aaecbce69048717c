#include "storage/format/frame.h"

#include "storage/base/crc32c.h"

namespace penstock {

namespace {

constexpr std::size_t crc_from = 8;  // header_crc covers everything behind itself

std::uint32_t header_crc_of(const std::byte* frame) noexcept {
    return crc32c({frame + crc_from, sizeof(FrameHeader) - crc_from});
}

}  // namespace

const char* describe(FrameFault fault) noexcept {
    switch (fault) {
        case FrameFault::none:
            return "intact";
        case FrameFault::not_a_frame:
            return "not a frame";
        case FrameFault::truncated:
            return "truncated";
        case FrameFault::header_damaged:
            return "header damaged";
        case FrameFault::payload_damaged:
            return "payload damaged";
        case FrameFault::unknown_version:
            return "unknown format version";
        case FrameFault::foreign:
            return "of another replica set";
        case FrameFault::malformed:
            return "malformed";
    }
    return "unknown";
}

void seal_header(FrameHeader& header, std::byte* frame) noexcept {
    header.header_crc = 0;
    store(frame, header);
    header.header_crc = header_crc_of(frame);
    store(frame, header);
}

FrameFault check_frame_header(Bytes bytes, std::uint64_t set_id, FrameHeader& out) noexcept {
    if (bytes.size() < sizeof(std::uint32_t)) {
        return FrameFault::truncated;
    }
    const bool magic = load<std::uint32_t>(bytes.data()) == frame_magic;
    if (bytes.size() < sizeof(FrameHeader)) {
        return magic ? FrameFault::truncated : FrameFault::not_a_frame;
    }
    // Either proves that a frame was written here; a header has both.
    const bool sound = header_crc_of(bytes.data()) == load<std::uint32_t>(bytes.data() + 4);
    if (!magic || !sound) {
        return magic || sound ? FrameFault::header_damaged : FrameFault::not_a_frame;
    }
    out = load<FrameHeader>(bytes.data());
    if (out.version != frame_version || out.refuse_flags != 0) {
        return FrameFault::unknown_version;
    }
    if (set_id != 0 && out.set_id != set_id) {
        return FrameFault::foreign;
    }
    if (out.kind == FrameKind::none || out.kind > FrameKind::dedup_snapshot ||
        out.payload_bytes > frame_payload_max || out.shard == 0 ||
        (out.kind == FrameKind::records && out.record_count == 0) ||
        out.previous_sequence >= out.first_sequence ||
        out.committed_through >= out.first_sequence || out.last_arrival_ms < out.first_arrival_ms) {
        return FrameFault::malformed;
    }
    return FrameFault::none;
}

FrameFault check_frame(Bytes bytes, std::uint64_t set_id, FrameHeader& out) noexcept {
    const FrameFault fault = check_frame_header(bytes, set_id, out);
    if (fault != FrameFault::none) {
        return fault;
    }
    if (bytes.size() < sizeof(FrameHeader) + out.payload_bytes) {
        return FrameFault::truncated;
    }
    if (crc32c(bytes.subspan(sizeof(FrameHeader), out.payload_bytes)) != out.payload_crc) {
        return FrameFault::payload_damaged;
    }
    return FrameFault::none;
}

std::uint64_t record_bytes(const RecordIn& record) noexcept {
    return sizeof(RecordHeader) + (record.explicit_hash != nullptr ? sizeof(Hash128) : 0) +
           (record.producer != nullptr ? sizeof(ProducerMark) : 0) +
           (record.sealer != nullptr ? sizeof(RecordSeal) : 0) + record.partition_key.size() +
           record.data.size();
}

static_assert(sizeof(ProducerMark) == 24 && std::has_unique_object_representations_v<ProducerMark>);
static_assert(sizeof(Hash128) == 16 && std::has_unique_object_representations_v<Hash128>);

std::uint64_t encode_record(const RecordIn& record, std::uint32_t arrival_delta_ms, std::byte* to,
                            const RecordPlace& place) noexcept {
    RecordHeader header;
    header.length = static_cast<std::uint32_t>(record_bytes(record));
    header.flags =
        static_cast<std::uint8_t>((record.explicit_hash != nullptr ? record_has_hash : 0) |
                                  (record.producer != nullptr ? record_has_producer : 0) |
                                  (record.sealer != nullptr ? record_is_sealed : 0));
    header.key_bytes = static_cast<std::uint16_t>(record.partition_key.size());
    header.arrival_delta_ms = arrival_delta_ms;
    header.data_bytes = static_cast<std::uint32_t>(record.data.size());
    std::byte* at = to;
    store(at, header);
    at += sizeof header;
    if (record.explicit_hash != nullptr) {
        store(at, *record.explicit_hash);
        at += sizeof(Hash128);
    }
    if (record.producer != nullptr) {
        store(at, *record.producer);
        at += sizeof(ProducerMark);
    }
    if (record.sealer != nullptr) {
        const Bytes extras(to + sizeof header, at);
        RecordSeal seal;
        record.sealer->seal({place, header.flags, extras, record.partition_key, record.data}, seal,
                            at + sizeof seal);
        store(at, seal);
        return header.length;
    }
    if (!record.partition_key.empty()) {
        std::memcpy(at, record.partition_key.data(), record.partition_key.size());
        at += record.partition_key.size();
    }
    if (!record.data.empty()) {
        std::memcpy(at, record.data.data(), record.data.size());
    }
    return header.length;
}

RecordWalker::RecordWalker(const FrameHeader& header, Bytes payload) noexcept
    : rest_(payload),
      sequence_(header.first_sequence),
      first_arrival_ms_(header.first_arrival_ms),
      left_(header.kind == FrameKind::records ? header.record_count : 0) {}

bool RecordWalker::next(RecordView& out) noexcept {
    if (left_ == 0) {
        malformed_ = malformed_ || !rest_.empty();
        return false;
    }
    if (rest_.size() < sizeof(RecordHeader)) {
        malformed_ = true;
        left_ = 0;
        return false;
    }
    const auto header = load<RecordHeader>(rest_.data());
    const std::uint64_t extras =
        ((header.flags & record_has_hash) != 0 ? sizeof(Hash128) : 0) +
        ((header.flags & record_has_producer) != 0 ? sizeof(ProducerMark) : 0);
    const std::uint64_t seal = (header.flags & record_is_sealed) != 0 ? sizeof(RecordSeal) : 0;
    const std::uint64_t expected =
        sizeof(RecordHeader) + extras + seal + header.key_bytes + std::uint64_t{header.data_bytes};
    if (header.type != RecordType::data || header.length != expected ||
        header.length > rest_.size() ||
        (header.flags & ~(record_has_hash | record_has_producer | record_is_sealed)) != 0) {
        malformed_ = true;
        left_ = 0;
        return false;
    }
    const std::byte* at = rest_.data() + sizeof(RecordHeader);
    out.has_explicit_hash = (header.flags & record_has_hash) != 0;
    if (out.has_explicit_hash) {
        out.explicit_hash = load<Hash128>(at);
    }
    out.has_producer = (header.flags & record_has_producer) != 0;
    if (out.has_producer) {
        out.producer = load<ProducerMark>(at + (out.has_explicit_hash ? sizeof(Hash128) : 0));
    }
    out.extras = {at, extras};
    out.seal = {at + extras, seal};
    out.flags = header.flags;
    at += extras + seal;
    out.sequence = sequence_;
    out.arrival_ms = first_arrival_ms_ + header.arrival_delta_ms;
    out.partition_key = {at, header.key_bytes};
    out.data = {at + header.key_bytes, header.data_bytes};
    rest_ = rest_.subspan(header.length);
    ++sequence_;
    --left_;
    return true;
}

bool records_add_up(const FrameHeader& header, Bytes payload) noexcept {
    RecordWalker walker(header, payload);
    RecordView record;
    std::uint32_t count = 0;
    while (walker.next(record)) {
        ++count;
    }
    return !walker.malformed() &&
           (header.kind != FrameKind::records || count == header.record_count);
}

}  // namespace penstock
