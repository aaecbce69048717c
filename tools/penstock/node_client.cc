#include "tools/penstock/node_client.h"

#include <curl/curl.h>

#include <array>
#include <cctype>
#include <new>

namespace penstock {

namespace {

constexpr long connect_timeout_ms = 2'000;

std::size_t take_body(const char* data, std::size_t size, std::size_t count, void* into) {
    static_cast<NodeAnswer*>(into)->body.append(data, size * count);
    return size * count;
}

std::size_t take_header(const char* data, std::size_t size, std::size_t count, void* into) {
    std::string_view line(data, size * count);
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
        static_cast<NodeAnswer*>(into)->headers[std::move(name)] = line;
    }
    return size * count;
}

}  // namespace

struct NodeClient::Handle {
    Handle() : curl(curl_easy_init()) {
        if (curl == nullptr) {
            throw std::bad_alloc();
        }
    }
    ~Handle() { curl_easy_cleanup(curl); }
    Handle(const Handle&) = delete;
    Handle& operator=(const Handle&) = delete;
    CURL* curl;
};

NodeClient::NodeClient(std::string_view address, long answer_timeout_ms)
    : base_("http://" + std::string(address)),
      answer_timeout_ms_(answer_timeout_ms),
      handle_(std::make_unique<Handle>()) {}

NodeClient::~NodeClient() = default;

Result<NodeAnswer> NodeClient::ask(std::string_view method, std::string_view path,
                                   std::string_view body, std::string& why) {
    CURL* curl = handle_->curl;
    NodeAnswer answer;
    curl_easy_reset(curl);
    const std::string url = base_ + std::string(path);
    const std::string verb(method);
    curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
    curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, verb.c_str());
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_NOPROXY, "*");
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, connect_timeout_ms);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, answer_timeout_ms_);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, &take_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, &take_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, &answer);
    if (!body.empty()) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
        curl_easy_setopt(curl, CURLOPT_COPYPOSTFIELDS, body.data());
    }
    std::array<char, CURL_ERROR_SIZE> detail{};
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail.data());
    const CURLcode failed = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
    if (failed != CURLE_OK) {
        why = base_ + ": " + (detail[0] != 0 ? detail.data() : curl_easy_strerror(failed)) +
              "; expected a running node there (--http HOST:PORT)";
        return fail(Errc::unavailable);
    }
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    answer.status = static_cast<int>(status);
    return answer;
}

}  // namespace penstock
