// Which shards of a stream are read now: parents before their children, whatever splits and merges
// happen meanwhile.
//
// Runs on: one thread at a time. Allocates: per shard.
// Guarantees: a shard is handed out once, and only when all of its parents that are read have been
// read to their end (promise 8).
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace penstock::consumer {

struct ShardEntry {
    std::string id;
    std::string parent;           // empty: none, or not known any more
    std::string adjacent_parent;  // of a merge
    bool is_closed = false;
    friend bool operator==(const ShardEntry&, const ShardEntry&) = default;
};

class Lineage {
public:
    // Shards that were not known before are taken in. `open_only`: those closed already are as if
    // read to their end.
    void learn(std::span<const ShardEntry> shards, bool open_only);
    // Read to its end before now, as a checkpoint says.
    void note_ended(const std::string& id);
    // To be read, each once: what can be begun now. Those of which a parent is known come as
    // `is_child`.
    struct Ready {
        ShardEntry shard;
        bool is_child = false;  // a shard before it was read to its end by us
    };
    [[nodiscard]] std::vector<Ready> take_ready();
    // A shard handed out was read to its end. True when children of it are known.
    bool ended(const std::string& id);

    [[nodiscard]] bool knows(const std::string& id) const { return shards_.contains(id); }
    [[nodiscard]] std::size_t reading() const noexcept { return reading_; }
    [[nodiscard]] std::size_t size() const noexcept { return shards_.size(); }

private:
    enum class State : unsigned char { waiting, reading, ended };
    struct Node {
        ShardEntry entry;
        State state = State::waiting;
        bool passed_over = false;  // ended without having been read by us
    };
    [[nodiscard]] bool is_passed(const std::string& id) const;
    [[nodiscard]] bool was_read(const std::string& id) const;

    std::map<std::string, Node> shards_;
    std::size_t reading_ = 0;
};

}  // namespace penstock::consumer
