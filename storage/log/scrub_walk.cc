#include "storage/log/scrub_walk.h"

#include <algorithm>

namespace penstock {

namespace {

bool all_zero(Bytes bytes) noexcept {
    return std::ranges::all_of(bytes, [](std::byte b) { return b == std::byte{0}; });
}

bool follows(const WalkPlace& place, const FrameHeader& header, std::uint64_t at,
             Sequence last) noexcept {
    if (header.shard != place.shard || header.group != place.group ||
        header.last_sequence() > place.end_sequence) {
        return false;
    }
    // A chunk may begin behind a hole that a recovery left.
    return header.previous_sequence == last || (at == 0 && header.previous_sequence > last) ||
           (header.previous_sequence > last &&
            known_lost(place.lost, last + 1, header.previous_sequence + 1));
}

}  // namespace

bool known_lost(std::span<const LostRange> lost, Sequence from, Sequence until) noexcept {
    // Ranges may lie side by side, in any order.
    for (bool moved = true; moved && from < until;) {
        moved = false;
        for (const LostRange& range : lost) {
            if (range.from <= from && range.until > from) {
                from = range.until;
                moved = true;
            }
        }
    }
    return from >= until;
}

FrameWalk walk_frames(const WalkPlace& place, Bytes bytes) noexcept {
    const std::uint64_t base = align_down(place.offset, block_bytes);
    const std::uint64_t within = std::min<std::uint64_t>(base + bytes.size(), place.until);
    FrameWalk walk{.offset = place.offset, .last = place.last, .end = WalkEnd::bad, .need = 0};
    // Zeroes behind a write are believed once the right thing follows them.
    for (std::uint64_t at = place.offset;;) {
        if (at >= place.until) {
            const bool whole = walk.last == place.end_sequence ||
                               known_lost(place.lost, walk.last + 1, place.end_sequence + 1);
            walk.end = whole ? WalkEnd::chunk : WalkEnd::bad;
            walk.offset = whole ? place.until : walk.offset;
            return walk;
        }
        if (at >= within) {
            walk.end = WalkEnd::bytes;
            walk.need = at - base + block_bytes;
            return walk;
        }
        FrameHeader header;
        const Bytes rest = bytes.subspan(at - base, within - at);
        const FrameFault fault = check_frame(rest, place.set_id, header);
        const bool cut = within < place.until;  // there is more in the chunk than was read
        if (fault == FrameFault::none && follows(place, header, at, walk.last)) {
            at += header.total_bytes();
            walk.offset = at;
            walk.last = header.last_sequence();
            continue;
        }
        const std::uint64_t next = align_up(at, block_bytes);
        if (fault == FrameFault::not_a_frame && next != at && next <= within &&
            all_zero(rest.first(next - at))) {
            at = next;
            continue;
        }
        if (fault == FrameFault::truncated && cut) {
            // The header alone says whether there is a reason to read on.
            const bool is_header = rest.size() >= sizeof(FrameHeader);
            if (!is_header || follows(place, header, at, walk.last)) {
                walk.end = WalkEnd::bytes;
                walk.need =
                    at - base + (is_header ? header.total_bytes() : std::uint64_t{block_bytes});
                return walk;
            }
        }
        if (fault == FrameFault::unknown_version || fault == FrameFault::malformed) {
            walk.end = WalkEnd::unknown;
        }
        return walk;
    }
}

std::optional<FoundFrame> find_frame(const WalkPlace& place, Bytes bytes, std::uint64_t bytes_at,
                                     std::uint64_t from, std::uint64_t limit) noexcept {
    const std::uint64_t end = std::min<std::uint64_t>(bytes_at + bytes.size(), place.until);
    for (std::uint64_t at = align_up(std::max(from, bytes_at), frame_alignment);
         at < limit && at + sizeof(FrameHeader) <= end; at += frame_alignment) {
        const Bytes rest = bytes.subspan(at - bytes_at, end - at);
        FrameHeader header;
        if (load<std::uint32_t>(rest.data()) == frame_magic &&
            check_frame(rest, place.set_id, header) == FrameFault::none &&
            header.shard == place.shard && header.group == place.group &&
            header.previous_sequence >= place.last &&
            header.last_sequence() <= place.end_sequence) {
            return FoundFrame{at, header.previous_sequence, header.first_arrival_ms};
        }
    }
    return std::nullopt;
}

}  // namespace penstock
