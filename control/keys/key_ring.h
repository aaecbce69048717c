// The named keys that streams may be encrypted with, as the keys file has them.
//
// Keys have ids and aliases as in AWS' KMS and are named the same ways. A key seals nothing of a
// stream itself: it seals data keys, which the catalog keeps (stream_crypt.h).
//
// Runs on: any thread; a ring that was read does not change.
// Format: docs/operations/encryption.md, "The keys file".
#pragma once

#include <expected>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace penstock::keys {

// What requests mean that name no key of their own, as AWS' own key for Kinesis.
inline constexpr std::string_view default_alias = "alias/aws/kinesis";
inline constexpr std::size_t keys_max = 1000;
inline constexpr std::size_t aliases_max = 50;  // of a key

struct Key {
    std::string id;      // "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx"
    std::string secret;  // 32 bytes
    bool enabled = true;
    std::vector<std::string> aliases;  // "alias/…", each of one key only
    friend bool operator==(const Key&, const Key&) = default;
};

class KeyRing {
public:
    // The error is one line for people, with the line's number.
    [[nodiscard]] static std::expected<KeyRing, std::string> parse(std::string_view text);
    [[nodiscard]] std::string to_text() const;

    // Null when there is none.
    [[nodiscard]] const Key* find(std::string_view id) const noexcept;
    [[nodiscard]] const Key* find_alias(std::string_view alias) const noexcept;
    [[nodiscard]] std::span<const Key> keys() const noexcept { return keys_; }
    friend bool operator==(const KeyRing&, const KeyRing&) = default;

    // For `penstock keys`. The errors are lines for people.
    // A new key, random; its id. An alias that another key has moves here.
    [[nodiscard]] std::expected<std::string, std::string> make_key(
        std::span<const std::string> aliases);
    [[nodiscard]] std::expected<void, std::string> set_enabled(std::string_view id, bool enabled);
    [[nodiscard]] std::expected<void, std::string> set_alias(std::string_view alias,
                                                             std::string_view id);
    // Only one that is disabled.
    [[nodiscard]] std::expected<void, std::string> remove(std::string_view id);

private:
    [[nodiscard]] std::expected<Key*, std::string> get(std::string_view id);
    std::vector<Key> keys_;
};

[[nodiscard]] bool is_key_id(std::string_view text) noexcept;
// "alias/" and 1 to 250 letters, digits and :/_-.
[[nodiscard]] bool is_alias(std::string_view text) noexcept;
// Tells two secrets apart without telling either: 8 hexadecimal digits.
[[nodiscard]] std::string fingerprint(const Key& key);

// The errors are lines for people, without the file's name. Refused are a file within one of
// `data_directories` and one that others than its owner may use.
[[nodiscard]] std::expected<KeyRing, std::string> read_key_ring(
    const std::string& path, std::span<const std::string> data_directories);
// Replaces the file, or makes it, durably: after a crash it is the one before or the new one.
[[nodiscard]] std::expected<void, std::string> write_key_ring(const std::string& path,
                                                              const KeyRing& ring);

// Reads the file, has `edit` change what it holds, and replaces it, while others who would do the
// same wait. `may_make`: a file that is missing is one without keys. Nothing is changed, or made,
// where `edit` gives an error.
[[nodiscard]] std::expected<void, std::string> change_key_ring(
    const std::string& path, bool may_make,
    const std::function<std::expected<void, std::string>(KeyRing&)>& edit);

}  // namespace penstock::keys
