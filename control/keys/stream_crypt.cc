#include "control/keys/stream_crypt.h"

#include <algorithm>
#include <cstring>

#include "control/auth/crypto.h"
#include "storage/base/check.h"
#include "storage/format/frame.h"

namespace penstock::keys {

namespace {

// A larger buffer is given back once smaller records come.
constexpr std::size_t clear_keep_bytes = 2U << 20;
constexpr int tag_bytes = sizeof(RecordSeal::tag);

unsigned char* bytes_of(std::byte* at) noexcept {
    return reinterpret_cast<unsigned char*>(at);
}
const unsigned char* bytes_of(const std::byte* at) noexcept {
    return reinterpret_cast<const unsigned char*>(at);
}

std::string purpose_of(std::uint64_t stream, std::uint32_t generation) {
    return "penstock data key v1 " + std::to_string(stream) + " " + std::to_string(generation);
}

// The key of the ring is never used itself.
std::string sealing_key(const Key& key) {
    return auth::derive_key(key.secret, key.id, "penstock stream keys v1");
}

SealContext context_of(const RecordPlace& place, std::uint32_t generation, std::uint8_t flags,
                       Bytes partition_key, Bytes data) noexcept {
    SealContext context;
    context.place = place;
    context.generation = generation;
    context.data_bytes = static_cast<std::uint32_t>(data.size());
    context.key_bytes = static_cast<std::uint16_t>(partition_key.size());
    context.flags = flags;
    return context;
}

class GcmSealer final : public RecordSealer {
public:
    GcmSealer(std::string_view data_key, std::uint32_t generation)
        : generation_(generation), context_(EVP_CIPHER_CTX_new()) {
        PENSTOCK_CHECK(data_key.size() == data_key_bytes);
        const std::string start = auth::random_bytes(sizeof nonce_);
        std::memcpy(&nonce_, start.data(), sizeof nonce_);
        PENSTOCK_CHECK(context_ &&
                       EVP_EncryptInit_ex(context_.get(), EVP_aes_256_gcm(), nullptr,
                                          reinterpret_cast<const unsigned char*>(data_key.data()),
                                          nullptr) == 1);
    }

    void seal(const SealInput& input, RecordSeal& seal, std::byte* to) noexcept override {
        // As one number of 96 bits, so that two sealers meet only if they started within as many
        // records of each other as they seal.
        nonce_.low += 1;
        nonce_.high += nonce_.low == 0 ? 1 : 0;
        seal.generation = generation_;
        std::memcpy(seal.nonce, &nonce_, sizeof seal.nonce);
        const SealContext context =
            context_of(input.place, generation_, input.flags, input.partition_key, input.data);
        EVP_CIPHER_CTX* const cipher = context_.get();
        bool done = EVP_EncryptInit_ex(cipher, nullptr, nullptr, nullptr, seal.nonce) == 1 &&
                    update(nullptr, {reinterpret_cast<const std::byte*>(&context), sizeof context});
        done = done && (input.extras.empty() || update(nullptr, input.extras));
        done = done && (input.partition_key.empty() || update(to, input.partition_key));
        done = done && (input.data.empty() || update(to + input.partition_key.size(), input.data));
        unsigned char none[16];
        int size = 0;
        PENSTOCK_CHECK(done && EVP_EncryptFinal_ex(cipher, none, &size) == 1 &&
                       EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_GET_TAG, tag_bytes, seal.tag) == 1);
    }

private:
    bool update(std::byte* to, Bytes from) noexcept {
        int size = 0;
        return EVP_EncryptUpdate(context_.get(), bytes_of(to), &size, bytes_of(from.data()),
                                 static_cast<int>(from.size())) == 1;
    }

    struct __attribute__((packed)) Nonce {
        std::uint64_t low;
        std::uint32_t high;
    };
    static_assert(sizeof(Nonce) == sizeof(RecordSeal::nonce));

    const std::uint32_t generation_;
    CipherContext context_;
    Nonce nonce_{};
};

}  // namespace

DataKey make_data_key(const Key& key, std::uint64_t stream, std::uint32_t generation,
                      std::int64_t now_ms) {
    return {generation, key.id,
            auth::seal(sealing_key(key), purpose_of(stream, generation),
                       auth::random_bytes(data_key_bytes)),
            now_ms, 0};
}

std::optional<std::string> open_data_key(const Key& key, std::uint64_t stream,
                                         const DataKey& data_key) {
    auto secret =
        auth::unseal(sealing_key(key), purpose_of(stream, data_key.generation), data_key.sealed);
    if (!secret || secret->size() != data_key_bytes) {
        return std::nullopt;
    }
    return secret;
}

