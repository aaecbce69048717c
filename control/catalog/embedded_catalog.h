// The catalog of a node that stands alone: in memory, with its changes in a ChangeLog.
//
// Runs on: control threads; thread-safe. Commits are serialised and block on the log; reads don't.
// Guarantees: what a restart recovers is what the last answered commit left, plus at most a commit
// whose answer was Errc::unavailable. Such a commit is not visible before a restart, and is made
// void for ever by the snapshot that precedes the next successful commit.
// Format: docs/formats/catalog.md.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "control/catalog/catalog.h"
#include "control/catalog/change_codec.h"
#include "control/catalog/change_log.h"
#include "storage/base/clock.h"

namespace penstock {

struct EmbeddedCatalogOptions {
    // The log is compacted when its changes exceed this and four times the last snapshot.
    std::uint64_t log_bytes_max = 4U << 20;
};

class EmbeddedCatalog final : public Catalog {
public:
    // Replays the log. `log` and `clock` must outlive the catalog.
    // Errors: what the log or the decoder said; corrupt when changes do not follow one another.
    [[nodiscard]] static Result<std::unique_ptr<EmbeddedCatalog>> open(
        ChangeLog& log, Clock& clock, const EmbeddedCatalogOptions& options = {});
    ~EmbeddedCatalog() override;

    [[nodiscard]] Result<CatalogEntry> get(std::string_view key) override;
    [[nodiscard]] Result<std::vector<CatalogEntry>> list(std::string_view prefix) override;
    [[nodiscard]] Result<Revision> commit(std::span<const CatalogChange> changes) override;
    [[nodiscard]] std::unique_ptr<Watch> watch(std::string_view prefix,
                                               CatalogWatcher watcher) override;
    [[nodiscard]] Result<LeaseId> grant(std::uint64_t ttl_ms) override;
    [[nodiscard]] Status keep_alive(LeaseId lease) override;
    [[nodiscard]] Status revoke(LeaseId lease) override;

    // Removes the keys of leases that ended. Reads hide such keys at once; watchers hear of them
    // here and at each commit. To be called now and then.
    [[nodiscard]] Status expire_leases();
    [[nodiscard]] Revision revision() const;

private:
    struct Value {
        std::string value;
        Revision revision = 0;
        LeaseId lease{};
    };
    struct Lease {
        std::uint64_t ttl_ns = 0;
        std::uint64_t ends_ns = 0;
    };
    struct Watcher {
        std::string prefix;
        CatalogWatcher notify;
    };
    class WatchHandle;

    EmbeddedCatalog(ChangeLog& log, Clock& clock, const EmbeddedCatalogOptions& options)
        : log_(log), clock_(clock), options_(options) {}
    [[nodiscard]] Status take_record(ChangeLog::Kind kind, Bytes bytes);
    [[nodiscard]] Status check(std::span<const CatalogChange> changes);
    [[nodiscard]] Result<Revision> write(CatalogRecord record);
    [[nodiscard]] Status write_snapshot();
    [[nodiscard]] Status remove_keys_of_ended_leases();
    void apply(const CatalogRecord& record);
    void notify(const CatalogRecord& record);
    [[nodiscard]] bool is_live(const Value& value) const;
    [[nodiscard]] bool is_live(LeaseId lease) const;

    ChangeLog& log_;
    Clock& clock_;
    const EmbeddedCatalogOptions options_;

    // Serialises commits and leases; held while the log is written and watchers are called.
    std::mutex write_mutex_;
    std::uint64_t log_bytes_ = 0;  // changes since the last snapshot
    std::uint64_t snapshot_bytes_ = 0;
    bool log_is_doubtful_ = false;  // an append failed: a snapshot must come first
    std::uint64_t next_lease_ = 1;

    std::mutex watch_mutex_;
    std::map<std::uint64_t, std::shared_ptr<Watcher>> watchers_;
    std::uint64_t next_watch_ = 1;

    mutable std::shared_mutex mutex_;  // of what follows
    std::map<std::string, Value, std::less<>> entries_;
    std::map<LeaseId, Lease> leases_;
    Revision revision_ = 0;
};

}  // namespace penstock
