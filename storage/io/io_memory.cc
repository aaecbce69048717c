#include "storage/io/io_memory.h"

#include <sys/mman.h>

namespace penstock {

namespace {

constexpr int protection = PROT_READ | PROT_WRITE;
constexpr int flags = MAP_PRIVATE | MAP_ANONYMOUS;

std::byte* map(std::size_t bytes, int more) noexcept {
    void* memory = ::mmap(nullptr, bytes, protection, flags | more, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
}

}  // namespace

IoMemory::IoMemory(std::size_t bytes, bool reserved_pages) noexcept {
    if (bytes < large_page_bytes) {
        size_ = align_up(bytes, block_bytes);
        data_ = map(size_, MAP_POPULATE);
        return;
    }
    size_ = align_up(bytes, large_page_bytes);
    if (reserved_pages) {
        data_ = map(size_, MAP_HUGETLB | MAP_POPULATE);
        reserved_ = data_ != nullptr;
        if (reserved_) {
            return;
        }
    }
    std::byte* base = map(size_ + large_page_bytes, 0);
    if (base == nullptr) {
        return;
    }
    // Cut to the aligned part, which the kernel can back with large pages by itself.
    const std::size_t skip = align_up(reinterpret_cast<std::uintptr_t>(base), large_page_bytes) -
                             reinterpret_cast<std::uintptr_t>(base);
    if (skip > 0) {
        ::munmap(base, skip);
    }
    if (skip < large_page_bytes) {
        ::munmap(base + skip + size_, large_page_bytes - skip);
    }
    data_ = base + skip;
    ::madvise(data_, size_, MADV_HUGEPAGE);
    // Touched now rather than by its first user; a kernel without this call leaves it to that.
    ::madvise(data_, size_, MADV_POPULATE_WRITE);
}

IoMemory::~IoMemory() {
    if (data_ != nullptr) {
        ::munmap(data_, size_);
    }
}

}  // namespace penstock
