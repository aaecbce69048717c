#include "storage/io/sim_world.h"

#include <algorithm>
#include <cerrno>

#include "storage/base/check.h"
#include "storage/io/sim_disk.h"
#include "storage/io/sim_engine.h"

namespace penstock {

namespace {

bool is_write(const SimOp& op) noexcept {
    return op.request.kind == IoKind::write || op.request.kind == IoKind::write_durable;
}

}  // namespace

std::uint64_t SimClock::monotonic_ns() noexcept {
    world_.step();
    return world_.now_ns_;
}

std::int64_t SimClock::wall_ms() noexcept {
    world_.step();
    return world_.options_.wall_start_ms + world_.wall_offset_ms_ +
           static_cast<std::int64_t>(world_.now_ns_ / 1'000'000);
}

SimWorld::SimWorld(const SimOptions& options) : options_(options), random_(options.seed) {
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        replace_directory(replica, {});
    }
}

SimWorld::~SimWorld() {
    PENSTOCK_CHECK(engines_.empty());
}

std::unique_ptr<IoEngine> SimWorld::make_engine() {
    return std::make_unique<SimEngine>(*this);
}

void SimWorld::attach(IoEngine& engine, unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    const auto known = std::find(engines_.begin(), engines_.end(), &engine);
    PENSTOCK_CHECK(known != engines_.end());
    (*known)->directories_[replica] = disks_[replica].directory;
}

// -- Time ---------------------------------------------------------------------------------------

void SimWorld::advance(std::uint64_t by_ns) {
    const std::uint64_t until = now_ns_ + by_ns;
    finish_due(until);
    now_ns_ = std::max(now_ns_, until);
}

void SimWorld::settle() {
    while (!in_flight_.empty()) {
        finish_due(in_flight_.begin()->first.first);
    }
}

