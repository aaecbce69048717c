#include "control/catalog/embedded_catalog.h"

#include <algorithm>
#include <set>

namespace penstock {

Result<Revision> Catalog::put(std::string_view key, std::string_view value,
                              std::optional<Revision> expected) {
    CatalogChange change;
    change.key = key;
    change.value = value;
    change.expected = expected;
    return commit(std::span(&change, 1));
}

Result<Revision> Catalog::remove(std::string_view key, std::optional<Revision> expected) {
    CatalogChange change;
    change.kind = CatalogChange::Kind::remove;
    change.key = key;
    change.expected = expected;
    return commit(std::span(&change, 1));
}

class EmbeddedCatalog::WatchHandle final : public Catalog::Watch {
public:
    WatchHandle(EmbeddedCatalog& catalog, std::uint64_t id) : catalog_(catalog), id_(id) {}
    ~WatchHandle() override {
        // The write mutex waits for a notification in progress.
        const std::lock_guard writing(catalog_.write_mutex_);
        const std::lock_guard lock(catalog_.watch_mutex_);
        catalog_.watchers_.erase(id_);
    }

private:
    EmbeddedCatalog& catalog_;
    std::uint64_t id_;
};

EmbeddedCatalog::~EmbeddedCatalog() = default;

Result<std::unique_ptr<EmbeddedCatalog>> EmbeddedCatalog::open(
    ChangeLog& log, Clock& clock, const EmbeddedCatalogOptions& options) {
    std::unique_ptr<EmbeddedCatalog> catalog(new EmbeddedCatalog(log, clock, options));
    PENSTOCK_TRY_VOID(log.replay(
        [&](ChangeLog::Kind kind, Bytes bytes) { return catalog->take_record(kind, bytes); }));
    // Leases end with the process that held them. Their numbers are not given out again, so that a
    // holder from before cannot keep a stranger's lease alive.
    for (const auto& [key, value] : catalog->entries_) {
        catalog->next_lease_ =
            std::max(catalog->next_lease_, static_cast<std::uint64_t>(value.lease) + 1);
    }
    return catalog;
}

Status EmbeddedCatalog::take_record(ChangeLog::Kind kind, Bytes bytes) {
    PENSTOCK_TRY(record, decode_catalog_record(bytes));
    if (record.kind != kind) {
        return fail(Errc::corrupt);
    }
    if (kind == ChangeLog::Kind::snapshot) {
        entries_.clear();
        log_bytes_ = 0;
        snapshot_bytes_ = bytes.size();
    } else {
        if (record.revision != revision_ + 1) {
            return fail(Errc::corrupt);
        }
        log_bytes_ += bytes.size();
    }
    apply(record);
    return {};
}

bool EmbeddedCatalog::is_live(LeaseId lease) const {
    const auto it = leases_.find(lease);
    return it != leases_.end() && it->second.ends_ns > clock_.monotonic_ns();
}

bool EmbeddedCatalog::is_live(const Value& value) const {
    return value.lease == LeaseId{} || is_live(value.lease);
}

Result<CatalogEntry> EmbeddedCatalog::get(std::string_view key) {
    const std::shared_lock lock(mutex_);
    const auto it = entries_.find(key);
    if (it == entries_.end() || !is_live(it->second)) {
        return fail(Errc::not_found);
    }
    return CatalogEntry{it->first, it->second.value, it->second.revision, it->second.lease};
}

Result<std::vector<CatalogEntry>> EmbeddedCatalog::list(std::string_view prefix) {
    std::vector<CatalogEntry> found;
    const std::shared_lock lock(mutex_);
    for (auto it = entries_.lower_bound(prefix);
         it != entries_.end() && it->first.starts_with(prefix); ++it) {
        if (is_live(it->second)) {
            found.push_back({it->first, it->second.value, it->second.revision, it->second.lease});
        }
    }
    return found;
}

Status EmbeddedCatalog::check(std::span<const CatalogChange> changes) {
    const std::shared_lock lock(mutex_);
    std::set<std::string_view> seen;
    for (std::size_t i = 0; i < changes.size(); ++i) {
        const CatalogChange& change = changes[i];
        const auto detail = static_cast<std::uint32_t>(i);
        if (change.key.empty() || !seen.insert(change.key).second) {
            return fail(Errc::invalid_argument, 0, detail);
        }
        if (change.key.size() > catalog_key_bytes_max ||
            change.value.size() > catalog_value_bytes_max) {
            return fail(Errc::too_large, 0, detail);
        }
        if (change.kind == CatalogChange::Kind::put && change.lease != LeaseId{} &&
            !is_live(change.lease)) {
            return fail(Errc::not_found, 0, detail);
        }
        const auto it = entries_.find(change.key);
        const Revision now = it == entries_.end() ? 0 : it->second.revision;
        if (change.expected && *change.expected != now) {
            return fail(Errc::canceled, 0, detail);
        }
    }
    return {};
}

Result<Revision> EmbeddedCatalog::commit(std::span<const CatalogChange> changes) {
    const std::lock_guard writing(write_mutex_);
    PENSTOCK_TRY_VOID(remove_keys_of_ended_leases());
    PENSTOCK_TRY_VOID(check(changes));
    CatalogRecord record;
    record.revision = revision_ + 1;
    for (const CatalogChange& change : changes) {
        if (change.kind == CatalogChange::Kind::check) {
            continue;
        }
        CatalogOperation operation;
        operation.kind = static_cast<CatalogOperation::Kind>(change.kind);
        operation.key = change.key;
        operation.revision = record.revision;
        if (change.kind == CatalogChange::Kind::put) {
            operation.value = change.value;
            operation.lease = change.lease;
        }
        record.operations.push_back(std::move(operation));
    }
    if (record.operations.empty()) {
        return revision_;
    }
    return write(std::move(record));
}

// Called with the write mutex held.
Result<Revision> EmbeddedCatalog::write(CatalogRecord record) {
    if (log_is_doubtful_) {
        PENSTOCK_TRY_VOID(write_snapshot());
    }
    const std::string bytes = encode_catalog_record(record);
    if (!log_.append(as_bytes(bytes))) {
        log_is_doubtful_ = true;
        return fail(Errc::unavailable);
    }
    log_bytes_ += bytes.size();
    {
        const std::unique_lock lock(mutex_);
        apply(record);
    }
    notify(record);
    if (log_bytes_ > options_.log_bytes_max && log_bytes_ > 4 * snapshot_bytes_) {
        // The change itself is durable. A snapshot of unknown fate says the same as the log before
        // it, so its failure matters to nobody; the next commit tries again.
        static_cast<void>(write_snapshot());
    }
    return record.revision;
}

// Called with the write mutex held.
Status EmbeddedCatalog::write_snapshot() {
    CatalogRecord record;
    record.kind = ChangeLog::Kind::snapshot;
    record.revision = revision_;
    for (const auto& [key, value] : entries_) {
        record.operations.push_back(
            {CatalogOperation::Kind::put, key, value.value, value.revision, value.lease});
    }
    const std::string bytes = encode_catalog_record(record);
    if (!log_.snapshot(as_bytes(bytes))) {
        // Before an append that failed the caller's change has not been tried; still the state of
        // the log is open, so the answer is the same.
        return fail(Errc::unavailable);
    }
    log_is_doubtful_ = false;
    log_bytes_ = 0;
    snapshot_bytes_ = bytes.size();
    return {};
}

void EmbeddedCatalog::apply(const CatalogRecord& record) {
    for (const CatalogOperation& operation : record.operations) {
        if (operation.kind == CatalogOperation::Kind::put) {
            entries_.insert_or_assign(operation.key,
                                      Value{operation.value, operation.revision, operation.lease});
        } else {
            entries_.erase(operation.key);
        }
    }
    revision_ = record.revision;
}

void EmbeddedCatalog::notify(const CatalogRecord& record) {
    std::vector<std::shared_ptr<Watcher>> watchers;
    {
        const std::lock_guard lock(watch_mutex_);
        for (const auto& [id, watcher] : watchers_) {
            watchers.push_back(watcher);
        }
    }
    for (const CatalogOperation& operation : record.operations) {
        for (const auto& watcher : watchers) {
            if (operation.key.starts_with(watcher->prefix)) {
                const bool is_put = operation.kind == CatalogOperation::Kind::put;
                watcher->notify(
                    {operation.key, is_put ? &operation.value : nullptr, record.revision});
            }
        }
    }
}

std::unique_ptr<Catalog::Watch> EmbeddedCatalog::watch(std::string_view prefix,
                                                       CatalogWatcher watcher) {
    const std::lock_guard lock(watch_mutex_);
    const std::uint64_t id = next_watch_++;
    watchers_.emplace(id,
                      std::make_shared<Watcher>(Watcher{std::string(prefix), std::move(watcher)}));
    return std::make_unique<WatchHandle>(*this, id);
}

Result<LeaseId> EmbeddedCatalog::grant(std::uint64_t ttl_ms) {
    if (ttl_ms == 0) {
        return fail(Errc::invalid_argument);
    }
    const std::lock_guard writing(write_mutex_);
    const std::unique_lock lock(mutex_);
    const auto id = static_cast<LeaseId>(next_lease_++);
    const std::uint64_t ttl_ns = ttl_ms * 1'000'000;
    leases_[id] = Lease{ttl_ns, clock_.monotonic_ns() + ttl_ns};
    return id;
}

Status EmbeddedCatalog::keep_alive(LeaseId lease) {
    const std::unique_lock lock(mutex_);
    if (!is_live(lease)) {
        return fail(Errc::not_found);
    }
    leases_[lease].ends_ns = clock_.monotonic_ns() + leases_[lease].ttl_ns;
    return {};
}

Status EmbeddedCatalog::revoke(LeaseId lease) {
    const std::lock_guard writing(write_mutex_);
    {
        const std::unique_lock lock(mutex_);
        if (leases_.erase(lease) == 0) {
            return fail(Errc::not_found);
        }
    }
    return remove_keys_of_ended_leases();
}

Status EmbeddedCatalog::expire_leases() {
    const std::lock_guard writing(write_mutex_);
    return remove_keys_of_ended_leases();
}

// Called with the write mutex held.
Status EmbeddedCatalog::remove_keys_of_ended_leases() {
    CatalogRecord record;
    {
        const std::unique_lock lock(mutex_);
        record.revision = revision_ + 1;
        for (const auto& [key, value] : entries_) {
            if (!is_live(value)) {
                record.operations.push_back(
                    {CatalogOperation::Kind::remove, key, {}, record.revision, LeaseId{}});
            }
        }
        std::erase_if(leases_, [&](const auto& lease) { return !is_live(lease.first); });
    }
    if (record.operations.empty()) {
        return {};
    }
    PENSTOCK_TRY_VOID(write(std::move(record)));
    return {};
}

Revision EmbeddedCatalog::revision() const {
    const std::shared_lock lock(mutex_);
    return revision_;
}

}  // namespace penstock
