#include "storage/io/uring_engine.h"

#include <sched.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <set>
#include <thread>

#include "storage/io/directory.h"
#include "tests/unit/storage/io/support.h"

namespace penstock {
namespace {

using test::Block;
using test::collect;
using test::make_blocks;
using test::one;
using test::same;
using test::TempDir;

constexpr std::uint64_t kib = 1024;

std::unique_ptr<UringEngine> open_engine(const UringOptions& options) {
    auto engine = UringEngine::open(options);
    EXPECT_TRUE(engine) << UringEngine::explain_open_failure(engine.error());
    return engine ? std::move(*engine) : nullptr;
}

UringOptions options_for(const TempDir& dir, FlushMode mode = FlushMode::dsync) {
    UringOptions options;
    options.directory_fds = {dir.fd(), -1, -1};
    options.flush_modes = {mode, mode, mode};
    return options;
}

class UringFlushModes : public testing::TestWithParam<FlushMode> {};
INSTANTIATE_TEST_SUITE_P(Both, UringFlushModes,
                         testing::Values(FlushMode::dsync, FlushMode::write_then_flush));

TEST_P(UringFlushModes, DurableWriteIsReadBack) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir, GetParam()));
    const auto file = engine->open(0, "a", OpenMode::create_or_existing);
    ASSERT_TRUE(file);
    Block data = make_blocks(64 * kib, 1);
    EXPECT_EQ(one(*engine, IoKind::write_durable, *file, 8 * kib, data.get(), 64 * kib), 64 * kib);
    EXPECT_EQ(engine->size_bytes(*file), 72 * kib);
    Block back = make_blocks(64 * kib);
    EXPECT_EQ(one(*engine, IoKind::read, *file, 8 * kib, back.get(), 64 * kib), 64 * kib);
    EXPECT_TRUE(same(data.get(), back.get(), 64 * kib));
    EXPECT_EQ(engine->in_flight(), 0U);
}

TEST_P(UringFlushModes, EveryRequestOfAFullQueueIsAnsweredOnce) {
    const TempDir dir;
    UringOptions options = options_for(dir, GetParam());
    options.directory_fds = {dir.fd(), dir.fd(), dir.fd()};
    options.entries = 32;
    auto engine = open_engine(options);
    std::array<FileHandle, 3> files{};
    for (unsigned replica = 0; replica < 3; ++replica) {
        files[replica] =
            *engine->open(replica, "f" + std::to_string(replica), OpenMode::create_or_existing);
    }
    Block data = make_blocks(4 * kib, 3);
    std::multiset<std::uint64_t> seen;
    std::uint64_t queued = 0;
    bool was_full = false;
    IoCompletion done[5];
    while (seen.size() < 400) {
        while (queued < 400) {
            const auto kind = queued % 7 == 3   ? IoKind::flush
                              : queued % 5 == 0 ? IoKind::write
                                                : IoKind::write_durable;
            if (!engine->queue({kind, files[queued % 3], queued * 4 * kib, data.get(), 4 * kib,
                                1000 + queued})) {
                was_full = true;
                break;
            }
            ++queued;
        }
        EXPECT_LE(engine->in_flight(), 32U);
        engine->submit();
        const std::size_t got = engine->reap(done);
        for (std::size_t i = 0; i < got; ++i) {
            EXPECT_GE(done[i].result, 0);
            seen.insert(done[i].cookie);
        }
        if (got == 0) {
            engine->wait(1'000'000'000);
        }
    }
    EXPECT_TRUE(was_full);
    EXPECT_EQ(engine->in_flight(), 0U);
    EXPECT_EQ(std::set<std::uint64_t>(seen.begin(), seen.end()).size(), 400U);
    EXPECT_EQ(engine->reap(done), 0U);
}

// A lane that never waits must see its durable writes finish too.
TEST_P(UringFlushModes, CompletesWhenOnlyReaped) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir, GetParam()));
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 3);
    ASSERT_TRUE(engine->queue({IoKind::write_durable, file, 0, data.get(), 4 * kib, 5}));
    engine->submit();
    IoCompletion done[1];
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    std::size_t got = 0;
    while (got == 0 && std::chrono::steady_clock::now() < deadline) {
        got = engine->reap(done);
    }
    ASSERT_EQ(got, 1U);
    EXPECT_EQ(done[0].result, 4 * kib);
}

