// Several reads of files under way at once, for a thread that would otherwise wait for each in
// turn.
//
// Runs on: one thread, which opened it; the destructor may run elsewhere once that thread has
// ended.
// Allocates: in open().
// Guarantees: a read that was started is the kernel's until finish(), or the destructor, has
// waited for it; short reads are continued, so one is short only at the end of the file.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include <liburing.h>

#include "storage/base/bytes.h"
#include "storage/base/result.h"

namespace penstock {

class ReadRing {
public:
    static constexpr unsigned reads_max = 256;

    // Errors: io_failed with what the kernel said; the caller then reads without it.
    [[nodiscard]] static Result<std::unique_ptr<ReadRing>> open();
    ~ReadRing();
    ReadRing(const ReadRing&) = delete;
    ReadRing& operator=(const ReadRing&) = delete;

    // Prepares a read under a number below reads_max that is not under way. `fd` stays open until
    // finish(). Offset, memory and length as the file's O_DIRECT asks.
    void start(unsigned number, int fd, std::uint64_t offset, MutableBytes into) noexcept;
    // Hands what was prepared to the kernel: one system call, none if there is nothing.
    void submit() noexcept;
    // Whether a read that was started has ended. Never waits.
    [[nodiscard]] bool ready(unsigned number) noexcept;
    // Waits until a read that was not ready is; one has to be under way.
    void wait_for_any() noexcept;
    // Waits for a read that was started. Errors: io_failed.
    [[nodiscard]] Result<std::size_t> finish(unsigned number) noexcept;

private:
    struct Read {
        int fd = -1;
        std::uint64_t offset = 0;
        MutableBytes into;
        std::int32_t result = 0;
        bool done = false;
        bool under_way = false;
    };

    ReadRing() = default;
    void take_completions() noexcept;

    io_uring ring_{};
    bool made_ = false;
    std::array<Read, reads_max> reads_{};
};

}  // namespace penstock
