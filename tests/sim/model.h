// What a node was asked and what it answered: enough to tell whether a log read back later is one
// that it may show.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "storage/io/sim_world.h"
#include "tests/sim/node.h"

namespace penstock::test {

// A promise was broken.
struct Broken : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Data of a record: stamped with its serial, otherwise a slice of one noise arena, so that large
// records cost nothing to remember.
class RecordData {
public:
    static constexpr std::size_t largest = 10U << 20;
    RecordData();
    // Good until the next call.
    [[nodiscard]] Bytes make(std::uint64_t serial, std::uint32_t length);
    [[nodiscard]] bool matches(std::uint64_t serial, std::uint32_t length, Bytes data) const;

private:
    [[nodiscard]] std::size_t slice(std::uint64_t serial) const { return serial * 4099 % 65'536; }
    std::vector<std::byte> noise_;
    std::vector<std::byte> scratch_;
};

struct SentRecord {
    std::uint64_t serial = 0;
    std::uint32_t length = 0;
    unsigned life = 0;
    std::int64_t arrival_ms = 0;
    bool must_stay = false;  // acknowledged, or seen by a reader
};

struct ModelShard {
    unsigned group = 0;
    std::int64_t retention_ms = 0;
    bool add_acked = false;
    bool dropping = false;  // asked for; from now on it may be there or not
    bool drop_acked = false;
    bool closing = false;  // asked for in this life, or done
    bool close_acked = false;
    Sequence trim = 1;
    Sequence highest = 0;                    // ever given out
    std::map<Sequence, SentRecord> records;  // of the log, as far as is known
};

class Model {
public:
    explicit Model(SimWorld& world) : world_(world) {}

    // Appends one record and begins to wait for it. False: the group said no.
    bool append(SimNode& node, std::uint64_t uid, std::uint32_t length, AckLevel level);
    void add_shard(SimNode& node, unsigned group, std::uint64_t uid, std::int64_t retention_ms);
    void drop_shard(SimNode& node, std::uint64_t uid);
    void close_shard(SimNode& node, std::uint64_t uid);
    // Reads the whole of every shard through plans. After a start, what is not there any more is
    // void and must never come back. Throws Broken.
    void check(SimNode& node, bool after_start);
    // A few reads at random places of a running node.
    void spot_check(SimNode& node, SimRandom& random);
    // Answers that have come since the last call are taken note of.
    void collect();
    [[nodiscard]] std::size_t waiting() const { return waiting_.size(); }
    [[nodiscard]] std::string describe_waiting() const;
    // The process died: nothing that waits will be answered.
    void forget_waiters();

    [[nodiscard]] std::map<std::uint64_t, ModelShard>& shards() { return shards_; }
    [[nodiscard]] std::uint64_t acked() const { return acked_; }
    [[nodiscard]] std::uint64_t read() const { return read_; }
    [[nodiscard]] unsigned life() const { return life_; }
    void next_life() { ++life_; }
    // Ranges said to be lost are no failure of the log (planted double damage).
    bool tolerate_lost = false;
    std::uint64_t lost_ranges = 0;

private:
    struct Waiter : CommitWaiter {
        std::uint64_t uid = 0;
        Sequence at = 0;
        bool done = false;
        bool for_drop = false;
        bool for_add = false;
        bool for_close = false;
        Errc outcome = Errc::ok;
    };
    static void on_done(CommitWaiter& self, Errc outcome) noexcept;
    // Reads [from, end) of a shard; expects exactly the model's records unless `cut` is set, then
    // what is missing at the end of a life is void.
    void check_end(SimNode& node, std::uint64_t uid, const ModelShard& shard) const;
    void read_shard(SimNode& node, std::uint64_t uid, ModelShard& shard, bool cut);
    void compare(std::uint64_t uid, ModelShard& shard, const std::map<Sequence, bool>& found,
                 Sequence trim, bool cut);
    [[noreturn]] void broken(std::uint64_t uid, Sequence at, const std::string& what) const;

    SimWorld& world_;
    RecordData data_;
    std::map<std::uint64_t, ModelShard> shards_;
    std::vector<std::unique_ptr<Waiter>> waiting_;
    std::uint64_t next_serial_ = 1;
    std::uint64_t acked_ = 0;
    std::uint64_t read_ = 0;
    unsigned life_ = 0;
};

}  // namespace penstock::test