TEST(UringEngine, ReadIsShortAtTheEndOfTheFile) {
    const TempDir dir;
    std::ofstream(dir.path() + "/a") << std::string(3 * 4096 + 100, 'x');
    auto engine = open_engine(options_for(dir));
    const auto file = *engine->open(0, "a", OpenMode::read_only);
    Block back = make_blocks(64 * kib);
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, back.get(), 64 * kib), 3 * 4096 + 100);
    EXPECT_EQ(one(*engine, IoKind::read, file, 8 * kib, back.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*engine, IoKind::read, file, 64 * kib, back.get(), 4 * kib), 0);
    EXPECT_EQ(back.get()[0], std::byte{'x'});
}

TEST(UringEngine, ReadOnlyHandleRefusesWrites) {
    const TempDir dir;
    std::ofstream(dir.path() + "/a") << std::string(4096, 'x');
    auto engine = open_engine(options_for(dir));
    const auto file = *engine->open(0, "a", OpenMode::read_only);
    Block data = make_blocks(4 * kib);
    EXPECT_EQ(one(*engine, IoKind::write, file, 0, data.get(), 4 * kib), -EBADF);
}

TEST(UringEngine, OpenSaysWhatIsMissing) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    EXPECT_EQ(engine->open(0, "a", OpenMode::existing).error().code, Errc::not_found);
    EXPECT_EQ(engine->open(1, "a", OpenMode::create_or_existing).error().code, Errc::not_found);
    EXPECT_EQ(engine->open(0, "../a", OpenMode::create_or_existing).error().code,
              Errc::invalid_argument);
    EXPECT_TRUE(engine->open(0, "a", OpenMode::create_or_existing));
    EXPECT_TRUE(engine->open(0, "a", OpenMode::existing));
    EXPECT_TRUE(engine->remove(0, "a"));
    EXPECT_TRUE(engine->remove(0, "a"));
    EXPECT_EQ(engine->open(0, "a", OpenMode::existing).error().code, Errc::not_found);
}

TEST(UringEngine, EntriesOutOfRangeAreRefused) {
    UringOptions options;
    options.entries = 0;
    EXPECT_EQ(UringEngine::open(options).error().code, Errc::invalid_argument);
}

TEST(UringEngine, CloseWaitsForWhatIsInFlight) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(256 * kib, 9);
    ASSERT_TRUE(engine->queue({IoKind::write_durable, file, 0, data.get(), 256 * kib, 1}));
    engine->close(file);
    // The closed handle must not be given out while its write is under way.
    const auto other = *engine->open(0, "b", OpenMode::create_or_existing);
    EXPECT_NE(other, file);
    const auto done = collect(*engine, 1);
    ASSERT_EQ(done.size(), 1U);
    EXPECT_EQ(done[0].result, 256 * kib);
    EXPECT_EQ(std::filesystem::file_size(dir.path() + "/a"), 256 * kib);
    EXPECT_EQ(std::filesystem::file_size(dir.path() + "/b"), 0U);
    EXPECT_EQ(*engine->open(0, "c", OpenMode::create_or_existing), file);
}

TEST(UringEngine, BuffersAreAlignedAndUsable) {
    const TempDir dir;
    UringOptions options = options_for(dir);
    options.huge_pages = true;
    auto engine = open_engine(options);
    std::byte* large = engine->allocate_buffer(5U << 20);
    std::byte* small = engine->allocate_buffer(4096);
    ASSERT_NE(large, nullptr);
    ASSERT_NE(small, nullptr);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large) % (2U << 20), 0U);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(small) % 4096, 0U);
    const Block pattern = make_blocks(1U << 20, 12);
    std::memcpy(large + (3U << 20), pattern.get(), 1U << 20);
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    EXPECT_EQ(one(*engine, IoKind::write_durable, file, 0, large + (3U << 20), 1U << 20), 1 << 20);
    EXPECT_EQ(one(*engine, IoKind::read, file, 0, large, 1U << 20), 1 << 20);
    EXPECT_TRUE(same(large, pattern.get(), 1U << 20));
    EXPECT_EQ(one(*engine, IoKind::read, file, 4096, small, 4096), 4096);
    EXPECT_TRUE(same(small, pattern.get() + 4096, 4096));
    std::byte* late = engine->allocate_buffer(4096);
    EXPECT_EQ(one(*engine, IoKind::read, file, 8192, late, 4096), 4096);
    EXPECT_TRUE(same(late, pattern.get() + 8192, 4096));
}

