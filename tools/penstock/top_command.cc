#include "tools/penstock/top_command.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "tools/penstock/metrics_text.h"
#include "tools/penstock/node_client.h"
#include "tools/penstock/top_view.h"

namespace penstock {
namespace {

using Clock = std::chrono::steady_clock;

// A node answers within milliseconds unless a lane is stuck, for which it waits 2 s itself.
constexpr long answer_ms_max = 3000;

volatile std::sig_atomic_t asked_to_end = 0;

void on_signal(int number) {
    if (number != SIGWINCH) {
        asked_to_end = 1;
    }
}

// Signals that end or redraw arrive in wait() alone, so that none is lost between a look at the
// flag and falling asleep.
class Signals {
public:
    Signals() {
        sigset_t ours;
        sigemptyset(&ours);
        struct sigaction action{};
        action.sa_handler = on_signal;
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) {
            sigaddset(&ours, number);
            ::sigaction(number, &action, nullptr);
        }
        ::sigprocmask(SIG_BLOCK, &ours, &before_);
        for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGWINCH}) {
            sigdelset(&before_, number);
        }
    }
    Signals(const Signals&) = delete;
    Signals& operator=(const Signals&) = delete;

    // Until `end`, a signal, or a key that ends: what ended it.
    enum class Woken : unsigned char { time, redraw, end };
    [[nodiscard]] Woken wait(Clock::time_point end, bool keys) {
        pollfd input{.fd = keys ? STDIN_FILENO : -1, .events = POLLIN, .revents = 0};
        const auto left = std::max(end - Clock::now(), Clock::duration::zero());
        const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
        const timespec limit{.tv_sec = ns / 1'000'000'000, .tv_nsec = ns % 1'000'000'000};
        const int ready = ::ppoll(&input, 1, &limit, &before_);
        if (asked_to_end != 0) {
            return Woken::end;
        }
        if (ready < 0) {
            return Woken::redraw;
        }
        if (ready > 0) {
            std::array<char, 64> typed{};
            const ssize_t count = ::read(STDIN_FILENO, typed.data(), typed.size());
            const auto last = typed.begin() + std::max<ssize_t>(count, 0);
            // The end of input ends us too: there is nobody left to look.
            return count <= 0 || std::find(typed.begin(), last, 'q') != last ||
                           std::find(typed.begin(), last, 'Q') != last
                       ? Woken::end
                       : Woken::redraw;
        }
        return Woken::time;
    }

private:
    sigset_t before_{};
};

void write_all(std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::write(STDOUT_FILENO, text.data(), text.size());
        if (count < 0 && errno != EINTR) {
            return;
        }
        text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    }
}

// The alternate screen, without cursor and without echo, for as long as it lives.
class Screen {
public:
    Screen() {
        if (::isatty(STDIN_FILENO) == 1 && ::tcgetattr(STDIN_FILENO, &before_) == 0) {
            termios raw = before_;
            raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
            raw.c_cc[VSUSP] = _POSIX_VDISABLE;  // stopped, we would leave the terminal like this
            raw.c_cc[VMIN] = 0;
            raw.c_cc[VTIME] = 0;
            changed_ = ::tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
        }
        write_all("\x1b[?1049h\x1b[?25l\x1b[2J");
    }
    ~Screen() {
        write_all("\x1b[?25h\x1b[?1049l");
        if (changed_) {
            ::tcsetattr(STDIN_FILENO, TCSAFLUSH, &before_);
        }
    }
    Screen(const Screen&) = delete;
    Screen& operator=(const Screen&) = delete;

    [[nodiscard]] bool has_keys() const noexcept { return changed_; }

