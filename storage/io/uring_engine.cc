#include "storage/io/uring_engine.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "storage/base/check.h"

namespace penstock {

namespace {

// A request that the kernel keeps refusing with EAGAIN or EINTR is an error in the end.
constexpr std::uint16_t retries_max = 64;
// The smallest unit O_DIRECT moves; a transfer that ends within one ended at the end of the file.
constexpr std::uint64_t sector_bytes = 512;
// What one io_uring entry may carry; MAX_RW_COUNT of the kernel is 2 GiB less a page.
constexpr std::uint64_t transfer_bytes_max = 1U << 30;

std::uint64_t monotonic_ns() noexcept {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U +
           static_cast<std::uint64_t>(now.tv_nsec);
}

bool is_write(IoKind kind) noexcept {
    return kind == IoKind::write || kind == IoKind::write_durable;
}

Errc code_of(int os_errno) noexcept {
    switch (os_errno) {
        case ENOENT:
            return Errc::not_found;
        case ENOSPC:
        case EDQUOT:
            return Errc::no_space;
        default:
            return Errc::io_failed;
    }
}

}  // namespace

// -- Files --------------------------------------------------------------------------------------

Result<FileHandle> UringEngine::open(unsigned replica, std::string_view name, OpenMode mode) {
    PENSTOCK_CHECK(replica < replica_count);
    Replica& place = replicas_[replica];
    if (place.directory_fd < 0) {
        return fail(Errc::not_found, ENODEV, replica);
    }
    if (name.empty() || name.find('/') != std::string_view::npos) {
        return fail(Errc::invalid_argument, EINVAL, replica);
    }
    const std::string path(name);
    int flags = O_CLOEXEC | O_NOFOLLOW | O_DIRECT;
    flags |= mode == OpenMode::read_only ? O_RDONLY : O_RDWR;
    flags |= mode == OpenMode::create_or_existing ? O_CREAT : 0;
    bool direct = true;
    int fd = ::openat(place.directory_fd, path.c_str(), flags, 0640);
    if (fd < 0 && errno == EINVAL) {
        direct = false;
        fd = ::openat(place.directory_fd, path.c_str(), flags & ~O_DIRECT, 0640);
    }
    if (fd < 0) {
        const int error = errno;
        return fail(code_of(error), error, replica);
    }
    // An existing name too may come from a process that died before it was durable.
    if (mode == OpenMode::create_or_existing &&
        (::fsync(fd) != 0 || ::fsync(place.directory_fd) != 0)) {
        const int error = errno;
        ::close(fd);
        return fail(code_of(error), error, replica);
    }
    place.direct = place.direct && direct;
    auto free_file =
        std::find_if(files_.begin(), files_.end(), [](const File& file) { return file.fd < 0; });
    if (free_file == files_.end()) {
        free_file = files_.insert(files_.end(), File{});
        flushes_due_.reserve(files_.size());
    }
    *free_file = File{};
    free_file->fd = fd;
    free_file->replica = replica;
    free_file->version = place.version;
    free_file->mode = place.mode;
    free_file->direct = direct;
    return static_cast<FileHandle>(free_file - files_.begin());
}

UringEngine::File& UringEngine::opened(FileHandle handle) noexcept {
    const auto index = static_cast<std::size_t>(handle);
    PENSTOCK_CHECK(index < files_.size() && files_[index].fd >= 0 && !files_[index].closing);
    return files_[index];
}

void UringEngine::close(FileHandle handle) {
    File& file = opened(handle);
    file.closing = true;
    release_file(file);
}

void UringEngine::release_file(File& file) noexcept {
    if (file.closing && file.in_flight == 0) {
        ::close(file.fd);
        file.fd = -1;
    }
}

Result<std::uint64_t> UringEngine::size_bytes(FileHandle handle) {
    const File& file = opened(handle);
    struct stat status{};
    if (::fstat(file.fd, &status) != 0) {
        return fail(Errc::io_failed, errno, file.replica);
    }
    return static_cast<std::uint64_t>(status.st_size);
}

Status UringEngine::remove(unsigned replica, std::string_view name) {
    PENSTOCK_CHECK(replica < replica_count);
    const int directory_fd = replicas_[replica].directory_fd;
    if (directory_fd < 0) {
        return fail(Errc::not_found, ENODEV, replica);
    }
    if (name.empty() || name.find('/') != std::string_view::npos) {
        return fail(Errc::invalid_argument, EINVAL, replica);
    }
    if (::unlinkat(directory_fd, std::string(name).c_str(), 0) != 0 && errno != ENOENT) {
        return fail(Errc::io_failed, errno, replica);
    }
    // Also when it isn't there: an earlier process may have died between the two calls.
    if (::fsync(directory_fd) != 0) {
        return fail(Errc::io_failed, errno, replica);
    }
    return {};
}

void UringEngine::set_directory(unsigned replica, int directory_fd, FlushMode mode,
                                int lock_fd) noexcept {
    PENSTOCK_CHECK(replica < replica_count);
    Replica& place = replicas_[replica];
    const std::uint32_t version = place.version + 1;
    place = {};
    place.directory_fd = directory_fd;
    place.mode = mode;
    place.version = version;
    // The kernel refuses this only for a ring that is being torn down.
    (void)io_uring_register_files_update(&ring_, replica, &lock_fd, 1);
}

// -- Lists of slots -----------------------------------------------------------------------------

void UringEngine::push(List& list, std::uint32_t slot) noexcept {
    slots_[slot].next = none;
    if (list.empty()) {
        list.first = slot;
    } else {
        slots_[list.last].next = slot;
    }
    list.last = slot;
}

std::uint32_t UringEngine::pop(List& list) noexcept {
    const std::uint32_t slot = list.first;
    list.first = slots_[slot].next;
    return slot;
}

void UringEngine::finish(std::uint32_t slot, std::int64_t result) noexcept {
    Slot& request = slots_[slot];
    request.result = result;
    File& file = files_[static_cast<std::size_t>(request.request.file)];
    --file.in_flight;
    release_file(file);
    push(ready_, slot);
}

// -- Requests -----------------------------------------------------------------------------------

bool UringEngine::queue(const IoRequest& request) noexcept {
    own();
    File& file = opened(request.file);
    if (free_.empty()) {
        return false;
    }
    const std::uint32_t slot = pop(free_);
    Slot& taken = slots_[slot];
    taken.request = request;
    taken.done = 0;
    taken.result = 0;
    taken.retries = 0;
    taken.fixed_buffer = fixed_buffer_of(request);
    ++file.in_flight;
    const bool moves_bytes = request.kind == IoKind::read || is_write(request.kind);
    if (moves_bytes && (request.data == nullptr || request.length == 0)) {
        finish(slot, -EINVAL);
    } else if (request.kind == IoKind::allocate || request.kind == IoKind::reserve) {
        give_to_worker(slot);
    } else if (request.kind == IoKind::flush || request.kind == IoKind::write_durable) {
        const int sticky = sticky_flush_errno(file);
        if (sticky != 0) {
            finish(slot, -sticky);
        } else if (request.kind == IoKind::flush) {
            want_flush(slot);
        } else if (!prepare(slot)) {
            --file.in_flight;
            push(free_, slot);
            return false;
        }
    } else if (!prepare(slot)) {
        --file.in_flight;
        push(free_, slot);
        return false;
    }
    ++in_flight_;
    return true;
}

int UringEngine::sticky_flush_errno(const File& file) const noexcept {
    if (file.flush_errno != 0) {
        return file.flush_errno;
    }
    const Replica& place = replicas_[file.replica];
    return file.version == place.version ? place.flush_errno : 0;
}

void UringEngine::label(io_uring_sqe* entry, Tag tag, std::uint32_t index) noexcept {
    const std::uint32_t generation = tag == Tag::request ? slots_[index].generation : 0;
    entry->user_data = static_cast<std::uint64_t>(tag) << 56 |
                       static_cast<std::uint64_t>(generation & 0xffffffU) << 32 | index;
}

bool UringEngine::prepare(std::uint32_t slot) noexcept {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
        return false;
    }
    const Slot& request = slots_[slot];
    const File& file = files_[static_cast<std::size_t>(request.request.file)];
    std::byte* data = request.request.data + request.done;
    const std::uint64_t offset = request.request.offset + request.done;
    const auto length =
        static_cast<unsigned>(std::min(request.request.length - request.done, transfer_bytes_max));
    if (request.request.kind == IoKind::read) {
        if (request.fixed_buffer >= 0) {
            io_uring_prep_read_fixed(entry, file.fd, data, length, offset, request.fixed_buffer);
        } else {
            io_uring_prep_read(entry, file.fd, data, length, offset);
        }
    } else {
        if (request.fixed_buffer >= 0) {
            io_uring_prep_write_fixed(entry, file.fd, data, length, offset, request.fixed_buffer);
        } else {
            io_uring_prep_write(entry, file.fd, data, length, offset);
        }
        if (request.request.kind == IoKind::write_durable && file.mode == FlushMode::dsync) {
            entry->rw_flags = RWF_DSYNC;
        }
    }
    label(entry, Tag::request, slot);
    ++in_ring_;
    return true;
}

