#include "control/kinesis/input/base64.h"

#include <openssl/evp.h>

#include <random>

#include <gtest/gtest.h>

namespace penstock::kinesis {
namespace {

using Decoder = std::expected<std::size_t, Base64Fault> (*)(std::string_view, std::byte*) noexcept;
using Encoder = void (*)(Bytes, char*) noexcept;

std::string random_bytes(std::mt19937_64& random, std::size_t size) {
    std::string bytes(size, '\0');
    for (char& c : bytes) {
        c = static_cast<char>(random());
    }
    return bytes;
}

std::string reference_encode(std::string_view bytes) {
    std::string out(base64_encoded_size(bytes.size()) + 1, '\0');
    const int length = EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                                       reinterpret_cast<const unsigned char*>(bytes.data()),
                                       static_cast<int>(bytes.size()));
    out.resize(static_cast<std::size_t>(length));
    return out;
}

struct Implementation {
    const char* name;
    Encoder encode;
    Decoder decode;
};

std::vector<Implementation> implementations() {
    std::vector<Implementation> all = {
        {"chosen", base64_encode, base64_decode},
        {"scalar", detail::encode_scalar, detail::decode_scalar},
    };
    if (detail::has_avx2()) {
        all.push_back({"avx2", detail::encode_avx2, detail::decode_avx2});
    }
    return all;
}

std::string decode(const Implementation& implementation, std::string_view text) {
    // Exactly the room that is promised, on the heap, so that a sanitizer sees one byte more.
    const std::size_t room = base64_decoded_size_max(text.size()) + base64_decode_slack;
    std::vector<std::byte> out(room);
    const std::string exact(text);
    const auto size = implementation.decode(exact, out.data());
    return size ? std::string(as_text(Bytes(out).first(*size))) : "refused";
}

TEST(Base64, EncodesAndDecodesAsOpenSslDoesForAllShortAndManyRandomLengths) {
    std::mt19937_64 random(7);
    for (const Implementation& implementation : implementations()) {
        for (std::size_t i = 0; i < 600; ++i) {
            const std::size_t size = i < 200 ? i : random() % 5000;
            const std::string bytes = random_bytes(random, size);
            const std::string expected = reference_encode(bytes);
            std::string text(base64_encoded_size(size), '\0');
            implementation.encode(as_bytes(bytes), text.data());
            ASSERT_EQ(text, expected) << implementation.name << " " << size;
            ASSERT_EQ(decode(implementation, text), bytes) << implementation.name << " " << size;
        }
    }
}

TEST(Base64, EveryForeignCharacterAtEveryPlaceIsRefusedAndNamed) {
    const std::string good = reference_encode(std::string(60, 'x'));
    for (const Implementation& implementation : implementations()) {
        for (std::size_t at = 0; at < good.size(); ++at) {
            for (int c = 0; c < 256; ++c) {
                std::string bad = good;
                bad[at] = static_cast<char>(c);
                std::vector<std::byte> out(base64_decoded_size_max(bad.size()) +
                                           base64_decode_slack);
                const auto result = implementation.decode(bad, out.data());
                const bool legal = std::isalnum(c) != 0 || c == '+' || c == '/' ||
                                   (c == '=' && at + 1 == bad.size());
                if (legal && c == '=') {
                    continue;  // judged by the bits before it
                }
                ASSERT_EQ(result.has_value(), legal) << implementation.name << at << " " << c;
                if (!legal) {
                    EXPECT_EQ(result.error().kind, Base64Fault::Kind::character);
                    EXPECT_EQ(result.error().offset, at);
                }
            }
        }
    }
}

TEST(Base64, OnlyTheCanonicalFormIsAccepted) {
    for (const Implementation& implementation : implementations()) {
        for (const char* text : {"A", "AA", "AAA", "AAAAA", "=", "====", "A===", "AA=A", "AAA=AAAA",
                                 "AB==", "AAB=", "AAAA\n", "AA==AAAA", "QUJ\n", "-_-_"}) {
            EXPECT_EQ(decode(implementation, text), "refused") << implementation.name << text;
        }
        EXPECT_EQ(decode(implementation, ""), "");
        EXPECT_EQ(decode(implementation, "QQ=="), "A");
        EXPECT_EQ(decode(implementation, "QUI="), "AB");
    }
}

TEST(Base64, AppendKeepsWhatWasThere) {
    std::string out = "x";
    base64_append(out, as_bytes("hello"));
    EXPECT_EQ(out, "xaGVsbG8=");
    // A string that grows keeps exactly what it holds.
    std::string expected = out;
    for (std::size_t size : {1U, 100U, 10'000U, 300'000U}) {
        const std::string bytes(size, 'b');
        base64_append(out, as_bytes(bytes));
        expected += reference_encode(bytes);
        ASSERT_EQ(out, expected);
    }
}

}  // namespace
}  // namespace penstock::kinesis
