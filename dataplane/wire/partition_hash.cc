#include "dataplane/wire/partition_hash.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "storage/base/check.h"

namespace penstock {
namespace {

// RFC 1321 §3.4: 64 steps, T[i] = floor(2^32 · |sin(i + 1)|), eight shift amounts per round.
constexpr std::array<std::uint32_t, 64> sine{
    0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
    0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
    0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
    0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
    0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
    0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
    0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
    0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391};
constexpr std::array<std::array<int, 4>, 4> shifts{
    {{7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}}};

// Eight keys side by side: one MD5 is a chain of dependent steps, which leaves most of the CPU
// idle. Without AVX2 the compiler makes two halves of each, which go side by side as well.
constexpr std::size_t lanes = 8;
using Eight = std::uint32_t __attribute__((vector_size(4 * lanes)));

template <typename Word>
using State = std::array<Word, 4>;
template <typename Word>
using Block = std::array<Word, 16>;

constexpr State<std::uint32_t> start{0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};

template <typename Word>
inline void transform(State<Word>& state, const Block<Word>& words) noexcept {
    auto [a, b, c, d] = state;
#ifndef __clang__
#pragma GCC unroll 64
#endif
    for (unsigned i = 0; i < 64; ++i) {
        Word mixed{};
        unsigned word = 0;
        switch (i / 16) {
            case 0:
                mixed = (b & c) | (~b & d);
                word = i;
                break;
            case 1:
                mixed = (b & d) | (c & ~d);
                word = (5 * i + 1) % 16;
                break;
            case 2:
                mixed = b ^ c ^ d;
                word = (3 * i + 5) % 16;
                break;
            default:
                mixed = c ^ (b | ~d);
                word = 7 * i % 16;
                break;
        }
        const Word sum = a + mixed + sine[i] + words[word];
        const auto shift = static_cast<std::uint32_t>(shifts[i / 16][i % 4]);
        a = d;
        d = c;
        c = b;
        b += (sum << shift) | (sum >> (32 - shift));
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

void take_block(State<std::uint32_t>& state, const std::byte* block) noexcept {
    Block<std::uint32_t> words;
    std::memcpy(words.data(), block, sizeof words);
    transform(state, words);
}

Hash128 to_hash(const State<std::uint32_t>& state) noexcept {
    std::array<std::uint64_t, 2> digest;
    std::memcpy(digest.data(), state.data(), sizeof digest);
    return {__builtin_bswap64(digest[0]), __builtin_bswap64(digest[1])};
}

// The longest key that fills one block with its end mark and length.
constexpr std::size_t one_block_bytes_max = 55;

// A one bit, zeros, and the length in bits fill the block.
void fill_block(Block<std::uint32_t>& block, Bytes key) noexcept {
    std::array<std::byte, 64> bytes{};
    if (!key.empty()) {
        std::memcpy(bytes.data(), key.data(), key.size());
    }
    bytes[key.size()] = std::byte{0x80};
    store(bytes.data() + 56, static_cast<std::uint64_t>(key.size()) * 8);
    std::memcpy(block.data(), bytes.data(), sizeof block);
}

void hash_eight(std::span<const Bytes, lanes> keys, std::span<Hash128, lanes> out) noexcept {
    std::array<Block<std::uint32_t>, lanes> blocks;
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        fill_block(blocks[lane], keys[lane]);
    }
    Block<Eight> words;
    for (std::size_t i = 0; i < words.size(); ++i) {
        words[i] = Eight{blocks[0][i], blocks[1][i], blocks[2][i], blocks[3][i],
                         blocks[4][i], blocks[5][i], blocks[6][i], blocks[7][i]};
    }
    State<Eight> state;
    for (std::size_t i = 0; i < state.size(); ++i) {
        state[i] = Eight{} + start[i];
    }
    transform(state, words);
    std::array<std::array<std::uint32_t, lanes>, 4> parts;
    static_assert(sizeof parts == sizeof state);
    std::memcpy(parts.data(), state.data(), sizeof parts);
    for (std::size_t lane = 0; lane < lanes; ++lane) {
        out[lane] = to_hash({parts[0][lane], parts[1][lane], parts[2][lane], parts[3][lane]});
    }
}

}  // namespace

Hash128 partition_hash(Bytes key) noexcept {
    State<std::uint32_t> state = start;
    Bytes rest = key;
    while (rest.size() >= 64) {
        take_block(state, rest.data());
        rest = rest.subspan(64);
    }
    // A one bit, zeros, and the length in bits fill the last one or two blocks.
    std::array<std::byte, 128> tail{};
    if (!rest.empty()) {
        std::memcpy(tail.data(), rest.data(), rest.size());
    }
    tail[rest.size()] = std::byte{0x80};
    const std::size_t tail_bytes = rest.size() <= one_block_bytes_max ? 64 : 128;
    store(tail.data() + tail_bytes - 8, static_cast<std::uint64_t>(key.size()) * 8);
    take_block(state, tail.data());
    if (tail_bytes == 128) {
        take_block(state, tail.data() + 64);
    }
    return to_hash(state);
}

void partition_hashes(std::span<const Bytes> keys, std::span<Hash128> out) noexcept {
    PENSTOCK_CHECK(out.size() >= keys.size());
    std::size_t at = 0;
    for (; at + lanes <= keys.size(); at += lanes) {
        const auto eight = keys.subspan(at).first<lanes>();
        const auto hashes = out.subspan(at).first<lanes>();
        if (std::ranges::all_of(eight,
                                [](Bytes key) { return key.size() <= one_block_bytes_max; })) {
            hash_eight(eight, hashes);
        } else {
            std::ranges::transform(eight, hashes.begin(), partition_hash);
        }
    }
    for (; at < keys.size(); ++at) {
        out[at] = partition_hash(keys[at]);
    }
}

}  // namespace penstock