TEST(UringEngine, AllocateGrowsWithZeroesAndKeepsWhatIsThere) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    Block data = make_blocks(8 * kib, 4);
    ASSERT_EQ(one(*engine, IoKind::write_durable, file, 0, data.get(), 8 * kib), 8 * kib);
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 3U << 20), 3 << 20);
    EXPECT_EQ(engine->size_bytes(file), 3U << 20);
    Block back = make_blocks(16 * kib, 5);
    ASSERT_EQ(one(*engine, IoKind::read, file, 0, back.get(), 16 * kib), 16 * kib);
    EXPECT_TRUE(same(back.get(), data.get(), 8 * kib));
    const Block zeroes = make_blocks(8 * kib);
    EXPECT_TRUE(same(back.get() + 8 * kib, zeroes.get(), 8 * kib));
    struct stat status{};
    ASSERT_EQ(::stat((dir.path() + "/a").c_str(), &status), 0);
    EXPECT_GE(static_cast<std::uint64_t>(status.st_blocks) * 512, 3U << 20);
    // Never shrinks.
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 4096), 4096);
    EXPECT_EQ(engine->size_bytes(file), 3U << 20);
}

TEST(UringEngine, ReserveKeepsSpaceAndNotTheSize) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    EXPECT_EQ(one(*engine, IoKind::reserve, file, 0, nullptr, 3U << 20), 3 << 20);
    EXPECT_EQ(engine->size_bytes(file), 0U);
    struct stat status{};
    ASSERT_EQ(::stat((dir.path() + "/a").c_str(), &status), 0);
    EXPECT_GE(static_cast<std::uint64_t>(status.st_blocks) * 512, 3U << 20);
    EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 3U << 20), 3 << 20);
    EXPECT_EQ(engine->size_bytes(file), 3U << 20);
    EXPECT_EQ(one(*engine, IoKind::reserve, file, 0, nullptr, 1U << 20), 1 << 20);
    EXPECT_EQ(engine->size_bytes(file), 3U << 20);
}

// An allocate that would take an hour at its pace, so that nothing here can come of waiting, and
// that has begun.
void begin_paced(IoEngine& engine, FileHandle file, std::uint64_t cookie) {
    ASSERT_TRUE(engine.queue({.kind = IoKind::allocate,
                              .file = file,
                              .length = 16U << 20,
                              .cookie = cookie,
                              .pace_ns = 3'600'000'000'000}));
    engine.submit();
    for (int turn = 0; turn < 10'000 && *engine.size_bytes(file) == 0; ++turn) {
        engine.wait(1'000'000);
    }
    ASSERT_GT(*engine.size_bytes(file), 0U);
}

// Queues one for `paced`, and behind it a request of `kind` for 1 MiB of `other`.
void queue_behind_paced(IoEngine& engine, FileHandle paced, IoKind kind, FileHandle other) {
    begin_paced(engine, paced, 1);
    ASSERT_TRUE(engine.queue({.kind = kind, .file = other, .length = 1U << 20, .cookie = 2}));
}

