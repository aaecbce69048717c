#include "tools/penstock/credentials_command.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <sstream>
#include <string>
#include <thread>
#include <tuple>

#include <gtest/gtest.h>

#include "control/node/local_socket.h"

namespace penstock {
namespace {

constexpr uid_t nobody = 65534;

// Answers every request on a listening socket with the same body, as a node would or would not.
class Squatter {
public:
    Squatter(int fd, std::string body) : fd_(fd), body_(std::move(body)) {
        thread_ = std::thread([this] { run(); });
    }
    ~Squatter() {
        stop_ = true;
        thread_.join();
        ::close(fd_);
    }
    Squatter(const Squatter&) = delete;
    Squatter& operator=(const Squatter&) = delete;
    [[nodiscard]] int asked() const { return asked_; }

private:
    void run() {
        while (!stop_) {
            pollfd wait{fd_, POLLIN, 0};
            if (::poll(&wait, 1, 20) != 1) {
                continue;
            }
            const int peer = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
            std::string request;
            std::array<char, 4096> room{};
            for (ssize_t got = 0; peer >= 0 && !is_whole(request) &&
                                  (got = ::recv(peer, room.data(), room.size(), 0)) > 0;) {
                request.append(room.data(), static_cast<std::size_t>(got));
            }
            if (is_whole(request)) {
                ++asked_;
                const std::string answer =
                    "HTTP/1.1 200 OK\r\nConnection: close\r\n"
                    "Content-Length: " +
                    std::to_string(body_.size()) + "\r\n\r\n" + body_;
                EXPECT_EQ(::send(peer, answer.data(), answer.size(), MSG_NOSIGNAL),
                          static_cast<ssize_t>(answer.size()));
            }
            ::close(peer);
        }
    }
    static bool is_whole(const std::string& request) {
        const std::size_t head = request.find("\r\n\r\n");
        const std::size_t length = request.find("Content-Length: ");
        return head != std::string::npos &&
               (length == std::string::npos ||
                request.size() >= head + 4 + std::stoul(request.substr(length + 16)));
    }

    int fd_;
    std::string body_;
    std::atomic<bool> stop_{false};
    std::atomic<int> asked_{0};
    std::thread thread_;
};

int listen_on_any_port(std::string& address) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(at);
    EXPECT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&at), size), 0);
    EXPECT_EQ(::listen(fd, 8), 0);
    EXPECT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&at), &size), 0);
    address = "127.0.0.1:" + std::to_string(ntohs(at.sin_port));
    return fd;
}

std::string answer_with(const std::string& member, const std::string& value) {
    std::string body = R"({"name":"a")";
    for (const auto& [name, sound] :
         {std::pair{"access_key_id", "AKIA0"}, std::pair{"secret_access_key", "a+b/c="},
          std::pair{"session_token", "dG9r+/=="}, std::pair{"region", "us-east-1"}}) {
        body += ",\"" + std::string(name) + "\":\"" + (member == name ? value : sound) + "\"";
    }
    return body + "}";
}

struct Done {
    int code = 0;
    std::string out;
    std::string err;
};
Done make(const std::string& http, const std::string& local_socket) {
    CredentialsArguments arguments;
    arguments.action = CredentialsAction::make;
    arguments.name = "a";
    arguments.policy = "admin";
    arguments.http = http;
    arguments.local_socket = local_socket;
    arguments.env = true;
    std::ostringstream out;
    std::ostringstream err;
    const int code = run_credentials(arguments, out, err);
    return {code, out.str(), err.str()};
}

TEST(CredentialsCommand, LinesForAShellHoldNothingThatAShellWouldRun) {
    for (const std::string member :
         {"access_key_id", "secret_access_key", "session_token", "region"}) {
        for (const std::string value : {"a; touch /tmp/x", "$(id)", "`id`", "a\\nid", "a b", "a&b",
                                        "a|b", "ä", "'", "\\\""}) {
            std::string http;
            const int fd = listen_on_any_port(http);
            const Squatter squatter(fd, answer_with(member, value));
            const Done done = make(http, "");
            EXPECT_EQ(done.code, 1) << member << " " << value;
            EXPECT_EQ(done.out, "") << member << " " << value;
            EXPECT_NE(done.err.find("the answer's " + member), std::string::npos) << done.err;
            EXPECT_EQ(std::count(done.err.begin(), done.err.end(), '\n'), 1) << done.err;
        }
    }
    std::string http;
    const int fd = listen_on_any_port(http);
    const Squatter node(fd, answer_with("", ""));
    const Done done = make(http, "");
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(done.out,
              "export AWS_ACCESS_KEY_ID=AKIA0\nexport AWS_SECRET_ACCESS_KEY=a+b/c=\n"
              "export AWS_SESSION_TOKEN=dG9r+/==\nexport AWS_DEFAULT_REGION=us-east-1\n");
}

