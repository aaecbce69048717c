#include "tools/client/http_client.h"

#include <curl/curl.h>
#include <simdjson.h>

#include <array>
#include <cctype>
#include <mutex>
#include <new>

namespace penstock {
namespace {

// Answers are bounded: GetRecords' 10 MB as base64, and some more.
constexpr std::size_t body_bytes_max = 64U << 20;

std::size_t take_body(const char* data, std::size_t size, std::size_t count, void* into) {
    auto& body = static_cast<HttpReply*>(into)->body;
    if (body.size() + size * count > body_bytes_max) {
        return 0;
    }
    body.append(data, size * count);
    return size * count;
}

std::size_t take_header(const char* data, std::size_t size, std::size_t count, void* into) {
    std::string_view line(data, size * count);
    if (line.starts_with("HTTP/")) {
        static_cast<HttpReply*>(into)->headers.clear();  // of 100 Continue
        return size * count;
    }
    const std::size_t colon = line.find(':');
    if (colon != std::string_view::npos) {
        std::string name(line.substr(0, colon));
        for (char& c : name) {
            c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
        }
        line.remove_prefix(colon + 1);
        while (!line.empty() && line.front() == ' ') {
            line.remove_prefix(1);
        }
        while (!line.empty() && (line.back() == '\r' || line.back() == '\n')) {
            line.remove_suffix(1);
        }
        static_cast<HttpReply*>(into)->headers[std::move(name)] = line;
    }
    return size * count;
}

int look_for_cancel(void* canceled, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
    return static_cast<std::atomic<bool>*>(canceled)->load(std::memory_order_relaxed) ? 1 : 0;
}

struct FreeList {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

void add_header(HeaderList& list, const std::string& line) {
    curl_slist* const longer = curl_slist_append(list.get(), line.c_str());
    if (longer == nullptr) {
        throw std::bad_alloc();
    }
    (void)list.release();
    list.reset(longer);
}

Errc errc_of(CURLcode code) {
    switch (code) {
        case CURLE_OPERATION_TIMEDOUT:
            return Errc::timed_out;
        case CURLE_ABORTED_BY_CALLBACK:
            return Errc::canceled;
        case CURLE_URL_MALFORMAT:
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_SSL_CACERT_BADFILE:
            return Errc::invalid_argument;
        default:
            return Errc::unavailable;
    }
}

// A member of the reply's JSON object; empty if there is none.
std::string member_of(const HttpReply& reply, std::initializer_list<std::string_view> names) {
    simdjson::dom::parser parser;
    simdjson::dom::object object;
    if (parser.parse(reply.body).get(object) != simdjson::SUCCESS) {
        return {};
    }
    for (const std::string_view name : names) {
        std::string_view text;
        if (object.at_key(name).get(text) == simdjson::SUCCESS) {
            return std::string(text);
        }
    }
    return {};
}

}  // namespace

struct HttpClient::Handle {
    Handle() {
        static std::once_flag once;
        std::call_once(once, [] { curl_global_init(CURL_GLOBAL_DEFAULT); });
        curl = curl_easy_init();
        if (curl == nullptr) {
            throw std::bad_alloc();
        }
    }
    ~Handle() { curl_easy_cleanup(curl); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    CURL* curl;
};

HttpClient::HttpClient(HttpEndpoint endpoint)
    : endpoint_(std::move(endpoint)), handle_(std::make_unique<Handle>()) {}

HttpClient::~HttpClient() = default;

Result<HttpReply> HttpClient::send(const HttpRequest& request, std::string& why) {
    CURL* const curl = handle_->curl;
    curl_easy_reset(curl);
    HttpReply reply;
    const std::string url = endpoint_.url + std::string(request.path);
    const std::string verb(request.method);
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, verb.c_str());
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, endpoint_.connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, request.timeout_ms);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &reply);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &reply);
    // A header that takes `Expect` back would be signed, and not sent.
    curl_easy_setopt(curl, CURLOPT_EXPECT_100_TIMEOUT_MS, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, &look_for_cancel);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &canceled_);
    if (!endpoint_.ca_bundle.empty()) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, endpoint_.ca_bundle.c_str());
    }
    if (!request.body.empty() || request.method == "POST" || request.method == "PUT") {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                         static_cast<curl_off_t>(request.body.size()));
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS,
                         request.body.empty() ? "" : request.body.data());
    }
    HeaderList headers;
    for (const auto& [name, value] : request.headers) {
        add_header(headers, name + ": " + value);
    }
    const AwsCredential& credential = endpoint_.credential;
    const std::string provider = "aws:amz:" + endpoint_.region + ":kinesis";
    if (!credential.access_key_id.empty()) {
        curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, provider.c_str());
        curl_easy_setopt(curl, CURLOPT_USERNAME, credential.access_key_id.c_str());
        curl_easy_setopt(curl, CURLOPT_PASSWORD, credential.secret_access_key.c_str());
        if (!credential.session_token.empty()) {
            add_header(headers, "X-Amz-Security-Token: " + credential.session_token);
        }
    }
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    std::array<char, CURL_ERROR_SIZE> detail{};
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail.data());
    const CURLcode failed = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, nullptr);
    if (failed != CURLE_OK) {
        why = endpoint_.url + ": " + (detail[0] != 0 ? detail.data() : curl_easy_strerror(failed));
        return fail(errc_of(failed));
    }
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    reply.status = static_cast<int>(status);
    curl_easy_getinfo(curl, CURLINFO_CONNECT_TIME, &reply.connect_s);
    const char* address = nullptr;
    curl_easy_getinfo(curl, CURLINFO_PRIMARY_IP, &address);
    reply.address = address == nullptr ? "" : address;
    return reply;
}

Result<HttpReply> HttpClient::kinesis(std::string_view operation, std::string_view body,
                                      std::string& why, long timeout_ms) {
    HttpRequest request;
    request.headers = {{"Content-Type", "application/x-amz-json-1.1"},
                       {"X-Amz-Target", "Kinesis_20131202." + std::string(operation)}};
    request.body = body;
    request.timeout_ms = timeout_ms;
    return send(request, why);
}

std::string error_message(const HttpReply& reply) {
    std::string text = member_of(reply, {"message", "Message"});
    return text.empty() ? "the endpoint answered " + std::to_string(reply.status) : text;
}

std::string error_type(const HttpReply& reply) {
    std::string type = member_of(reply, {"__type", "error", "code"});
    const std::size_t hash = type.find('#');
    return hash == std::string::npos ? type : type.substr(hash + 1);
}

bool is_passing(const HttpReply& reply) {
    if (reply.status == 429 || reply.status >= 500) {
        return true;
    }
    const std::string type = error_type(reply);
    return reply.status == 400 &&
           (type == "ProvisionedThroughputExceededException" || type == "LimitExceededException" ||
            type == "KMSThrottlingException" || type == "ThrottlingException");
}

}  // namespace penstock
