#include "control/kinesis/stream/stream_store.h"

#include <openssl/rand.h>
#include <poll.h>
#include <unistd.h>

#include <charconv>
#include <chrono>

#include "control/kinesis/stream/catalog_keys.h"
#include "control/kinesis/stream/reshard.h"

namespace penstock::kinesis {

namespace {

constexpr std::size_t iterator_key_bytes = 32;
// Requests the worker has with the lanes at once; more wait.
constexpr std::size_t in_flight_max = 64;

std::optional<std::uint64_t> parse_number(std::string_view text) {
    std::uint64_t number = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (fault != std::errc{} || end != text.data() + text.size()) {
        return std::nullopt;
    }
    return number;
}

// Waits for the ring's eventfd and clears it.
void wait_readable(int fd, int timeout_ms) {
    pollfd poll_fd{fd, POLLIN, 0};
    if (::poll(&poll_fd, 1, timeout_ms) == 1) {
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(fd, &count, sizeof(count));
    }
}

}  // namespace

StreamStore::StreamStore(Catalog& catalog, ShardService& lanes, Clock& clock,
                         StreamStoreOptions options)
    : catalog_(catalog),
      lanes_(lanes),
      clock_(clock),
      options_(std::move(options)),
      keys_(options_.keys != nullptr ? *options_.keys : no_keys_),
      table_(std::make_shared<StreamTable>()),
      replies_(in_flight_max) {
    for (unsigned i = 1; i <= lanes_.group_count(); ++i) {
        const auto group = static_cast<GroupId>(i);
        lane_by_group_[group] = lanes_.lane_of(group);
    }
}

Result<std::unique_ptr<StreamStore>> StreamStore::open(Catalog& catalog, ShardService& lanes,
                                                       Clock& clock, StreamStoreOptions options) {
    std::unique_ptr<StreamStore> store(new StreamStore(catalog, lanes, clock, std::move(options)));
    PENSTOCK_TRY_VOID(store->load());
    store->publish_routes();
    store->watch_ = catalog.watch(stream_prefix, [raw = store.get()](const CatalogEvent& event) {
        raw->on_stream_event(event);
    });
    store->work_waits_ = true;
    store->worker_ = std::thread([raw = store.get()] { raw->run(); });
    return store;
}

StreamStore::~StreamStore() {
    watch_.reset();
    if (worker_.joinable()) {
        {
            const std::lock_guard lock(work_mutex_);
            stop_ = true;
        }
        work_ready_.notify_all();
        worker_.join();
    }
}

Status StreamStore::load() {
    PENSTOCK_TRY_VOID(load_iterator_key());
    auto table = std::make_shared<StreamTable>();
    std::map<ShardUid, bool> known;
    PENSTOCK_TRY(streams, catalog_.list(stream_prefix));
    for (const CatalogEntry& entry : streams) {
        PENSTOCK_TRY(stream, decode_stream(entry.value));
        for (const Shard& shard : stream.shards) {
            known[shard.uid] = true;
        }
        if (stream.status == StreamStatus::active || stream.status == StreamStatus::updating) {
            // Whether the lanes heard of the last change of retention is not known.
            retention_due_.insert(stream.name);
        }
        if (stream.status == StreamStatus::updating) {
            say("stream " + stream.name + " goes on with the change of its shards that was under " +
                "way");
        }
        const std::string name = stream.name;
        PENSTOCK_TRY(view, make_view(std::move(stream)));
        table->emplace(name, std::move(view));
    }
    PENSTOCK_TRY(tombstones, catalog_.list(tombstone_prefix));
    for (const CatalogEntry& entry : tombstones) {
        const auto uid = parse_number(std::string_view(entry.key).substr(tombstone_prefix.size()));
        const auto group = parse_number(entry.value);
        if (!uid || !group) {
            return fail(Errc::corrupt);
        }
        if (!known.contains(static_cast<ShardUid>(*uid))) {
            orphans_.emplace_back(static_cast<ShardUid>(*uid), static_cast<GroupId>(*group));
        }
    }
    table_ = std::move(table);
    return {};
}

Status StreamStore::load_iterator_key() {
    while (true) {
        const auto entry = catalog_.get(iterator_key_key);
        if (entry) {
            iterator_key_ = entry->value;
            return iterator_key_.size() == iterator_key_bytes ? Status{} : fail(Errc::corrupt);
        }
        if (entry.error().code != Errc::not_found) {
            return std::unexpected(entry.error());
        }
        std::string key(iterator_key_bytes, '\0');
        if (RAND_bytes(reinterpret_cast<unsigned char*>(key.data()), iterator_key_bytes) != 1) {
            return fail(Errc::unavailable);
        }
        // A node that is faster wins; its key is read in the next round.
        if (const auto done = catalog_.put(iterator_key_key, key, 0);
            !done && done.error().code != Errc::canceled) {
            return std::unexpected(done.error());
        }
    }
}

// -- The table ------------------------------------------------------------------------------------

std::shared_ptr<const StreamTable> StreamStore::table() const {
    const std::lock_guard lock(table_mutex_);
    return table_;
}

std::shared_ptr<const StreamView> StreamStore::find(std::string_view name) const {
    const auto now = table();
    const auto it = now->find(name);
    return it == now->end() ? nullptr : it->second;
}

std::uint32_t StreamStore::open_shard_count() const {
    std::uint32_t count = 0;
    for (const auto& [name, view] : *table()) {
        count += view->stream().open_shard_count_soon();
    }
    return count;
}

void StreamStore::replace(std::string_view name, std::shared_ptr<const StreamView> view) {
    auto table = std::make_shared<StreamTable>(*this->table());
    if (view) {
        table->insert_or_assign(std::string(name), std::move(view));
    } else if (const auto it = table->find(name); it != table->end()) {
        table->erase(it);
    }
    const std::lock_guard lock(table_mutex_);
    table_ = std::move(table);
}

void StreamStore::on_stream_event(const CatalogEvent& event) {
    const std::string_view name = event.key.substr(stream_prefix.size());
    std::unique_lock lock(replace_mutex_);
    const auto before = find(name);
    std::shared_ptr<const StreamView> after;
    if (event.value != nullptr) {
        auto stream = decode_stream(*event.value);
        auto view = stream ? make_view(std::move(*stream)) : std::unexpected(stream.error());
        if (!view) {
            say("stream " + std::string(name) + ": the catalog's entry was changed to one that " +
                "cannot be used (" + describe(view.error()) + "); keeping the one before");
            return;
        }
        after = std::move(*view);
    }
    replace(name, after);
    if (before && after && before->stream().retention_hours != after->stream().retention_hours) {
        const std::lock_guard work_lock(work_mutex_);
        retention_due_.insert(std::string(name));
    }
    const auto shards_of = [](const auto& view) {
        return view && view->route() ? view->route()->shards() : std::span<const ShardRoute>{};
    };
    const auto sealers_of = [](const auto& view) {
        return view && view->route() ? view->route()->sealers() : nullptr;
    };
    const auto old_shards = shards_of(before);
    const auto new_shards = shards_of(after);
    if (sealers_of(before) != sealers_of(after) ||
        !std::equal(old_shards.begin(), old_shards.end(), new_shards.begin(), new_shards.end())) {
        publish_routes();
    }
    lock.unlock();
    tell_listeners(name);
    wake();
}

Result<std::shared_ptr<const StreamView>> StreamStore::make_view(Stream stream) {
    return StreamView::make(std::move(stream), lane_by_group_, &keys_);
}

void StreamStore::keys_changed() {
    const std::lock_guard lock(replace_mutex_);
    bool any = false;
    const auto now = table();
    for (const auto& [name, view] : *now) {
        if (view->crypt() == nullptr) {
            continue;
        }
        if (auto again = make_view(view->stream())) {
            any = any || (*again)->crypt() != view->crypt();
            replace(name, std::move(*again));
        }
    }
    if (any) {
        publish_routes();
    }
}

class StreamStore::Listening final : public StreamListening {
public:
    Listening(std::shared_ptr<Listeners> listeners, ChangeListener changed)
        : changed_(std::move(changed)), listeners_(std::move(listeners)) {
        const std::lock_guard lock(listeners_->mutex);
        listeners_->all.push_back(this);
    }
    ~Listening() override {
        const std::lock_guard lock(listeners_->mutex);
        std::erase(listeners_->all, this);
    }
    void tell(std::string_view stream) const { changed_(stream); }

private:
    ChangeListener changed_;
    std::shared_ptr<Listeners> listeners_;
};

std::unique_ptr<StreamListening> StreamStore::listen(ChangeListener changed) {
    return std::make_unique<Listening>(listeners_, std::move(changed));
}

void StreamStore::tell_listeners(std::string_view stream) {
    const std::lock_guard lock(listeners_->mutex);
    for (const Listening* listening : listeners_->all) {
        listening->tell(stream);
    }
}

void StreamStore::publish_routes() {
    if (!options_.publish) {
        return;
    }
    std::vector<StreamRoute> routes;
    const auto now = table();
    for (const auto& [name, view] : *now) {
        if (view->route()) {
            routes.push_back(*view->route());
        }
    }
    auto table = RouteTable::make(std::move(routes), options_.door_streams);
    if (!table) {
        say(std::string("no new route table for the lanes: ") + describe(table.error()));
        return;
    }
    options_.publish(std::move(*table));
}

// -- Changes --------------------------------------------------------------------------------------

Result<StreamStore::NextUid> StreamStore::read_next_uid() {
    const auto counter = catalog_.get(next_uid_key);
    if (!counter) {
        if (counter.error().code != Errc::not_found) {
            return std::unexpected(counter.error());
        }
        return NextUid{1, 0};
    }
    const auto number = parse_number(counter->value);
    if (!number) {
        return fail(Errc::corrupt);
    }
    return NextUid{*number, counter->revision};
}

Status StreamStore::create(const NewStream& wanted) {
    while (true) {
        if (find(wanted.name) || catalog_.get(key_of(stream_prefix, wanted.name))) {
            return fail(Errc::already_exists);
        }
        const std::uint32_t open_shards = open_shard_count();
        if (open_shards + std::uint64_t{wanted.shard_count} > options_.shards_max) {
            return fail(Errc::no_space, 0, open_shards);
        }
        PENSTOCK_TRY(next_uid, read_next_uid());
        const auto deleted = catalog_.get(last_deleted_key);
        if (!deleted && deleted.error().code != Errc::not_found) {
            return std::unexpected(deleted.error());
        }
        const auto deleted_s =
            deleted ? parse_number(deleted->value) : std::optional<std::uint64_t>(0);
        if (!deleted_s) {
            return fail(Errc::corrupt);
        }
        const std::int64_t now_ms = clock_.wall_ms();
        Stream stream;
        stream.name = wanted.name;
        stream.incarnation = next_uid.number;
        stream.mode = wanted.mode;
        stream.created_ms = now_ms;
        stream.max_record_kib = wanted.max_record_kib;
        stream.next_shard_number = wanted.shard_count;
        stream.tags = wanted.tags;
        stream.warm_throughput_mibps = wanted.warm_throughput_mibps;
        stream.distribution = wanted.distribution;
        const auto ranges = tile_hash_space(wanted.shard_count);
        for (std::uint32_t i = 0; i < wanted.shard_count; ++i) {
            const std::uint64_t uid = next_uid.number + 1 + i;
            Shard shard;
            shard.uid = static_cast<ShardUid>(uid);
            shard.number = i;
            shard.group = static_cast<GroupId>(1 + uid % lanes_.group_count());
            // Sequence numbers begin with this second: those of a deleted stream never come back.
            shard.created_s = std::max(now_ms / 1000, static_cast<std::int64_t>(*deleted_s) + 1);
            shard.range = ranges[i];
            stream.shards.push_back(shard);
        }
        const CatalogChange changes[] = {
            put_change(key_of(stream_prefix, wanted.name), encode_stream(stream), 0),
            put_change(std::string(next_uid_key),
                       std::to_string(next_uid.number + 1 + wanted.shard_count),
                       next_uid.revision)};
        const auto done = catalog_.commit(changes);
        if (done) {
            return {};
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(done.error());
        }
    }
}

Status StreamStore::change(
    std::string_view name, const std::function<Status(Stream&)>& edit,
    const std::function<void(const Stream&, std::vector<CatalogChange>&)>& add_changes) {
    while (true) {
        PENSTOCK_TRY(entry, catalog_.get(key_of(stream_prefix, name)));
        PENSTOCK_TRY(stream, decode_stream(entry.value));
        PENSTOCK_TRY_VOID(edit(stream));
        std::vector<CatalogChange> changes;
        changes.push_back(put_change(entry.key, encode_stream(stream), entry.revision));
        if (add_changes) {
            add_changes(stream, changes);
        }
        const auto done = catalog_.commit(changes);
        if (done) {
            return {};
        }
        if (done.error().code != Errc::canceled) {
            return std::unexpected(done.error());
        }
    }
}

Status StreamStore::remove(std::string_view name, bool with_consumers) {
    bool is_deleting_already = false;
    const Status done = change(
        name,
        [&](Stream& stream) -> Status {
            if (stream.status == StreamStatus::creating) {
                return fail(Errc::locked);
            }
            is_deleting_already = stream.status == StreamStatus::deleting;
            if (!is_deleting_already && !with_consumers && !stream.consumers.empty()) {
                return fail(Errc::not_empty);
            }
            stream.status = StreamStatus::deleting;
            return is_deleting_already ? fail(Errc::closed) : Status{};
        },
        [this](const Stream& stream, std::vector<CatalogChange>& changes) {
            const auto entry = catalog_.get(last_deleted_key);
            std::int64_t newest_s =
                entry ? static_cast<std::int64_t>(parse_number(entry->value).value_or(0)) : 0;
            for (const Shard& shard : stream.shards) {
                newest_s = std::max(newest_s, shard.created_s);
                changes.push_back(
                    put_change(tombstone_key(shard.uid), std::to_string(value(shard.group)), 0));
            }
            changes.push_back(put_change(std::string(last_deleted_key), std::to_string(newest_s),
                                         entry ? entry->revision : 0));
        });
    return is_deleting_already ? Status{} : done;
}

Status StreamStore::set_retention(std::string_view name, std::uint32_t hours_now,
                                  std::uint32_t hours) {
    return change(name, [&](Stream& stream) -> Status {
        if (stream.status != StreamStatus::active) {
            return fail(Errc::locked);
        }
        if (stream.retention_hours != hours_now) {
            return fail(Errc::canceled);
        }
        stream.retention_hours = hours;
        return {};
    });
}

Status StreamStore::update(std::string_view name, const std::function<Status(Stream&)>& edit) {
    return change(name, [&](Stream& stream) -> Status {
        if (stream.status == StreamStatus::deleting) {
            return fail(Errc::not_found);
        }
        if (stream.status == StreamStatus::creating) {
            return fail(Errc::locked);
        }
        return edit(stream);
    });
}

Result<Consumer> StreamStore::add_consumer(std::string_view stream_name, std::string_view name,
                                           const std::map<std::string, std::string>& tags,
                                           std::size_t consumers_max) {
    Consumer added;
    added.name = name;
    added.tags = tags;
    PENSTOCK_TRY_VOID(change(stream_name, [&](Stream& stream) -> Status {
        if (stream.status == StreamStatus::deleting) {
            return fail(Errc::not_found);
        }
        if (stream.status == StreamStatus::creating) {
            return fail(Errc::locked);
        }
        if (stream.consumer(name) != nullptr) {
            return fail(Errc::already_exists);
        }
        if (stream.consumers.size() >= consumers_max) {
            return fail(Errc::no_space);
        }
        added.number = stream.next_consumer_number++;
        added.created_ms = clock_.wall_ms();
        stream.consumers.push_back(added);
        return {};
    }));
    return added;
}

Status StreamStore::remove_consumer(std::string_view stream_name, std::uint64_t incarnation,
                                    std::uint32_t number) {
    return change(stream_name, [&](Stream& stream) -> Status {
        if (stream.incarnation != incarnation) {
            return fail(Errc::not_found);
        }
        const auto removed = std::erase_if(
            stream.consumers, [&](const Consumer& consumer) { return consumer.number == number; });
        return removed == 0 ? fail(Errc::not_found) : Status{};
    });
}

// -- The worker -----------------------------------------------------------------------------------

void StreamStore::say(const std::string& line) const {
    if (options_.log) {
        options_.log(line);
    }
}

void StreamStore::wake() {
    {
        const std::lock_guard lock(work_mutex_);
        work_waits_ = true;
    }
    work_ready_.notify_all();
}

bool StreamStore::settled() const {
    const std::lock_guard lock(work_mutex_);
    return !work_waits_ && !working_;
}

void StreamStore::run() {
    std::unique_lock lock(work_mutex_);
    while (true) {
        // Now and then it looks for closed shards that have expired.
        work_ready_.wait_for(lock, std::chrono::milliseconds(options_.look_every_ms),
                             [&] { return stop_ || work_waits_; });
        if (stop_) {
            return;
        }
        work_waits_ = false;
        working_ = true;
        lock.unlock();
        const bool all_done = carry_out_once();
        lock.lock();
        working_ = false;
        if (!all_done) {
            work_waits_ = true;
            work_ready_.wait_for(lock, std::chrono::milliseconds(options_.retry_ms),
                                 [&] { return stop_; });
        }
    }
}

bool StreamStore::carry_out_once() {
    bool all_done = drop_orphans();
    const auto now = table();
    for (const auto& [name, view] : *now) {
        const Stream& stream = view->stream();
        if (stream.status == StreamStatus::creating) {
            all_done = finish_creation(stream) && all_done;
        } else if (stream.status == StreamStatus::deleting) {
            all_done = finish_deletion(stream) && all_done;
        } else if (stream.status == StreamStatus::updating) {
            all_done = go_on_resharding(stream) && all_done;
        } else {
            all_done = remove_expired(stream) && all_done;
        }
        {
            const std::lock_guard lock(work_mutex_);
            if (stop_) {
                return true;
            }
        }
        all_done = apply_retention_if_due(name) && all_done;
    }
    return all_done;
}

bool StreamStore::apply_retention_if_due(const std::string& name) {
    std::shared_ptr<const StreamView> view;
    {
        const std::lock_guard lock(work_mutex_);
        const auto due = retention_due_.find(name);
        if (due == retention_due_.end()) {
            return true;
        }
        // As it is by now: the worker's table may be from before the change that set the mark.
        view = find(name);
        if (view && view->stream().status == StreamStatus::updating) {
            return true;  // looked at again when it is ACTIVE
        }
        retention_due_.erase(due);
    }
    // One that is gone has no lanes to tell, and one that is CREATING tells them itself.
    if (!view || view->stream().status != StreamStatus::active || apply_retention(view->stream())) {
        return true;
    }
    const std::lock_guard lock(work_mutex_);
    retention_due_.insert(name);
    return false;
}

bool StreamStore::finish_creation(const Stream& stream) {
    std::vector<std::unique_ptr<AddShardRequest>> requests;
    std::vector<GroupId> groups;
    for (const Shard& shard : stream.shards) {
        auto request = std::make_unique<AddShardRequest>();
        request->shard = shard.uid;
        request->group = shard.group;
        request->retention_ms = stream.retention_ms();
        requests.push_back(std::move(request));
        groups.push_back(shard.group);
    }
    if (const Errc outcome = ask_all(pointers(requests), groups); outcome != Errc::ok) {
        say("stream " + stream.name + " stays CREATING: a shard could not be added (" +
            describe(outcome) + "); trying again");
        return false;
    }
    const Status done = change(stream.name, [&](Stream& now) -> Status {
        if (now.incarnation != stream.incarnation || now.status != StreamStatus::creating) {
            return fail(Errc::not_found);
        }
        now.status = StreamStatus::active;
        return {};
    });
    return done || done.error().code == Errc::not_found;
}

bool StreamStore::drop_shards(std::span<const std::pair<ShardUid, GroupId>> shards) {
    std::vector<std::unique_ptr<DropShardRequest>> requests;
    std::vector<GroupId> groups;
    for (const auto& [uid, group] : shards) {
        auto request = std::make_unique<DropShardRequest>();
        request->shard = uid;
        request->group = group;
        requests.push_back(std::move(request));
        groups.push_back(group);
    }
    const Errc outcome = ask_all(pointers(requests), groups);
    if (outcome != Errc::ok) {
        say(std::string("shards of a deleted stream could not be dropped (") + describe(outcome) +
            "); trying again");
        return false;
    }
    for (const auto& [uid, group] : shards) {
        meter_.forget(uid);
    }
    return true;
}

bool StreamStore::finish_deletion(const Stream& stream) {
    std::vector<std::pair<ShardUid, GroupId>> shards;
    for (const Shard& shard : stream.shards) {
        shards.emplace_back(shard.uid, shard.group);
    }
    if (!drop_shards(shards)) {
        return false;
    }
    const auto entry = catalog_.get(key_of(stream_prefix, stream.name));
    if (!entry) {
        return entry.error().code == Errc::not_found;
    }
    const auto now = decode_stream(entry->value);
    if (!now || now->incarnation != stream.incarnation) {
        return true;
    }
    std::vector<CatalogChange> changes;
    changes.push_back(remove_change(entry->key, entry->revision));
    for (const auto& [uid, group] : shards) {
        changes.push_back(remove_change(tombstone_key(uid), std::nullopt));
    }
    return catalog_.commit(changes).has_value();
}

bool StreamStore::drop_orphans() {
    if (orphans_.empty()) {
        return true;
    }
    if (!drop_shards(orphans_)) {
        return false;
    }
    std::vector<CatalogChange> changes;
    for (const auto& [uid, group] : orphans_) {
        changes.push_back(remove_change(tombstone_key(uid), std::nullopt));
    }
    if (!catalog_.commit(changes)) {
        return false;
    }
    orphans_.clear();
    return true;
}

bool StreamStore::apply_retention(const Stream& stream) {
    std::vector<std::unique_ptr<SetRetentionRequest>> requests;
    std::vector<GroupId> groups;
    for (const Shard& shard : stream.shards) {
        auto request = std::make_unique<SetRetentionRequest>();
        request->shard = shard.uid;
        request->retention_ms = stream.retention_ms();
        requests.push_back(std::move(request));
        groups.push_back(shard.group);
    }
    const Errc outcome = ask_all(pointers(requests), groups);
    if (outcome != Errc::ok) {
        say("stream " + stream.name + ": the lanes did not take its retention (" +
            describe(outcome) + "); trying again");
    }
    return outcome == Errc::ok;
}

Errc StreamStore::ask_all(std::span<LaneRequest* const> requests, std::span<const GroupId> groups) {
    std::vector<unsigned> lanes;
    for (const GroupId group : groups) {
        const auto lane = lane_by_group_.find(group);
        if (lane == lane_by_group_.end()) {
            return Errc::unavailable;
        }
        lanes.push_back(lane->second);
    }
    return ask_lanes(requests, lanes);
}

Errc StreamStore::ask_lanes(std::span<LaneRequest* const> requests,
                            std::span<const unsigned> lanes) {
    Errc outcome = Errc::ok;
    std::size_t posted = 0;
    std::size_t answered = 0;
    // What was posted must come back before this returns; after a failure nothing more is posted.
    while (answered < posted || (posted < requests.size() && outcome == Errc::ok)) {
        bool inbox_full = false;
        while (posted < requests.size() && posted - answered < in_flight_max &&
               outcome == Errc::ok && !inbox_full) {
            requests[posted]->reply_to = &replies_;
            if (lanes_.post(lanes[posted], *requests[posted])) {
                ++posted;
            } else {
                inbox_full = true;
            }
        }
        LaneRequest* answer = replies_.pop();
        if (answer == nullptr) {
            if (answered < posted || inbox_full) {
                wait_readable(replies_.event_fd(), inbox_full ? 1 : 1000);
            }
            if (inbox_full && answered == posted) {
                const std::lock_guard lock(work_mutex_);
                outcome = stop_ ? Errc::canceled : outcome;
            }
            continue;
        }
        ++answered;
        if (answer->outcome != Errc::ok && outcome == Errc::ok) {
            outcome = answer->outcome;
        }
    }
    return outcome;
}

}  // namespace penstock::kinesis
