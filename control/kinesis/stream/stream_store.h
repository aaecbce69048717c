// Streams: made, changed and deleted in the catalog, carried out on the lanes, published to both.
//
// What must happen is committed in the catalog first; a worker thread then carries it out and says
// so in the catalog. After a crash the worker finds what was left half done and goes on: adding a
// shard twice and dropping one that is gone are no errors.
//
//   stream/<name>      the stream and its shards (docs/formats/catalog.md)
//   tombstone/<uid>    a shard that is to be dropped, kept until its group has confirmed that
//   meta/next_uid      next shard or stream number to give out; never goes back
//   secret/iterator    key that authenticates shard iterators and page tokens of this replica set.
//                      Held in clear: whoever can read the data directories can forge iterators,
//                      which give nothing that the directories don't.
//
// Changes of shards and their steps: docs/resharding.md, stream_store_reshard.cc.
//
// Runs on: any control thread, plus one worker of its own. Calls block on the catalog.
// Guarantees: a shard number is never used twice; a shard is known to its group before its stream
// is ACTIVE; a tombstone is committed before its shard is dropped.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "control/catalog/catalog.h"
#include "control/kinesis/stream/on_demand.h"
#include "control/kinesis/stream/shard_meter.h"
#include "control/kinesis/stream/stream.h"
#include "dataplane/door/routes.h"
#include "dataplane/lane/request.h"
#include "storage/base/clock.h"

namespace penstock::kinesis {

struct NewShard;
struct ReshardParts;

struct NewStream {
    std::string name;
    StreamMode mode = StreamMode::provisioned;
    std::uint32_t shard_count = 1;
    std::uint32_t max_record_kib = 1024;
    std::map<std::string, std::string> tags;
    std::uint32_t warm_throughput_mibps = 0;
    Distribution distribution = Distribution::by_key;
};

struct StreamStoreOptions {
    // Open shards of all streams together.
    std::uint32_t shards_max = 20'000;
    OnDemandLimits on_demand;
    // The doors' streams, in the doors' order, for RouteTable::make().
    std::vector<std::string> door_streams;
    // Takes each new table. Called from one thread at a time.
    std::function<void(std::unique_ptr<const RouteTable>)> publish;
    // One line for an operator; called on the worker, and before it starts.
    std::function<void(std::string_view)> log;
    // How long the worker waits before it tries again what failed.
    std::uint64_t retry_ms = 200;
    // Keys of encrypted streams; null: there are none. Must outlive the store.
    keys::KeyStore* keys = nullptr;
    // How often it looks for closed shards whose records have all expired.
    std::uint64_t look_every_ms = 60'000;
};

// A registration that ends with this; no call is in progress when the destructor returns.
class StreamListening {
public:
    virtual ~StreamListening() = default;
};

class StreamStore {
public:
    // Reads the catalog, publishes the first route table and starts the worker. All three services
    // must outlive the store; the lanes must still answer when it is destroyed.
    // Errors: the catalog's; corrupt and unsupported for what it holds.
    [[nodiscard]] static Result<std::unique_ptr<StreamStore>> open(Catalog& catalog,
                                                                   ShardService& lanes,
                                                                   Clock& clock,
                                                                   StreamStoreOptions options);
    ~StreamStore();
    StreamStore(const StreamStore&) = delete;
    StreamStore& operator=(const StreamStore&) = delete;

    [[nodiscard]] std::shared_ptr<const StreamTable> table() const;
    // Null when there is none.
    [[nodiscard]] std::shared_ptr<const StreamView> find(std::string_view name) const;

    // The stream is CREATING when this returns and ACTIVE soon after.
    // Errors: already_exists, no_space (shards_max; detail = open shards now), unavailable.
    [[nodiscard]] Status create(const NewStream& stream);
    // The stream is DELETING when this returns and gone soon after.
    // Errors: not_found, locked (it is CREATING), not_empty (it has consumers, and they are not to
    // go with it), unavailable. Deleting twice is no error.
    [[nodiscard]] Status remove(std::string_view name, bool with_consumers = false);
    // Errors: not_found, locked (it is not ACTIVE), canceled (retention is not what it was),
    // unavailable.
    [[nodiscard]] Status set_retention(std::string_view name, std::uint32_t hours_now,
                                       std::uint32_t hours);

    // Errors: not_found (of the stream), locked (it is not ACTIVE), already_exists, no_space (it
    // has `consumers_max`), unavailable.
    [[nodiscard]] Result<Consumer> add_consumer(std::string_view stream, std::string_view name,
                                                const std::map<std::string, std::string>& tags,
                                                std::size_t consumers_max);
    // Errors: not_found (also when the stream is another one of the same name), unavailable.
    [[nodiscard]] Status remove_consumer(std::string_view stream, std::uint64_t incarnation,
                                         std::uint32_t number);

    // `changed` is called with the name of each stream whose entry has changed, or that is gone, on
    // whatever thread changed it, until what this returns is destroyed.
    using ChangeListener = std::function<void(std::string_view stream)>;
    [[nodiscard]] std::unique_ptr<StreamListening> listen(ChangeListener changed);
    // The stream is UPDATING when this returns and ACTIVE with other shards soon after. The plan is
    // made from the stream as the catalog has it, perhaps more than once, and may edit it; an empty
    // one changes only what it edited. Errors: not_found, locked (not ACTIVE), no_space
    // (shards_max; detail = open shards of all streams now), unavailable, the plan's own.
    using MakePlan = std::function<Result<std::vector<NewShard>>(Stream&)>;
    [[nodiscard]] Status reshard(std::string_view name, const MakePlan& make_plan);