void UringEngine::prepare_or_postpone(std::uint32_t slot) noexcept {
    follow_ups_ = true;
    if (!prepare(slot)) {
        push(postponed_, slot);
    }
}

void UringEngine::want_flush(std::uint32_t slot) noexcept {
    const auto index = static_cast<std::uint32_t>(slots_[slot].request.file);
    File& file = files_[index];
    push(file.waiting, slot);
    if (!file.flush_running && !file.flush_due) {
        file.flush_due = true;
        flushes_due_.push_back(index);
    }
}

bool UringEngine::start_flush(std::uint32_t file_index) noexcept {
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
        return false;
    }
    File& file = files_[file_index];
    io_uring_prep_fsync(entry, file.fd, IORING_FSYNC_DATASYNC);
    label(entry, Tag::flush, file_index);
    file.covered = file.waiting;
    file.waiting = {};
    file.flush_running = true;
    file.flush_due = false;
    ++in_ring_;
    return true;
}

void UringEngine::prepare_postponed() noexcept {
    while (!postponed_.empty() && prepare(postponed_.first)) {
        // prepare() does not touch the links, so the first is still the one it took.
        static_cast<void>(pop(postponed_));
    }
    while (!flushes_due_.empty() && start_flush(flushes_due_.back())) {
        flushes_due_.pop_back();
    }
}

