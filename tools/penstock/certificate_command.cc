#include "tools/penstock/certificate_command.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <memory>
#include <string_view>

#include "storage/base/counted.h"

namespace penstock {
namespace {

// Ten years: replacing the authority means going round all clients.
constexpr long ca_days = 3650;
// Clocks of clients may be behind ours.
constexpr long backdated_seconds = 3600;
constexpr long day_seconds = 86'400;

struct Free {
    void operator()(EVP_PKEY* key) const noexcept { EVP_PKEY_free(key); }
    void operator()(X509* certificate) const noexcept { X509_free(certificate); }
    void operator()(BIO* bio) const noexcept { BIO_free(bio); }
    void operator()(X509_EXTENSION* extension) const noexcept { X509_EXTENSION_free(extension); }
};
using Key = std::unique_ptr<EVP_PKEY, Free>;
using Certificate = std::unique_ptr<X509, Free>;
using Memory = std::unique_ptr<BIO, Free>;

struct Pair {
    Certificate certificate;
    Key key;
};

[[nodiscard]] std::unexpected<std::string> failure(const std::string& what) {
    const unsigned long code = ERR_peek_error();
    const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
    ERR_clear_error();
    return std::unexpected(what + ": " + (reason != nullptr ? reason : std::strerror(errno)));
}

[[nodiscard]] bool is_address(const std::string& name) {
    std::array<unsigned char, 16> ignored{};
    return inet_pton(AF_INET, name.c_str(), ignored.data()) == 1 ||
           inet_pton(AF_INET6, name.c_str(), ignored.data()) == 1;
}

[[nodiscard]] bool add_extension(X509* to, X509* issuer, int kind, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer, to, nullptr, nullptr, 0);
    const std::unique_ptr<X509_EXTENSION, Free> extension(
        X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str()));
    return extension && X509_add_ext(to, extension.get(), -1) == 1;
}

[[nodiscard]] bool name_it(X509* certificate, const std::string& common_name) {
    X509_NAME* name = X509_get_subject_name(certificate);
    const auto* text = reinterpret_cast<const unsigned char*>(common_name.c_str());
    return X509_NAME_add_entry_by_txt(name, "O", MBSTRING_UTF8,
                                      reinterpret_cast<const unsigned char*>("Penstock"), -1, -1,
                                      0) == 1 &&
           X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8, text, -1, -1, 0) == 1;
}

// A certificate of version 3 with a random serial number and no extensions yet.
[[nodiscard]] Certificate blank(EVP_PKEY* key, const std::string& common_name, long days) {
    Certificate made(X509_new());
    std::array<unsigned char, 16> serial{};
    if (!made || RAND_bytes(serial.data(), static_cast<int>(serial.size())) != 1) {
        return nullptr;
    }
    serial[0] = static_cast<unsigned char>((serial[0] & 0x7f) | 0x40);  // positive, full length
    BIGNUM* number = BN_bin2bn(serial.data(), static_cast<int>(serial.size()), nullptr);
    const bool done =
        number != nullptr &&
        BN_to_ASN1_INTEGER(number, X509_get_serialNumber(made.get())) != nullptr &&
        X509_set_version(made.get(), X509_VERSION_3) == 1 &&
        X509_gmtime_adj(X509_getm_notBefore(made.get()), -backdated_seconds) != nullptr &&
        X509_gmtime_adj(X509_getm_notAfter(made.get()), days * day_seconds) != nullptr &&
        name_it(made.get(), common_name) && X509_set_pubkey(made.get(), key) == 1;
    BN_free(number);
    return done ? std::move(made) : nullptr;
}

