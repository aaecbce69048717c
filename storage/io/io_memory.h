// Memory for large transfers, in large pages where the kernel has them.
//
// A transfer whose memory is many small pages exceeds what a drive takes in one command and is cut
// into several, so large pages are worth 20 to 45 % of a fast drive's rate.
//
// Allocates: on construction, until destruction.
// Guarantees: aligned to block_bytes, and to 2 MiB from that size on; zeroes at first.
#pragma once

#include <cstddef>
#include <utility>

#include "storage/base/bytes.h"

namespace penstock {

class IoMemory {
public:
    static constexpr std::size_t large_page_bytes = std::size_t{2} << 20;

    IoMemory() = default;
    // Nothing (data() is null) when memory is short. `reserved_pages` takes pages that were set
    // aside for huge pages, if enough are free; otherwise the kernel is asked for large pages of
    // ordinary memory.
    IoMemory(std::size_t bytes, bool reserved_pages) noexcept;
    ~IoMemory();
    IoMemory(IoMemory&& other) noexcept
        : data_(std::exchange(other.data_, nullptr)),
          size_(std::exchange(other.size_, 0)),
          reserved_(other.reserved_) {}
    IoMemory& operator=(IoMemory&& other) noexcept {
        std::swap(data_, other.data_);
        std::swap(size_, other.size_);
        std::swap(reserved_, other.reserved_);
        return *this;
    }
    IoMemory(const IoMemory&) = delete;
    IoMemory& operator=(const IoMemory&) = delete;

    [[nodiscard]] std::byte* data() const noexcept { return data_; }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }
    // Whether it got pages that were set aside.
    [[nodiscard]] bool reserved_pages() const noexcept { return reserved_; }

private:
    std::byte* data_ = nullptr;
    std::size_t size_ = 0;
    bool reserved_ = false;
};

}  // namespace penstock