// -- Completions --------------------------------------------------------------------------------

void UringEngine::take_completions() noexcept {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* entry = nullptr;
    io_uring_for_each_cqe(&ring_, head, entry) {
        ++count;
        complete(entry->user_data, entry->res, entry->flags);
    }
    if (count > 0) {
        io_uring_cq_advance(&ring_, count);
        ++calls_.advances;
    }
    take_from_worker();
    if (!flushes_due_.empty() || !postponed_.empty()) {
        follow_ups_ = true;
        prepare_postponed();
    }
}

void UringEngine::complete(std::uint64_t user_data, std::int32_t result,
                           std::uint32_t flags) noexcept {
    if (user_data == LIBURING_UDATA_TIMEOUT) {
        return;  // older kernels time a wait with a request of its own
    }
    const auto index = static_cast<std::uint32_t>(user_data);
    switch (static_cast<Tag>(user_data >> 56)) {
        case Tag::request:
            --in_ring_;
            PENSTOCK_CHECK((slots_[index].generation & 0xffffffU) == (user_data >> 32 & 0xffffffU));
            complete_request(index, result);
            return;
        case Tag::flush:
            --in_ring_;
            complete_flush(index, result);
            return;
        case Tag::wake:
            wake_armed_ = false;
            woken_ = true;
            if (result < 0 && result != -EINTR) {
                wake_fd_ = -1;  // not a descriptor one can poll: asking again would spin
            }
            return;
        case Tag::allocated:
            allocated_armed_ = false;
            return;
        case Tag::guest:
            woken_ = true;
            guests_[user_data >> 32 & 0xffffffU]->complete(index, result, flags);
            return;
    }
}

void UringEngine::complete_request(std::uint32_t slot, std::int32_t result) noexcept {
    Slot& request = slots_[slot];
    const File& file = files_[static_cast<std::size_t>(request.request.file)];
    if ((result == -EAGAIN || result == -EINTR) && request.retries < retries_max) {
        ++request.retries;
        prepare_or_postpone(slot);
        return;
    }
    if (result < 0) {
        finish(slot, result);
        return;
    }
    request.done += static_cast<std::uint32_t>(result);
    const bool whole = request.done == request.request.length;
    const bool can_go_on = result > 0 && (!file.direct || request.done % sector_bytes == 0);
    if (!whole && can_go_on) {
        prepare_or_postpone(slot);
        return;
    }
    if (request.request.kind == IoKind::read) {
        finish(slot, static_cast<std::int64_t>(request.done));
        return;
    }
    if (!whole) {
        finish(slot, -EIO);
        return;
    }
    if (request.request.kind == IoKind::write_durable && file.mode == FlushMode::write_then_flush) {
        want_flush(slot);
        return;
    }
    finish(slot, static_cast<std::int64_t>(request.done));
}

void UringEngine::complete_flush(std::uint32_t file_index, std::int32_t result) noexcept {
    File& file = files_[file_index];
    Replica& place = replicas_[file.replica];
    file.flush_running = false;
    // Another flush of the drive may have failed meanwhile; what this one says is worth nothing
    // then.
    int error = result < 0 ? -result : sticky_flush_errno(file);
    if (error != 0) {
        file.flush_errno = error;
        if (file.version == place.version) {
            place.flush_errno = error;
        }
    }
    List covered = file.covered;
    file.covered = {};
    while (!covered.empty()) {
        const std::uint32_t slot = pop(covered);
        const auto done = static_cast<std::int64_t>(slots_[slot].done);
        finish(slot, error != 0 ? -error : done);
    }
    if (file.waiting.empty()) {
        return;
    }
    if (error != 0) {
        List waiting = file.waiting;
        file.waiting = {};
        while (!waiting.empty()) {
            finish(pop(waiting), -error);
        }
    } else if (!file.flush_due) {
        file.flush_due = true;
        flushes_due_.push_back(file_index);
    }
}

