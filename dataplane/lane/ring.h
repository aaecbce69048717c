// Bounded rings between threads: pointers from many producers to one consumer (inboxes, replies),
// and byte records from one lane to one other.
//
// Allocates: at construction only.
// Guarantees: nothing pushed is lost or seen twice; the order of each producer is kept.
#pragma once

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "storage/base/bytes.h"
#include "storage/base/check.h"

namespace penstock {

inline constexpr std::size_t cache_line_bytes = 64;
// Two lines, because the adjacent-line prefetcher pulls lines in pairs.
inline constexpr std::size_t apart_bytes = 2 * cache_line_bytes;

// Many producers, one consumer. A slot's `turn` says whose move it is: equal to the position when a
// producer may fill it, one more when the consumer may take it.
template <typename T>
class MpscRing {
public:
    // Rounded up to a power of two.
    explicit MpscRing(std::size_t capacity)
        : slots_(std::bit_ceil(capacity < 2 ? std::size_t{2} : capacity)),
          mask_(slots_.size() - 1) {
        for (std::size_t i = 0; i < slots_.size(); ++i) {
            slots_[i].turn.store(i, std::memory_order_relaxed);
        }
    }
    MpscRing(const MpscRing&) = delete;
    MpscRing& operator=(const MpscRing&) = delete;

    // Any thread. False when full.
    [[nodiscard]] bool push(T* item) noexcept {
        std::size_t at = head_.load(std::memory_order_relaxed);
        for (;;) {
            Slot& slot = slots_[at & mask_];
            const std::size_t turn = slot.turn.load(std::memory_order_acquire);
            const auto lead = static_cast<std::ptrdiff_t>(turn - at);
            if (lead == 0) {
                if (head_.compare_exchange_weak(at, at + 1, std::memory_order_relaxed)) {
                    slot.item = item;
                    slot.turn.store(at + 1, std::memory_order_release);
                    return true;
                }
            } else if (lead < 0) {
                return false;
            } else {
                at = head_.load(std::memory_order_relaxed);
            }
        }
    }

    // The consumer. Null when empty, or when the oldest producer has not finished its push yet.
    [[nodiscard]] T* pop() noexcept {
        Slot& slot = slots_[tail_ & mask_];
        if (slot.turn.load(std::memory_order_acquire) != tail_ + 1) {
            return nullptr;
        }
        T* item = slot.item;
        slot.turn.store(tail_ + slots_.size(), std::memory_order_release);
        ++tail_;
        return item;
    }

    // The consumer.
    [[nodiscard]] bool empty() const noexcept {
        return slots_[tail_ & mask_].turn.load(std::memory_order_acquire) != tail_ + 1;
    }
    [[nodiscard]] std::size_t capacity() const noexcept { return slots_.size(); }

private:
    struct Slot {
        std::atomic<std::size_t> turn{0};
        T* item = nullptr;
    };
    std::vector<Slot> slots_;
    std::size_t mask_;
    alignas(apart_bytes) std::atomic<std::size_t> head_{0};
    alignas(apart_bytes) std::size_t tail_ = 0;
};

// One producer, one consumer, records of any length up to half the ring. A record is claimed as one
// contiguous span, filled in place and seen by the consumer when it is committed; several claims
// may share one commit. Where a record would cross the end, the rest is padding and it starts over.
class SpscByteRing {
public:
    // Rounded up to a power of two.
    explicit SpscByteRing(std::size_t bytes)
        : size_(std::bit_ceil(bytes < 4096 ? std::size_t{4096} : bytes)),
          data_(std::make_unique<std::byte[]>(size_)) {}
    SpscByteRing(const SpscByteRing&) = delete;
    SpscByteRing& operator=(const SpscByteRing&) = delete;

    [[nodiscard]] std::size_t record_bytes_max() const noexcept { return size_ / 2 - header_bytes; }
    [[nodiscard]] std::size_t size_bytes() const noexcept { return size_; }

