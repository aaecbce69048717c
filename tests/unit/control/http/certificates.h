// A certificate and its key made by the test, in a directory of the test's own.
#pragma once

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

namespace penstock::http {

class TestCertificates {
public:
    TestCertificates() {
        std::string pattern = (std::filesystem::temp_directory_path() / "penstock-XXXXXX").string();
        directory_ = ::mkdtemp(pattern.data());
    }
    ~TestCertificates() { std::filesystem::remove_all(directory_); }
    TestCertificates(const TestCertificates&) = delete;
    TestCertificates& operator=(const TestCertificates&) = delete;

    [[nodiscard]] std::string path(const std::string& name) const {
        return directory_ + "/" + name;
    }

    // Writes NAME.pem and NAME-key.pem, signed by itself and valid for `days` from now.
    void make(const std::string& name, long days = 1) const {
        EVP_PKEY* key = EVP_EC_gen("P-256");
        X509* own = X509_new();
        X509_set_version(own, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(own), 1);
        X509_gmtime_adj(X509_getm_notBefore(own), days < 0 ? 2 * days * 86'400 : -60);
        X509_gmtime_adj(X509_getm_notAfter(own), days * 86'400);
        X509_NAME* subject = X509_get_subject_name(own);
        X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                   reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
        X509_set_issuer_name(own, subject);
        X509_set_pubkey(own, key);
        X509_sign(own, key, EVP_sha256());
        const auto write = [this](const std::string& file, const auto& writer) {
            std::FILE* out = std::fopen(path(file).c_str(), "w");
            writer(out);
            std::fclose(out);
        };
        write(name + ".pem", [&](std::FILE* out) { PEM_write_X509(out, own); });
        write(name + "-key.pem", [&](std::FILE* out) {
            PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
        });
        X509_free(own);
        EVP_PKEY_free(key);
    }

private:
    std::string directory_;
};

}  // namespace penstock::http
