#include "storage/io/read_ring.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "storage/base/check.h"

namespace penstock {

Result<std::unique_ptr<ReadRing>> ReadRing::open() {
    std::unique_ptr<ReadRing> ring(new ReadRing());
    // Completions are taken when we ask for them. Not tied to one thread, as a deferred ring would
    // be: the thread that ends the reads may be another than the one that used them.
    int made = io_uring_queue_init(reads_max, &ring->ring_,
                                   IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG);
    if (made == -EINVAL) {
        made = io_uring_queue_init(reads_max, &ring->ring_, 0);
    }
    if (made != 0) {
        return fail(Errc::io_failed, -made);
    }
    ring->made_ = true;
    return ring;
}

ReadRing::~ReadRing() {
    if (!made_) {
        return;
    }
    submit();
    // The kernel writes into memory that is about to be freed until the last read has ended.
    while (std::ranges::any_of(reads_, [](const Read& r) { return r.under_way && !r.done; })) {
        wait_for_any();
    }
    io_uring_queue_exit(&ring_);
}

void ReadRing::start(unsigned number, int fd, std::uint64_t offset, MutableBytes into) noexcept {
    PENSTOCK_CHECK(number < reads_max && !reads_[number].under_way);
    reads_[number] = {fd, offset, into, 0, false, true};
    io_uring_sqe* entry = io_uring_get_sqe(&ring_);
    PENSTOCK_CHECK(entry != nullptr);  // as many entries as numbers
    io_uring_prep_read(entry, fd, into.data(), static_cast<unsigned>(into.size()), offset);
    entry->user_data = number;
}

void ReadRing::submit() noexcept {
    while (io_uring_sq_ready(&ring_) != 0) {
        const int result = io_uring_submit(&ring_);
        if (result == -EAGAIN || result == -EBUSY) {
            wait_for_any();  // the kernel is short of memory for requests
            continue;
        }
        PENSTOCK_CHECK(result >= 0 || result == -EINTR);
    }
}

void ReadRing::wait_for_any() noexcept {
    io_uring_cqe* entry = nullptr;
    const int result = io_uring_wait_cqe(&ring_, &entry);
    if (result == -EINTR || result == -EAGAIN) {
        return;
    }
    PENSTOCK_CHECK(result == 0);
    take_completions();
}

void ReadRing::take_completions() noexcept {
    unsigned head = 0;
    io_uring_cqe* entry = nullptr;
    unsigned count = 0;
    io_uring_for_each_cqe(&ring_, head, entry) {
        Read& read = reads_[entry->user_data];
        read.result = entry->res;
        read.done = true;
        ++count;
    }
    io_uring_cq_advance(&ring_, count);
}

bool ReadRing::ready(unsigned number) noexcept {
    if (!reads_[number].done) {
        if ((__atomic_load_n(ring_.sq.kflags, __ATOMIC_RELAXED) & IORING_SQ_TASKRUN) != 0) {
            io_uring_get_events(&ring_);
        }
        take_completions();
    }
    return reads_[number].done;
}

Result<std::size_t> ReadRing::finish(unsigned number) noexcept {
    Read& read = reads_[number];
    PENSTOCK_CHECK(number < reads_max && read.under_way);
    submit();
    while (!read.done) {
        wait_for_any();
    }
    read.under_way = false;
    // What the kernel would not do without waiting is done waiting.
    const bool again = read.result == -EAGAIN || read.result == -EINTR;
    if (read.result < 0 && !again) {
        return fail(Errc::io_failed, -read.result);
    }
    std::size_t have = again ? 0 : static_cast<std::size_t>(read.result);
    bool at_end = !again && have == 0;
    while (have < read.into.size() && !at_end) {
        const ssize_t got = ::pread(read.fd, read.into.data() + have, read.into.size() - have,
                                    static_cast<off_t>(read.offset + have));
        if (got < 0 && errno == EINTR) {
            continue;
        }
        // Behind the end of a file a transfer that is not aligned is refused.
        if (got < 0 && have % block_bytes != 0 && errno == EINVAL) {
            break;
        }
        if (got < 0) {
            return fail(Errc::io_failed, errno);
        }
        at_end = got == 0;
        have += static_cast<std::size_t>(got);
    }
    return have;
}

}  // namespace penstock