    // Changes what lanes need not hear of: tags, limits, settings. `edit` sees the stream as it is
    // in the catalog, perhaps more than once, and its error is returned.
    // Errors: not_found, locked (it is CREATING), unavailable.
    [[nodiscard]] Status update(std::string_view name, const std::function<Status(Stream&)>& edit);

    // What reading and refusing cost each shard whose metrics are switched on.
    [[nodiscard]] ShardMeter& meter() noexcept { return meter_; }
    // What streams may be encrypted with.
    [[nodiscard]] keys::KeyStore& keys() noexcept { return keys_; }
    // Has each encrypted stream use the keys as they are now: after KeyStore::reload().
    void keys_changed();
    // For what is kept beside the streams.
    [[nodiscard]] Catalog& catalog() noexcept { return catalog_; }
    [[nodiscard]] std::uint32_t shards_max() const noexcept { return options_.shards_max; }
    [[nodiscard]] const OnDemandLimits& on_demand() const noexcept { return options_.on_demand; }
    // 32 bytes, random, the same after a restart.
    [[nodiscard]] std::string_view iterator_key() const noexcept { return iterator_key_; }
    [[nodiscard]] std::uint32_t open_shard_count() const;
    // Nothing is CREATING or DELETING, and nothing else waits for the worker.
    [[nodiscard]] bool settled() const;

private:
    StreamStore(Catalog& catalog, ShardService& lanes, Clock& clock, StreamStoreOptions options);
    [[nodiscard]] Status load();
    [[nodiscard]] Status load_iterator_key();
    void on_stream_event(const CatalogEvent& event);
    [[nodiscard]] Result<std::shared_ptr<const StreamView>> make_view(Stream stream);
    void replace(std::string_view name, std::shared_ptr<const StreamView> view);
    void publish_routes();
    void tell_listeners(std::string_view stream);
    [[nodiscard]] Status change(
        std::string_view name, const std::function<Status(Stream&)>& edit,
        const std::function<void(const Stream&, std::vector<CatalogChange>&)>& add_changes = {});
    struct NextUid {
        std::uint64_t number = 1;
        Revision revision = 0;
    };
    [[nodiscard]] Result<NextUid> read_next_uid();
    void wake();

    // -- The worker
    void run();
    [[nodiscard]] bool carry_out_once();
    [[nodiscard]] bool finish_creation(const Stream& stream);
    [[nodiscard]] bool finish_deletion(const Stream& stream);
    [[nodiscard]] bool apply_retention_if_due(const std::string& name);
    [[nodiscard]] bool apply_retention(const Stream& stream);
    [[nodiscard]] bool drop_orphans();
    [[nodiscard]] bool go_on_resharding(const Stream& stream);
    [[nodiscard]] bool add_children(const Stream& stream);
    [[nodiscard]] bool wait_for_routes();
    [[nodiscard]] bool close_parents(const Stream& stream, const ReshardParts& parts,
                                     std::vector<Sequence>& closing_indexes,
                                     std::int64_t& boundary_ms);
    [[nodiscard]] bool remove_expired(const Stream& stream);
    [[nodiscard]] bool drop_shards(std::span<const std::pair<ShardUid, GroupId>> shards);
    // Posts all and waits for all; the first outcome that isn't ok.
    [[nodiscard]] Errc ask_all(std::span<LaneRequest* const> requests,
                               std::span<const GroupId> groups);
    [[nodiscard]] Errc ask_lanes(std::span<LaneRequest* const> requests,
                                 std::span<const unsigned> lanes);
    void say(const std::string& line) const;

    class Listening;
    // Outlives the store when somebody still listens.
    struct Listeners {
        std::mutex mutex;
        std::vector<Listening*> all;
    };

    Catalog& catalog_;
    ShardService& lanes_;
    Clock& clock_;
    const StreamStoreOptions options_;
    std::map<GroupId, unsigned> lane_by_group_;
    std::string iterator_key_;
    ShardMeter meter_;

    keys::KeyStore no_keys_;
    keys::KeyStore& keys_;

    // Held by whoever makes the next table and publishes it.
    std::mutex replace_mutex_;
    mutable std::mutex table_mutex_;
    std::shared_ptr<const StreamTable> table_;

    mutable std::mutex work_mutex_;
    std::condition_variable work_ready_;
    bool stop_ = false;
    bool work_waits_ = false;
    bool working_ = false;
    // Streams whose lanes may have another retention. Marked once the table has the new one, so
    // whoever takes a mark away finds it there.
    std::set<std::string, std::less<>> retention_due_;
    std::vector<std::pair<ShardUid, GroupId>> orphans_;

    std::shared_ptr<Listeners> listeners_ = std::make_shared<Listeners>();

    ReplyRing replies_;
    std::unique_ptr<Catalog::Watch> watch_;
    std::thread worker_;
};

}  // namespace penstock::kinesis
