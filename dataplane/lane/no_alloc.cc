#include "dataplane/lane/no_alloc.h"

#include <unistd.h>

#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <new>

#if __has_include("dataplane/lane/no_alloc_config.h")
#include "dataplane/lane/no_alloc_config.h"
#endif

namespace penstock {
namespace {
constinit thread_local int forbidden_depth = 0;
}

NoAllocScope::NoAllocScope(bool active) noexcept : active_(active) {
    forbidden_depth += active_ ? 1 : 0;
}
NoAllocScope::~NoAllocScope() {
    forbidden_depth -= active_ ? 1 : 0;
}

AllowAllocScope::AllowAllocScope() noexcept : outer_(forbidden_depth) {
    forbidden_depth = 0;
}
AllowAllocScope::~AllowAllocScope() {
    forbidden_depth = outer_;
}

bool allocation_trap_built_in() noexcept {
#ifdef PENSTOCK_TRAP_ALLOCATIONS
    return true;
#else
    return false;
#endif
}

#ifdef PENSTOCK_TRAP_ALLOCATIONS
namespace {

[[noreturn]] void die(const char* message) noexcept {
    (void)!write(STDERR_FILENO, message, std::strlen(message));
    std::abort();
}

void* allocate(std::size_t bytes, std::size_t alignment) noexcept {
    if (forbidden_depth > 0) [[unlikely]] {
        forbidden_depth = 0;
        die("penstock: memory was allocated inside a lane's turn, where pools must suffice; "
            "the stack of this abort shows the place\n");
    }
    bytes = bytes == 0 ? 1 : bytes;
    if (alignment <= alignof(std::max_align_t)) {
        return std::malloc(bytes);
    }
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

void* allocate_or_die(std::size_t bytes, std::size_t alignment) noexcept {
    void* memory = allocate(bytes, alignment);
    if (memory == nullptr) {
        die("penstock: out of memory\n");
    }
    return memory;
}

}  // namespace
#endif

}  // namespace penstock

#ifdef PENSTOCK_TRAP_ALLOCATIONS
using penstock::allocate;
using penstock::allocate_or_die;

void* operator new(std::size_t n) {
    return allocate_or_die(n, 1);
}
void* operator new[](std::size_t n) {
    return allocate_or_die(n, 1);
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept {
    return allocate(n, 1);
}
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept {
    return allocate(n, 1);
}
void* operator new(std::size_t n, std::align_val_t a) {
    return allocate_or_die(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a) {
    return allocate_or_die(n, static_cast<std::size_t>(a));
}
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, static_cast<std::size_t>(a));
}
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept {
    return allocate(n, static_cast<std::size_t>(a));
}
void operator delete(void* p) noexcept {
    std::free(p);
}
void operator delete[](void* p) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::size_t) noexcept {
    std::free(p);
}
void operator delete(void* p, const std::nothrow_t&) noexcept {
    std::free(p);
}
void operator delete[](void* p, const std::nothrow_t&) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::size_t, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept {
    std::free(p);
}
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept {
    std::free(p);
}
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept {
    std::free(p);
}
#endif
