// Metrics of encrypted streams and their keys.
#include <algorithm>

#include "control/keys/key_store.h"
#include "control/node/node_metrics.h"

namespace penstock {

using metrics::Kind;
using metrics::Samples;

void NodeMetrics::add_key_families() {
    add(Kind::gauge, "penstock_keys", "Keys of the keys file, by state.", [this](Samples& out) {
        const auto ring = sources_.streams->keys().ring();
        std::uint64_t enabled = 0;
        std::uint64_t all = 0;
        if (ring) {
            all = ring->keys().size();
            enabled = static_cast<std::uint64_t>(
                std::count_if(ring->keys().begin(), ring->keys().end(),
                              [](const keys::Key& key) { return key.enabled; }));
        }
        out.add(enabled, {{"state", "enabled"}});
        out.add(all - enabled, {{"state", "disabled"}});
    });
    add(Kind::gauge, "penstock_encrypted_streams",
        "Streams whose records are encrypted, by whether their key can be used.",
        [this](Samples& out) {
            std::uint64_t usable = 0;
            std::uint64_t refused = 0;
            const auto table = sources_.streams->table();
            for (const auto& [name, view] : *table) {
                if (view->stream().encryption.key_id.empty() || view->crypt() == nullptr) {
                    continue;
                }
                ++(view->crypt()->seal_fault() == keys::KeyFault::none ? usable : refused);
            }
            out.add(usable, {{"key", "usable"}});
            out.add(refused, {{"key", "refused"}});
        });
    add(Kind::counter, "penstock_key_refusals_total",
        "Requests and subscriptions refused because a key could not be used, by exception.",
        [this](Samples& out) {
            const keys::KeyCounters& counters = sources_.streams->keys().counters();
            for (std::size_t i = 1; i < keys::key_fault_count; ++i) {
                out.add(counters.refused[i].load(std::memory_order_relaxed),
                        {{"exception",
                          std::string(keys::exception_of(static_cast<keys::KeyFault>(i)))}});
            }
        });
    add(Kind::counter, "penstock_records_not_opened_total",
        "Encrypted records that did not open with their key: changed, or moved, on the drives.",
        [this](Samples& out) {
            out.add(sources_.streams->keys().counters().damaged.load(std::memory_order_relaxed));
        });
    add(Kind::counter, "penstock_keys_reloads_total",
        "Times the keys file was read again, by result.", [this](Samples& out) {
            const keys::KeyCounters& counters = sources_.streams->keys().counters();
            out.add(counters.reloads.load(std::memory_order_relaxed), {{"result", "done"}});
            out.add(counters.failed_reloads.load(std::memory_order_relaxed),
                    {{"result", "failed"}});
        });
}

}  // namespace penstock
