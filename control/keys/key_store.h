// The keys file of a node: read when it starts and again on SIGHUP, and what streams get of it.
//
// Runs on: any thread.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "control/keys/key_ring.h"
#include "control/keys/stream_crypt.h"

namespace penstock::keys {

inline constexpr std::size_t key_fault_count = static_cast<std::size_t>(KeyFault::count_);

struct KeyCounters {
    // Requests and subscriptions that met a key which cannot be used.
    std::array<std::atomic<std::uint64_t>, key_fault_count> refused{};
    std::atomic<std::uint64_t> damaged{0};  // records that did not open with their key
    std::atomic<std::uint64_t> reloads{0};
    std::atomic<std::uint64_t> failed_reloads{0};
};

class KeyStore {
public:
    // Without a keys file: no stream can be encrypted, and what is encrypted cannot be read.
    KeyStore() = default;
    // For tests, and whoever has a ring already.
    explicit KeyStore(KeyRing ring);
    // The error is one line for people.
    [[nodiscard]] static std::expected<std::unique_ptr<KeyStore>, std::string> open(
        std::string path, std::vector<std::string> data_directories);
    KeyStore(const KeyStore&) = delete;
    KeyStore& operator=(const KeyStore&) = delete;

    // Reads the file again. With an error the ring before stays.
    [[nodiscard]] std::expected<void, std::string> reload();
    void replace(KeyRing ring);
    [[nodiscard]] bool has_file() const noexcept { return !path_.empty(); }

    // Null without a keys file.
    [[nodiscard]] std::shared_ptr<const KeyRing> ring() const;

    struct Named {
        KeyFault fault = KeyFault::none;
        Key key;  // without a fault
    };
    // By id, alias, or the ARN of either, as in KMS: "arn:aws:kms:REGION:ACCOUNT:key/…". Keys are
    // of every region of the node and of its account.
    [[nodiscard]] Named find(std::string_view name, std::string_view region,
                             std::string_view account) const;

    // Null for a stream that never was encrypted. The same one as before while neither the stream's
    // keys nor the ring changed, so that sealers go on counting.
    [[nodiscard]] std::shared_ptr<const StreamCrypt> crypt_of(const Encryption& encryption,
                                                              std::uint64_t stream,
                                                              unsigned lane_count);
    [[nodiscard]] KeyCounters& counters() noexcept { return counters_; }

private:
    struct Made {
        Encryption encryption;
        std::shared_ptr<const KeyRing> ring;
        std::weak_ptr<const StreamCrypt> crypt;
    };
    std::string path_;
    std::vector<std::string> data_directories_;
    KeyCounters counters_;
    mutable std::mutex mutex_;
    std::shared_ptr<const KeyRing> ring_;
    std::map<std::uint64_t, Made> made_;  // by stream; dead ones go when others are made
};

// "KMSNotFoundException"
[[nodiscard]] std::string_view exception_of(KeyFault fault) noexcept;
// What is wrong with the key and what to do, one sentence.
[[nodiscard]] std::string describe(KeyFault fault, std::string_view key);

}  // namespace penstock::keys
