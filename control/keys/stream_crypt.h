// What opens and seals the records of one stream, made from the data keys that the catalog keeps
// and the keys of the keys file.
//
// Runs on: a StreamCrypt does not change and is any thread's, its sealers are one lane's each; a
// RecordOpener is one control thread's.
// Allocates: sealing nothing; opening keeps a buffer as large as the largest record lately.
// Guarantees: no nonce is used twice with a data key, over lanes, restarts and copies of the data:
// each sealer counts up from 96 random bits. What does not open is never handed out.
// Format: docs/formats/frame.md, "A sealed record"; docs/formats/catalog.md, "Data keys".
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "control/keys/key_ring.h"
#include "dataplane/door/routes.h"
#include "storage/base/ids.h"
#include "storage/format/seal.h"
#include "storage/log/read_plan.h"

namespace penstock::keys {

// A key that records of one stream are sealed with, itself sealed with a key of the ring.
struct DataKey {
    std::uint32_t generation = 0;  // from 1, never reused within a stream
    std::string key_id;            // of the ring's key
    std::string sealed;            // see seal_data_key()
    std::int64_t made_ms = 0;
    std::int64_t ended_ms = 0;  // when the next one or nothing took its place; 0: in use
    friend bool operator==(const DataKey&, const DataKey&) = default;
};

// As the catalog keeps it with its stream.
struct Encryption {
    std::string key_id;                    // as it was asked for; empty: new records stay in clear
    std::vector<DataKey> data_keys;        // by generation; the last is in use if there is a key_id
    std::vector<std::int64_t> applied_ms;  // StartStreamEncryption, those of the last day
    friend bool operator==(const Encryption&, const Encryption&) = default;
};

// Why a key cannot be used, as KMS distinguishes it.
enum class KeyFault : std::uint8_t {
    none,
    not_found,      // the keys file has none of that id or alias
    disabled,       // it is there, and disabled
    invalid_state,  // the key of that id is not the one that the data key was sealed with
    opt_in,         // the node was started without a keys file
    count_
};

inline constexpr std::size_t data_key_bytes = 32;

// A random data key, sealed by the ring's key for the stream and generation. What is sealed for
// one of them opens for no other.
[[nodiscard]] DataKey make_data_key(const Key& key, std::uint64_t stream, std::uint32_t generation,
                                    std::int64_t now_ms);
// Nothing when it was sealed by another key or for another stream or generation.
[[nodiscard]] std::optional<std::string> open_data_key(const Key& key, std::uint64_t stream,
                                                       const DataKey& data_key);

class StreamCrypt {
public:
    // `stream` is its incarnation; without a ring every key is missing.
    StreamCrypt(const Encryption& encryption, std::uint64_t stream, const KeyRing* ring,
                unsigned lane_count);

    struct Opened {
        std::uint32_t generation = 0;
        std::string key_id;
        KeyFault fault = KeyFault::none;
        std::string secret;  // empty with a fault
    };
    // Null for a generation that the stream does not have, as far as this knows.
    [[nodiscard]] const Opened* find(std::uint32_t generation) const noexcept;
    // Null while new records are stored in clear.
    [[nodiscard]] const std::shared_ptr<const StreamSealers>& sealers() const noexcept {
        return sealers_;
    }
    // Of the data key in use; `none` while new records are stored in clear.
    [[nodiscard]] KeyFault seal_fault() const noexcept { return seal_fault_; }
    // The ring's key that is in use; empty while none is.
    [[nodiscard]] const std::string& seal_key_id() const noexcept { return seal_key_id_; }

private:
    std::vector<Opened> opened_;
    std::shared_ptr<const StreamSealers> sealers_;
    KeyFault seal_fault_ = KeyFault::none;
    std::string seal_key_id_;
};

struct FreeCipher {
    void operator()(EVP_CIPHER_CTX* context) const noexcept { EVP_CIPHER_CTX_free(context); }
};
using CipherContext = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

[[nodiscard]] std::unique_ptr<RecordSealer> make_record_sealer(std::string_view data_key,
                                                               std::uint32_t generation);

class RecordOpener {
public:
    RecordOpener();
    RecordOpener(const RecordOpener&) = delete;
    RecordOpener& operator=(const RecordOpener&) = delete;

    // Replaces key and data of a sealed record by those in clear, which live until the next call.
    // False when they do not open with this key, at this place.
    [[nodiscard]] bool open(const StreamCrypt::Opened& key, ShardUid shard, RecordView& record);

private:
    CipherContext context_;
    std::string prepared_;  // the data key that context_ has
    std::vector<std::byte> clear_;
};

}  // namespace penstock::keys
