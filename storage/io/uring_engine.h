// The IoEngine on io_uring: one ring for the three replica directories.
//
// Threads: open(), set_directory(), open(file), size_bytes(), remove() and allocate_buffer() may
// run on the thread that starts up. The first queue(), submit(), reap() or wait() makes the calling
// thread the ring's owner, and from then on every call must come from that thread: the kernel runs
// completions only there. So one engine serves a recovery and the lane after it only if both run
// on the lane's thread. The destructor may run anywhere once the owner has ended; on the owner it
// waits until all in flight has finished.
//
// Durability: per replica, as probe_durability() found. `dsync` sends each write_durable with
// RWF_DSYNC. `write_then_flush` writes, then one fdatasync covers all writes of that file which
// finished before it; one flush per file is in flight, the next one covers the rest. A failed flush
// fails every request it covered, is never retried, and fails every later flush and durable write
// of that replica until set_directory().
//
// Locks: `lock_fds` become registered files of the ring. An open-file-description lock on them is
// released only when the ring is gone, which is after its last write ended (LOG-PROTOCOL 2).
//
// Runs on: the owning thread; see above. `allocate` works on one thread of the engine. That thread
// and the kernel's workers for the ring run on `helper_cpus`.
// Allocates: in open(), allocate_buffer() and when files are opened.
// Guarantees: every accepted request is answered exactly once; a short write is continued or fails
// with -EIO; a read is short only at the end of the file.
#pragma once

#include <pthread.h>
#include <sched.h>

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <liburing.h>

#include "storage/io/allocate_worker.h"
#include "storage/io/datagrams.h"
#include "storage/io/engine.h"
#include "storage/io/io_memory.h"

namespace penstock {

enum class FlushMode : std::uint8_t { dsync, write_then_flush };

struct UringOptions {
    std::array<int, replica_count> directory_fds{-1, -1,
                                                 -1};  // -1: the replica is absent; not owned
    std::array<FlushMode, replica_count> flush_modes{};
    std::array<int, replica_count> lock_fds{-1, -1, -1};  // registered in the ring; not owned
    unsigned entries = 256;   // requests accepted and not reaped, at most; 1 to 4096
    bool huge_pages = false;  // try 2 MiB pages for allocate_buffer()
    // wait() also returns when this event descriptor is readable. Its owner reads it to clear it,
    // otherwise wait() returns at once again. Not owned.
    int wake_fd = -1;
    // CPUs of the engine's thread and of the kernel's workers; none: those of the opening thread.
    // A lane that polls names others than its own.
    std::optional<cpu_set_t> helper_cpus;
};

// Another user of an engine's ring, told of the completions of its own entries.
class RingGuest {
public:
    virtual void complete(std::uint32_t what, std::int32_t result,
                          std::uint32_t flags) noexcept = 0;

protected:
    ~RingGuest() = default;
};

class UringEngine final : public IoEngine {
public:
    // Errors: invalid_argument, unsupported (ENOSYS, or an operation the kernel lacks), io_failed
    // (EPERM: forbidden here; ENOMEM: memlock limit). explain_open_failure() says what to do.
    [[nodiscard]] static Result<std::unique_ptr<UringEngine>> open(const UringOptions& options);
    // One line for people about an error of open() above.
    [[nodiscard]] static std::string explain_open_failure(const Error& error);
    ~UringEngine() override;

    [[nodiscard]] Result<FileHandle> open(unsigned replica, std::string_view name,
                                          OpenMode mode) override;
    // May be called with requests in flight; the descriptor is closed after the last of them.
    void close(FileHandle file) override;
    [[nodiscard]] Result<std::uint64_t> size_bytes(FileHandle file) override;
    [[nodiscard]] Status remove(unsigned replica, std::string_view name) override;
    [[nodiscard]] bool queue(const IoRequest& request) noexcept override;
    void submit() noexcept override;
    [[nodiscard]] std::size_t reap(std::span<IoCompletion> out) noexcept override;
    void wait(std::uint64_t timeout_ns) noexcept override;
    [[nodiscard]] std::size_t in_flight() const noexcept override { return in_flight_; }
    void hurry_allocates() noexcept override;
    [[nodiscard]] std::byte* allocate_buffer(std::size_t bytes) override;
    [[nodiscard]] std::unique_ptr<DatagramReceiver> receive_datagrams(
        const DatagramOptions& options) override;

    // Another directory takes the replica's place, -1 for none; open files stay with the old one.
    // Its lock takes the old one's place in the ring, so the old directory can be locked by others.
    void set_directory(unsigned replica, int directory_fd, FlushMode mode,
                       int lock_fd = -1) noexcept;
    // False once a file of the replica could be opened without O_DIRECT only (some tmpfs).
    [[nodiscard]] bool direct(unsigned replica) const noexcept { return replicas_[replica].direct; }
    // Whether buffers got 2 MiB pages, and whether the kernel took them as registered buffers.
    [[nodiscard]] bool huge_pages() const noexcept { return huge_pages_used_; }
    [[nodiscard]] bool buffers_registered() const noexcept { return buffers_registered_; }

private:
    static constexpr std::uint32_t none = 0xffffffffU;

