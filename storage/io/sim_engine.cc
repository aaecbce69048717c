#include "storage/io/sim_engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/io/sim_world.h"

namespace penstock {

namespace {

std::uint64_t name_digest(std::string_view name) noexcept {
    return crc32c(as_bytes(name));
}

IoClasses class_of(IoKind kind) noexcept {
    switch (kind) {
        case IoKind::read:
            return io_reads;
        case IoKind::write:
        case IoKind::write_durable:
            return io_writes;
        case IoKind::flush:
            return io_flushes;
        case IoKind::allocate:
        case IoKind::reserve:
            return io_allocates;
    }
    return 0;
}

}  // namespace

SimEngine::SimEngine(SimWorld& world) : world_(world), generation_(world.generation_) {
    for (unsigned replica = 0; replica < replica_count; ++replica) {
        directories_[replica] = world.disks_[replica].directory;
    }
    world.engines_.push_back(this);
}

SimEngine::~SimEngine() {
    queued_.clear();
    while (on_disk_ > 0) {
        PENSTOCK_CHECK(!world_.in_flight_.empty());
        world_.finish_due(world_.in_flight_.begin()->first.first);
    }
    std::erase(world_.engines_, this);
    for (const auto& buffer : buffers_) {
        ::munmap(buffer.data, buffer.bytes);
    }
}

bool SimEngine::dead() const noexcept {
    return world_.down_ || generation_ != world_.generation_;
}

SimEngine::OpenFile& SimEngine::opened(FileHandle file) noexcept {
    const auto index = static_cast<std::size_t>(file);
    PENSTOCK_CHECK(index < files_.size() && files_[index].file != nullptr);
    return files_[index];
}

Result<FileHandle> SimEngine::open(unsigned replica, std::string_view name, OpenMode mode) {
    PENSTOCK_CHECK(replica < replica_count);
    if (dead()) {
        return fail(Errc::canceled, ECANCELED, replica);
    }
    auto directory = directories_[replica];
    if (directory->gone) {
        return fail(Errc::not_found, ENODEV, replica);
    }
    auto found = directory->files.find(std::string(name));
    if (found == directory->files.end()) {
        if (mode != OpenMode::create_or_existing) {
            return fail(Errc::not_found, ENOENT, replica);
        }
        world_.trace(mix64(name_digest(name)) + replica);
        const int failure = world_.account(io_names, replica);
        // The crash came during the call: the name may be there or not.
        if (dead() && world_.random_.chance(500'000)) {
            return fail(Errc::canceled, ECANCELED, replica);
        }
        if (failure != 0) {
            return fail(failure == ENOSPC ? Errc::no_space : Errc::io_failed, failure, replica);
        }
        if (directory->used_bytes() + block_bytes >
            world_.options_.faults[replica].capacity_bytes) {
            return fail(Errc::no_space, ENOSPC, replica);
        }
        found = directory->files.emplace(std::string(name), std::make_shared<SimFile>()).first;
        if (dead()) {
            return fail(Errc::canceled, ECANCELED, replica);
        }
    }
    auto place = std::find_if(files_.begin(), files_.end(),
                              [](const OpenFile& open_file) { return open_file.file == nullptr; });
    if (place == files_.end()) {
        place = files_.insert(files_.end(), OpenFile{});
    }
    *place = {directory, found->second, mode == OpenMode::read_only};
    return static_cast<FileHandle>(place - files_.begin());
}

void SimEngine::close(FileHandle file) {
    opened(file) = {};
}

Result<std::uint64_t> SimEngine::size_bytes(FileHandle file) {
    if (dead()) {
        return fail(Errc::canceled, ECANCELED);
    }
    const auto& open_file = opened(file);
    if (open_file.directory->gone) {
        return fail(Errc::io_failed, EIO, open_file.directory->replica);
    }
    return open_file.file->visible.size_bytes();
}

Status SimEngine::remove(unsigned replica, std::string_view name) {
    PENSTOCK_CHECK(replica < replica_count);
    if (dead()) {
        return fail(Errc::canceled, ECANCELED, replica);
    }
    auto directory = directories_[replica];
    if (directory->gone) {
        return fail(Errc::io_failed, EIO, replica);
    }
    const auto found = directory->files.find(std::string(name));
    if (found == directory->files.end()) {
        return {};
    }
    world_.trace(mix64(name_digest(name)) + replica + 16);
    const int failure = world_.account(io_names, replica);
    if (dead() && world_.random_.chance(500'000)) {
        return fail(Errc::canceled, ECANCELED, replica);
    }
    if (failure != 0) {
        return fail(Errc::io_failed, failure, replica);
    }
    directory->files.erase(found);
    if (dead()) {
        return fail(Errc::canceled, ECANCELED, replica);
    }
    return {};
}

bool SimEngine::queue(const IoRequest& request) noexcept {
    if (in_flight_ >= world_.options_.queue_depth) {
        return false;
    }
    auto& open_file = opened(request.file);
    ++in_flight_;
    if (dead()) {
        ready_.push_back({{request.cookie, -ECANCELED}, nullptr, 0});
        return true;
    }
    auto op = std::make_unique<SimOp>();
    op->engine = this;
    op->request = request;
    op->directory = open_file.directory;
    op->file = open_file.file;
    op->stored_offset = request.offset;
    const bool is_write = request.kind == IoKind::write || request.kind == IoKind::write_durable;
    if (is_write || request.kind == IoKind::read) {
        // What O_DIRECT asks for; a caller that breaks it would fail on a real drive only.
        PENSTOCK_CHECK(request.data != nullptr && request.length > 0);
        PENSTOCK_CHECK(request.offset % block_bytes == 0 && request.length % block_bytes == 0);
        PENSTOCK_CHECK(reinterpret_cast<std::uintptr_t>(request.data) % block_bytes == 0);
    }
    if (is_write) {
        op->data.assign(request.data, request.data + request.length);
        op->data_crc = crc32c(op->data);
    }
    op->flush_up_to = open_file.file->reaped_landing;
    if (open_file.read_only && request.kind != IoKind::read) {
        op->fail_errno = EBADF;
    }
    world_.trace(static_cast<std::uint64_t>(request.kind) + (op->directory->replica << 8));
    world_.trace(request.offset);
    world_.trace(request.length + (static_cast<std::uint64_t>(op->data_crc) << 32));
    world_.choose_faults(*op);
    queued_.push_back(std::move(op));
    // May crash, and then answers this one too.
    const int failure = world_.account(class_of(request.kind), open_file.directory->replica);
    if (failure != 0 && !queued_.empty()) {
        queued_.back()->fail_errno = failure;
    }
    return true;
}

void SimEngine::submit() noexcept {
    if (!dead()) {
        auto queued = std::move(queued_);
        queued_.clear();
        for (auto& op : queued) {
            ++on_disk_;
            world_.start(std::move(op));
        }
    }
    world_.step();
}

std::size_t SimEngine::reap(std::span<IoCompletion> out) noexcept {
    world_.step();
    std::size_t count = 0;
    while (count < out.size() && !ready_.empty()) {
        const auto& next = ready_.front();
        out[count] = next.completion;
        if (next.written) {
            next.written->reaped_landing = std::max(next.written->reaped_landing, next.landing);
        }
        world_.trace(next.completion.cookie);
        world_.trace(static_cast<std::uint64_t>(next.completion.result) ^ world_.now_ns_);
        ready_.pop_front();
        ++count;
    }
    in_flight_ -= count;
    return count;
}

void SimEngine::wait(std::uint64_t timeout_ns) noexcept {
    submit();
    const std::uint64_t now = world_.now_ns_;
    world_.run_until_completion(*this,
                                timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns);
}

std::byte* SimEngine::allocate_buffer(std::size_t bytes) {
    bytes = align_up(bytes, block_bytes);
    void* memory =
        ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return nullptr;
    }
    buffers_.push_back({static_cast<std::byte*>(memory), bytes});
    return buffers_.back().data;
}

void SimEngine::cancel_all(std::span<const std::uint64_t> cookies_in_flight) {
    // What had finished but was not reaped is an answer the process never saw.
    for (auto& finished : ready_) {
        finished.completion.result = -ECANCELED;
    }
    for (const std::uint64_t cookie : cookies_in_flight) {
        ready_.push_back({{cookie, -ECANCELED}, nullptr, 0});
    }
    for (const auto& op : queued_) {
        ready_.push_back({{op->request.cookie, -ECANCELED}, nullptr, 0});
    }
    queued_.clear();
    on_disk_ = 0;
}

void SimEngine::finished(const SimOp& op) {
    const bool is_write =
        op.request.kind == IoKind::write || op.request.kind == IoKind::write_durable;
    if (is_write) {
        // A buffer belongs to the engine until its completion: whoever changed it has a bug.
        PENSTOCK_CHECK(crc32c({op.request.data, op.request.length}) == op.data_crc);
    }
    --on_disk_;
    ready_.push_back({{op.request.cookie, op.result}, is_write ? op.file : nullptr, op.landing});
}

}  // namespace penstock