// Space is kept between two parts of it, and it ends when it is wanted.
TEST(UringEngine, AnAllocateThatIsPacedHoldsUpNoReserveAndCanBeHurried) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto paced = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto kept = *engine->open(0, "b", OpenMode::create_or_existing);
    queue_behind_paced(*engine, paced, IoKind::reserve, kept);
    const auto first = collect(*engine, 1);
    ASSERT_EQ(first.size(), 1U);
    EXPECT_EQ(first[0].cookie, 2U);
    EXPECT_EQ(first[0].result, 1 << 20);
    EXPECT_LT(*engine->size_bytes(paced), 16U << 20);
    engine->hurry_allocates();
    const auto second = collect(*engine, 1);
    ASSERT_EQ(second.size(), 1U);
    EXPECT_EQ(second[0].cookie, 1U);
    EXPECT_EQ(second[0].result, 16 << 20);
    // And one that is given up ends at once, at its old size.
    begin_paced(*engine, kept, 3);
    engine.reset();
    struct stat status{};
    ASSERT_EQ(::stat((dir.path() + "/b").c_str(), &status), 0);
    EXPECT_EQ(status.st_size, 0);
}

// A replica that comes back waits for its containers; what is made ahead for later doesn't delay
// it.
TEST(UringEngine, AnAllocateWithoutAPaceDoesNotWaitForPacedOnes) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto paced = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto wanted = *engine->open(0, "b", OpenMode::create_or_existing);
    queue_behind_paced(*engine, paced, IoKind::allocate, wanted);
    const auto done = collect(*engine, 2);
    ASSERT_EQ(done.size(), 2U);
    EXPECT_EQ(done[0].cookie, 1U);
    EXPECT_EQ(done[0].result, 16 << 20);
    EXPECT_EQ(done[1].cookie, 2U);
    EXPECT_EQ(done[1].result, 1 << 20);
}

TEST(UringEngine, AllocationsOverlapWithOtherRequests) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    const auto grown = *engine->open(0, "a", OpenMode::create_or_existing);
    const auto also = *engine->open(0, "b", OpenMode::create_or_existing);
    const auto other = *engine->open(0, "c", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 4);
    ASSERT_TRUE(engine->queue({IoKind::allocate, grown, 0, nullptr, 16U << 20, 1}));
    ASSERT_TRUE(engine->queue({IoKind::allocate, also, 0, nullptr, 1U << 20, 2}));
    ASSERT_TRUE(engine->queue({IoKind::write_durable, other, 0, data.get(), 4 * kib, 3}));
    EXPECT_EQ(engine->in_flight(), 3U);
    const auto done = collect(*engine, 3);
    ASSERT_EQ(done.size(), 3U);
    for (const auto& completion : done) {
        EXPECT_GT(completion.result, 0);
    }
    EXPECT_EQ(engine->size_bytes(grown), 16U << 20);
    EXPECT_EQ(engine->in_flight(), 0U);
}

TEST(UringEngine, EngineClosedDuringAnAllocationLeavesNothingBehind) {
    const TempDir dir;
    {
        auto engine = open_engine(options_for(dir));
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        ASSERT_TRUE(engine->queue({IoKind::allocate, file, 0, nullptr, 2ULL << 30, 1}));
        engine->submit();
        // Once it has begun.
        for (int turn = 0; turn < 1000 && *engine->size_bytes(file) == 0; ++turn) {
            engine->wait(1'000'000);
        }
    }
    EXPECT_EQ(std::filesystem::file_size(dir.path() + "/a"), 0U);
}

TEST(UringEngine, FullDiskIsReportedAndTheFileKeepsItsSize) {
    const TempDir dir;
    // A mount namespace of our own: the mount ends with this process, whatever happens.
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("none", dir.path().c_str(), "tmpfs", 0, "size=4m") != 0) {
        GTEST_SKIP() << "needs the right to mount";
    }
    const int fd = ::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    {
        UringOptions options;
        options.directory_fds = {fd, -1, -1};
        auto engine = open_engine(options);
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 1U << 20), 1 << 20);
        EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 8U << 20), -ENOSPC);
        EXPECT_EQ(engine->size_bytes(file), 1U << 20);
        EXPECT_EQ(one(*engine, IoKind::allocate, file, 0, nullptr, 2U << 20), 2 << 20);
        Block data = make_blocks(4U << 20, 1);
        EXPECT_EQ(one(*engine, IoKind::write_durable, file, 2U << 20, data.get(), 4U << 20),
                  -ENOSPC);
    }
    ::close(fd);
    ::umount2(dir.path().c_str(), MNT_DETACH);
}

