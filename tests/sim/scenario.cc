#include "tests/sim/scenario.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>

#include "tests/sim/model.h"
#include "tests/sim/node.h"

namespace penstock::test {

namespace {

enum class Fault : std::uint8_t {
    none,
    write_errors,
    flush_errors,
    one_error,
    read_errors,
    stall,
    slow,
    full,
    gone,
    old_copy,
    blank,
    bit_flips,
    rotten_blocks,
    lost_writes,
    misdirected_writes,
    read_flips,
    lying_flush,
    count_
};

constexpr std::array<const char*, static_cast<std::size_t>(Fault::count_)> fault_names{
    "none",       "write_errors", "flush_errors",  "one_error",   "read_errors",
    "stall",      "slow",         "full",          "gone",        "old_copy",
    "blank",      "bit_flips",    "rotten_blocks", "lost_writes", "misdirected_writes",
    "read_flips", "lying_flush"};

// What such a replica holds may be wrong for good, so no other may fail later.
bool taints(Fault fault) {
    return fault == Fault::old_copy || fault >= Fault::bit_flips;
}

class Scenario {
public:
    explicit Scenario(const ScenarioOptions& options)
        : options_(options),
          random_(options.seed * 0x9e37 + 17),
          world_(world_options(options.seed)),
          model_(world_) {
        groups_ = random_.below(4) == 0 ? 2 : 1;
        victim_ = static_cast<unsigned>(random_.below(replica_count));
        geometry_ = small_geometry();
        if (random_.below(4) == 0) {
            geometry_.container_bytes = 32U << 20;
            geometry_.chunk_unit_bytes = 1U << 20;
            geometry_.chunk_units_max = 16;
        }
        large_records_ = random_.below(3) == 0 && geometry_.container_bytes > (16U << 20);
        retention_ms_ = random_.below(3) == 0 ? 3'600'000 : 86'400'000;
        shards_wanted_ = 1 + static_cast<unsigned>(random_.below(6));
        if (options.two_liars) {
            world_.faults(0).lies_about_flush = true;
            world_.faults(1).lies_about_flush = true;
            world_.faults(2).latency_factor = 200;  // acknowledged on the other two
        }
    }

    ScenarioResult run() {
        ScenarioResult result;
        try {
            const auto lives = 2 + random_.below(5);
            for (std::uint64_t life = 0; life < lives; ++life) {
                live(life + 1 == lives);
            }
        } catch (const Broken& broken) {
            result.broken = broken.what();
        }
        node_.reset();
        result.trace_digest = world_.trace_digest();
        result.acked = model_.acked();
        result.read = model_.read();
        result.lives = model_.life();
        result.crashes = crashes_;
        result.fault = fault_names[static_cast<std::size_t>(fault_)];
        return result;
    }

private:
    static SimOptions world_options(std::uint64_t seed) {
        SimOptions options;
        options.seed = seed;
        return options;
    }

    void say(const std::string& what) const {
        if (options_.verbose) {
            std::printf("  %8.3f s: %s\n", static_cast<double>(world_.now_ns()) / 1e9,
                        what.c_str());
            std::fflush(stdout);
        }
    }

    void come_up_again() {
        ++crashes_;
        model_.forget_waiters();
        node_.reset();
        world_.crash_at(0);
        world_.restart();
    }

    CrashKind crash_kind() { return random_.below(3) == 0 ? CrashKind::kill : CrashKind::power; }

    // Starts the node, over crashes during the start and through waits for the replica that is
    // away.
    void start() {
        NodeOptions options;
        options.geometry = geometry_;
        options.groups = groups_;
        options.scrub_bytes_per_s = options_.seed % 2 == 0 ? 64U << 20 : 0;
        for (unsigned attempt = 0;; ++attempt) {
            if (random_.below(4) == 0 && attempt < 3) {
                world_.crash_at(1 + random_.below(80), io_changes, crash_kind());
            }
            std::string message;
            auto started = SimNode::start(world_, options, message);
            if (world_.down()) {
                say("crashed while starting");
                if (started) {
                    node_ = std::move(*started);
                }
                come_up_again();
                continue;
            }
            world_.crash_at(0);
            if (started) {
                node_ = std::move(*started);
                return;
            }
            say("did not start: " + describe(started.error()) + " " + message);
            if (started.error().code == Errc::wait_for_replica && fault_ != Fault::none &&
                attempt < 8) {
                if (away_ && random_.below(2) == 0) {
                    bring_back();
                } else {
                    options.accept_loss = true;
                }
                continue;
            }
            throw Broken("life " + std::to_string(model_.life()) +
                         ": does not start: " + describe(started.error()) + " detail " +
                         std::to_string(started.error().detail) + " " + message);
        }
    }

    void bring_back() {
        away_ = false;
        say("replica " + std::to_string(victim_) + " is back");
        if (fault_ == Fault::old_copy && copy_) {
            world_.restore(victim_, *copy_);
        } else {
            world_.set_gone(victim_, false);
        }
    }

