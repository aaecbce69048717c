// Keys of the catalog that the stream store owns (docs/formats/catalog.md), and changes made from
// them.
//
// Runs on: any thread.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/catalog/catalog.h"
#include "dataplane/lane/request.h"
#include "storage/base/ids.h"

namespace penstock::kinesis {

inline constexpr std::string_view stream_prefix = "stream/";
inline constexpr std::string_view tombstone_prefix = "tombstone/";
inline constexpr std::string_view next_uid_key = "meta/next_uid";
inline constexpr std::string_view last_deleted_key = "meta/last_deleted";
inline constexpr std::string_view iterator_key_key = "secret/iterator";

[[nodiscard]] inline std::string key_of(std::string_view prefix, std::string_view name) {
    return std::string(prefix) + std::string(name);
}
[[nodiscard]] inline std::string tombstone_key(ShardUid uid) {
    return key_of(tombstone_prefix, std::to_string(value(uid)));
}

[[nodiscard]] inline CatalogChange put_change(std::string key, std::string text,
                                              std::optional<Revision> expected) {
    CatalogChange change;
    change.key = std::move(key);
    change.value = std::move(text);
    change.expected = expected;
    return change;
}
[[nodiscard]] inline CatalogChange remove_change(std::string key,
                                                 std::optional<Revision> expected) {
    CatalogChange change;
    change.kind = CatalogChange::Kind::remove;
    change.key = std::move(key);
    change.expected = expected;
    return change;
}

// What StreamStore::ask_all takes.
template <typename Request>
[[nodiscard]] std::vector<LaneRequest*> pointers(
    const std::vector<std::unique_ptr<Request>>& requests) {
    std::vector<LaneRequest*> all;
    for (const auto& request : requests) {
        all.push_back(request.get());
    }
    return all;
}

}  // namespace penstock::kinesis