TEST(UringEngine, WaitEndsByItsTimeoutOrTheWakeDescriptor) {
    const TempDir dir;
    UringOptions options = options_for(dir);
    options.wake_fd = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    auto engine = open_engine(options);
    using Clock = std::chrono::steady_clock;
    auto start = Clock::now();
    engine->wait(30'000'000);
    EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(29));
    for (int round = 0; round < 3; ++round) {
        start = Clock::now();
        std::thread waker([&] {
            std::this_thread::sleep_for(std::chrono::milliseconds(20));
            ::eventfd_write(options.wake_fd, 1);
        });
        engine->wait(10'000'000'000);
        const auto took = Clock::now() - start;
        waker.join();
        EXPECT_LT(took, std::chrono::seconds(5));
        EXPECT_GE(took, std::chrono::milliseconds(15));
        eventfd_t value = 0;
        EXPECT_EQ(::eventfd_read(options.wake_fd, &value), 0);
    }
    start = Clock::now();
    engine->wait(20'000'000);
    EXPECT_GE(Clock::now() - start, std::chrono::milliseconds(19));
    engine.reset();
    ::close(options.wake_fd);
}

TEST(UringEngine, OpenedHereUsedOnAnotherThread) {
    const TempDir dir;
    auto engine = open_engine(options_for(dir));
    std::byte* buffer = engine->allocate_buffer(4U << 20);
    const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
    std::int64_t result = 0;
    std::thread lane([&] {
        result = one(*engine, IoKind::write_durable, file, 0, buffer, 1U << 20);
        // Left in flight on purpose: the end of the thread and of the engine must cope.
        EXPECT_TRUE(engine->queue({IoKind::write_durable, file, 0, buffer, 1U << 20, 9}));
        engine->submit();
    });
    lane.join();
    EXPECT_EQ(result, 1 << 20);
    engine.reset();
}

// A character device takes the write and knows no fdatasync: a flush that fails.
TEST(UringEngine, FailedFlushFailsItsWritesAndEveryLaterOneOfTheReplica) {
    const TempDir dir;
    const TempDir other;
    if (::mknodat(dir.fd(), "null", S_IFCHR | 0600, makedev(1, 3)) != 0) {
        GTEST_SKIP() << "needs the right to make a device node";
    }
    UringOptions options = options_for(dir, FlushMode::write_then_flush);
    options.directory_fds = {dir.fd(), other.fd(), -1};
    auto engine = open_engine(options);
    const auto bad = engine->open(0, "null", OpenMode::existing);
    if (!bad) {
        GTEST_SKIP() << "device nodes cannot be opened on this file system";
    }
    const auto good = *engine->open(0, "good", OpenMode::create_or_existing);
    const auto elsewhere = *engine->open(1, "good", OpenMode::create_or_existing);
    Block data = make_blocks(4 * kib, 1);
    for (std::uint64_t cookie = 0; cookie < 5; ++cookie) {
        ASSERT_TRUE(engine->queue(
            {IoKind::write_durable, *bad, cookie * 4 * kib, data.get(), 4 * kib, cookie}));
    }
    const auto failed = collect(*engine, 5);
    ASSERT_EQ(failed.size(), 5U);
    for (const auto& completion : failed) {
        EXPECT_EQ(completion.result, -EINVAL);
    }
    EXPECT_EQ(one(*engine, IoKind::write_durable, good, 0, data.get(), 4 * kib), -EINVAL);
    EXPECT_EQ(one(*engine, IoKind::flush, good, 0, nullptr, 0), -EINVAL);
    EXPECT_EQ(one(*engine, IoKind::read, *bad, 0, data.get(), 4 * kib), 0);
    EXPECT_EQ(one(*engine, IoKind::write_durable, elsewhere, 0, data.get(), 4 * kib), 4 * kib);
    // A directory put in its place starts anew; the files of the old one do not, and harm it no
    // more.
    engine->set_directory(0, dir.fd(), FlushMode::write_then_flush);
    const auto again = *engine->open(0, "good", OpenMode::existing);
    EXPECT_EQ(one(*engine, IoKind::write_durable, again, 0, data.get(), 4 * kib), 4 * kib);
    EXPECT_EQ(one(*engine, IoKind::write_durable, *bad, 0, data.get(), 4 * kib), -EINVAL);
    EXPECT_EQ(one(*engine, IoKind::write_durable, again, 0, data.get(), 4 * kib), 4 * kib);
}