StreamCrypt::StreamCrypt(const Encryption& encryption, std::uint64_t stream, const KeyRing* ring,
                         unsigned lane_count) {
    for (const DataKey& data_key : encryption.data_keys) {
        Opened& opened = opened_.emplace_back();
        opened.generation = data_key.generation;
        opened.key_id = data_key.key_id;
        const Key* key = ring == nullptr ? nullptr : ring->find(data_key.key_id);
        if (key == nullptr) {
            opened.fault = ring == nullptr ? KeyFault::opt_in : KeyFault::not_found;
        } else if (!key->enabled) {
            opened.fault = KeyFault::disabled;
        } else if (auto secret = open_data_key(*key, stream, data_key)) {
            opened.secret = std::move(*secret);
        } else {
            opened.fault = KeyFault::invalid_state;
        }
    }
    if (encryption.key_id.empty() || opened_.empty()) {
        return;
    }
    const Opened& in_use = opened_.back();
    seal_fault_ = in_use.fault;
    seal_key_id_ = in_use.key_id;
    auto sealers = std::make_shared<StreamSealers>();
    for (unsigned lane = 0; in_use.fault == KeyFault::none && lane < lane_count; ++lane) {
        sealers->by_lane.push_back(make_record_sealer(in_use.secret, in_use.generation));
    }
    sealers_ = std::move(sealers);
}

const StreamCrypt::Opened* StreamCrypt::find(std::uint32_t generation) const noexcept {
    // The newest are read most.
    for (auto it = opened_.rbegin(); it != opened_.rend(); ++it) {
        if (it->generation == generation) {
            return &*it;
        }
    }
    return nullptr;
}

std::unique_ptr<RecordSealer> make_record_sealer(std::string_view data_key,
                                                 std::uint32_t generation) {
    return std::make_unique<GcmSealer>(data_key, generation);
}

RecordOpener::RecordOpener() : context_(EVP_CIPHER_CTX_new()) {
    PENSTOCK_CHECK(context_ != nullptr);
}

bool RecordOpener::open(const StreamCrypt::Opened& key, ShardUid shard, RecordView& record) {
    PENSTOCK_CHECK(record.seal.size() == sizeof(RecordSeal));
    RecordSeal seal = load<RecordSeal>(record.seal.data());
    EVP_CIPHER_CTX* const cipher = context_.get();
    if (prepared_ != key.secret) {
        PENSTOCK_CHECK(key.secret.size() == data_key_bytes);
        prepared_.clear();
        PENSTOCK_CHECK(EVP_DecryptInit_ex(cipher, EVP_aes_256_gcm(), nullptr,
                                          reinterpret_cast<const unsigned char*>(key.secret.data()),
                                          nullptr) == 1);
        prepared_ = key.secret;
    }
    const std::size_t bytes = record.partition_key.size() + record.data.size();
    if (clear_.size() < bytes || (clear_.size() > clear_keep_bytes && bytes <= clear_keep_bytes)) {
        clear_ = std::vector<std::byte>(std::max(bytes, std::size_t{64} << 10));
    }
    const SealContext context =
        context_of({value(shard), record.sequence, record.arrival_ms}, key.generation, record.flags,
                   record.partition_key, record.data);
    int size = 0;
    const auto update = [&](std::byte* to, Bytes from) {
        return from.empty() || EVP_DecryptUpdate(cipher, bytes_of(to), &size, bytes_of(from.data()),
                                                 static_cast<int>(from.size())) == 1;
    };
    // Key and data stand behind each other.
    const bool done =
        EVP_DecryptInit_ex(cipher, nullptr, nullptr, nullptr, seal.nonce) == 1 &&
        update(nullptr, {reinterpret_cast<const std::byte*>(&context), sizeof context}) &&
        update(nullptr, record.extras) && update(clear_.data(), record.partition_key) &&
        update(clear_.data() + record.partition_key.size(), record.data) &&
        EVP_CIPHER_CTX_ctrl(cipher, EVP_CTRL_GCM_SET_TAG, tag_bytes, seal.tag) == 1;
    unsigned char none[16];
    if (!done || EVP_DecryptFinal_ex(cipher, none, &size) != 1) {
        return false;
    }
    record.data = Bytes(clear_).subspan(record.partition_key.size(), record.data.size());
    record.partition_key = Bytes(clear_).first(record.partition_key.size());
    record.seal = {};
    return true;
}

}  // namespace penstock::keys
