#include "tools/consumer/lineage.h"

namespace penstock::consumer {

void Lineage::learn(std::span<const ShardEntry> shards, bool open_only) {
    for (const ShardEntry& shard : shards) {
        const auto [at, is_new] = shards_.try_emplace(shard.id, Node{shard, State::waiting, false});
        if (is_new && open_only && shard.is_closed) {
            at->second.state = State::ended;
            at->second.passed_over = true;
        }
    }
}

void Lineage::note_ended(const std::string& id) {
    Node& node = shards_[id];
    node.entry.id = id;
    node.state = State::ended;
}

// A parent that is not known is gone: retention has taken it.
bool Lineage::is_passed(const std::string& id) const {
    const auto found = shards_.find(id);
    return found == shards_.end() || found->second.state == State::ended;
}

bool Lineage::was_read(const std::string& id) const {
    const auto found = shards_.find(id);
    return found != shards_.end() && found->second.state == State::ended &&
           !found->second.passed_over;
}

std::vector<Lineage::Ready> Lineage::take_ready() {
    std::vector<Ready> ready;
    for (auto& [id, node] : shards_) {
        const ShardEntry& entry = node.entry;
        if (node.state != State::waiting || !is_passed(entry.parent) ||
            !is_passed(entry.adjacent_parent)) {
            continue;
        }
        node.state = State::reading;
        ++reading_;
        ready.push_back({entry, was_read(entry.parent) || was_read(entry.adjacent_parent)});
    }
    return ready;
}

bool Lineage::ended(const std::string& id) {
    Node& node = shards_.at(id);
    node.state = State::ended;
    --reading_;
    for (const auto& [other, child] : shards_) {
        if (child.entry.parent == id || child.entry.adjacent_parent == id) {
            return true;
        }
    }
    return false;
}

}  // namespace penstock::consumer
