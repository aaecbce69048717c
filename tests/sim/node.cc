#include "tests/sim/node.h"

#include <algorithm>

namespace penstock::test {

namespace {

constexpr std::uint64_t control_ns = 200'000'000;
constexpr std::uint64_t rest_ns = 500'000'000;

ReplicaMask bit_of(unsigned replica) {
    return static_cast<ReplicaMask>(1U << replica);
}

}  // namespace

Result<std::size_t> SimContainerFiles::read(unsigned replica, std::uint32_t group,
                                            std::uint32_t container, std::uint64_t offset,
                                            MutableBytes into) {
    // Replicas come and go, so every read opens anew.
    world_.attach(*engine_, replica);
    PENSTOCK_TRY(file,
                 engine_->open(replica, container_name(group, container), OpenMode::read_only));
    auto got = run_one(*engine_, {.kind = IoKind::read,
                                  .file = file,
                                  .offset = offset,
                                  .data = into.data(),
                                  .length = into.size()});
    engine_->close(file);
    if (!got) {
        return std::unexpected(got.error());
    }
    return static_cast<std::size_t>(*got);
}

SetGeometry small_geometry() {
    SetGeometry geometry;
    geometry.data_groups = 1;
    geometry.journal_files = 3;
    geometry.journal_file_bytes = 2U << 20;
    geometry.container_bytes = 8U << 20;
    geometry.chunk_unit_bytes = 256U << 10;
    geometry.chunk_units_max = 8;
    geometry.manifest_bytes = 256U << 10;
    return geometry;
}

Status prepare_blank(SimWorld& world, unsigned index) {
    const auto engine = world.make_engine();
    const auto store = engine_superblocks(*engine);
    Superblock newest;
    for (unsigned r = 0; r < replica_count; ++r) {
        const PlaceState place = read_place(*store, r);
        if (place.kind != PlaceKind::readable || r == index) {
            continue;
        }
        if (newest.geometry.set_id == 0 ||
            place.superblock.roster_version > newest.roster_version) {
            newest = place.superblock;
        }
        newest.epoch_promised = std::max(newest.epoch_promised, place.superblock.epoch_promised);
    }
    if (newest.geometry.set_id == 0) {
        return fail(Errc::not_found);
    }
    Superblock fresh = newest;
    fresh.generation = 0;
    fresh.replica_index = static_cast<std::uint8_t>(index);
    fresh.state = ReplicaState::filling;
    do {
        fresh.replica_id = world.random().next();
    } while (fresh.replica_id == 0 || std::ranges::count(fresh.roster, fresh.replica_id) != 0);
    return advance_superblock(*store, index, fresh);
}

Result<std::unique_ptr<SimNode>> SimNode::start(SimWorld& world, const NodeOptions& options,
                                                std::string& message) {
    std::unique_ptr<SimNode> node(new SimNode(world, options));
    node->control_ = world.make_engine();
    node->store_ = engine_superblocks(*node->control_);
    OpenSetOptions set;
    set.reachable = options.reachable;
    set.for_new = options.geometry;
    set.existing = options.existing;
    set.allow_read_only = options.allow_read_only;
    set.now_ms = world.clock().wall_ms();
    set.random = [&world] { return world.random().next(); };
    PENSTOCK_TRY(opened, open_set_on(*node->control_, set, message));
    node->opened_ = std::move(opened);
    node->filling_ = node->opened_.filling;
    for (unsigned r = 0; r < replica_count; ++r) {
        node->identity_[r] = world.directory_identity(r);
        if (((node->opened_.voting | node->opened_.filling) >> r & 1) == 0) {
            node->out_ = static_cast<ReplicaMask>(node->out_ | bit_of(r));
            node->out_since_ns_[r] = world.now_ns();
        }
    }
    PENSTOCK_TRY_VOID(node->recover_groups());
    return node;
}

Status SimNode::recover_groups() {
    for (unsigned number = 1; number <= options_.groups; ++number) {
        auto made = std::make_unique<Group>();
        made->node = this;
        made->engine = world_.make_engine();
        PENSTOCK_TRY(pool, FramePool::open(*made->engine, options_.pool_bytes));
        made->pool = std::move(pool);
        GroupOptions group;
        group.group = GroupId{number};
        group.epoch = opened_.epoch;
        group.geometry = opened_.geometry;
        group.voting = opened_.voting;
        group.filling = opened_.filling;
        group.accept_loss = options_.accept_loss;
        group.scrub_bytes_per_s = options_.scrub_bytes_per_s;
        auto recovered = ShardGroup::recover(group, *made->engine, world_.clock(), *made->pool);
        if (!recovered) {
            return std::unexpected(recovered.error());
        }
        made->group = std::move(*recovered);
        made->group->observe_replicas(&on_replica, made.get());
        made->group->observe_scrub(&on_scrub, made.get());
        groups_.push_back(std::move(made));
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((filling_ >> r & 1) != 0) {
            for (auto& made : groups_) {
                made->group->replica_in(r, false);
            }
        }
        // What went out while its group was starting was not observed.
        for (auto& made : groups_) {
            if ((opened_.voting >> r & 1) != 0 && !opened_.read_only &&
                (made->group->gauges().taking_writes >> r & 1) == 0) {
                failed_ = static_cast<ReplicaMask>(failed_ | bit_of(r));
            }
        }
    }
    return {};
}

SimNode::~SimNode() {
    for (auto& made : groups_) {
        made->group.reset();
        made->pool.reset();
    }
}

void SimNode::on_replica(void* context, unsigned replica, Error why) noexcept {
    auto* made = static_cast<Group*>(context);
    ++made->node->failures_;
    if (why.code != Errc::unavailable) {  // slow ones come back by themselves
        made->node->failed_ = static_cast<ReplicaMask>(made->node->failed_ | bit_of(replica));
    }
}

void SimNode::on_scrub(void* context, const ScrubEvent& event) noexcept {
    static_cast<Group*>(context)->node->scrubbed_.push_back(event);
}

void SimNode::step() {
    bool idle = true;
    std::array<IoCompletion, 64> completions;
    for (auto& made : groups_) {
        idle = made->group->turn() == 0 && idle;
        made->engine->submit();
        const std::size_t count = made->engine->reap(completions);
        for (std::size_t i = 0; i < count; ++i) {
            made->group->complete(completions[i]);
        }
        idle = idle && count == 0;
    }
    if (idle && !world_.down()) {
        const bool quiet = std::ranges::all_of(
            groups_, [](const auto& made) { return made->engine->in_flight() == 0; });
        groups_[0]->engine->wait(quiet ? 2'000'000 : groups_.size() == 1 ? 200'000 : 20'000);
    }
    if (world_.now_ns() >= next_control_ns_ && !world_.down() && !opened_.read_only) {
        next_control_ns_ = world_.now_ns() + control_ns;
        control();
    }
}

bool SimNode::step_until(const std::function<bool()>& done, std::uint64_t timeout_ns) {
    const std::uint64_t until = world_.now_ns() + timeout_ns;
    while (!done()) {
        if (world_.down() || world_.now_ns() > until) {
            return false;
        }
        step();
    }
    return true;
}

void SimNode::drain() {
    step_until([&] {
        bool quiet = true;
        for (auto& made : groups_) {
            quiet = made->group->drain() && quiet;
        }
        return quiet;
    });
}

// -- What the control thread does about replicas --------------------------------------------------

void SimNode::take_out(unsigned replica) {
    for (auto& made : groups_) {
        made->group->replica_out(replica);
    }
    out_ = static_cast<ReplicaMask>(out_ | bit_of(replica));
    filling_ = static_cast<ReplicaMask>(filling_ & ~bit_of(replica));
    out_since_ns_[replica] = world_.now_ns();
}

void SimNode::control() {
    for (unsigned r = 0; r < replica_count; ++r) {
        const bool replaced = world_.directory_identity(r) != identity_[r];
        if ((failed_ >> r & 1) != 0 || (replaced && (out_ >> r & 1) == 0)) {
            failed_ = static_cast<ReplicaMask>(failed_ & ~bit_of(r));
            take_out(r);
        } else if ((out_ >> r & 1) != 0 && options_.take_back &&
                   world_.now_ns() - out_since_ns_[r] > rest_ns) {
            try_return(r);
        }
    }
    finish_filling();
}

// As ReplicaSet::look_for_return: a member of this set is fenced with our epoch and taken in.
void SimNode::try_return(unsigned replica) {
    out_since_ns_[replica] = world_.now_ns();
    world_.attach(*control_, replica);
    const PlaceState place = read_place(*store_, replica);
    if (place.kind != PlaceKind::readable) {
        return;
    }
    Superblock found = place.superblock;
    if (found.geometry != opened_.geometry || found.replica_index != replica ||
        found.epoch_promised > opened_.epoch) {
        return;
    }
    const auto& roster = opened_.superblocks[(replica + 1) % replica_count].geometry.set_id != 0
                             ? opened_.superblocks[(replica + 1) % replica_count].roster
                             : opened_.superblocks[(replica + 2) % replica_count].roster;
    if (found.state == ReplicaState::voting && found.replica_id != roster[replica]) {
        return;
    }
    found.epoch_promised = opened_.epoch;
    if (!advance_superblock(*store_, replica, found)) {
        return;
    }
    opened_.superblocks[replica] = found;
    identity_[replica] = world_.directory_identity(replica);
    out_ = static_cast<ReplicaMask>(out_ & ~bit_of(replica));
    const bool votes = found.state == ReplicaState::voting;
    if (!votes) {
        filling_ = static_cast<ReplicaMask>(filling_ | bit_of(replica));
    }
    for (auto& made : groups_) {
        world_.attach(*made->engine, replica);
        made->group->replica_in(replica, votes);
    }
}

void SimNode::finish_filling() {
    for (unsigned r = 0; r < replica_count; ++r) {
        const bool complete = std::ranges::all_of(
            groups_, [&](const auto& made) { return made->group->replica_complete(r); });
        if ((filling_ >> r & 1) == 0 || !complete) {
            continue;
        }
        bool entered = true;
        for (unsigned other = 0; other < replica_count; ++other) {
            Superblock& block = opened_.superblocks[other];
            block.roster[r] = opened_.superblocks[r].replica_id;
            ++block.roster_version;
            if (other == r) {
                continue;
            }
            entered =
                (out_ >> other & 1) == 0 && advance_superblock(*store_, other, block) && entered;
        }
        Superblock& own = opened_.superblocks[r];
        own.state = ReplicaState::voting;
        if (entered && advance_superblock(*store_, r, own)) {
            filling_ = static_cast<ReplicaMask>(filling_ & ~bit_of(r));
            for (auto& made : groups_) {
                made->group->replica_counts(r);
            }
        } else {
            own.state = ReplicaState::filling;
        }
    }
}

bool SimNode::whole() const {
    if (out_ != 0 || filling_ != 0 || failed_ != 0) {
        return false;
    }
    return std::ranges::all_of(
        groups_, [](const auto& made) { return made->group->gauges().complete == all_replicas; });
}

}  // namespace penstock::test
