#include "storage/segment/read_ahead.h"

#include <algorithm>
#include <cstring>

namespace penstock {

ReadAhead::~ReadAhead() {
    drop_behind(0);
}

void ReadAhead::follow(const ReadPlan& plan, bool goes_on) {
    plan_ = &plan;
    extent_count_ = plan.extent_count + (goes_on ? plan.ahead_count : 0);
    placed_ = false;
}

bool ReadAhead::has(std::uint32_t group, std::uint32_t container,
                    std::uint64_t offset) const noexcept {
    for (unsigned n = 0; n < count_; ++n) {
        const Piece& one = pieces_[(first_ + n) % pieces_max];
        if (one.group == group && one.container == container && offset >= one.from &&
            offset < one.end()) {
            return true;
        }
    }
    return false;
}

void ReadAhead::release() {
    drop_behind(0);
    ring_ = IoMemory();
    apart_ = IoMemory();
}

Result<Bytes> ReadAhead::view(unsigned replica, std::uint32_t extent, std::uint64_t at,
                              std::uint64_t length) {
    if (ring_.data() == nullptr) {
        ring_ = IoMemory(ring_bytes, false);
        if (ring_.data() == nullptr) {
            return fail(Errc::no_memory_room);
        }
    }
    const ReadExtent& place = plan_->extents[extent];
    const std::uint64_t offset = place.offset + at;
    if (!find(replica, place.container, offset)) {
        go_to(replica, extent, offset);
    } else if (!placed_) {
        go_on(replica, extent);
    }
    start_more();
    auto found = covered(offset, length);
    // While these bytes are looked at, the drive has others to read.
    start_more();
    return found ? std::move(*found) : read_apart(replica, place, offset, length);
}

Result<Bytes> ReadAhead::view_aside(unsigned replica, std::uint32_t extent, std::uint64_t at,
                                    std::uint64_t length) {
    const ReadExtent& place = plan_->extents[extent];
    return read_apart(replica, place, place.offset + at, length);
}

// Makes the piece with `offset` the first one, if there is one.
bool ReadAhead::find(unsigned replica, std::uint32_t container, std::uint64_t offset) {
    for (unsigned n = 0; n < count_; ++n) {
        const Piece& one = piece(n);
        if (one.replica == replica && one.group == plan_->group && one.container == container &&
            offset >= one.from && offset < one.end()) {
            for (; n != 0; --n) {
                drop_first();
            }
            return true;
        }
    }
    return false;
}

void ReadAhead::drop_first() {
    finish(0);
    first_ = (first_ + 1) % pieces_max;
    --count_;
}

void ReadAhead::drop_behind(unsigned count) {
    if (count_ > count) {
        finish(count_ - 1);
        count_ = count;
    }
}

void ReadAhead::go_to(unsigned replica, std::uint32_t extent, std::uint64_t offset) {
    drop_behind(0);
    replica_ = replica;
    next_extent_ = extent;
    next_offset_ = align_down(offset, block_bytes);
    placed_ = true;
}

// Behind what was read for the plan before, as far as this one has the same places.
void ReadAhead::go_on(unsigned replica, std::uint32_t extent) {
    replica_ = replica;
    next_extent_ = extent;
    next_offset_ = piece(0).end();
    placed_ = true;
    for (unsigned n = 1; n < count_; ++n) {
        const Piece& one = piece(n);
        if (!next_place() || one.replica != replica || one.from != next_offset_ ||
            one.container != plan_->extents[next_extent_].container) {
            drop_behind(n);
            return;
        }
        next_offset_ = one.end();
    }
}

// Steps to the next extent where one has ended. False: that was the last.
bool ReadAhead::next_place() noexcept {
    while (next_extent_ < extent_count_) {
        const ReadExtent& extent = plan_->extents[next_extent_];
        const std::uint64_t end = extent.offset + extent.length;
        if (next_offset_ < end) {
            return true;
        }
        if (++next_extent_ == extent_count_) {
            return false;
        }
        const ReadExtent& next = plan_->extents[next_extent_];
        // An extent may go on where the one before was cut, and what was read reach into it.
        const bool reaches = next.container == extent.container && next_offset_ > next.offset &&
                             next_offset_ <= next.offset + next.length;
        next_offset_ = reaches ? next_offset_ : next.offset;
    }
    return false;
}

void ReadAhead::start(std::uint64_t from, std::uint64_t length) {
    const unsigned number = (first_ + count_) % pieces_max;
    Piece& one = pieces_[number];
    one = {replica_, plan_->group, plan_->extents[next_extent_].container, from, length, true, 0};
    files_.start(first_number_ + number,
                 {replica_,
                  one.group,
                  one.container,
                  from,
                  {ring_.data() + number * piece_bytes, static_cast<std::size_t>(length)}});
    ++count_;
    ++unfinished_;
}

// Reads end in any order; the drive shall not wait for the one that we look at first.
unsigned ReadAhead::under_way() {
    unsigned reading = 0;
    for (unsigned n = count_ - unfinished_; n < count_; ++n) {
        reading += files_.ready(first_number_ + (first_ + n) % pieces_max) ? 0U : 1U;
    }
    return reading;
}

void ReadAhead::start_more() {
    bool any = false;
    unsigned reading = under_way();
    while (count_ < pieces_max && reading < under_way_max && next_place()) {
        const ReadExtent& extent = plan_->extents[next_extent_];
        const std::uint64_t end = extent.offset + extent.length;
        if ((extent.replicas >> replica_ & 1) == 0) {
            break;  // the reader goes to another replica there
        }
        const std::uint64_t length = std::min(piece_bytes, end - next_offset_);
        start(next_offset_, length);
        ++reading;
        next_offset_ += length;
        any = true;
    }
    if (any) {
        files_.submit();
    }
}

// While it is not there the drive gets more to do for each read that has ended.
void ReadAhead::wait_for(unsigned n) {
    while (piece(n).reading) {
        const unsigned next = (first_ + count_ - unfinished_) % pieces_max;
        while (!files_.ready(first_number_ + next)) {
            start_more();
            files_.wait_for_any();
        }
        finish(count_ - unfinished_);
    }
}

void ReadAhead::finish(unsigned n) {
    while (piece(n).reading) {
        const unsigned next = (first_ + count_ - unfinished_) % pieces_max;
        pieces_[next].have = files_.finish(first_number_ + next);
        pieces_[next].reading = false;
        --unfinished_;
    }
}

// Nothing if the pieces do not reach that far: a frame larger than the ring, or one that ends
// behind its extent.
std::optional<Result<Bytes>> ReadAhead::covered(std::uint64_t offset, std::uint64_t length) {
    std::uint64_t end = 0;
    bool in_one_place = true;
    unsigned n = 0;
    for (;; ++n) {
        if (n == count_) {
            start_more();
        }
        if (n == count_ ||
            (n != 0 && (piece(n).from != end || piece(n).container != piece(0).container))) {
            return std::nullopt;
        }
        wait_for(n);
        const Piece& one = piece(n);
        if (!one.have) {
            return std::unexpected(one.have.error());
        }
        end = one.from + *one.have;
        if (*one.have < one.length || end >= offset + length) {
            break;
        }
        in_one_place = in_one_place && one.length == piece_bytes &&
                       (first_ + n) % pieces_max != pieces_max - 1;
    }
    if (offset >= end) {
        return Bytes{};
    }
    length = std::min(length, end - offset);
    if (in_one_place) {
        return Bytes{memory(0) + (offset - piece(0).from), static_cast<std::size_t>(length)};
    }
    std::byte* to = apart(length);
    if (to == nullptr) {
        return fail(Errc::no_memory_room);
    }
    std::uint64_t copied = 0;
    for (unsigned i = 0; i <= n; ++i) {
        const std::uint64_t skip = i == 0 ? offset - piece(0).from : 0;
        const std::uint64_t bytes = std::min(*piece(i).have - skip, length - copied);
        std::memcpy(to + copied, memory(i) + skip, bytes);
        copied += bytes;
    }
    return Bytes{to, static_cast<std::size_t>(length)};
}

Result<Bytes> ReadAhead::read_apart(unsigned replica, const ReadExtent& extent,
                                    std::uint64_t offset, std::uint64_t length) {
    const std::uint64_t from = align_down(offset, block_bytes);
    const std::uint64_t skip = offset - from;
    const std::uint64_t want = align_up(skip + length, block_bytes);
    std::byte* to = apart(want);
    if (to == nullptr) {
        return fail(Errc::no_memory_room);
    }
    PENSTOCK_TRY(have, files_.read(replica, plan_->group, extent.container, from,
                                   {to, static_cast<std::size_t>(want)}));
    if (have <= skip) {
        return Bytes{};
    }
    return Bytes{to + skip, static_cast<std::size_t>(std::min(length, have - skip))};
}

std::byte* ReadAhead::apart(std::uint64_t bytes) {
    if (apart_.size() < bytes || apart_.data() == nullptr) {
        apart_ = IoMemory();  // before the larger one is taken
        apart_ = IoMemory(std::max<std::uint64_t>(bytes, IoMemory::large_page_bytes), false);
    }
    return apart_.data();
}

}  // namespace penstock
