// The catalog: a small key-value store with compare-and-swap, prefix reads, watches and leases,
// in which the control plane keeps what must outlive it: streams, shards, tombstones, counters.
//
// Runs on: control threads only; calls may block until a change is durable.
// Guarantees: a change that was answered without an error is durable and seen by every later read.
// A change answered with Errc::unavailable has an unknown fate until the catalog answers again: the
// caller reads the keys back. Any other error means that nothing changed.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "storage/base/result.h"

namespace penstock {

// Grows by one with each committed change of the whole catalog. 0 is before the first.
using Revision = std::uint64_t;
// 0 is no lease.
enum class LeaseId : std::uint64_t {};

inline constexpr std::size_t catalog_key_bytes_max = 512;
inline constexpr std::size_t catalog_value_bytes_max = 8U << 20;

struct CatalogEntry {
    std::string key;
    std::string value;
    Revision revision = 0;  // of the change that last wrote the key
    LeaseId lease{};
    friend bool operator==(const CatalogEntry&, const CatalogEntry&) = default;
};

// One part of a transaction.
struct CatalogChange {
    enum class Kind : std::uint8_t { put = 1, remove = 2, check = 3 };
    Kind kind = Kind::put;
    std::string key;
    std::string value;  // put
    // The key's revision must be this, 0 for a key that must not exist; empty asks for nothing.
    std::optional<Revision> expected;
    LeaseId lease{};  // put: the key goes when this lease ends
};

struct CatalogEvent {
    std::string_view key;
    const std::string* value = nullptr;  // null: removed
    Revision revision = 0;
};
// Called once per changed key, in revision order, before the change's commit() returns to its
// caller. May read the catalog, must not change it, nor add or end watches.
using CatalogWatcher = std::function<void(const CatalogEvent&)>;

class Catalog {
public:
    // Ends the watch when it goes. The catalog must outlive it.
    class Watch {
    public:
        virtual ~Watch() = default;
    };

    virtual ~Catalog() = default;

    // Errors: not_found.
    [[nodiscard]] virtual Result<CatalogEntry> get(std::string_view key) = 0;
    // All entries whose key starts with `prefix`, by key.
    [[nodiscard]] virtual Result<std::vector<CatalogEntry>> list(std::string_view prefix) = 0;
    // All or nothing; returns the new revision. A key may occur once.
    // Errors: canceled (an expected revision differs; detail = index of the change),
    // invalid_argument, too_large, not_found (no such lease), unavailable (fate unknown).
    [[nodiscard]] virtual Result<Revision> commit(std::span<const CatalogChange> changes) = 0;
    [[nodiscard]] virtual std::unique_ptr<Watch> watch(std::string_view prefix,
                                                       CatalogWatcher watcher) = 0;

    // A lease ends when it isn't kept alive for its time to live, is revoked, or its process ends.
    [[nodiscard]] virtual Result<LeaseId> grant(std::uint64_t ttl_ms) = 0;
    [[nodiscard]] virtual Status keep_alive(LeaseId lease) = 0;
    [[nodiscard]] virtual Status revoke(LeaseId lease) = 0;

    [[nodiscard]] Result<Revision> put(std::string_view key, std::string_view value,
                                       std::optional<Revision> expected = std::nullopt);
    [[nodiscard]] Result<Revision> remove(std::string_view key,
                                          std::optional<Revision> expected = std::nullopt);
};

}  // namespace penstock