std::size_t UringEngine::reap(std::span<IoCompletion> out) noexcept {
    own();
    if ((__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) &
         (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0) {
        io_uring_get_events(&ring_);
    }
    take_completions();
    if (follow_ups_) {
        ++calls_.follow_ups;
        enter();
    }
    std::size_t count = 0;
    while (count < out.size() && !ready_.empty()) {
        const std::uint32_t slot = pop(ready_);
        out[count++] = {slots_[slot].request.cookie, slots_[slot].result};
        ++slots_[slot].generation;
        push(free_, slot);
    }
    in_flight_ -= count;
    return count;
}

// -- Entering the kernel ------------------------------------------------------------------------

void UringEngine::enter() noexcept {
    follow_ups_ = false;
    int result = 0;
    do {
        result = deferred_ ? io_uring_submit_and_get_events(&ring_) : io_uring_submit(&ring_);
    } while (result == -EINTR);
    // Short of memory or behind with completions: the entries stay and go with the next call.
    PENSTOCK_CHECK(result >= 0 || result == -EAGAIN || result == -EBUSY);
    if (!ring_workers_placed_ && helper_cpus_) {
        // What the kernel's workers for this ring begin on a CPU, the block layer ends there: on a
        // polling lane's, a flush waits until the lane's slice is over, and with it every other
        // flush of the drive.
        ring_workers_placed_ = true;
        io_uring_register_iowq_aff(&ring_, sizeof(*helper_cpus_), &*helper_cpus_);
    }
}

void UringEngine::submit() noexcept {
    own();
    prepare_postponed();
    if (io_uring_sq_ready(&ring_) > 0) {
        ++calls_.submits;
        enter();
    }
}

void UringEngine::arm_wake_ups() noexcept {
    if (wake_fd_ >= 0 && !wake_armed_) {
        if (io_uring_sqe* entry = io_uring_get_sqe(&ring_); entry != nullptr) {
            io_uring_prep_poll_add(entry, wake_fd_, POLLIN);
            label(entry, Tag::wake, 0);
            wake_armed_ = true;
        }
    }
    if (allocating_ > 0 && !allocated_armed_) {
        if (io_uring_sqe* entry = io_uring_get_sqe(&ring_); entry != nullptr) {
            io_uring_prep_poll_add(entry, worker_->event_fd(), POLLIN);
            label(entry, Tag::allocated, 0);
            allocated_armed_ = true;
        }
    }
}

void UringEngine::wait(std::uint64_t timeout_ns) noexcept {
    own();
    // A day is as good as for ever, and keeps the sum in range.
    const std::uint64_t deadline = monotonic_ns() + std::min(timeout_ns, 86'400'000'000'000U);
    woken_ = false;
    for (bool first = true;; first = false) {
        take_completions();
        const std::uint64_t now = monotonic_ns();
        if (!ready_.empty() || woken_ || (now >= deadline && !first)) {
            submit();
            return;
        }
        prepare_postponed();
        arm_wake_ups();
        const std::uint64_t left = now < deadline ? deadline - now : 0;
        __kernel_timespec limit{};
        limit.tv_sec = static_cast<long long>(left / 1'000'000'000U);
        limit.tv_nsec = static_cast<long long>(left % 1'000'000'000U);
        io_uring_cqe* entry = nullptr;
        follow_ups_ = false;
        const int result = io_uring_submit_and_wait_timeout(&ring_, &entry, 1, &limit, nullptr);
        PENSTOCK_CHECK(result >= 0 || result == -ETIME || result == -EINTR || result == -EAGAIN ||
                       result == -EBUSY);
    }
}

// -- Allocation ---------------------------------------------------------------------------------

void UringEngine::give_to_worker(std::uint32_t slot) noexcept {
    const IoRequest& request = slots_[slot].request;
    const File& file = files_[static_cast<std::size_t>(request.file)];
    const int failure = worker_->give({.slot = slot,
                                       .fd = file.fd,
                                       .end = request.offset + request.length,
                                       .reserve = request.kind == IoKind::reserve,
                                       .pace_ns = request.pace_ns});
    if (failure != 0) {
        finish(slot, -failure);
        return;
    }
    ++allocating_;
}

void UringEngine::hurry_allocates() noexcept {
    worker_->hurry();
}

void UringEngine::take_from_worker() noexcept {
    AllocateWorker::Job job;
    while (allocating_ > 0 && worker_->take(job)) {
        --allocating_;
        const auto length = static_cast<std::int64_t>(slots_[job.slot].request.length);
        finish(job.slot, job.result < 0 ? job.result : length);
    }
}

}  // namespace penstock