// Who listens is who the kernel took note of at listen(): another user for that moment is enough.
int listen_as_nobody(const std::string& name) {
    EXPECT_EQ(::seteuid(nobody), 0);
    const auto fd = listen_local(name);
    EXPECT_EQ(::seteuid(0), 0);
    EXPECT_TRUE(fd) << fd.error();
    return fd.value_or(-1);
}

TEST(CredentialsCommand, AnotherUsersSocketUnderTheNodesNameIsNotAsked) {
    if (::geteuid() != 0) {
        GTEST_SKIP() << "needs root, to be somebody else for a moment";
    }
    std::string http;
    const int tcp = listen_on_any_port(http);
    const Squatter network(tcp, answer_with("", ""));
    const std::string name = "@penstock-" + http.substr(http.find(':') + 1);
    {
        const Squatter squatter(listen_as_nobody(name), answer_with("", ""));
        for (const std::string& given : {std::string(), name}) {
            const Done done = make(http, given);
            EXPECT_EQ(done.code, 1);
            EXPECT_EQ(done.out, "");
            EXPECT_NE(done.err.find(name + ": found a process of another user"), std::string::npos)
                << done.err;
        }
        EXPECT_EQ(squatter.asked(), 0);
    }
    const auto own = listen_local(name);
    ASSERT_TRUE(own) << own.error();
    const Squatter node(*own, answer_with("", ""));
    const Done done = make(http, "");
    EXPECT_EQ(done.code, 0) << done.err;
    EXPECT_EQ(node.asked(), 1);
    EXPECT_EQ(network.asked(), 0);
}

TEST(CredentialsCommand, ANodeOnAnotherHostOfTheSamePortIsNotMistakenForThisOne) {
    EXPECT_EQ(default_local_socket("127.0.0.1", 4567), "@penstock-4567");
    EXPECT_EQ(default_local_socket("localhost", 4567), "@penstock-4567");
    EXPECT_EQ(default_local_socket("0.0.0.0", 4567), "@penstock-4567");
    EXPECT_EQ(default_local_socket("127.0.0.2", 4567), "@penstock-127.0.0.2-4567");
    EXPECT_EQ(default_local_socket("::1", 4567), "@penstock-::1-4567");
    // Both have a node; each is asked by its own address.
    std::string http;
    const Squatter network(listen_on_any_port(http), answer_with("", ""));
    const auto port = static_cast<std::uint16_t>(std::stoul(http.substr(http.find(':') + 1)));
    const auto listen_as_node = [&](std::string_view host) {
        const auto fd = listen_local(default_local_socket(host, port));
        EXPECT_TRUE(fd) << fd.error();
        return fd.value_or(-1);
    };
    const Squatter first(listen_as_node("127.0.0.1"), answer_with("", ""));
    const Squatter second(listen_as_node("127.0.0.2"), answer_with("", ""));
    const Squatter third(listen_as_node("::1"), answer_with("", ""));
    EXPECT_EQ(make("127.0.0.2:" + std::to_string(port), "").code, 0);
    EXPECT_EQ(std::tuple(first.asked(), second.asked(), third.asked()), std::tuple(0, 1, 0));
    EXPECT_EQ(make("[::1]:" + std::to_string(port), "").code, 0);
    EXPECT_EQ(make("localhost:" + std::to_string(port), "").code, 0);
    EXPECT_EQ(std::tuple(first.asked(), second.asked(), third.asked()), std::tuple(1, 1, 1));
    EXPECT_NE(make("127.0.0.3:" + std::to_string(port), "").code, 0);
    EXPECT_EQ(std::tuple(first.asked(), second.asked(), third.asked()), std::tuple(1, 1, 1));
    EXPECT_EQ(network.asked(), 0);
}

}  // namespace
}  // namespace penstock