void SimWorld::finish_due(std::uint64_t until_ns) {
    while (!in_flight_.empty() && in_flight_.begin()->first.first <= until_ns) {
        auto node = in_flight_.extract(in_flight_.begin());
        now_ns_ = std::max(now_ns_, node.key().first);
        SimOp& op = *node.mapped();
        const Disk& disk = disks_[op.directory->replica];
        if (disk.directory == op.directory && now_ns_ < disk.stalled_until_ns) {
            node.key().first = disk.stalled_until_ns + random_.below(1'000);
            in_flight_.insert(std::move(node));
            continue;
        }
        land(op);
        if (op.engine != nullptr) {
            op.engine->finished(op);
        } else if (is_write(op)) {
            // Nobody waits for it any more, so for later flushes it is simply there.
            op.file->reaped_landing = std::max(op.file->reaped_landing, op.landing);
        }
    }
}

void SimWorld::run_until_completion(SimEngine& engine, std::uint64_t until_ns) {
    while (engine.ready_.empty()) {
        if (in_flight_.empty() || in_flight_.begin()->first.first > until_ns) {
            // Waiting for ever with nothing to come is a bug in the caller, time has to stay
            // usable.
            PENSTOCK_CHECK(until_ns != UINT64_MAX);
            now_ns_ = std::max(now_ns_, until_ns);
            return;
        }
        finish_due(in_flight_.begin()->first.first);
    }
}

std::uint64_t SimWorld::latency(const SimOp& op) {
    const auto span = [&]() -> SimLatency {
        switch (op.request.kind) {
            case IoKind::read:
                return options_.read;
            case IoKind::write:
                return options_.write;
            case IoKind::write_durable:
                return options_.write_durable;
            case IoKind::flush:
                return options_.flush;
            case IoKind::allocate:
            case IoKind::reserve:
                return options_.allocate;
        }
        return {};
    }();
    std::uint64_t result = random_.between(span.min_ns, span.max_ns);
    if (random_.chance(options_.outlier_per_million)) {
        result *= 50;
    }
    return result * options_.faults[op.directory->replica].latency_factor;
}

void SimWorld::start(std::unique_ptr<SimOp> op) {
    op->id = next_id_++;
    const std::pair key{now_ns_ + latency(*op), op->id};
    in_flight_.emplace(key, std::move(op));
}

// -- What requests do ---------------------------------------------------------------------------

void SimWorld::choose_faults(SimOp& op) {
    const SimFaults& faults = options_.faults[op.directory->replica];
    const auto error_rate = [&] {
        switch (op.request.kind) {
            case IoKind::read:
                return faults.read_error_per_million;
            case IoKind::write:
            case IoKind::write_durable:
                return faults.write_error_per_million;
            case IoKind::flush:
                return faults.flush_error_per_million;
            case IoKind::allocate:
            case IoKind::reserve:
                return faults.allocate_error_per_million;
        }
        return 0U;
    }();
    if (op.fail_errno == 0 && random_.chance(error_rate)) {
        op.fail_errno = EIO;
    }
    op.lie = faults.lies_about_flush;
    if (is_write(op)) {
        op.never_stored = random_.chance(faults.lost_write_per_million);
        const std::uint64_t size = op.file->visible.size_bytes();
        if (random_.chance(faults.misdirected_write_per_million) && size > op.request.length) {
            op.stored_offset =
                random_.below((size - op.request.length) / block_bytes + 1) * block_bytes;
        }
    }
}

void SimWorld::land(SimOp& op) {
    op.landing = next_landing_++;
    if (op.cut || op.directory->gone) {
        op.result = -EIO;
        return;
    }
    switch (op.request.kind) {
        case IoKind::read:
            op.result = land_read(op);
            return;
        case IoKind::write:
        case IoKind::write_durable:
            op.result = land_write(op);
            return;
        case IoKind::flush:
            op.result = land_flush(op);
            return;
        case IoKind::allocate:
        case IoKind::reserve:
            op.result = land_allocate(op);
            return;
    }
}

std::int64_t SimWorld::land_read(SimOp& op) {
    if (op.fail_errno != 0) {
        return -op.fail_errno;
    }
    if (op.engine == nullptr) {
        return 0;  // the buffer went with the process
    }
    const std::size_t got =
        op.file->visible.read(op.request.offset, {op.request.data, op.request.length});
    if (got > 0 && random_.chance(options_.faults[op.directory->replica].read_flip_per_million)) {
        op.request.data[random_.below(got)] ^= std::byte{1} << random_.below(8);
    }
    return static_cast<std::int64_t>(got);
}

std::int64_t SimWorld::land_write(SimOp& op) {
    const Bytes data(op.data);
    if (op.fail_errno == EBADF) {
        return -EBADF;
    }
    if (op.fail_errno != 0) {
        for (std::size_t at = 0; at < data.size(); at += block_bytes) {
            const std::uint64_t place = op.stored_offset + at;
            if (place < op.file->visible.size_bytes() && random_.chance(500'000)) {
                op.file->write_unflushed(place, data.subspan(at, block_bytes), op.landing);
            }
        }
        return -op.fail_errno;
    }
    if (!has_room(op, op.stored_offset + data.size())) {
        return -ENOSPC;
    }
    if (!op.never_stored) {
        if (op.request.kind == IoKind::write_durable && !op.lie) {
            op.file->write_durable(op.stored_offset, data);
        } else {
            op.file->write_unflushed(op.stored_offset, data, op.landing);
        }
    }
    return static_cast<std::int64_t>(data.size());
}

std::int64_t SimWorld::land_flush(SimOp& op) {
    if (op.fail_errno != 0) {
        op.file->fail_flush(op.flush_up_to);
        return -op.fail_errno;
    }
    if (!op.lie) {
        op.file->flush(op.flush_up_to);
    }
    return 0;
}

std::int64_t SimWorld::land_allocate(SimOp& op) {
    if (op.fail_errno != 0) {
        return -op.fail_errno;
    }
    const std::uint64_t end = op.request.offset + op.request.length;
    if (!has_room(op, end)) {
        return -ENOSPC;
    }
    op.file->reserved_bytes = std::max(op.file->reserved_bytes, end);
    if (op.request.kind == IoKind::allocate && end > op.file->visible.size_bytes()) {
        op.file->visible.resize(end);
        op.file->durable.resize(end);
    }
    return static_cast<std::int64_t>(op.request.length);
}

// Whether the file may grow to `end` bytes.
bool SimWorld::has_room(const SimOp& op, std::uint64_t end) const noexcept {
    const std::uint64_t held = op.file->held_bytes();
    return end <= held || op.directory->used_bytes() + (end - held) <=
                              options_.faults[op.directory->replica].capacity_bytes;
}

// -- Counting and crashes -----------------------------------------------------------------------

std::uint64_t SimWorld::io_count(IoClasses classes) const noexcept {
    std::uint64_t count = 0;
    for (std::size_t bit = 0; bit < counts_.size(); ++bit) {
        count += (classes >> bit & 1) != 0 ? counts_[bit] : 0;
    }
    return count;
}

int SimWorld::account(IoClasses io_class, unsigned replica) {
    for (std::size_t bit = 0; bit < counts_.size(); ++bit) {
        counts_[bit] += io_class >> bit & 1;
    }
    int failure = 0;
    for (auto& order : fail_orders_) {
        const bool meant = (order.classes & io_class) != 0 && (order.replicas >> replica & 1) != 0;
        if (meant && --order.left == 0) {
            failure = order.os_errno;
        }
    }
    std::erase_if(fail_orders_, [](const FailOrder& order) { return order.left == 0; });
    if (crash_after_ > 0 && (crash_classes_ & io_class) != 0 && --crash_after_ == 0) {
        crash(crash_kind_, true);
    }
    return failure;
}

void SimWorld::crash_at(std::uint64_t n, IoClasses classes, CrashKind kind) noexcept {
    crash_after_ = n;
    crash_classes_ = classes;
    crash_kind_ = kind;
}

void SimWorld::lose_in_flight(SimOp& op) {
    if (op.cut || op.directory->gone) {
        return;
    }
    const std::uint64_t fate = random_.below(3);
    const std::uint64_t end = op.request.offset + op.request.length;
    if (op.request.kind == IoKind::reserve && fate > 0 && has_room(op, end)) {
        op.file->reserved_bytes = std::max(op.file->reserved_bytes, end);
    }
    if (op.request.kind == IoKind::allocate) {
        const std::uint64_t size = op.file->visible.size_bytes();
        if (end > size && fate > 0 && has_room(op, end)) {
            const std::uint64_t grown =
                fate == 1 ? end : size + align_down(random_.below(end - size), block_bytes);
            op.file->visible.resize(grown);
            op.file->durable.resize(grown);
        }
    }
    if (!is_write(op) || op.never_stored || op.fail_errno != 0 || fate == 0) {
        return;
    }
    if (!has_room(op, op.stored_offset + op.data.size())) {
        return;
    }
    if (fate == 1) {
        op.file->write_durable(op.stored_offset, op.data);
    } else {
        op.file->write_unflushed(op.stored_offset, op.data, next_landing_++);
    }
}

void SimWorld::lose_power_of(SimFile& file) {
    file.lose_power(random_, options_.block_survives_per_million, options_.block_tears_per_million);
}

void SimWorld::crash(CrashKind kind, bool queued_may_land) {
    if (down_) {
        return;
    }
    down_ = true;
    last_crash_ = kind;
    crash_after_ = 0;
    trace(now_ns_ + (kind == CrashKind::power ? 1 : 2));
    for (SimEngine* engine : engines_) {
        if (engine->generation_ != generation_) {
            continue;
        }
        // The crash may have come after a submit that was just about to happen.
        if (queued_may_land && random_.chance(700'000)) {
            for (auto& op : engine->queued_) {
                auto copy = std::make_unique<SimOp>(*op);
                copy->engine = nullptr;
                start(std::move(copy));
            }
        }
        std::vector<std::uint64_t> cookies;
        for (const auto& [key, op] : in_flight_) {
            if (op->engine == engine) {
                cookies.push_back(op->request.cookie);
                op->engine = nullptr;
            }
        }
        engine->cancel_all(cookies);
    }
    auto in_flight = std::move(in_flight_);
    in_flight_.clear();
    for (auto& [key, op] : in_flight) {
        // The worker that allocates dies with the process, other requests are the kernel's already.
        if (kind == CrashKind::power || op->request.kind == IoKind::allocate ||
            op->request.kind == IoKind::reserve) {
            lose_in_flight(*op);
        } else if (op->request.kind != IoKind::read) {
            const std::uint64_t late =
                options_.locks_hold ? 0 : random_.below(options_.late_landing_ns_max + 1);
            in_flight_.emplace(std::pair{key.first + late, key.second}, std::move(op));
        }
    }
    if (kind == CrashKind::power) {
        for (auto& disk : disks_) {
            for (auto& [name, file] : disk.directory->files) {
                lose_power_of(*file);
            }
        }
    }
}

void SimWorld::restart() {
    PENSTOCK_CHECK(down_);
    if (options_.locks_hold) {
        settle();
    }
    ++generation_;
    down_ = false;
    // A new process sees what is visible; a flush of its own covers it.
    for (auto& disk : disks_) {
        for (auto& [name, file] : disk.directory->files) {
            file->reaped_landing = next_landing_;
        }
    }
}

// -- Misbehaviour -------------------------------------------------------------------------------

SimFaults& SimWorld::faults(unsigned replica) {
    PENSTOCK_CHECK(replica < replica_count);
    return options_.faults[replica];
}

void SimWorld::fail_at(std::uint64_t n, int os_errno, IoClasses classes, ReplicaMask replicas) {
    PENSTOCK_CHECK(n > 0 && os_errno > 0);
    fail_orders_.push_back({n, os_errno, classes, replicas});
}

void SimWorld::stall(unsigned replica, std::uint64_t for_ns) {
    PENSTOCK_CHECK(replica < replica_count);
    Disk& disk = disks_[replica];
    disk.stalled_until_ns = now_ns_ + for_ns;
    if (for_ns > 0) {
        return;
    }
    // The stall is over: what it held back becomes due now.
    auto in_flight = std::move(in_flight_);
    in_flight_.clear();
    for (auto& [key, op] : in_flight) {
        const bool held = op->directory == disk.directory;
        const std::uint64_t due = held ? std::min(key.first, now_ns_ + latency(*op)) : key.first;
        in_flight_.emplace(std::pair{due, key.second}, std::move(op));
    }
}

void SimWorld::replace_directory(unsigned replica,
                                 std::map<std::string, std::shared_ptr<SimFile>> files) {
    PENSTOCK_CHECK(replica < replica_count);
    auto directory = std::make_shared<SimDirectory>();
    directory->replica = replica;
    directory->identity = next_identity_++;
    directory->files = std::move(files);
    disks_[replica].directory = std::move(directory);
}

void SimWorld::set_gone(unsigned replica, bool gone) {
    PENSTOCK_CHECK(replica < replica_count);
    auto old = disks_[replica].directory;
    if (old->gone == gone) {
        return;
    }
    if (!gone) {
        replace_directory(replica, old->files);
        return;
    }
    for (auto& [key, op] : in_flight_) {
        if (op->directory == old) {
            lose_in_flight(*op);
            op->cut = true;
        }
    }
    for (auto& [name, file] : old->files) {
        lose_power_of(*file);
    }
    old->gone = true;
}

void SimWorld::set_blank(unsigned replica) {
    replace_directory(replica, {});
}

SimSnapshot SimWorld::snapshot(unsigned replica) const {
    PENSTOCK_CHECK(replica < replica_count);
    auto files = std::make_shared<std::map<std::string, SimFile>>();
    for (const auto& [name, file] : disks_[replica].directory->files) {
        SimFile copy = *file;
        copy.settle();
        files->emplace(name, std::move(copy));
    }
    SimSnapshot result;
    result.files_ = std::move(files);
    return result;
}

void SimWorld::restore(unsigned replica, const SimSnapshot& snapshot) {
    PENSTOCK_CHECK(snapshot.files_ != nullptr);
    std::map<std::string, std::shared_ptr<SimFile>> files;
    for (const auto& [name, file] : *snapshot.files_) {
        files.emplace(name, std::make_shared<SimFile>(file));
    }
    replace_directory(replica, std::move(files));
}

std::uint64_t SimWorld::directory_identity(unsigned replica) const {
    PENSTOCK_CHECK(replica < replica_count);
    return disks_[replica].directory->identity;
}

// -- Damage and inspection ----------------------------------------------------------------------

SimFile* SimWorld::find(unsigned replica, std::string_view name) const {
    PENSTOCK_CHECK(replica < replica_count);
    const auto& files = disks_[replica].directory->files;
    const auto found = files.find(std::string(name));
    return found == files.end() ? nullptr : found->second.get();
}

bool SimWorld::overwrite(unsigned replica, std::string_view name, std::uint64_t offset,
                         Bytes with) {
    SimFile* file = find(replica, name);
    if (file == nullptr || offset + with.size() > file->visible.size_bytes()) {
        return false;
    }
    file->visible.overwrite(offset, with);
    file->durable.overwrite(offset, with);
    for (std::uint64_t block = offset / block_bytes; block * block_bytes < offset + with.size();
         ++block) {
        const auto found = file->unflushed.find(block);
        if (found != file->unflushed.end()) {
            file->durable.set(block, file->visible.get(block));
            file->unflushed.erase(found);
        }
    }
    return true;
}

bool SimWorld::flip_bit(unsigned replica, std::string_view name, std::uint64_t byte_offset,
                        unsigned bit) {
    std::byte byte[1];
    const auto got = read_raw(replica, name, byte_offset, byte);
    if (!got || *got != 1) {
        return false;
    }
    byte[0] ^= std::byte{1} << (bit % 8);
    return overwrite(replica, name, byte_offset, byte);
}

bool SimWorld::corrupt_range(unsigned replica, std::string_view name, std::uint64_t offset,
                             std::uint64_t length) {
    std::vector<std::byte> noise(length);
    for (auto& byte : noise) {
        byte = static_cast<std::byte>(random_.next());
    }
    return overwrite(replica, name, offset, noise);
}

bool SimWorld::truncate(unsigned replica, std::string_view name, std::uint64_t size_bytes) {
    SimFile* file = find(replica, name);
    if (file == nullptr) {
        return false;
    }
    file->settle();
    file->visible.resize(size_bytes);
    file->durable.resize(size_bytes);
    return true;
}

bool SimWorld::remove(unsigned replica, std::string_view name) {
    PENSTOCK_CHECK(replica < replica_count);
    return disks_[replica].directory->files.erase(std::string(name)) == 1;
}

std::vector<std::string> SimWorld::list(unsigned replica) const {
    PENSTOCK_CHECK(replica < replica_count);
    std::vector<std::string> names;
    for (const auto& [name, file] : disks_[replica].directory->files) {
        names.push_back(name);
    }
    return names;
}

Result<std::size_t> SimWorld::read_raw(unsigned replica, std::string_view name,
                                       std::uint64_t offset, MutableBytes into) const {
    const SimFile* file = find(replica, name);
    if (file == nullptr) {
        return fail(Errc::not_found, ENOENT, replica);
    }
    return file->visible.read(offset, into);
}

Result<std::vector<std::byte>> SimWorld::read_raw(unsigned replica, std::string_view name) const {
    const SimFile* file = find(replica, name);
    if (file == nullptr) {
        return fail(Errc::not_found, ENOENT, replica);
    }
    std::vector<std::byte> content(file->visible.size_bytes());
    file->visible.read(0, content);
    return content;
}

Result<std::vector<std::byte>> SimWorld::read_durable(unsigned replica,
                                                      std::string_view name) const {
    const SimFile* file = find(replica, name);
    if (file == nullptr) {
        return fail(Errc::not_found, ENOENT, replica);
    }
    std::vector<std::byte> content(file->durable.size_bytes());
    file->durable.read(0, content);
    return content;
}

std::uint64_t SimWorld::used_bytes(unsigned replica) const {
    PENSTOCK_CHECK(replica < replica_count);
    return disks_[replica].directory->used_bytes();
}

}  // namespace penstock
