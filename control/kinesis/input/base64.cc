#include "control/kinesis/input/base64.h"

#include <immintrin.h>

#include <array>

namespace penstock::kinesis {

namespace {

constexpr std::string_view alphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
constexpr std::uint8_t no_digit = 0xff;

constexpr std::array<std::uint8_t, 256> make_digits() {
    std::array<std::uint8_t, 256> digits{};
    digits.fill(no_digit);
    for (std::size_t i = 0; i < alphabet.size(); ++i) {
        digits[static_cast<unsigned char>(alphabet[i])] = static_cast<std::uint8_t>(i);
    }
    return digits;
}
constexpr auto digits = make_digits();

std::uint8_t digit_of(char c) noexcept {
    return digits[static_cast<unsigned char>(c)];
}

std::unexpected<Base64Fault> bad_character(std::string_view text, std::size_t from,
                                           std::size_t offset) noexcept {
    while (digit_of(text[from]) != no_digit && from < offset + 3) {
        ++from;
    }
    return std::unexpected(Base64Fault{Base64Fault::Kind::character, from});
}

// Decodes text[at..], a multiple of four characters, behind `written` bytes.
std::expected<std::size_t, Base64Fault> decode_rest(std::string_view text, std::size_t at,
                                                    std::byte* out, std::size_t written) noexcept {
    if (text.size() % 4 != 0) {
        return std::unexpected(Base64Fault{Base64Fault::Kind::length, text.size()});
    }
    for (; at < text.size(); at += 4) {
        const unsigned a = digit_of(text[at]);
        const unsigned b = digit_of(text[at + 1]);
        const unsigned c = digit_of(text[at + 2]);
        const unsigned d = digit_of(text[at + 3]);
        if ((a | b | c | d) < 64) [[likely]] {
            out[written++] = static_cast<std::byte>(a << 2 | b >> 4);
            out[written++] = static_cast<std::byte>(b << 4 | c >> 2);
            out[written++] = static_cast<std::byte>(c << 6 | d);
            continue;
        }
        const bool one_pad = text[at + 3] == '=';
        const bool two_pads = one_pad && text[at + 2] == '=';
        if (at + 4 != text.size() || !one_pad || (a | b | (two_pads ? 0U : c)) >= 64) {
            return bad_character(text, at, at);
        }
        if ((two_pads ? b & 0xf : c & 0x3) != 0) {
            const std::size_t offset = at + (two_pads ? 1 : 2);
            return std::unexpected(Base64Fault{Base64Fault::Kind::trailing_bits, offset});
        }
        out[written++] = static_cast<std::byte>(a << 2 | b >> 4);
        if (!two_pads) {
            out[written++] = static_cast<std::byte>(b << 4 | c >> 2);
        }
    }
    return written;
}

// Shuffles 24 bytes, 12 per half, into 32 six-bit numbers.
__attribute__((target("avx2"))) __m256i spread_bits(__m256i bytes) noexcept {
    // Each group of three bytes a b c becomes the four bytes b a c b: 16-bit words that hold two
    // neighbouring digits each.
    const __m256i order = _mm256_setr_epi8(1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10,  //
                                           1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10);
    const __m256i words = _mm256_shuffle_epi8(bytes, order);
    const __m256i odd = _mm256_and_si256(words, _mm256_set1_epi32(0x0fc0fc00));
    const __m256i even = _mm256_and_si256(words, _mm256_set1_epi32(0x003f03f0));
    // Multiplications stand in for shifts by a different count in each 16-bit word.
    const __m256i odd_digits = _mm256_mulhi_epu16(odd, _mm256_set1_epi32(0x04000040));
    const __m256i even_digits = _mm256_mullo_epi16(even, _mm256_set1_epi32(0x01000010));
    return _mm256_or_si256(odd_digits, even_digits);
}

// Adds to each six-bit number what makes it its character.
__attribute__((target("avx2"))) __m256i to_characters(__m256i numbers) noexcept {
    // Class of a number: 0 for 26..51, 1..10 for the digits, 11 and 12 for + and /, 13 for 0..25.
    const __m256i reduced = _mm256_subs_epu8(numbers, _mm256_set1_epi8(51));
    const __m256i is_upper = _mm256_cmpgt_epi8(_mm256_set1_epi8(26), numbers);
    const __m256i classes =
        _mm256_or_si256(reduced, _mm256_and_si256(is_upper, _mm256_set1_epi8(13)));
    const __m256i offsets =
        _mm256_setr_epi8('a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                         '0' - 52, '0' - 52, '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0,  //
                         'a' - 26, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52, '0' - 52,
                         '0' - 52, '0' - 52, '0' - 52, '0' - 52, '+' - 62, '/' - 63, 'A', 0, 0);
    return _mm256_add_epi8(numbers, _mm256_shuffle_epi8(offsets, classes));
}

// Turns 32 characters into six-bit numbers; false when one isn't of the alphabet.
__attribute__((target("avx2"))) bool to_numbers(__m256i text, __m256i& numbers) noexcept {
    // A character is legal when the bit of its high nibble is clear in the mask of its low nibble.
    // Bits: 0x01 high 2, 0x02 high 3, 0x04 high 4 and 6, 0x08 high 5 and 7, 0x10 all others.
    const __m256i by_low =
        _mm256_setr_epi8(0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x13, 0x1a,
                         0x1b, 0x1b, 0x1b, 0x1a, 0x15, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11,
                         0x11, 0x11, 0x13, 0x1a, 0x1b, 0x1b, 0x1b, 0x1a);
    const __m256i by_high =
        _mm256_setr_epi8(0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08, 0x10, 0x10, 0x10, 0x10,
                         0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x01, 0x02, 0x04, 0x08, 0x04, 0x08,
                         0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10, 0x10);
    // What to add, by high nibble; '/' shares its nibble with '+' and uses the entry below it.
    const __m256i shift =
        _mm256_setr_epi8(0, 16, 19, 4, -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16, 19, 4,
                         -65, -65, -71, -71, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m256i slash = _mm256_set1_epi8('/');
    const __m256i nibble = _mm256_set1_epi8(0x0f);
    const __m256i high = _mm256_and_si256(_mm256_srli_epi32(text, 4), nibble);
    const __m256i low = _mm256_and_si256(text, nibble);
    const __m256i bad =
        _mm256_and_si256(_mm256_shuffle_epi8(by_low, low), _mm256_shuffle_epi8(by_high, high));
    if (_mm256_testz_si256(bad, bad) == 0) {
        return false;
    }
    const __m256i is_slash = _mm256_cmpeq_epi8(text, slash);
    const __m256i add = _mm256_shuffle_epi8(shift, _mm256_add_epi8(is_slash, high));
    numbers = _mm256_add_epi8(text, add);
    return true;
}

}  // namespace

namespace detail {

bool has_avx2() noexcept {
    static const bool has = __builtin_cpu_supports("avx2") != 0;
    return has;
}

void encode_scalar(Bytes bytes, char* out) noexcept {
    const auto* in = reinterpret_cast<const unsigned char*>(bytes.data());
    std::size_t left = bytes.size();
    for (; left >= 3; left -= 3, in += 3) {
        const unsigned group =
            static_cast<unsigned>(in[0]) << 16 | static_cast<unsigned>(in[1]) << 8 | in[2];
        *out++ = alphabet[group >> 18];
        *out++ = alphabet[group >> 12 & 63];
        *out++ = alphabet[group >> 6 & 63];
        *out++ = alphabet[group & 63];
    }
    if (left != 0) {
        const unsigned second = left == 2 ? in[1] : 0U;
        *out++ = alphabet[in[0] >> 2];
        *out++ = alphabet[(static_cast<unsigned>(in[0]) << 4 & 63) | second >> 4];
        *out++ = left == 2 ? alphabet[second << 2 & 63] : '=';
        *out++ = '=';
    }
}

std::expected<std::size_t, Base64Fault> decode_scalar(std::string_view text,
                                                      std::byte* out) noexcept {
    return decode_rest(text, 0, out, 0);
}

__attribute__((target("avx2"))) void encode_avx2(Bytes bytes, char* out) noexcept {
    const auto* in = reinterpret_cast<const char*>(bytes.data());
    std::size_t left = bytes.size();
    // Each step takes 24 bytes but loads 28: 16 from 0 and 16 from 12.
    while (left >= 28) {
        const __m128i first = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
        const __m128i second = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 12));
        const __m256i both = _mm256_set_m128i(second, first);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), to_characters(spread_bits(both)));
        in += 24;
        out += 32;
        left -= 24;
    }
    encode_scalar(bytes.last(left), out);
}