[[nodiscard]] std::expected<Pair, std::string> make_authority() {
    Key key(EVP_EC_gen("P-256"));
    Certificate made = key ? blank(key.get(), "Penstock local authority", ca_days) : nullptr;
    X509* c = made.get();
    if (c == nullptr || X509_set_issuer_name(c, X509_get_subject_name(c)) != 1 ||
        !add_extension(c, c, NID_basic_constraints, "critical,CA:TRUE,pathlen:0") ||
        !add_extension(c, c, NID_key_usage, "critical,keyCertSign,cRLSign") ||
        !add_extension(c, c, NID_subject_key_identifier, "hash") ||
        X509_sign(c, key.get(), EVP_sha256()) == 0) {
        return failure("the authority's certificate could not be made");
    }
    return Pair{std::move(made), std::move(key)};
}

[[nodiscard]] std::expected<Pair, std::string> make_server(const Pair& authority,
                                                           const CertificateOptions& options) {
    std::string names;
    for (const std::string& name : options.names) {
        names += (names.empty() ? "" : ",") + std::string(is_address(name) ? "IP:" : "DNS:") + name;
    }
    X509* ca = authority.certificate.get();
    Key key(EVP_EC_gen("P-256"));
    // X.520 bounds a common name at 64 characters; the names that count are in the extension.
    Certificate made =
        key ? blank(key.get(), options.names.front().substr(0, 64), static_cast<long>(options.days))
            : nullptr;
    X509* c = made.get();
    if (c == nullptr || X509_set_issuer_name(c, X509_get_subject_name(ca)) != 1 ||
        !add_extension(c, ca, NID_basic_constraints, "critical,CA:FALSE") ||
        !add_extension(c, ca, NID_key_usage, "critical,digitalSignature") ||
        !add_extension(c, ca, NID_ext_key_usage, "serverAuth") ||
        !add_extension(c, ca, NID_subject_key_identifier, "hash") ||
        !add_extension(c, ca, NID_authority_key_identifier, "keyid:always") ||
        !add_extension(c, ca, NID_subject_alt_name, names) ||
        X509_sign(c, authority.key.get(), EVP_sha256()) == 0) {
        return failure("the server's certificate could not be made");
    }
    return Pair{std::move(made), std::move(key)};
}

[[nodiscard]] std::string pem_of(BIO* bio) {
    char* bytes = nullptr;
    const long size = BIO_get_mem_data(bio, &bytes);
    return size > 0 ? std::string(bytes, static_cast<std::size_t>(size)) : std::string();
}

[[nodiscard]] std::string certificate_text(X509* certificate) {
    const Memory memory(BIO_new(BIO_s_mem()));
    PEM_write_bio_X509(memory.get(), certificate);
    return pem_of(memory.get());
}