    struct Size {
        std::size_t rows = 24;
        std::size_t columns = 80;
    };
    [[nodiscard]] static Size size() noexcept {
        winsize found{};
        if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &found) != 0 || found.ws_row == 0 ||
            found.ws_col == 0) {
            return {};
        }
        return {found.ws_row, found.ws_col};
    }

    // In one write and without clearing first, so that nothing flickers.
    static void draw(const std::vector<TopLine>& lines, const Size& size) {
        std::string out = "\x1b[H";
        for (std::size_t i = 0; i < lines.size() && i < size.rows; ++i) {
            const std::string text = cut_to(lines[i].text, size.columns);
            // Cleared before and not behind: at the right edge that would take the last character.
            out += i == 0 ? "\x1b[K" : "\r\n\x1b[K";
            out += lines[i].heading ? "\x1b[7m" + text + "\x1b[0m" : text;
        }
        // What is below the last line; at the right edge of the last row there is nothing.
        write_all(lines.size() < size.rows ? out + "\r\n\x1b[J" : out);
    }

private:
    termios before_{};
    bool changed_ = false;
};

// The node, read again and again.
class Watch {
public:
    explicit Watch(const TopArguments& arguments)
        : client_(arguments.http, answer_ms_max, arguments.local_socket), title_(arguments.http) {}

    // False if the node did not answer; problem() then says why, and the view stays as it was.
    [[nodiscard]] bool read() {
        problem_.clear();
        const auto answer = client_.ask("GET", "/metrics", "", problem_);
        if (answer && answer->status != 200) {
            problem_ = title_ + ": /metrics answered " + std::to_string(answer->status) +
                       (answer->status == 403
                            ? "; run this as root or as the node's user on its machine, or set "
                              "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                            : "; expected a running node there (--http HOST:PORT)");
        }
        if (!problem_.empty()) {
            return false;
        }
        const auto at = Clock::now();
        before_ = std::move(now_);
        now_ = Scrape(answer->body);
        seconds_ = before_.empty() ? 0 : std::chrono::duration<double>(at - at_).count();
        at_ = at;
        return true;
    }
    [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
    [[nodiscard]] std::vector<TopLine> lines(std::size_t rows_max) const {
        auto lines =
            top_lines(before_, now_,
                      {.title = title_,
                       .seconds = seconds_,
                       .rows_max = problem_.empty() || rows_max < 2 ? rows_max : rows_max - 1,
                       .busiest_max = rows_max == 0 ? 20 : rows_max});
        if (!problem_.empty()) {
            lines.insert(lines.begin(), {"THE NODE DOES NOT ANSWER: " + problem_, false});
        }
        return lines;
    }

private:
    NodeClient client_;
    std::string title_;
    Scrape before_;
    Scrape now_;
    double seconds_ = 0;
    Clock::time_point at_{};
    std::string problem_;
};

[[nodiscard]] bool can_be_redrawn() {
    const char* term = std::getenv("TERM");
    return ::isatty(STDOUT_FILENO) == 1 && term != nullptr && std::string_view(term) != "dumb" &&
           *term != '\0';
}

void print_plain(const std::vector<TopLine>& lines) {
    std::string text;
    for (const TopLine& line : lines) {
        text += line.text + "\n";
    }
    write_all(text);
}

[[nodiscard]] int complain(const std::string& problem) {
    std::fprintf(stderr, "penstock top: %s\n", problem.c_str());
    return 1;
}

}  // namespace

int run_top(const TopArguments& arguments) {
    const auto interval = std::chrono::duration_cast<Clock::duration>(
        std::chrono::duration<double>(arguments.interval_s));
    Watch watch(arguments);
    if (!watch.read()) {
        return complain(watch.problem());
    }
    Signals signals;
    std::optional<Screen> screen;
    if (!arguments.once && can_be_redrawn()) {
        screen.emplace();
    }
    auto next = Clock::now() + interval;
    for (;;) {
        Signals::Woken woken = Signals::Woken::redraw;
        while (woken == Signals::Woken::redraw) {
            if (screen) {
                const auto size = Screen::size();
                Screen::draw(watch.lines(size.rows), size);
            }
            woken = signals.wait(next, screen && screen->has_keys());
        }
        if (woken == Signals::Woken::end) {
            return arguments.once ? 1 : 0;
        }
        if (!watch.read() && !screen) {
            return complain(watch.problem());
        }
        if (!screen) {
            print_plain(watch.lines(0));
            if (arguments.once) {
                return 0;
            }
            write_all("\n");
        }
        next = Clock::now() + interval;
    }
}

}  // namespace penstock
