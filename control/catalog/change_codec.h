// Bytes of a catalog change and of a snapshot.
//
// Guarantees: a decoder takes any bytes and either refuses them or returns what was encoded.
// Format: docs/formats/catalog.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "control/catalog/catalog.h"
#include "control/catalog/change_log.h"
#include "storage/base/bytes.h"

namespace penstock {

struct CatalogOperation {
    enum class Kind : std::uint8_t { put = 1, remove = 2 };
    Kind kind = Kind::put;
    std::string key;
    std::string value;
    Revision revision = 0;
    LeaseId lease{};
    friend bool operator==(const CatalogOperation&, const CatalogOperation&) = default;
};

struct CatalogRecord {
    ChangeLog::Kind kind = ChangeLog::Kind::change;
    Revision revision = 0;  // of the catalog once this is applied
    std::vector<CatalogOperation> operations;
    friend bool operator==(const CatalogRecord&, const CatalogRecord&) = default;
};

[[nodiscard]] std::string encode_catalog_record(const CatalogRecord& record);

// Errors: unsupported (version or flag this build does not know; detail = what was found),
// corrupt (checksum, lengths or contents contradict themselves).
[[nodiscard]] Result<CatalogRecord> decode_catalog_record(Bytes bytes);

}  // namespace penstock
