#include "control/kinesis/stream/sequence_number.h"

#include <array>
#include <cstring>

#include "control/kinesis/stream/hash_key.h"

namespace penstock::kinesis {

namespace {

// The number from its lowest bit on, in three words.
//   word 0: 2 (4 bits) | shard number (32) | low 28 bits of the write second
//   word 1: high 8 bits of the write second | 00 (8) | low 48 bits of the index
//   word 2: high 16 bits of the index | shard digit (4) | creation second (36) | 2
struct Words {
    std::uint64_t low = 0;
    std::uint64_t middle = 0;
    std::uint64_t high = 0;
};

constexpr std::uint64_t version_digit = 2;
constexpr std::uint64_t second_mask = (std::uint64_t{1} << 36) - 1;
constexpr std::uint64_t ten_to_19 = 10'000'000'000'000'000'000ULL;

constexpr std::array<char, 200> make_digit_pairs() {
    std::array<char, 200> pairs{};
    for (std::size_t i = 0; i < 100; ++i) {
        pairs[2 * i] = static_cast<char>('0' + i / 10);
        pairs[2 * i + 1] = static_cast<char>('0' + i % 10);
    }
    return pairs;
}
constexpr auto digit_pairs = make_digit_pairs();

Words pack(const SequenceNumber& number) noexcept {
    const auto written = static_cast<std::uint64_t>(number.written_s) & second_mask;
    const auto created = static_cast<std::uint64_t>(number.shard_created_s) & second_mask;
    Words words;
    words.low = version_digit | std::uint64_t{number.shard_number} << 4 | written << 36;
    words.middle = written >> 28 | number.index << 16;
    words.high = number.index >> 48 | std::uint64_t{number.shard_number & 0xf} << 16 |
                 created << 20 | version_digit << 56;
    return words;
}

// Divides in place, returns the remainder.
std::uint64_t divide(Words& words, std::uint64_t divisor) noexcept {
    Uint128 rest = 0;
    for (std::uint64_t* word : {&words.high, &words.middle, &words.low}) {
        const Uint128 part = rest << 64 | *word;
        *word = static_cast<std::uint64_t>(part / divisor);
        rest = part % divisor;
    }
    return static_cast<std::uint64_t>(rest);
}

// False when the result does not fit.
bool multiply_add(Words& words, std::uint64_t factor, std::uint64_t add) noexcept {
    Uint128 carry = add;
    for (std::uint64_t* word : {&words.low, &words.middle, &words.high}) {
        carry += static_cast<Uint128>(*word) * factor;
        *word = static_cast<std::uint64_t>(carry);
        carry >>= 64;
    }
    return carry == 0;
}

}  // namespace

void append_sequence_number(std::string& out, const SequenceNumber& number) {
    SequenceNumberWriter writer;
    writer.append(out, number);
}

void SequenceNumberWriter::append(std::string& out, const SequenceNumber& number) {
    const bool is_next = has_last_ && number.index == last_.index + 1 &&
                         number.written_s == last_.written_s &&
                         number.shard_number == last_.shard_number &&
                         number.shard_created_s == last_.shard_created_s;
    if (is_next) {
        // The index counts in units of 2^80 = 120892 5819614629174706176.
        groups_[0] += 5'819'614'629'174'706'176ULL;
        groups_[1] += 120'892 + groups_[0] / ten_to_19;
        groups_[0] %= ten_to_19;
        groups_[2] += groups_[1] / ten_to_19;
        groups_[1] %= ten_to_19;
    } else {
        Words words = pack(number);
        for (std::uint64_t& group : groups_) {
            group = divide(words, ten_to_19);
        }
    }
    last_ = number;
    has_last_ = true;
    // Three groups of 19 digits hold any 186-bit number.
    std::array<char, 57> digits;
    for (std::size_t group = 0; group < 3; ++group) {
        std::uint64_t part = groups_[group];
        char* at = digits.data() + 57 - 19 * group;
        for (int pair = 0; pair < 9; ++pair) {
            at -= 2;
            std::memcpy(at, digit_pairs.data() + 2 * (part % 100), 2);
            part /= 100;
        }
        *--at = static_cast<char>('0' + part);
    }
    std::size_t first = 0;
    while (first + 1 < digits.size() && digits[first] == '0') {
        ++first;
    }
    out.append(digits.data() + first, digits.size() - first);
}

std::string format_sequence_number(const SequenceNumber& number) {
    std::string out;
    out.reserve(sequence_number_digits);
    append_sequence_number(out, number);
    return out;
}

std::expected<SequenceNumber, SequenceNumberFault> parse_sequence_number(
    std::string_view text) noexcept {
    if (text.empty() || text.size() > 57 || (text.size() > 1 && text.front() == '0')) {
        return std::unexpected(SequenceNumberFault::malformed);
    }
    Words words;
    for (const char c : text) {
        if (c < '0' || c > '9' || !multiply_add(words, 10, static_cast<std::uint64_t>(c - '0'))) {
            return std::unexpected(SequenceNumberFault::malformed);
        }
    }
    if ((words.high >> 56) != version_digit || (words.low & 0xf) != version_digit) {
        return std::unexpected(SequenceNumberFault::unknown_version);
    }
    SequenceNumber number;
    number.index = words.middle >> 16 | words.high << 48;
    if (number.index >> 63 != 0) {
        return std::unexpected(SequenceNumberFault::index_too_high);
    }
    number.shard_number = static_cast<std::uint32_t>(words.low >> 4);
    if (number.shard_number >> 31 != 0) {
        return std::unexpected(SequenceNumberFault::shard_too_high);
    }
    number.written_s = static_cast<std::int64_t>(words.low >> 36 | (words.middle & 0xff) << 28);
    number.shard_created_s = static_cast<std::int64_t>(words.high >> 20 & second_mask);
    const std::uint64_t shard_digit = words.high >> 16 & 0xf;
    if ((words.middle >> 8 & 0xff) != 0 || shard_digit != (number.shard_number & 0xf)) {
        return std::unexpected(SequenceNumberFault::foreign);
    }
    return number;
}

}  // namespace penstock::kinesis