__attribute__((target("avx2"))) std::expected<std::size_t, Base64Fault> decode_avx2(
    std::string_view text, std::byte* out) noexcept {
    std::size_t at = 0;
    std::size_t written = 0;
    // The last four characters may be padding and are the scalar code's.
    while (text.size() - at >= 36) {
        const __m256i characters =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(text.data() + at));
        __m256i numbers;
        if (!to_numbers(characters, numbers)) {
            break;  // the scalar code finds and names the place
        }
        // Four six-bit numbers to 24 bits, then the three bytes of each to the front, in order.
        const __m256i pairs = _mm256_maddubs_epi16(numbers, _mm256_set1_epi32(0x01400140));
        const __m256i groups = _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x00011000));
        const __m256i order =
            _mm256_setr_epi8(2, 1, 0, 6, 5, 4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1, 2, 1, 0, 6, 5,
                             4, 10, 9, 8, 14, 13, 12, -1, -1, -1, -1);
        const __m256i packed = _mm256_shuffle_epi8(groups, order);
        const __m256i joined =
            _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 1, 2, 4, 5, 6, 3, 7));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + written), joined);
        at += 32;
        written += 24;
    }
    return decode_rest(text, at, out, written);
}

}  // namespace detail

void base64_encode(Bytes bytes, char* out) noexcept {
    detail::has_avx2() ? detail::encode_avx2(bytes, out) : detail::encode_scalar(bytes, out);
}

void base64_append(std::string& out, Bytes bytes) {
    const std::size_t before = out.size();
    const std::size_t after = before + base64_encoded_size(bytes.size());
    // The size handed to the function is not used: libstdc++ 12.2 passes the capacity instead when
    // the string grows.
    out.resize_and_overwrite(after, [&](char* data, std::size_t) {
        base64_encode(bytes, data + before);
        return after;
    });
}

std::expected<std::size_t, Base64Fault> base64_decode(std::string_view text,
                                                      std::byte* out) noexcept {
    return detail::has_avx2() ? detail::decode_avx2(text, out) : detail::decode_scalar(text, out);
}

}  // namespace penstock::kinesis