[[nodiscard]] std::string key_text(EVP_PKEY* key) {
    const Memory memory(BIO_new(BIO_s_secmem()));
    PEM_write_bio_PKCS8PrivateKey(memory.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
    return pem_of(memory.get());
}

// Whole or not at all: a node that reloads meanwhile never sees half of it.
[[nodiscard]] std::expected<void, std::string> write_file(const std::string& path,
                                                          std::string_view text, mode_t mode) {
    const std::string draft = path + ".new";
    ::unlink(draft.c_str());
    const int fd = ::open(draft.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) {
        return failure("cannot write " + draft);
    }
    bool done = ::fchmod(fd, mode) == 0;
    while (done && !text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        done = written > 0;
        text.remove_prefix(done ? static_cast<std::size_t>(written) : 0);
    }
    done = done && ::fsync(fd) == 0;
    const int code = errno;
    ::close(fd);
    errno = code;
    if (!done || ::rename(draft.c_str(), path.c_str()) != 0) {
        auto why = failure("cannot write " + path);
        ::unlink(draft.c_str());
        return why;
    }
    return {};
}

[[nodiscard]] std::expected<Pair, std::string> read_authority(const std::string& certificate_path,
                                                              const std::string& key_path) {
    const Memory certificate(BIO_new_file(certificate_path.c_str(), "r"));
    const Memory key(BIO_new_file(key_path.c_str(), "r"));
    const auto no_password = [](char*, int, int, void*) { return 0; };
    Pair pair;
    if (certificate && key) {
        pair.certificate.reset(PEM_read_bio_X509(certificate.get(), nullptr, nullptr, nullptr));
        pair.key.reset(PEM_read_bio_PrivateKey(key.get(), nullptr, no_password, nullptr));
    }
    if (!pair.certificate || !pair.key ||
        X509_check_private_key(pair.certificate.get(), pair.key.get()) != 1) {
        auto why = failure("the authority in " + certificate_path + " and " + key_path +
                           " cannot be used");
        why.error() += "; expected both as this command made them, or neither, to have a new one";
        return why;
    }
    if (X509_cmp_current_time(X509_get0_notAfter(pair.certificate.get())) < 0) {
        return std::unexpected("the authority in " + certificate_path +
                               " has expired: move it away to have a new one, which clients must "
                               "then be told to trust");
    }
    return pair;
}

[[nodiscard]] std::expected<Pair, std::string> authority_in(const std::string& directory,
                                                            bool& made) {
    const std::string certificate = directory + "/" + ca_certificate_file;
    const std::string key = directory + "/" + ca_key_file;
    made = ::access(certificate.c_str(), F_OK) != 0 && ::access(key.c_str(), F_OK) != 0;
    if (!made) {
        return read_authority(certificate, key);
    }
    auto pair = make_authority();
    if (pair) {
        if (auto written = write_file(key, key_text(pair->key.get()), 0600); !written) {
            return std::unexpected(written.error());
        }
        if (auto written = write_file(certificate, certificate_text(pair->certificate.get()), 0644);
            !written) {
            return std::unexpected(written.error());
        }
    }
    return pair;
}

[[nodiscard]] std::expected<bool, std::string> make_all(const CertificateOptions& options) {
    if (::mkdir(options.directory.c_str(), 0755) != 0 && errno != EEXIST) {
        return failure("cannot make the directory " + options.directory);
    }
    bool new_authority = false;
    auto authority = authority_in(options.directory, new_authority);
    if (!authority) {
        return std::unexpected(authority.error());
    }
    auto server = make_server(*authority, options);
    if (!server) {
        return std::unexpected(server.error());
    }
    const std::string start = options.directory + "/";
    for (const auto& [file, text, mode] :
         {std::tuple{server_key_file, key_text(server->key.get()), mode_t{0600}},
          std::tuple{server_certificate_file, certificate_text(server->certificate.get()),
                     mode_t{0644}}}) {
        if (auto written = write_file(start + file, text, mode); !written) {
            return std::unexpected(written.error());
        }
    }
    return new_authority;
}

}  // namespace

std::string check_certificate_name(const std::string& name) {
    const auto fits = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
               c == '-' || c == '.' || c == '*';
    };
    const bool host = !name.empty() && name.size() <= 253 && std::ranges::all_of(name, fits) &&
                      name.find('*', 1) == std::string::npos &&
                      (name.front() != '*' || name.starts_with("*."));
    if (host || is_address(name)) {
        return {};
    }
    return "found '" + name + "'; expected a host name or IP address, without a port";
}

int certificate_make(const CertificateOptions& options, std::ostream& out, std::ostream& err) {
    const auto made = make_all(options);
    if (!made) {
        err << "penstock certificate make: " << made.error() << '\n';
        return 1;
    }
    const std::string start = options.directory + "/";
    out << (*made ? "made an authority: " : "signed by the authority that was there: ") << start
        << ca_certificate_file << " (clients trust this), " << start << ca_key_file
        << " (keep it to yourself)\n"
        << "made a certificate for " << counted(static_cast<std::uint64_t>(options.days), "day")
        << ": " << start << server_certificate_file << ", " << start << server_key_file << "\n"
        << "serve with: --https 127.0.0.1:4568 --tls-cert " << start << server_certificate_file
        << " --tls-key " << start << server_key_file << "\n"
        << "a node that runs reads them again on SIGHUP\n";
    return 0;
}

}  // namespace penstock
