#include "dataplane/session/aead.h"

#include <intel-ipsec-mb.h>
#include <openssl/crypto.h>

#include <cstring>

#include "storage/base/check.h"

namespace penstock::session {

static_assert(sizeof(gcm_key_data) <= sizeof(PreparedKey::expanded));
static_assert(alignof(gcm_key_data) <= alignof(PreparedKey));

struct Aead::Manager {
    Manager() : mb(alloc_mb_mgr(0)) {}
    ~Manager() {
        if (mb != nullptr) {
            free_mb_mgr(mb);
        }
    }
    Manager(const Manager&) = delete;
    Manager& operator=(const Manager&) = delete;
    IMB_MGR* mb;
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

// Takes as long whatever differs.
bool same_tag(const std::byte* a, const std::byte* b) noexcept {
    const std::uint64_t differing = (load<std::uint64_t>(a) ^ load<std::uint64_t>(b)) |
                                    (load<std::uint64_t>(a + 8) ^ load<std::uint64_t>(b + 8));
    return differing == 0;
}

}  // namespace

void PreparedKey::wipe() noexcept {
    OPENSSL_cleanse(this, sizeof *this);
}

Aead::Aead(std::unique_ptr<Manager> manager) noexcept : manager_(std::move(manager)) {}
Aead::~Aead() = default;

Result<std::unique_ptr<Aead>> Aead::open() {
    auto manager = std::make_unique<Manager>();
    if (manager->mb == nullptr) {
        return fail(Errc::no_memory_room);
    }
    IMB_ARCH arch = IMB_ARCH_NONE;
    init_mb_mgr_auto(manager->mb, &arch);
    // IMB_ARCH_NOAESNI emulates AES in software that leaks keys by its timing.
    if (arch == IMB_ARCH_NONE || arch == IMB_ARCH_NOAESNI || manager->mb->gcm128_dec == nullptr) {
        return fail(Errc::unsupported);
    }
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

}  // namespace penstock::session
