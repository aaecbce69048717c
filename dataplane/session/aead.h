// AES-128-GCM over datagrams, by Intel's Multi-Buffer library: the only file that includes it is
// aead.cc.
//
// Runs on: any thread; an Aead holds no state but which instructions this CPU has, a key may be
// used by several threads at once. Allocates: Aead::open() only. Guarantees: a datagram is written
// to only where its ciphertext stands; one that is not authentic leaves garbage there, and says so.
// Format: docs/formats/session.md, "Keys".
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "dataplane/session/keys.h"
#include "storage/base/bytes.h"
#include "storage/base/result.h"

namespace penstock::session {

// A key made ready for use.
struct alignas(64) PreparedKey {
    std::array<std::byte, 1024> expanded;
    std::array<std::byte, nonce_bytes> salt;

    void wipe() noexcept;
};

// One datagram to be opened: header, ciphertext and tag. What stands before `text_at` is
// authenticated.
struct OpenJob {
    const PreparedKey* key = nullptr;
    std::byte* datagram = nullptr;
    std::uint32_t size = 0;
    std::uint32_t text_at = header_bytes;
    std::uint64_t packet_number = 0;
    bool authentic = false;  // out; the text is in clear then

    [[nodiscard]] MutableBytes text() const noexcept {
        return {datagram + text_at, size - text_at - tag_bytes};
    }
};

class Aead {
public:
    // Errc::unsupported on a CPU without AES and carry-less multiplication.
    [[nodiscard]] static Result<std::unique_ptr<Aead>> open();
    ~Aead();
    Aead(const Aead&) = delete;
    Aead& operator=(const Aead&) = delete;

    void prepare(const KeyMaterial& material, PreparedKey& out) const noexcept;
    // Encrypts what stands between `text_at` and the last 16 bytes, where the tag goes. Once only
    // with a key and packet number.
    void seal(const PreparedKey& key, std::uint64_t packet_number, MutableBytes datagram,
              std::size_t text_at = header_bytes) const noexcept;
    void open(OpenJob& job) const noexcept;
    // Returns how many are authentic.
    std::size_t open(std::span<OpenJob> jobs) const noexcept;

private:
    struct Manager;
    explicit Aead(std::unique_ptr<Manager> manager) noexcept;
    std::unique_ptr<Manager> manager_;
};

// AES-128-CMAC (RFC 4493) of short messages.
//
// Runs on: one thread at a time. Allocates: open() only.
class Cmac {
public:
    using Tag = std::array<std::byte, 16>;
    // Errc::unsupported as Aead::open().
    [[nodiscard]] static Result<std::unique_ptr<Cmac>> open(const std::array<std::byte, 16>& key);
    ~Cmac();
    Cmac(const Cmac&) = delete;
    Cmac& operator=(const Cmac&) = delete;

    [[nodiscard]] Tag of(Bytes message) noexcept;

private:
    struct State;
    explicit Cmac(std::unique_ptr<State> state) noexcept;
    std::unique_ptr<State> state_;
};

// Takes as long whatever differs.
[[nodiscard]] bool same_tag(const std::byte* a, const std::byte* b) noexcept;

}  // namespace penstock::session