// A file size limit cuts the write short and then refuses the rest.
TEST(UringEngine, WriteThatCannotBeFinishedIsAnError) {
    const TempDir dir;
    const pid_t child = ::fork();
    if (child == 0) {
        ::signal(SIGXFSZ, SIG_IGN);
        const rlimit limit{64 * kib, 64 * kib};
        ::setrlimit(RLIMIT_FSIZE, &limit);
        auto engine = open_engine(options_for(dir));
        const auto file = engine->open(0, "a", OpenMode::create_or_existing);
        Block data = make_blocks(128 * kib, 1);
        const std::int64_t result =
            one(*engine, IoKind::write_durable, *file, 0, data.get(), 128 * kib);
        ::_exit(result == -EFBIG ? 0 : 1);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

TEST(UringEngine, RegisteredLockOutlivesItsDescriptor) {
    const TempDir dir;
    auto directory = ReplicaDirectory::open(dir.path() + "/r", ReplicaDirectory::Create::yes);
    ASSERT_TRUE(directory);
    UringOptions options;
    options.lock_fds[0] = (*directory)->lock_fd();
    auto engine = open_engine(options);
    directory->reset();
    EXPECT_EQ(ReplicaDirectory::open(dir.path() + "/r", ReplicaDirectory::Create::no).error().code,
              Errc::locked);
    engine.reset();
    // The kernel takes the ring down in the background.
    Errc last = Errc::locked;
    for (int turn = 0; turn < 500 && last == Errc::locked; ++turn) {
        const auto again = ReplicaDirectory::open(dir.path() + "/r", ReplicaDirectory::Create::no);
        last = again ? Errc::ok : again.error().code;
        ::usleep(10'000);
    }
    EXPECT_EQ(last, Errc::ok);
}

// LOG-PROTOCOL 2: whoever gets the lock finds a file that nobody writes to any more.
TEST(UringEngine, LockOfAKilledProcessIsFreeOnlyAfterItsLastWrite) {
    constexpr std::uint64_t piece = 256 * kib;
    const TempDir dir;
    const std::string path = dir.path() + "/r";
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        auto directory = ReplicaDirectory::open(path, ReplicaDirectory::Create::yes);
        UringOptions options;
        options.directory_fds = {(*directory)->fd(), -1, -1};
        options.lock_fds[0] = (*directory)->lock_fd();
        auto engine = open_engine(options);
        const auto file = *engine->open(0, "a", OpenMode::create_or_existing);
        Block data = make_blocks(piece, 1);
        for (std::uint64_t i = 0; i < 128; ++i) {
            if (!engine->queue({IoKind::write_durable, file, i * piece, data.get(), piece, i})) {
                ::_exit(1);
            }
        }
        engine->submit();
        const char answer = 'y';
        if (::write(ready[1], &answer, 1) == 1) {
            ::pause();
        }
        ::_exit(1);
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    ::kill(child, SIGKILL);
    bool locked = false;
    for (int turn = 0; turn < 20'000 && !locked; ++turn) {
        locked = ReplicaDirectory::open(path, ReplicaDirectory::Create::no).has_value();
        ::usleep(locked ? 0 : 1'000);
    }
    ASSERT_TRUE(locked);
    const auto written = [&] {
        std::ifstream file(path + "/a", std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string at_once = written();
    ::usleep(300'000);
    EXPECT_TRUE(at_once == written());
    ::waitpid(child, nullptr, 0);
    ::close(ready[0]);
    ::close(ready[1]);
}

}  // namespace
}  // namespace penstock
