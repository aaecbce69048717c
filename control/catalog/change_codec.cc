#include "control/catalog/change_codec.h"

#include <cstddef>
#include <type_traits>

#include "storage/base/crc32c.h"

namespace penstock {

namespace {

constexpr std::uint8_t current_version = 1;

struct RecordHeader {
    std::uint8_t version;
    std::uint8_t kind;    // 1 change, 2 snapshot
    std::uint16_t flags;  // unknown bit: refuse
    std::uint32_t operation_count;
    std::uint64_t revision;
    std::uint32_t crc;           // of the whole record with this field zero
    std::uint32_t length_bytes;  // of the whole record
};
static_assert(sizeof(RecordHeader) == 24 && offsetof(RecordHeader, crc) == 16);
static_assert(std::has_unique_object_representations_v<RecordHeader>);

struct OperationHeader {
    std::uint8_t kind;
    std::uint8_t reserved[3];
    std::uint32_t key_bytes;
    std::uint32_t value_bytes;
    std::uint32_t reserved2;
    std::uint64_t revision;
    std::uint64_t lease;
};
static_assert(sizeof(OperationHeader) == 32);
static_assert(std::has_unique_object_representations_v<OperationHeader>);

template <typename T>
void append_pod(std::string& out, const T& value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

std::uint32_t checksum(Bytes bytes) noexcept {
    constexpr std::size_t at = offsetof(RecordHeader, crc);
    const std::uint32_t zero = 0;
    std::uint32_t crc = crc32c(bytes.first(at));
    crc = crc32c_extend(crc, std::as_bytes(std::span(&zero, 1)));
    return crc32c_extend(crc, bytes.subspan(at + sizeof(zero)));
}

Result<CatalogOperation> decode_operation(const CatalogRecord& record, Bytes& rest) {
    if (rest.size() < sizeof(OperationHeader)) {
        return fail(Errc::corrupt);
    }
    const auto header = load<OperationHeader>(rest.data());
    rest = rest.subspan(sizeof(OperationHeader));
    const bool is_put = header.kind == static_cast<std::uint8_t>(CatalogOperation::Kind::put);
    const bool is_remove = header.kind == static_cast<std::uint8_t>(CatalogOperation::Kind::remove);
    if (!is_put && (!is_remove || record.kind == ChangeLog::Kind::snapshot)) {
        return fail(Errc::corrupt);
    }
    const std::uint64_t body_bytes = std::uint64_t{header.key_bytes} + header.value_bytes;
    const bool reserved_is_zero =
        (header.reserved[0] | header.reserved[1] | header.reserved[2]) == 0 &&
        header.reserved2 == 0;
    if (!reserved_is_zero || header.key_bytes == 0 || header.key_bytes > catalog_key_bytes_max ||
        header.value_bytes > catalog_value_bytes_max || body_bytes > rest.size() ||
        header.revision == 0 || header.revision > record.revision ||
        (is_remove && header.value_bytes != 0)) {
        return fail(Errc::corrupt);
    }
    CatalogOperation operation;
    operation.kind = static_cast<CatalogOperation::Kind>(header.kind);
    operation.key = as_text(rest.first(header.key_bytes));
    operation.value = as_text(rest.subspan(header.key_bytes, header.value_bytes));
    operation.revision = header.revision;
    operation.lease = static_cast<LeaseId>(header.lease);
    rest = rest.subspan(static_cast<std::size_t>(body_bytes));
    return operation;
}

}  // namespace

std::string encode_catalog_record(const CatalogRecord& record) {
    std::string out;
    RecordHeader header{};
    header.version = current_version;
    header.kind = record.kind == ChangeLog::Kind::change ? 1 : 2;
    header.operation_count = static_cast<std::uint32_t>(record.operations.size());
    header.revision = record.revision;
    append_pod(out, header);
    for (const CatalogOperation& operation : record.operations) {
        OperationHeader head{};
        head.kind = static_cast<std::uint8_t>(operation.kind);
        head.key_bytes = static_cast<std::uint32_t>(operation.key.size());
        head.value_bytes = static_cast<std::uint32_t>(operation.value.size());
        head.revision = operation.revision;
        head.lease = static_cast<std::uint64_t>(operation.lease);
        append_pod(out, head);
        out += operation.key;
        out += operation.value;
    }
    store(out.data() + offsetof(RecordHeader, length_bytes),
          static_cast<std::uint32_t>(out.size()));
    store(out.data() + offsetof(RecordHeader, crc), checksum(as_bytes(out)));
    return out;
}

Result<CatalogRecord> decode_catalog_record(Bytes bytes) {
    if (bytes.size() < sizeof(RecordHeader)) {
        return fail(Errc::corrupt);
    }
    const auto header = load<RecordHeader>(bytes.data());
    // The version is judged before the checksum: a later version may compute another one.
    if (header.version != current_version) {
        return fail(Errc::unsupported, 0, header.version);
    }
    if (header.length_bytes != bytes.size() || header.crc != checksum(bytes) ||
        (header.kind != 1 && header.kind != 2)) {
        return fail(Errc::corrupt);
    }
    if (header.flags != 0) {
        return fail(Errc::unsupported, 0, header.flags);
    }
    CatalogRecord record;
    record.kind = header.kind == 1 ? ChangeLog::Kind::change : ChangeLog::Kind::snapshot;
    record.revision = header.revision;
    Bytes rest = bytes.subspan(sizeof(RecordHeader));
    if (header.operation_count > rest.size() / sizeof(OperationHeader)) {
        return fail(Errc::corrupt);
    }
    record.operations.reserve(header.operation_count);
    for (std::uint32_t i = 0; i < header.operation_count; ++i) {
        PENSTOCK_TRY(operation, decode_operation(record, rest));
        record.operations.push_back(std::move(operation));
    }
    if (!rest.empty()) {
        return fail(Errc::corrupt);
    }
    return record;
}

}  // namespace penstock
