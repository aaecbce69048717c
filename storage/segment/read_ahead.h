// The bytes of a plan's extents, read ahead of where they are looked at.
//
// A reader looks at frames in order and checks each, while the drive reads the next pieces. The
// pieces stand in a ring of memory, so that most frames can be looked at where they were read; one
// that reaches over the ring's end, or is larger than it, is put together elsewhere.
//
// Runs on: the reader's thread.
// Allocates: ring_bytes of memory at the first look, and once more what the largest frame takes.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "storage/io/io_memory.h"
#include "storage/log/read_plan.h"
#include "storage/segment/container_files.h"

namespace penstock {

class ReadAhead {
public:
    // One transfer, and how many of them are under way: a drive's rate needs both. As large as a
    // lane's writes (docs/decisions/0002-write-sizes.md), twice as many.
    static constexpr std::uint64_t piece_bytes = 512U << 10;
    static constexpr unsigned under_way_max = 8;
    // What is looked at now, what is under way, and what came before a piece that is still awaited.
    static constexpr unsigned pieces_max = 16;
    static constexpr std::uint64_t ring_bytes = pieces_max * piece_bytes;

    // `files` outlives this. Its reads get the numbers from `first_number` on, pieces_max of them.
    ReadAhead(ContainerFiles& files, unsigned first_number) noexcept
        : files_(files), first_number_(first_number) {}
    ~ReadAhead();
    ReadAhead(const ReadAhead&) = delete;
    ReadAhead& operator=(const ReadAhead&) = delete;

    // What is looked at from now on. Bytes that were read for the plan before are kept for as long
    // as they are looked at in order. `goes_on`: what the plan says to be next is read ahead too.
    void follow(const ReadPlan& plan, bool goes_on);
    // Whether a place was read, or is being read.
    [[nodiscard]] bool has(std::uint32_t group, std::uint32_t container,
                           std::uint64_t offset) const noexcept;
    // Gives the memory back.
    void release();
    // Bytes [at, at + length) of an extent of the plan on a replica, fewer where the file ends;
    // good until the next call. They may end behind the extent's end.
    [[nodiscard]] Result<Bytes> view(unsigned replica, std::uint32_t extent, std::uint64_t at,
                                     std::uint64_t length);
    // The same for a look at another replica: read now, and what is read ahead stays.
    [[nodiscard]] Result<Bytes> view_aside(unsigned replica, std::uint32_t extent, std::uint64_t at,
                                           std::uint64_t length);
    // What was read is not to be trusted any more.
    void forget() { drop_behind(0); }

private:
    struct Piece {
        unsigned replica = replica_count;
        std::uint32_t group = 0;
        std::uint32_t container = 0;
        std::uint64_t from = 0;
        std::uint64_t length = 0;
        bool reading = false;
        Result<std::size_t> have;

        [[nodiscard]] std::uint64_t end() const noexcept { return from + length; }
    };

    [[nodiscard]] Piece& piece(unsigned n) noexcept { return pieces_[(first_ + n) % pieces_max]; }
    [[nodiscard]] std::byte* memory(unsigned n) const noexcept {
        return ring_.data() + std::size_t{(first_ + n) % pieces_max} * piece_bytes;
    }
    [[nodiscard]] bool find(unsigned replica, std::uint32_t container, std::uint64_t offset);
    void drop_first();
    void drop_behind(unsigned count);
    void go_to(unsigned replica, std::uint32_t extent, std::uint64_t offset);
    void go_on(unsigned replica, std::uint32_t extent);
    [[nodiscard]] bool next_place() noexcept;
    void start(std::uint64_t from, std::uint64_t length);
    void start_more();
    [[nodiscard]] unsigned under_way();
    void wait_for(unsigned n);
    void finish(unsigned n);
    [[nodiscard]] std::optional<Result<Bytes>> covered(std::uint64_t offset, std::uint64_t length);
    [[nodiscard]] Result<Bytes> read_apart(unsigned replica, const ReadExtent& extent,
                                           std::uint64_t offset, std::uint64_t length);
    [[nodiscard]] std::byte* apart(std::uint64_t bytes);

    ContainerFiles& files_;
    unsigned first_number_;
    IoMemory ring_;
    IoMemory apart_;
    std::array<Piece, pieces_max> pieces_;
    unsigned first_ = 0;
    unsigned count_ = 0;       // in the order they are looked at
    unsigned unfinished_ = 0;  // of these, the last ones: not waited for yet

    const ReadPlan* plan_ = nullptr;
    std::uint32_t extent_count_ = 0;  // of the plan, as far as they are read
    // Where reading ahead goes on. `next_extent_` is extent_count_ when all is under way.
    unsigned replica_ = replica_count;
    std::uint32_t next_extent_ = 0;
    std::uint64_t next_offset_ = 0;
    bool placed_ = false;
};

}  // namespace penstock