    // Producer: room for `length` bytes, 8-aligned, or null when there is none, or less than
    // `margin` would be left. What was claimed is handed over by commit().
    [[nodiscard]] std::byte* claim(std::size_t length, std::size_t margin = 0) noexcept {
        if (length > record_bytes_max()) {
            return nullptr;
        }
        const std::size_t need = align_up(header_bytes + length, header_bytes);
        const std::size_t at = static_cast<std::size_t>(write_.claimed & (size_ - 1));
        const std::size_t to_end = size_ - at;
        const std::size_t padding = need <= to_end ? 0 : to_end;
        if (write_.claimed + padding + need + margin - write_.peer_cached > size_) {
            write_.peer_cached = read_.position.load(std::memory_order_acquire);
            if (write_.claimed + padding + need + margin - write_.peer_cached > size_) {
                return nullptr;
            }
        }
        if (padding != 0) {
            store(data_.get() + at, padding_mark);
            write_.claimed += padding;
        }
        std::byte* record = data_.get() + (write_.claimed & (size_ - 1));
        store(record, static_cast<std::uint64_t>(length));
        write_.claimed += need;
        return record + header_bytes;
    }
    // Producer: true if there was anything to hand over.
    bool commit() noexcept {
        if (write_.claimed == write_.position.load(std::memory_order_relaxed)) {
            return false;
        }
        write_.position.store(write_.claimed, std::memory_order_release);
        return true;
    }

    // Consumer: the oldest record, or an empty span with null data. Its bytes stay until release().
    [[nodiscard]] Bytes front() noexcept {
        for (;;) {
            if (read_.taken == read_.peer_cached) {
                read_.peer_cached = write_.position.load(std::memory_order_acquire);
                if (read_.taken == read_.peer_cached) {
                    return {};
                }
            }
            const std::size_t at = static_cast<std::size_t>(read_.taken & (size_ - 1));
            const auto length = load<std::uint64_t>(data_.get() + at);
            if (length == padding_mark) {
                read_.taken += size_ - at;
                continue;
            }
            return {data_.get() + at + header_bytes, static_cast<std::size_t>(length)};
        }
    }
    // Consumer: passes over the record front() showed.
    void pop() noexcept {
        const std::size_t at = static_cast<std::size_t>(read_.taken & (size_ - 1));
        const auto length = load<std::uint64_t>(data_.get() + at);
        read_.taken += align_up(header_bytes + length, header_bytes);
    }
    // Consumer: gives the room of everything popped back, once per batch.
    void release() noexcept { read_.position.store(read_.taken, std::memory_order_release); }
    // Consumer.
    [[nodiscard]] bool empty() const noexcept {
        return read_.taken == write_.position.load(std::memory_order_acquire);
    }
    // Consumer: how far records were handed over by now, and how far they were popped; both only
    // grow.
    [[nodiscard]] std::uint64_t handed_over_until() const noexcept {
        return write_.position.load(std::memory_order_acquire);
    }
    [[nodiscard]] std::uint64_t popped_until() const noexcept { return read_.taken; }

private:
    static constexpr std::size_t header_bytes = 8;
    static constexpr std::uint64_t padding_mark = ~std::uint64_t{0};

    struct alignas(apart_bytes) Producer {
        std::atomic<std::uint64_t> position{0};  // handed over up to here
        std::uint64_t claimed = 0;               // filled up to here
        std::uint64_t peer_cached = 0;           // last consumer position seen
    };
    struct alignas(apart_bytes) Consumer {
        std::atomic<std::uint64_t> position{0};  // given back up to here
        std::uint64_t taken = 0;                 // popped up to here
        std::uint64_t peer_cached = 0;           // last producer position seen
    };

    std::size_t size_;
    std::unique_ptr<std::byte[]> data_;
    Producer write_;
    Consumer read_;
};

}  // namespace penstock
