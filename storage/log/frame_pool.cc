#include "storage/log/frame_pool.h"

#include <algorithm>
#include <bit>

#include "storage/base/check.h"

namespace penstock {

Result<std::unique_ptr<FramePool>> FramePool::open(IoEngine& engine, std::size_t bytes) {
    bytes = (bytes + largest - 1) / largest * largest;
    std::byte* arena = engine.allocate_buffer(bytes);
    if (arena == nullptr) {
        return fail(Errc::no_memory_room);
    }
    return std::unique_ptr<FramePool>(new FramePool(arena, bytes));
}

FramePool::FramePool(std::byte* arena, std::size_t bytes)
    : arena_(arena), size_(bytes), state_(bytes / smallest, inside) {
    for (std::size_t at = bytes; at != 0; at -= largest) {
        push(arena_ + at - largest, orders - 1);
    }
}

void FramePool::set_holders(std::size_t holders) noexcept {
    holders_ = holders;
    const std::size_t part = size_ / 4 / std::max<std::size_t>(holders, 1);
    share_ = part < share_smallest ? 0 : std::bit_floor(std::min(part, share_largest));
}

std::size_t FramePool::rounded(std::size_t bytes) noexcept {
    return bytes <= smallest ? smallest : std::bit_ceil(bytes);
}

void FramePool::push(std::byte* block, unsigned order) noexcept {
    auto* node = reinterpret_cast<Free*>(block);
    node->previous = nullptr;
    node->next = free_[order];
    if (node->next != nullptr) {
        node->next->previous = node;
    }
    free_[order] = node;
    state_[page_of(block)] = static_cast<std::uint8_t>(order | free_mark);
}

void FramePool::unlink(std::byte* block, unsigned order) noexcept {
    auto* node = reinterpret_cast<Free*>(block);
    if (node->previous != nullptr) {
        node->previous->next = node->next;
    } else {
        free_[order] = node->next;
    }
    if (node->next != nullptr) {
        node->next->previous = node->previous;
    }
    state_[page_of(block)] = inside;
}

std::byte* FramePool::take(std::size_t bytes) noexcept {
    if (bytes > largest) {
        return nullptr;
    }
    const auto wanted =
        static_cast<unsigned>(std::countr_zero(rounded(bytes)) - std::countr_zero(smallest));
    unsigned order = wanted;
    while (order < orders && free_[order] == nullptr) {
        ++order;
    }
    if (order == orders) {
        return nullptr;
    }
    auto* block = reinterpret_cast<std::byte*>(free_[order]);
    unlink(block, order);
    while (order > wanted) {
        --order;
        push(block + (smallest << order), order);
    }
    state_[page_of(block)] = static_cast<std::uint8_t>(wanted);
    used_ += smallest << wanted;
    return block;
}

void FramePool::give(std::byte* block) noexcept {
    unsigned order = state_[page_of(block)];
    PENSTOCK_CHECK(order < orders);
    used_ -= smallest << order;
    while (order + 1 < orders) {
        const auto offset = static_cast<std::size_t>(block - arena_);
        std::byte* buddy = arena_ + (offset ^ (smallest << order));
        if (state_[page_of(buddy)] != (order | free_mark)) {
            break;
        }
        unlink(buddy, order);
        state_[page_of(block)] = inside;
        block = buddy < block ? buddy : block;
        ++order;
    }
    push(block, order);
}

}  // namespace penstock
