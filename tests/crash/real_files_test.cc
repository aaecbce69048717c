// One fixed story on real files through io_uring, in a process of its own that is killed at, or
// gets an I/O error for, its n-th change of a file, for every n until a run is untouched. Then
// another process recovers, itself killed at a change of its own, and a last one checks what is
// promised.
//
// A run is an even part of all n, another one each time; PENSTOCK_TEST_EVERY_IO=1 takes all of
// them.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <random>

#include <gtest/gtest.h>

#include "tests/crash/real_node.h"

namespace penstock::test {
namespace {

constexpr int ended_well = 0;
constexpr int promise_broken = 3;

class RealFiles : public ::testing::TestWithParam<Trouble> {
protected:
    void SetUp() override {
        const char* base = std::getenv("TMPDIR");
        root_ = std::string(base != nullptr ? base : "/tmp") + "/penstock-crash-XXXXXX";
        ASSERT_NE(::mkdtemp(root_.data()), nullptr);
        void* shared = ::mmap(nullptr, sizeof(Ledger), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        ASSERT_NE(shared, MAP_FAILED);
        ledger_ = static_cast<Ledger*>(shared);
        UringOptions options;
        if (const auto engine = UringEngine::open(options); !engine) {
            GTEST_SKIP() << UringEngine::explain_open_failure(engine.error());
        }
    }
    void TearDown() override {
        if (ledger_ != nullptr) {
            ::munmap(ledger_, sizeof(Ledger));
        }
        std::error_code ignored;
        std::filesystem::remove_all(root_, ignored);
    }

    void begin_anew() {
        new (ledger_) Ledger;
        for (unsigned r = 0; r < replica_count; ++r) {
            std::filesystem::remove_all(root_ + "/replica-" + std::to_string(r));
        }
    }

    // Runs `life` in a process of its own. Returns its exit code, or minus its signal.
    int in_process(Countdown countdown, void (*life)(const std::string&, Ledger&, Countdown&)) {
        std::fflush(nullptr);
        const pid_t child = ::fork();
        if (child == 0) {
            life(root_, *ledger_, countdown);
            ledger_->changes = countdown.seen;
            ::_exit(ledger_->broken[0] == 0 ? ended_well : promise_broken);
        }
        int status = 0;
        EXPECT_EQ(::waitpid(child, &status, 0), child);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }

    std::string root_;
    Ledger* ledger_ = nullptr;
};

void breaks(Ledger& ledger, const std::string& what) {
    if (ledger.broken[0] == 0) {
        std::snprintf(ledger.broken.data(), ledger.broken.size(), "%s", what.c_str());
    }
}

std::unique_ptr<RealNode> start(const std::string& root, Ledger& ledger, Countdown& countdown) {
    // An I/O error while the set is made or opened may be told; then it is tried again.
    for (int turn = 0; turn < 2; ++turn) {
        std::string message;
        auto node = RealNode::start(root, ledger, countdown, message);
        if (node) {
            return std::move(*node);
        }
        if (countdown.trouble != Trouble::error || countdown.seen < countdown.at || turn != 0) {
            breaks(ledger, "does not start: " + describe(node.error()) + " " + message);
            return nullptr;
        }
    }
    return nullptr;
}

// Create, append to the journal, write directly, roll chunks, seal, move, trim, drop, close; then
// recover, and append behind it.
void tell_story(const std::string& root, Ledger& ledger, Countdown& countdown) {
    constexpr std::uint64_t two_minutes_ns = 120'000'000'000;
    auto node = start(root, ledger, countdown);
    if (!node) {
        return;
    }
    bool good = true;
    const auto expect = [&](bool done, const char* what) {
        if (!done && good) {
            breaks(ledger, std::string("no answer: ") + what);
            good = false;
        }
        return good;
    };
    node->add(1, 3'600'000);
    node->add(2, 86'400'000);
    expect(node->settle(), "shards are added");
    for (unsigned i = 0; i < 4 && good; ++i) {
        expect(node->append(1, 100 + i), "a small record");
        node->step();
    }
    expect(node->settle(), "small records");
    for (unsigned i = 0; i < 3 && good; ++i) {
        expect(node->append(1, 70'000) && node->append(2, 2'000), "a large record");
        expect(node->settle(), "large records");
    }
    expect(node->drain(), "the drain");
    for (unsigned i = 0; i < 45 && good; ++i) {
        node->advance(two_minutes_ns);
    }
    expect(node->append(1, 900) && node->settle(), "a record behind the trim");
    node->add(3, 86'400'000);
    expect(node->settle() && node->append(3, 30'000) && node->settle(), "a third shard");
    node->drop(3);
    expect(node->settle(), "the drop");
    expect(node->append(2, 700) && node->append(2, 700), "records of a shard that is closed");
    node->close(2);
    expect(node->settle(), "the close");
    expect(node->append(1, 300), "a record that nobody waits for");
    if (!good) {
        return;
    }
    node.reset();
    node = start(root, ledger, countdown);
    if (!node) {
        return;
    }
    if (const std::string wrong = node->check(); !wrong.empty()) {
        breaks(ledger, wrong);
        return;
    }
    expect(node->append(1, 400) && node->settle(), "a record after the restart");
}

// Recovers, checks, and goes on.
void live_on(const std::string& root, Ledger& ledger, Countdown& countdown) {
    auto node = start(root, ledger, countdown);
    if (!node) {
        return;
    }
    if (const std::string wrong = node->check(); !wrong.empty()) {
        breaks(ledger, wrong);
        return;
    }
    if (node->group().find(ShardUid{1}) == nullptr) {
        return;
    }
    if (!node->append(1, 500) || !node->settle()) {
        breaks(ledger, "no answer after the recovery");
        return;
    }
    if (const std::string wrong = node->check(); !wrong.empty()) {
        breaks(ledger, "after going on: " + wrong);
    }
}

TEST_P(RealFiles, NothingAcknowledgedIsLostAtAnyChange) {
    const bool every = std::getenv("PENSTOCK_TEST_EVERY_IO") != nullptr;
    const char* chosen = std::getenv("PENSTOCK_TEST_SEED");
    const std::uint64_t seed =
        chosen != nullptr ? std::strtoull(chosen, nullptr, 10) : std::random_device{}();
    begin_anew();
    ASSERT_EQ(in_process({}, &tell_story), ended_well) << ledger_->broken.data();
    const std::uint64_t all = ledger_->changes;
    EXPECT_GT(all, 150U) << "the story got shorter than it should be";
    const std::uint64_t stride = every ? 1 : all / 9;
    std::uint64_t n = every ? 1 : 1 + seed % stride;
    std::printf("%lu changes, every %lu. from %lu on (PENSTOCK_TEST_SEED=%lu)\n",
                static_cast<unsigned long>(all), static_cast<unsigned long>(stride),
                static_cast<unsigned long>(n), static_cast<unsigned long>(seed));
    for (bool untouched = false; !untouched; n += stride) {
        SCOPED_TRACE("change " + std::to_string(n));
        begin_anew();
        const int told = in_process({GetParam(), n, 0}, &tell_story);
        ASSERT_TRUE(told == ended_well || told == -SIGKILL)
            << told << " " << ledger_->broken.data();
        untouched = ledger_->changes != 0 && ledger_->changes < n;
        if (told == -SIGKILL) {
            const int again = in_process({GetParam(), 1 + n % 41, 0}, &live_on);
            ASSERT_TRUE(again == ended_well || again == -SIGKILL)
                << again << " " << ledger_->broken.data();
        }
        ASSERT_EQ(in_process({}, &live_on), ended_well) << ledger_->broken.data();
    }
    EXPECT_GT(n, all / 2);
}

std::string name_of(const ::testing::TestParamInfo<Trouble>& trouble) {
    return trouble.param == Trouble::kill_before   ? "KilledBeforeIt"
           : trouble.param == Trouble::kill_behind ? "KilledBehindIt"
                                                   : "WhenItFails";
}

INSTANTIATE_TEST_SUITE_P(Each, RealFiles,
                         ::testing::Values(Trouble::kill_before, Trouble::kill_behind,
                                           Trouble::error),
                         name_of);

}  // namespace
}  // namespace penstock::test
