#include "control/auth/sigv4.h"

#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>

#include "control/http/target.h"
#include "control/http/text.h"

namespace penstock::auth {

namespace {

constexpr std::string_view algorithm = "AWS4-HMAC-SHA256";
constexpr std::string_view terminator = "aws4_request";
constexpr std::string_view unsigned_payload = "UNSIGNED-PAYLOAD";
constexpr std::string_view authority_name = ":authority";
constexpr std::size_t parameters_max = 64;
// Each name is looked for among all headers, and what it names is hashed as often as it is named.
// Clients sign a dozen.
constexpr std::size_t signed_headers_max = 100;

bool is_blank(char c) noexcept {
    return c == ' ' || c == '\t';
}

bool starts_with_ignoring_case(std::string_view text, std::string_view prefix) noexcept {
    return text.size() >= prefix.size() &&
           http::equals_ignoring_case(text.substr(0, prefix.size()), prefix);
}

Refusal incomplete(std::string message) {
    return {Reason::incomplete, std::move(message)};
}

std::optional<unsigned> digits(std::string_view text) noexcept {
    unsigned number = 0;
    for (const char c : text) {
        if (c < '0' || c > '9') {
            return std::nullopt;
        }
        number = number * 10 + static_cast<unsigned>(c - '0');
    }
    return number;
}

// "Mon, 23 Nov 2026 08:41:42 GMT", the form of the Date header.
std::optional<std::int64_t> from_http_date(const std::string& text) {
    tm parts{};
    const char* end = strptime(text.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts);
    if (end == nullptr || *end != '\0') {
        return std::nullopt;
    }
    return timegm(&parts);
}

// Empty and "." segments go, ".." takes the one before it, and what is left is encoded once more
// than it was received: services other than S3 sign the path that way.
void append_canonical_path(std::string& out, std::string_view path) {
    if (path == "/" || path.empty()) [[likely]] {
        out.push_back('/');
        return;
    }
    std::vector<std::string_view> kept;
    for (std::size_t at = 0; at <= path.size();) {
        const std::size_t end = std::min(path.find('/', at), path.size());
        const std::string_view segment = path.substr(at, end - at);
        if (segment == "..") {
            if (!kept.empty()) {
                kept.pop_back();
            }
        } else if (!segment.empty() && segment != ".") {
            kept.push_back(segment);
        }
        at = end + 1;
    }
    for (const std::string_view segment : kept) {
        out.push_back('/');
        http::append_percent_encoded(out, segment);
    }
    if (kept.empty() || path.ends_with('/')) {
        out.push_back('/');
    }
}

// Blanks at the ends go, those within become one space.
void append_folded(std::string& out, std::string_view value) {
    const bool is_folded = !value.empty() && !is_blank(value.front()) && !is_blank(value.back()) &&
                           value.find('\t') == std::string_view::npos &&
                           value.find("  ") == std::string_view::npos;
    if (is_folded) [[likely]] {
        out += value;
        return;
    }
    const std::size_t begin = out.size();
    bool blank = false;
    for (const char c : value) {
        if (is_blank(c)) {
            blank = out.size() > begin;
            continue;
        }
        if (blank) {
            out.push_back(' ');
            blank = false;
        }
        out.push_back(c);
    }
}

// All values of one header, in the order received. False when there is none.
bool append_header_values(std::string& out, const http::HttpRequest& request,
                          std::string_view name) {
    bool found = false;
    for (const http::HeaderField& field : request.headers) {
        if (http::equals_ignoring_case(field.name, name)) {
            if (found) {
                out.push_back(',');
            }
            append_folded(out, field.value);
            found = true;
        }
    }
    // HTTP/2 and HTTP/1.1 name the host differently, and a gateway may have turned one into the
    // other after the client signed.
    if (!found && (name == "host" || name == authority_name)) {
        append_folded(out, request.host());
        found = !request.host().empty();
    }
    return found;
}

// Calls `take` for each name in "a;b;c" until it returns false.
template <typename Take>
bool for_each_name(std::string_view names, const Take& take) {
    for (std::size_t at = 0; at <= names.size();) {
        const std::size_t end = std::min(names.find(';', at), names.size());
        if (!take(names.substr(at, end - at))) {
            return false;
        }
        at = end + 1;
    }
    return true;
}

bool is_signed(std::string_view signed_headers, std::string_view name) noexcept {
    return !for_each_name(signed_headers, [name](std::string_view signed_name) {
        return !http::equals_ignoring_case(signed_name, name);
    });
}

// KEY/date/region/service/aws4_request. The key id may hold slashes, as some clients' do.
bool split_credential(Claim& claim) {
    std::array<std::size_t, 4> slash{};
    std::size_t end = claim.credential.size();
    for (std::size_t i = slash.size(); i-- > 0;) {
        if (end == 0) {
            return false;
        }
        const std::size_t at = claim.credential.rfind('/', end - 1);
        if (at == std::string_view::npos) {
            return false;
        }
        slash[i] = at;
        end = at;
    }
    const auto part = [&](std::size_t from, std::size_t to) {
        return claim.credential.substr(slash[from] + 1, slash[to] - slash[from] - 1);
    };
    claim.key_id = claim.credential.substr(0, slash[0]);
    claim.scope = claim.credential.substr(slash[0] + 1);
    claim.date = part(0, 1);
    claim.region = part(1, 2);
    claim.service = part(2, 3);
    return !claim.key_id.empty();
}

std::optional<Refusal> finish_claim(Claim& claim) {
    if (!split_credential(claim)) {
        return incomplete(
            "Credential must have exactly 5 slash-delimited elements, e.g. "
            "keyid/date/region/service/term, got '" +
            http::shown(claim.credential) + "'");
    }
    if (std::ranges::count(claim.signed_headers, ';') >=
        static_cast<std::ptrdiff_t>(signed_headers_max)) {
        return incomplete("At most " + std::to_string(signed_headers_max) +
                          " signed headers are accepted.");
    }
    return std::nullopt;
}

}  // namespace

BasicTime to_basic_time(std::int64_t wall_s) noexcept {
    // Outside of four-digit years there is no such form; nobody's clock is there.
    const std::int64_t bounded = std::clamp<std::int64_t>(wall_s, 0, 253'402'300'799);
    const std::chrono::sys_seconds time{std::chrono::seconds(bounded)};
    const auto day = std::chrono::floor<std::chrono::days>(time);
    const std::chrono::year_month_day date(day);
    const std::chrono::hh_mm_ss clock(time - day);
    BasicTime text{};
    const auto put = [&text](std::size_t at, std::size_t count, std::int64_t number) {
        for (std::size_t i = count; i-- > 0; number /= 10) {
            text[at + i] = static_cast<char>('0' + number % 10);
        }
    };
    put(0, 4, static_cast<int>(date.year()));
    put(4, 2, static_cast<unsigned>(date.month()));
    put(6, 2, static_cast<unsigned>(date.day()));
    text[8] = 'T';
    put(9, 2, clock.hours().count());
    put(11, 2, clock.minutes().count());
    put(13, 2, clock.seconds().count());
    text[15] = 'Z';
    return text;
}

std::optional<std::int64_t> from_basic_time(std::string_view text) noexcept {
    if (text.size() != 16 || text[8] != 'T' || text[15] != 'Z') {
        return std::nullopt;
    }
    const auto year = digits(text.substr(0, 4));
    const auto month = digits(text.substr(4, 2));
    const auto day = digits(text.substr(6, 2));
    const auto hour = digits(text.substr(9, 2));
    const auto minute = digits(text.substr(11, 2));
    const auto second = digits(text.substr(13, 2));
    if (!year || !month || !day || !hour || !minute || !second || *hour > 23 || *minute > 59 ||
        *second > 60) {
        return std::nullopt;
    }
    const std::chrono::year_month_day date{std::chrono::year(static_cast<int>(*year)),
                                           std::chrono::month(*month), std::chrono::day(*day)};
    if (!date.ok()) {
        return std::nullopt;
    }
    const auto days = std::chrono::sys_days(date).time_since_epoch();
    return std::chrono::duration_cast<std::chrono::seconds>(days).count() + *hour * 3600 +
           *minute * 60 + *second;
}

HmacKey derive_signing_key(std::string_view secret, std::string_view date, std::string_view region,
                           std::string_view service) {
    std::string first = "AWS4";
    first += secret;
    const Digest of_date = HmacKey(first).of(date);
    const Digest of_region = HmacKey(as_text(of_date)).of(region);
    const Digest of_service = HmacKey(as_text(of_region)).of(service);
    const Digest key = HmacKey(as_text(of_service)).of(terminator);
    return HmacKey(as_text(key));
}

// -- Reading --------------------------------------------------------------------------------------

bool SignatureReader::read_query(std::string_view query) {
    parameters_.clear();
    for (std::size_t at = 0; at < query.size();) {
        // One that were left out here would not be signed and still be there for the operation.
        if (parameters_.size() == parameters_max) {
            return false;
        }
        const std::size_t end = std::min(query.find('&', at), query.size());
        const std::string_view piece = query.substr(at, end - at);
        at = end + 1;
        if (piece.empty()) {
            continue;
        }
        const std::size_t equals = std::min(piece.find('='), piece.size());
        parameters_.push_back(
            {http::decode_percent_leniently(piece.substr(0, equals)),
             http::decode_percent_leniently(piece.substr(std::min(equals + 1, piece.size())))});
    }
    return true;
}

std::string_view SignatureReader::parameter(std::string_view name) const noexcept {
    for (const Parameter& parameter : parameters_) {
        if (parameter.name == name) {
            return parameter.value;
        }
    }
    return {};
}

std::expected<Claim, Refusal> SignatureReader::read(const http::HttpRequest& request) {
    if (!read_query(request.query)) {
        return std::unexpected(incomplete("At most " + std::to_string(parameters_max) +
                                          " query-string parameters are accepted."));
    }
    const std::size_t headers = request.count_header("Authorization");
    const bool presigned = std::any_of(parameters_.begin(), parameters_.end(),
                                       [](const auto& p) { return p.name == "X-Amz-Algorithm"; });
    if (headers != 0 && presigned) {
        return std::unexpected(Refusal{Reason::mismatch,
                                       "Found both 'X-Amz-Algorithm' as a query-string param and "
                                       "'Authorization' as HTTP header."});
    }
    if (headers > 1) {
        return std::unexpected(incomplete("Authorization header must be given once: found " +
                                          std::to_string(headers) + "."));
    }
    if (presigned) {
        return read_presigned();
    }
    const std::string_view authorization = request.header("Authorization");
    if (authorization.empty()) {
        return std::unexpected(Refusal{Reason::missing, "Missing Authentication Token"});
    }
    return read_header(request, authorization);
}

std::expected<Claim, Refusal> SignatureReader::read_header(const http::HttpRequest& request,
                                                           std::string_view authorization) {
    Claim claim;
    std::string_view rest = authorization;
    const std::string_view scheme = rest.substr(0, rest.find(' '));
    rest.remove_prefix(std::min(scheme.size() + 1, rest.size()));
    const auto is_separator = [](char c) { return c == ',' || is_blank(c); };
    while (scheme == algorithm && !rest.empty()) {
        const auto* const end = std::find_if(rest.begin(), rest.end(), is_separator);
        const std::string_view piece(rest.begin(), static_cast<std::size_t>(end - rest.begin()));
        rest.remove_prefix(std::min(piece.size() + 1, rest.size()));
        const std::size_t equals = std::min(piece.find('='), piece.size());
        const std::string_view name = piece.substr(0, equals);
        const std::string_view value = piece.substr(std::min(equals + 1, piece.size()));
        if (name == "Credential") {
            claim.credential = value;
        } else if (name == "SignedHeaders") {
            claim.signed_headers = value;
        } else if (name == "Signature") {
            claim.signature = value;
        }
    }
    std::string_view time = request.header("X-Amz-Date");
    const std::string_view date = request.header("Date");
    std::string missing;
    for (const auto& [name, value] :
         {std::pair{"Credential", claim.credential}, std::pair{"Signature", claim.signature},
          std::pair{"SignedHeaders", claim.signed_headers}}) {
        if (value.empty()) {
            missing += "Authorization header requires '" + std::string(name) + "' parameter. ";
        }
    }
    if (time.empty() && date.empty()) {
        missing +=
            "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    }
    if (!missing.empty()) {
        return std::unexpected(incomplete(missing + "Authorization=" + http::shown(authorization)));
    }
    if (auto refusal = finish_claim(claim)) {
        return std::unexpected(std::move(*refusal));
    }
    auto time_s = from_basic_time(time.empty() ? date : time);
    if (!time_s && time.empty()) {
        time_s = from_http_date(std::string(date));
    }
    if (!time_s) {
        return std::unexpected(incomplete("Date must be in ISO-8601 'basic format'. Got '" +
                                          http::shown(time.empty() ? date : time) +
                                          "'. See http://en.wikipedia.org/wiki/ISO_8601"));
    }
    claim.time_s = *time_s;
    claim.time = to_basic_time(*time_s);
    claim.token = request.header("X-Amz-Security-Token");
    return claim;
}

std::expected<Claim, Refusal> SignatureReader::read_presigned() {
    Claim claim;
    claim.form = Claim::Form::query;
    std::string missing;
    for (const std::string_view name : {"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Signature",
                                        "X-Amz-SignedHeaders", "X-Amz-Date"}) {
        if (parameter(name).empty()) {
            missing += "AWS query-string parameters must include '" + std::string(name) + "'. ";
        }
    }
    if (!missing.empty()) {
        return std::unexpected(incomplete(missing + "Re-examine the query-string parameters."));
    }
    if (parameter("X-Amz-Algorithm") != algorithm) {
        return std::unexpected(incomplete("Unsupported AWS 'algorithm': '" +
                                          http::shown(parameter("X-Amz-Algorithm")) + "'."));
    }
    claim.credential = parameter("X-Amz-Credential");
    claim.signed_headers = parameter("X-Amz-SignedHeaders");
    claim.signature = parameter("X-Amz-Signature");
    claim.token = parameter("X-Amz-Security-Token");
    if (auto refusal = finish_claim(claim)) {
        return std::unexpected(std::move(*refusal));
    }
    const auto time_s = from_basic_time(parameter("X-Amz-Date"));
    if (!time_s) {
        return std::unexpected(incomplete("X-Amz-Date must be in ISO-8601 'basic format'. Got '" +
                                          http::shown(parameter("X-Amz-Date")) +
                                          "'. See http://en.wikipedia.org/wiki/ISO_8601"));
    }
    claim.time_s = *time_s;
    claim.time = to_basic_time(*time_s);
    // Without it a presigned request is good for as long as clocks may differ.
    const std::string_view life = parameter("X-Amz-Expires");
    claim.life_s = skew_max_s;
    if (!life.empty()) {
        const auto [end, code] =
            std::from_chars(life.data(), life.data() + life.size(), claim.life_s);
        if (code != std::errc{} || end != life.data() + life.size() || claim.life_s < 1 ||
            claim.life_s > presigned_life_max_s) {
            return std::unexpected(incomplete(
                "X-Amz-Expires must be a number of seconds from 1 to " +
                std::to_string(presigned_life_max_s) + ": found '" + http::shown(life) + "'."));
        }
    }
    return claim;
}

// -- Checking -------------------------------------------------------------------------------------

std::optional<Refusal> SignatureReader::check_scope(const Claim& claim, std::string_view region,
                                                    std::string_view service) {
    const auto wrong = [](std::string message) {
        return Refusal{Reason::wrong_scope, std::move(message)};
    };
    if (claim.region != region) {
        return wrong("Credential should be scoped to a valid region, not '" +
                     http::shown(claim.region) + "'.");
    }
    if (claim.service != service) {
        return wrong("Credential should be scoped to correct service: '" + std::string(service) +
                     "'.");
    }
    if (!claim.scope.ends_with(terminator) ||
        claim.scope.size() != claim.date.size() + claim.region.size() + claim.service.size() +
                                  terminator.size() + 3) {
        return wrong("Credential should be scoped with a valid terminator: '" +
                     std::string(terminator) + "'.");
    }
    const std::string_view day(claim.time.data(), 8);
    if (claim.date != day) {
        return wrong(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from "
            "HTTP: '" +
            http::shown(claim.date) + "' != '" + std::string(day) + "', from '" +
            std::string(claim.time.data(), claim.time.size()) + "'.");
    }
    return std::nullopt;
}

std::optional<Refusal> SignatureReader::check_time(const Claim& claim, std::int64_t now_s) {
    const auto text = [](std::int64_t wall_s) {
        const BasicTime time = to_basic_time(wall_s);
        return std::string(time.data(), time.size());
    };
    if (claim.time_s > now_s + skew_max_s) {
        return Refusal{Reason::early, "Signature not yet current: " + text(claim.time_s) +
                                          " is still later than " + text(now_s + skew_max_s) +
                                          " (" + text(now_s) + " + 5 min.)"};
    }
    if (claim.form == Claim::Form::query) {
        if (now_s > claim.time_s + claim.life_s) {
            return Refusal{Reason::late, "Signature expired: " + text(claim.time_s) + " + " +
                                             std::to_string(claim.life_s) +
                                             " s is now earlier than " + text(now_s) + "."};
        }
    } else if (claim.time_s < now_s - skew_max_s) {
        return Refusal{Reason::late, "Signature expired: " + text(claim.time_s) +
                                         " is now earlier than " + text(now_s - skew_max_s) + " (" +
                                         text(now_s) + " - 5 min.)"};
    }
    return std::nullopt;
}

std::optional<Refusal> SignatureReader::check_signed_headers(const http::HttpRequest& request,
                                                             const Claim& claim) {
    if (!is_signed(claim.signed_headers, "host") &&
        !is_signed(claim.signed_headers, authority_name)) {
        return Refusal{Reason::not_signed,
                       "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."};
    }
    for (const http::HeaderField& field : request.headers) {
        if (starts_with_ignoring_case(field.name, "x-amz-") &&
            !is_signed(claim.signed_headers, field.name)) {
            return Refusal{Reason::not_signed, "'" + http::shown(field.name) +
                                                   "' must be a 'SignedHeader' in the AWS "
                                                   "Authorization."};
        }
    }
    return std::nullopt;
}

void SignatureReader::append_canonical_query(const Claim& claim) {
    if (parameters_.empty()) {
        return;
    }
    std::vector<std::pair<std::string, std::string>> encoded;
    for (const Parameter& parameter : parameters_) {
        if (claim.form == Claim::Form::query && parameter.name == "X-Amz-Signature") {
            continue;
        }
        auto& [name, value] = encoded.emplace_back();
        http::append_percent_encoded(name, parameter.name);
        http::append_percent_encoded(value, parameter.value);
    }
    std::sort(encoded.begin(), encoded.end());
    for (std::size_t i = 0; i < encoded.size(); ++i) {
        canonical_ += i == 0 ? "" : "&";
        canonical_ += encoded[i].first;
        canonical_ += '=';
        canonical_ += encoded[i].second;
    }
}

std::optional<Refusal> SignatureReader::check_signature(const http::HttpRequest& request,
                                                        const Claim& claim, HmacKey& signing_key) {
    const auto mismatch = [] {
        return Refusal{Reason::mismatch,
                       "The request signature we calculated does not match the signature you "
                       "provided. Check your AWS Secret Access Key and signing method. Consult the "
                       "service documentation for details."};
    };
    canonical_.assign(request.method);
    canonical_ += '\n';
    append_canonical_path(canonical_, request.path);
    canonical_ += '\n';
    append_canonical_query(claim);
    canonical_ += '\n';
    const bool complete = for_each_name(claim.signed_headers, [&](std::string_view name) {
        canonical_ += name;
        canonical_ += ':';
        const bool found = append_header_values(canonical_, request, name);
        canonical_ += '\n';
        return found;
    });
    canonical_ += '\n';
    canonical_ += claim.signed_headers;
    canonical_ += '\n';
    if (!complete || claim.signature.size() != 2 * digest_bytes) {
        return mismatch();
    }
    // What the client says of its body is signed, and holds the body if it is true. Kinesis has no
    // operation whose body may go unsigned: the words for it are taken only where there is none.
    std::string_view stated = request.header("X-Amz-Content-Sha256");
    if (stated.empty() && claim.form == Claim::Form::query) {
        stated = parameter("X-Amz-Content-Sha256");
    }
    const bool unsigned_and_empty = stated == unsigned_payload && request.body().empty();
    if (unsigned_and_empty) {
        canonical_ += unsigned_payload;
    } else {
        const std::size_t begin = canonical_.size();
        append_hex(canonical_, as_text(sha256_.of(request.body())));
        if (!stated.empty() && stated != std::string_view(canonical_).substr(begin)) {
            return Refusal{Reason::altered_body,
                           "The provided 'x-amz-content-sha256' header does not match what was "
                           "computed."};
        }
    }
    text_.assign(algorithm);
    text_ += '\n';
    text_.append(claim.time.data(), claim.time.size());
    text_ += '\n';
    text_ += claim.scope;
    text_ += '\n';
    append_hex(text_, as_text(sha256_.of(canonical_)));
    const Digest wanted = signing_key.of(text_);
    text_.clear();
    append_hex(text_, as_text(wanted));
    return equal_in_constant_time(text_, claim.signature) ? std::nullopt
                                                          : std::optional(mismatch());
}

}  // namespace penstock::auth
