#include "dataplane/session/aead.h"

#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include <cstring>

#include "storage/base/check.h"

namespace penstock::session {

static_assert(sizeof(gcm_key_data) <= sizeof(PreparedKey::expanded));
static_assert(alignof(gcm_key_data) <= alignof(PreparedKey));

namespace {

// The library's table of functions for this CPU, and its queue of jobs.
struct MultiBuffer {
    MultiBuffer() : mb(alloc_mb_mgr(0)) {}
    ~MultiBuffer() {
        if (mb != nullptr) {
            free_mb_mgr(mb);
        }
    }
    MultiBuffer(const MultiBuffer&) = delete;
    MultiBuffer& operator=(const MultiBuffer&) = delete;

    [[nodiscard]] Status begin() noexcept {
        if (mb == nullptr) {
            return fail(Errc::no_memory_room);
        }
        IMB_ARCH arch = IMB_ARCH_NONE;
        init_mb_mgr_auto(mb, &arch);
        // IMB_ARCH_NOAESNI emulates AES in software that leaks keys by its timing.
        if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI || mb->gcm128_dec == nullptr) {
            return fail(Errc::unsupported);
        }
        return {};
    }
    IMB_MGR* mb;
};

}  // namespace

struct Aead::Manager : MultiBuffer {};

struct Cmac::State : MultiBuffer {
    alignas(16) std::array<std::byte, 16 * 11> expanded;
    alignas(16) std::array<std::byte, 16> first;
    alignas(16) std::array<std::byte, 16> second;
};

namespace {

using Nonce = std::array<std::byte, nonce_bytes>;

const gcm_key_data* key_data(const PreparedKey& key) noexcept {
    return reinterpret_cast<const gcm_key_data*>(key.expanded.data());
}

Nonce nonce_of(const PreparedKey& key, std::uint64_t packet_number) noexcept {
    Nonce nonce = key.salt;
    store(nonce.data() + 4, load<std::uint64_t>(nonce.data() + 4) ^ packet_number);
    return nonce;
}

const std::uint8_t* octets(const std::byte* bytes) noexcept {
    return reinterpret_cast<const std::uint8_t*>(bytes);
}
std::uint8_t* octets(std::byte* bytes) noexcept {
    return reinterpret_cast<std::uint8_t*>(bytes);
}

}  // namespace

bool same_tag(const std::byte* a, const std::byte* b) noexcept {
    const std::uint64_t differing = (load<std::uint64_t>(a) ^ load<std::uint64_t>(b)) |
                                    (load<std::uint64_t>(a + 8) ^ load<std::uint64_t>(b + 8));
    return differing == 0;
}

void PreparedKey::wipe() noexcept {
    OPENSSL_cleanse(this, sizeof *this);
}

Aead::Aead(std::unique_ptr<Manager> manager) noexcept : manager_(std::move(manager)) {}
Aead::~Aead() = default;

Result<std::unique_ptr<Aead>> Aead::open() {
    auto manager = std::make_unique<Manager>();
    PENSTOCK_TRY_VOID(manager->begin());
    return std::unique_ptr<Aead>(new Aead(std::move(manager)));
}

void Aead::prepare(const KeyMaterial& material, PreparedKey& out) const noexcept {
    IMB_AES128_GCM_PRE(manager_->mb, material.key.data(),
                       reinterpret_cast<gcm_key_data*>(out.expanded.data()));
    out.salt = material.salt;
}

void Aead::seal(const PreparedKey& key, std::uint64_t packet_number, MutableBytes datagram,
                std::size_t text_at) const noexcept {
    PENSTOCK_CHECK(datagram.size() > text_at + tag_bytes);
    const Nonce nonce = nonce_of(key, packet_number);
    std::byte* const text = datagram.data() + text_at;
    const std::size_t size = datagram.size() - text_at - tag_bytes;
    gcm_context_data context;
    IMB_AES128_GCM_ENC(manager_->mb, key_data(key), &context, octets(text), octets(text), size,
                       octets(nonce.data()), octets(datagram.data()), text_at, octets(text + size),
                       tag_bytes);
}

void Aead::open(OpenJob& job) const noexcept {
    PENSTOCK_CHECK(job.size > job.text_at + tag_bytes);
    const Nonce nonce = nonce_of(*job.key, job.packet_number);
    const MutableBytes text = job.text();
    std::array<std::byte, tag_bytes> tag;
    gcm_context_data context;
    IMB_AES128_GCM_DEC(manager_->mb, key_data(*job.key), &context, octets(text.data()),
                       octets(text.data()), text.size(), octets(nonce.data()), octets(job.datagram),
                       job.text_at, octets(tag.data()), tag_bytes);
    job.authentic = same_tag(tag.data(), text.data() + text.size());
}

std::size_t Aead::open(std::span<OpenJob> jobs) const noexcept {
    std::size_t authentic = 0;
    for (std::size_t i = 0; i < jobs.size(); ++i) {
        if (i + 1 < jobs.size()) {
            // Round keys and the first powers of the hash key; the text the CPU finds by itself.
            const std::byte* const next = jobs[i + 1].key->expanded.data();
            for (std::size_t at = 0; at < 384; at += 64) {
                __builtin_prefetch(next + at);
            }
            __builtin_prefetch(jobs[i + 1].datagram);
        }
        open(jobs[i]);
        authentic += jobs[i].authentic ? 1 : 0;
    }
    return authentic;
}

Cmac::Cmac(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Cmac::~Cmac() {
    OPENSSL_cleanse(state_->expanded.data(), state_->expanded.size());
    OPENSSL_cleanse(state_->first.data(), state_->first.size());
    OPENSSL_cleanse(state_->second.data(), state_->second.size());
}

Result<std::unique_ptr<Cmac>> Cmac::open(const std::array<std::byte, 16>& key) {
    auto state = std::make_unique<State>();
    PENSTOCK_TRY_VOID(state->begin());
    alignas(16) std::array<std::byte, 16 * 11> unused;
    IMB_AES_KEYEXP_128(state->mb, key.data(), state->expanded.data(), unused.data());
    IMB_AES_CMAC_SUBKEY_GEN_128(state->mb, state->expanded.data(), state->first.data(),
                                state->second.data());
    return std::unique_ptr<Cmac>(new Cmac(std::move(state)));
}

Cmac::Tag Cmac::of(Bytes message) noexcept {
    Tag tag{};
    IMB_JOB* job = IMB_GET_NEXT_JOB(state_->mb);
    *job = IMB_JOB{};
    job->chain_order = IMB_ORDER_HASH_CIPHER;
    job->cipher_mode = IMB_CIPHER_NULL;
    job->cipher_direction = IMB_DIR_ENCRYPT;
    job->hash_alg = IMB_AUTH_AES_CMAC;
    job->src = octets(message.data());
    job->msg_len_to_hash_in_bytes = message.size();
    job->auth_tag_output = octets(tag.data());
    job->auth_tag_output_len_in_bytes = tag.size();
    job->u.CMAC._key_expanded = state_->expanded.data();
    job->u.CMAC._skey1 = state_->first.data();
    job->u.CMAC._skey2 = state_->second.data();
    job = IMB_SUBMIT_JOB(state_->mb);
    if (job == nullptr) {
        job = IMB_FLUSH_JOB(state_->mb);
    }
    PENSTOCK_CHECK(job != nullptr && job->status == IMB_STATUS_COMPLETED);
    return tag;
}

}  // namespace penstock::session