    void choose_fault() {
        clear_fault();
        if (!taints(fault_)) {
            if (node_->whole()) {
                victim_ = static_cast<unsigned>(random_.below(replica_count));
            }
            fault_ =
                random_.below(4) == 0 || options_.two_liars
                    ? Fault::none
                    : static_cast<Fault>(random_.below(static_cast<std::uint64_t>(Fault::count_)));
        }
        fault_at_ = random_.below(600);
        fault_until_ = fault_at_ + 20 + random_.below(1200);
        copy_.reset();
        if (fault_ == Fault::old_copy && (model_.life() == 1 || random_.below(2) == 0)) {
            copy_ = world_.snapshot(victim_);
        }
        say("fault " + std::string(fault_names[static_cast<std::size_t>(fault_)]) + " of replica " +
            std::to_string(victim_));
    }

    void clear_fault() {
        if (options_.two_liars) {
            return;
        }
        world_.faults(victim_) = SimFaults{};
        world_.unstall(victim_);
        if (away_) {
            bring_back();
        }
    }

    void begin_fault() {
        SimFaults& faults = world_.faults(victim_);
        switch (fault_) {
            case Fault::write_errors:
                faults.write_error_per_million =
                    static_cast<std::uint32_t>(random_.between(1'000, 60'000));
                break;
            case Fault::flush_errors:
                faults.flush_error_per_million = 100'000;
                break;
            case Fault::one_error:
                world_.fail_at(1 + random_.below(40), 5, io_any,
                               static_cast<ReplicaMask>(1U << victim_));
                break;
            case Fault::read_errors:
                faults.read_error_per_million = 100'000;
                break;
            case Fault::stall:
                world_.stall(victim_, random_.between(10'000'000, 12'000'000'000));
                break;
            case Fault::slow:
                faults.latency_factor = static_cast<std::uint32_t>(random_.between(5, 400));
                break;
            case Fault::full:
                faults.capacity_bytes = world_.used_bytes(victim_) + random_.below(9U << 20);
                break;
            case Fault::gone:
            case Fault::old_copy:
                if (fault_ == Fault::old_copy && !copy_) {
                    copy_ = world_.snapshot(victim_);
                }
                world_.set_gone(victim_);
                away_ = true;
                break;
            case Fault::blank:
                world_.set_blank(victim_);
                if (!prepare_blank(world_, victim_) && !world_.down()) {
                    throw Broken("the blank replica cannot be prepared");
                }
                break;
            case Fault::lost_writes:
                faults.lost_write_per_million = 50'000;
                break;
            case Fault::misdirected_writes:
                faults.misdirected_write_per_million = 50'000;
                break;
            case Fault::read_flips:
                faults.read_flip_per_million = 50'000;
                break;
            case Fault::lying_flush:
                faults.lies_about_flush = true;
                break;
            default:
                break;
        }
    }

    void rot() {
        const auto names = world_.list(victim_);
        if (names.empty()) {
            return;
        }
        const std::string& name = names[random_.below(names.size())];
        const auto content = world_.read_raw(victim_, name);
        if (!content || content->empty()) {
            return;
        }
        if (fault_ == Fault::bit_flips) {
            world_.flip_bit(victim_, name, random_.below(content->size()),
                            static_cast<unsigned>(random_.below(8)));
        } else {
            world_.corrupt_range(victim_, name,
                                 align_down(random_.below(content->size()), block_bytes),
                                 block_bytes);
        }
    }

    void live(bool last) {
        model_.next_life();
        start();
        say("life " + std::to_string(model_.life()) + " epoch " +
            std::to_string(value(node_->opened().epoch)));
        model_.check(*node_, true);
        choose_fault();
        if (random_.below(5) != 0) {
            world_.crash_at(1 + random_.below(random_.below(2) == 0 ? 60 : 1500), io_changes,
                            crash_kind());
        }
        const std::uint64_t count = 100 + random_.below(1500);
        const auto pace = random_.below(4);
        for (std::uint64_t i = 0; i < count && !world_.down(); ++i) {
            if (i == fault_at_) {
                begin_fault();
            }
            if (i == fault_until_ && !taints(fault_)) {
                clear_fault();
            }
            if (i == fault_until_ && away_) {
                bring_back();
            }
            if ((fault_ == Fault::bit_flips || fault_ == Fault::rotten_blocks) &&
                random_.below(40) == 0) {
                rot();
            }
            act(pace);
            if (node_->pool(0).used_bytes() > node_->pool(0).size_bytes()) {
                throw Broken("memory beyond its bound");
            }
        }
        if (!world_.down()) {
            finish(last);
        }
        if (!world_.down()) {
            if (crash_kind() == CrashKind::kill) {
                world_.crash_kill();
            } else {
                world_.crash_power();
            }
        }
        come_up_again();
    }

    void act(std::uint64_t pace) {
        auto& shards = model_.shards();
        if (shards.size() < shards_wanted_) {
            model_.add_shard(*node_, static_cast<unsigned>(random_.below(groups_)), next_uid_++,
                             retention_ms_);
        }
        const auto what = random_.below(400);
        if (what == 0 && shards.size() > 1) {
            auto it = shards.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random_.below(shards.size())));
            if (!it->second.dropping && it->second.add_acked) {
                model_.drop_shard(*node_, it->first);
            }
        } else if (what < 3) {
            world_.advance(random_.between(1'000'000, 30'000'000'000));
        } else if (what == 3 && retention_ms_ < 4'000'000) {
            // Hours pass, as steps that the node sees one by one.
            for (unsigned step = 0; step < 40 && !world_.down(); ++step) {
                world_.advance(120'000'000'000);
                node_->step();
            }
        } else if (what == 15 && !options_.two_liars && random_.below(2) == 0) {
            auto it = shards.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random_.below(shards.size())));
            const auto open = std::ranges::count_if(
                shards, [](const auto& entry) { return !entry.second.closing; });
            if (!it->second.dropping && it->second.add_acked && open > 1) {
                model_.close_shard(*node_, it->first);
            }
        } else if (what < 16) {
            model_.spot_check(*node_, random_);
        } else {
            auto it = shards.begin();
            std::advance(it, static_cast<std::ptrdiff_t>(random_.below(shards.size())));
            if (!it->second.dropping) {
                const AckLevel level = random_.below(8) == 0 ? AckLevel::all : AckLevel::quorum;
                model_.append(*node_, it->first, length_of(it->first), level);
            }
        }
        for (std::uint64_t i = 0; i < pace && !world_.down(); ++i) {
            node_->step();
        }
        if (pace == 0 && random_.below(12) == 0) {
            node_->step();
        }
        if (model_.waiting() > 400) {
            model_.collect();
        }
    }

    // Each shard has its kind of flow, so that journal and direct writes meet in one group.
    std::uint32_t length_of(std::uint64_t uid) {
        if (large_records_ && random_.below(400) == 0) {
            return random_.below(6) == 0 ? (10U << 20) - 100
                                         : static_cast<std::uint32_t>(random_.below(3U << 20));
        }
        switch (uid % 4) {
            case 0:
                return static_cast<std::uint32_t>(random_.below(120'000));
            case 1:
                return static_cast<std::uint32_t>(random_.below(6'000));
            default:
                return static_cast<std::uint32_t>(random_.below(600));
        }
    }

    // What must be true of a node that nobody disturbs any more.
    void finish(bool last) {
        model_.collect();
        if (random_.below(2) == 0 && !last) {
            return;
        }
        if (!taints(fault_)) {
            clear_fault();
        } else if (away_) {
            bring_back();
        }
        world_.crash_at(0);
        if (taints(fault_) || options_.two_liars) {
            // Writes may fail to reach it for ever; what is left must still answer.
            node_->step_until([&] { return false; }, 3'000'000'000);
        } else {
            if (!node_->step_until([&] { return node_->whole(); }, 120'000'000'000)) {
                throw Broken("life " + std::to_string(model_.life()) +
                             ": not whole again two minutes after the fault was over");
            }
        }
        node_->drain();
        node_->step_until([&] { return model_.collect(), model_.waiting() == 0; }, 5'000'000'000);
        model_.collect();
        if (!taints(fault_) && model_.waiting() != 0) {
            throw Broken("life " + std::to_string(model_.life()) + ": " +
                         std::to_string(model_.waiting()) +
                         " waiters never answered:" + model_.describe_waiting());
        }
        for (unsigned group = 0; group < node_->group_count() && !taints(fault_); ++group) {
            if (node_->pool(group).used_bytes() != 0) {
                throw Broken("life " + std::to_string(model_.life()) + ": " +
                             std::to_string(node_->pool(group).used_bytes()) +
                             " bytes of the pool are not back after a drain");
            }
        }
        model_.check(*node_, false);
        say("drained and checked");
    }

    ScenarioOptions options_;
    SimRandom random_;
    SimWorld world_;
    Model model_;
    std::unique_ptr<SimNode> node_;
    SetGeometry geometry_;
    unsigned groups_ = 1;
    unsigned victim_ = 0;
    Fault fault_ = Fault::none;
    bool away_ = false;
    std::optional<SimSnapshot> copy_;
    std::uint64_t fault_at_ = 0;
    std::uint64_t fault_until_ = 0;
    bool large_records_ = false;
    std::int64_t retention_ms_ = 0;
    unsigned shards_wanted_ = 1;
    std::uint64_t next_uid_ = 1;
    unsigned crashes_ = 0;
};

}  // namespace

ScenarioResult run_scenario(const ScenarioOptions& options) {
    return Scenario(options).run();
}

}  // namespace penstock::test