    struct Replica {
        int directory_fd = -1;
        FlushMode mode = FlushMode::dsync;
        bool direct = true;
        int flush_errno = 0;        // sticky
        std::uint32_t version = 0;  // of the directory; files of an older one keep their own errors
    };
    // Requests linked through Slot::next.
    struct List {
        std::uint32_t first = none;
        std::uint32_t last = none;
        [[nodiscard]] bool empty() const noexcept { return first == none; }
    };
    struct File {
        int fd = -1;  // -1: the handle is free
        unsigned replica = 0;
        std::uint32_t version = 0;
        FlushMode mode = FlushMode::dsync;
        bool direct = true;
        bool closing = false;
        std::uint32_t in_flight = 0;
        bool flush_due = false;  // stands in flushes_due_
        bool flush_running = false;
        int flush_errno = 0;  // sticky
        List waiting;         // for the next flush
        List covered;         // by the flush in flight
    };
    struct Slot {
        IoRequest request;
        std::uint64_t done = 0;  // bytes moved so far
        std::int64_t result = 0;
        std::uint32_t next = none;
        std::uint32_t generation = 0;
        std::uint16_t retries = 0;
        int fixed_buffer = -1;
    };
    // What a completion of the ring is about: kind | generation | index in user_data.
    enum class Tag : std::uint8_t { request, flush, wake, allocated, guest };

    explicit UringEngine(const UringOptions& options);
    [[nodiscard]] Status start(const UringOptions& options);
    [[nodiscard]] int make_ring(unsigned entries) noexcept;
    void own() noexcept;
    void register_buffers() noexcept;
    [[nodiscard]] int fixed_buffer_of(const IoRequest& request) const noexcept;

    [[nodiscard]] File& opened(FileHandle file) noexcept;
    void push(List& list, std::uint32_t slot) noexcept;
    [[nodiscard]] std::uint32_t pop(List& list) noexcept;
    void label(io_uring_sqe* entry, Tag tag, std::uint32_t index) noexcept;
    void finish(std::uint32_t slot, std::int64_t result) noexcept;
    void release_file(File& file) noexcept;

    // Puts a request's remaining part into the ring; false when the ring has no place.
    [[nodiscard]] bool prepare(std::uint32_t slot) noexcept;
    void prepare_or_postpone(std::uint32_t slot) noexcept;
    void want_flush(std::uint32_t slot) noexcept;
    [[nodiscard]] bool start_flush(std::uint32_t file_index) noexcept;
    // Gives the ring what waited for a place in it.
    void prepare_postponed() noexcept;
    void arm_wake_ups() noexcept;
    void enter() noexcept;
    void take_completions() noexcept;
    void complete(std::uint64_t user_data, std::int32_t result, std::uint32_t flags) noexcept;
    void complete_request(std::uint32_t slot, std::int32_t result) noexcept;
    void complete_flush(std::uint32_t file_index, std::int32_t result) noexcept;
    [[nodiscard]] int sticky_flush_errno(const File& file) const noexcept;

    // Guests, uring_datagrams.cc.
    friend class UringDatagrams;
    // None when there are too many.
    [[nodiscard]] std::optional<unsigned> admit(RingGuest& guest);
    void dismiss(unsigned guest) noexcept;
    // Null when the ring has no place.
    [[nodiscard]] io_uring_sqe* guest_entry() noexcept { return io_uring_get_sqe(&ring_); }
    [[nodiscard]] static std::uint64_t guest_label(unsigned guest, std::uint32_t what) noexcept;
    // Submits, waits for one completion of whatever kind and takes what is there.
    void wait_for_one() noexcept;

    void give_to_worker(std::uint32_t slot) noexcept;
    void take_from_worker() noexcept;
    void drain() noexcept;

    io_uring ring_{};
    bool ring_made_ = false;
    bool ring_disabled_ = false;  // made for a single issuer, not owned yet
    bool deferred_ = false;       // completions are run in our calls only
    bool owned_ = false;
    pthread_t owner_{};
    std::array<Replica, replica_count> replicas_;
    std::vector<File> files_;
    std::vector<Slot> slots_;
    List free_;
    List ready_;
    List postponed_;                          // had no place in the ring
    std::vector<std::uint32_t> flushes_due_;  // files; room for all of them
    bool follow_ups_ = false;                 // prepared by completions, not by the caller
    std::size_t in_flight_ = 0;
    std::size_t in_ring_ = 0;  // entries given to the ring and not completed, without wake-ups
    std::vector<IoMemory> buffers_;
    std::vector<iovec> registered_;
    bool huge_pages_wanted_ = false;
    bool huge_pages_used_ = false;
    bool buffers_registered_ = false;
    int wake_fd_ = -1;
    bool wake_armed_ = false;
    bool woken_ = false;

    std::vector<RingGuest*> guests_;

    std::unique_ptr<AllocateWorker> worker_;
    std::size_t allocating_ = 0;
    bool allocated_armed_ = false;
    std::optional<cpu_set_t> helper_cpus_;
    bool ring_workers_placed_ = false;
};

}  // namespace penstock
