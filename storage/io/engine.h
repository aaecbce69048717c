// Asynchronous file I/O on the three replica directories, as one thread sees it.
//
// An engine belongs to one thread: a lane, the catalog's thread, a recovery. It hides io_uring (or
// the simulated disks) and each drive's way to make a write durable. Nothing above this interface
// knows which replica is a local directory.
//
// Runs on: the thread that owns it, all calls.
// Allocates: at open only.
// Guarantees: every request accepted by queue() is answered exactly once by reap(), also when the
// drive stalls for long; a buffer belongs to the engine from queue() to its completion.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "storage/base/bytes.h"
#include "storage/base/ids.h"
#include "storage/base/result.h"
#include "storage/io/datagrams.h"

namespace penstock {

// A file of one replica, opened in one engine. Dense small numbers, reused after close.
enum class FileHandle : std::uint32_t {};
inline constexpr FileHandle no_file{0xffffffffU};

enum class IoKind : std::uint8_t {
    read,   // short at end of file
    write,  // unsynced: may be lost, torn or reordered by a power loss until a flush completes
    write_durable,  // completes only once the bytes survive a power loss (O_DSYNC or write+flush)
    flush,     // completes once every write of this file completed before it was queued is durable
    allocate,  // grow the file to `offset + length` with zeroes already written; data unused.
               // Off the calling thread; durable with the file's metadata when it completes.
    reserve,   // have the file system keep the space up to `offset + length` for this file, whose
               // size stays; data unused. Off the calling thread, before waiting `allocate`s;
               // durable when it completes. A file system that cannot keep space says yes as well.
};

struct IoRequest {
    IoKind kind = IoKind::read;
    FileHandle file = no_file;
    std::uint64_t offset = 0;   // multiple of block_bytes
    std::byte* data = nullptr;  // aligned to block_bytes
    std::uint64_t length = 0;   // multiple of block_bytes
    std::uint64_t cookie = 0;   // returned as it is; callers put kind | slot | generation in it
    std::uint64_t pace_ns = 0;  // of an allocate: its zeroes may be spread over so much time
};

struct IoCompletion {
    std::uint64_t cookie = 0;
    // Bytes moved; 0 for a flush, the request's length for an allocate or reserve; or -errno.
    std::int64_t result = 0;
};

enum class OpenMode : std::uint8_t { existing, create_or_existing, read_only };

// How often an engine entered the kernel, for engines that do. A lane that is healthy hands over
// all of a turn's requests in one submit and takes all completions in one advance.
struct IoCalls {
    std::uint64_t submits = 0;     // by submit(), when there was something to hand over
    std::uint64_t follow_ups = 0;  // by reap(): what completions led to, such as a flush
    std::uint64_t advances = 0;    // completions were taken off the queue, all there were
    friend bool operator==(const IoCalls&, const IoCalls&) = default;
};

class IoEngine {
public:
    IoEngine() = default;
    IoEngine(const IoEngine&) = delete;
    IoEngine& operator=(const IoEngine&) = delete;
    virtual ~IoEngine() = default;

    // Opens `name` in the directory of `replica` for O_DIRECT I/O. Blocks; start-up and rare events
    // only. A created file's directory entry is durable on return. Errors: not_found, io_failed,
    // ...
    [[nodiscard]] virtual Result<FileHandle> open(unsigned replica, std::string_view name,
                                                  OpenMode mode) = 0;
    virtual void close(FileHandle file) = 0;
    [[nodiscard]] virtual Result<std::uint64_t> size_bytes(FileHandle file) = 0;
    // Blocks. Removing what isn't there is no error. Durable on return.
    [[nodiscard]] virtual Status remove(unsigned replica, std::string_view name) = 0;

    // False when the submission side is full: call submit() and reap(), then retry.
    [[nodiscard]] virtual bool queue(const IoRequest& request) noexcept = 0;
    // Hands what was queued to the device: one system call, none if there is nothing.
    virtual void submit() noexcept = 0;
    // Fills `out` with completions that are ready; never waits.
    [[nodiscard]] virtual std::size_t reap(std::span<IoCompletion> out) noexcept = 0;
    // Submits, then waits until a completion is ready or `timeout_ns` has passed. Recovery and the
    // catalog use it; a lane only when idle.
    virtual void wait(std::uint64_t timeout_ns) noexcept = 0;
    // The allocates under way are needed now, whatever pace they were given. Of an engine that does
    // not pace them: nothing.
    virtual void hurry_allocates() noexcept {}
    // Requests accepted and not yet reaped.
    [[nodiscard]] virtual std::size_t in_flight() const noexcept = 0;

    // I/O memory: aligned to 2 MiB where it can be, registered with the device. Freed with the
    // engine. Null when memory is short. Call before the lane runs.
    [[nodiscard]] virtual std::byte* allocate_buffer(std::size_t bytes) = 0;

    // On the thread that owns the engine. Null where the engine has no ring that could receive, or
    // its kernel does not know how: the caller then asks its sockets itself.
    [[nodiscard]] virtual std::unique_ptr<DatagramReceiver> receive_datagrams(
        const DatagramOptions&) {
        return nullptr;
    }

    [[nodiscard]] const IoCalls& calls() const noexcept { return calls_; }

protected:
    IoCalls calls_;
};

// One blocking request on an engine with nothing else in flight. Returns bytes moved.
[[nodiscard]] Result<std::uint64_t> run_one(IoEngine& engine, const IoRequest& request);

}  // namespace penstock
