#include "tools/penstock/node_client.h"

#include <curl/curl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>
#include <new>

#include "control/node/local_socket.h"
#include "tools/penstock/options.h"

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

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// Of the node at this address, if it is on this machine and has one.
std::string local_socket_of(std::string_view address) {
    const auto parsed = parse_http_address(address);
    if (!parsed) {
        return {};
    }
    const std::string name = default_local_socket(parsed->host, parsed->port);
    const int fd = connect_local(name);
    if (fd < 0) {
        return {};
    }
    ::close(fd);
    return name;
}

// The local socket that curl enters by, and why it must not.
struct LocalDoor {
    const std::string& name;
    int fd = -1;  // of a new connection
    std::string why;
};

curl_socket_t open_socket(void* into, curlsocktype, curl_sockaddr* to) {
    auto& door = *static_cast<LocalDoor*>(into);
    door.fd = ::socket(to->family, to->socktype | SOCK_CLOEXEC, to->protocol);
    return door.fd;
}

// Looks at the other end before anything is sent. A path stands in a directory that somebody may
// write to or not; a name in the abstract namespace is whoever's comes first, and he would be
// believed what he answers.
int look_who_is_there(void* into, char*, char*, int, int) {
    auto& door = *static_cast<LocalDoor*>(into);
    if (door.fd < 0 || !is_abstract(door.name) || is_trusted(door.fd)) {
        return CURL_PREREQFUNC_OK;
    }
    door.why =
        "found a process of another user there, expected a node of root or of your own user; run "
        "this as the user that the node runs as, or give both a path (--local-socket)";
    return CURL_PREREQFUNC_ABORT;
}

struct FreeList {
    void operator()(curl_slist* list) const noexcept { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, FreeList>;

// Through the local socket, or with a signature if the environment has a credential.
HeaderList go_in(CURL* curl, LocalDoor& door) {
    if (!door.name.empty()) {
        const bool abstract = is_abstract(door.name);
        curl_easy_setopt(curl, abstract ? CURLOPT_ABSTRACT_UNIX_SOCKET : CURLOPT_UNIX_SOCKET_PATH,
                         door.name.c_str() + (abstract ? 1 : 0));
        curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, &open_socket);
        curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, &door);
        curl_easy_setopt(curl, CURLOPT_PREREQFUNCTION, &look_who_is_there);
        curl_easy_setopt(curl, CURLOPT_PREREQDATA, &door);
        return nullptr;
    }
    const std::string key = environment("AWS_ACCESS_KEY_ID");
    const std::string secret = environment("AWS_SECRET_ACCESS_KEY");
    if (key.empty() || secret.empty()) {
        return nullptr;
    }
    std::string region = environment("AWS_REGION");
    if (region.empty()) {
        region = environment("AWS_DEFAULT_REGION");
    }
    const std::string provider =
        "aws:amz:" + (region.empty() ? std::string("us-east-1") : region) + ":kinesis";
    curl_easy_setopt(curl, CURLOPT_AWS_SIGV4, provider.c_str());
    curl_easy_setopt(curl, CURLOPT_USERNAME, key.c_str());
    curl_easy_setopt(curl, CURLOPT_PASSWORD, secret.c_str());
    const std::string token = environment("AWS_SESSION_TOKEN");
    if (token.empty()) {
        return nullptr;
    }
    HeaderList headers(curl_slist_append(nullptr, ("X-Amz-Security-Token: " + token).c_str()));
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers.get());
    return headers;
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

NodeClient::NodeClient(std::string_view address, long answer_timeout_ms,
                       std::string_view local_socket)
    : base_("http://" + std::string(address)),
      local_socket_(local_socket),
      answer_timeout_ms_(answer_timeout_ms),
      handle_(std::make_unique<Handle>()) {
    if (local_socket_.empty()) {
        local_socket_ = local_socket_of(address);
    }
}

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
    LocalDoor door{local_socket_, -1, {}};
    const HeaderList headers = go_in(curl, door);
    std::array<char, CURL_ERROR_SIZE> detail{};
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, detail.data());
    const CURLcode failed = curl_easy_perform(curl);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, nullptr);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, nullptr);
    if (!door.why.empty()) {
        why = "the local socket " + local_socket_ + ": " + door.why;
        return fail(Errc::unavailable);
    }
    if (failed != CURLE_OK) {
        why = (local_socket_.empty() ? base_ : "the local socket " + local_socket_) + ": " +
              (detail[0] != 0 ? detail.data() : curl_easy_strerror(failed)) +
              "; expected a running node there (--http HOST:PORT)";
        return fail(Errc::unavailable);
    }
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    answer.status = static_cast<int>(status);
    return answer;
}

}  // namespace penstock
