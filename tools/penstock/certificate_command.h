// `penstock certificate make`: a small certificate authority in a directory, and a server
// certificate signed by it.
//
// Runs on: the main thread; needs no node.
#pragma once

#include <expected>
#include <ostream>
#include <string>
#include <vector>

namespace penstock {

struct CertificateOptions {
    std::string directory;
    std::vector<std::string> names;  // host names and IP addresses clients will use
    unsigned days = 825;             // some clients take no server certificate that lives longer
    friend bool operator==(const CertificateOptions&, const CertificateOptions&) = default;
};

// Files made in the directory. The authority is made once and then used again, so that clients
// which trust it need nothing new when a server certificate is renewed.
inline constexpr const char* ca_certificate_file = "ca.pem";
inline constexpr const char* ca_key_file = "ca-key.pem";
inline constexpr const char* server_certificate_file = "server.pem";
inline constexpr const char* server_key_file = "server-key.pem";

// What is wrong with a name; empty when it may stand in a certificate.
[[nodiscard]] std::string check_certificate_name(const std::string& name);

// Makes the files and says what to do with them. Returns 0, or 1 with one line why not. A server
// certificate that is there already is replaced; each file is whole at any time.
[[nodiscard]] int certificate_make(const CertificateOptions& options, std::ostream& out,
                                   std::ostream& err);

}  // namespace penstock
