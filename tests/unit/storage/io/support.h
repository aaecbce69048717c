// What the tests of storage/io share: directories that go away, and patterns one can recognise.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/io/engine.h"
#include "storage/io/sim_random.h"

namespace penstock::test {

class TempDir {
public:
    TempDir() {
        const char* base = std::getenv("TMPDIR");
        path_ = std::string(base != nullptr ? base : "/tmp") + "/penstock-io-XXXXXX";
        if (::mkdtemp(path_.data()) == nullptr) {
            std::abort();
        }
        fd_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    }
    TempDir(const TempDir&) = delete;
    TempDir& operator=(const TempDir&) = delete;
    ~TempDir() {
        ::close(fd_);
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    [[nodiscard]] int fd() const { return fd_; }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
    int fd_ = -1;
};

struct FreeDeleter {
    void operator()(void* memory) const noexcept { std::free(memory); }
};
using Block = std::unique_ptr<std::byte, FreeDeleter>;

inline Block make_blocks(std::size_t bytes, std::uint64_t pattern = 0) {
    Block block(static_cast<std::byte*>(std::aligned_alloc(block_bytes, bytes)));
    SimRandom random(pattern);
    for (std::size_t at = 0; at < bytes; at += 8) {
        store(block.get() + at, pattern == 0 ? 0 : random.next());
    }
    return block;
}

inline bool same(const std::byte* a, const std::byte* b, std::size_t bytes) {
    return std::memcmp(a, b, bytes) == 0;
}

// The result of one request, waiting for it; others must not be in flight.
inline std::int64_t one(IoEngine& engine, IoKind kind, FileHandle file, std::uint64_t offset,
                        std::byte* data, std::uint64_t length) {
    if (!engine.queue({kind, file, offset, data, length, 77})) {
        return INT64_MIN;
    }
    IoCompletion done[2];
    std::size_t count = 0;
    for (int turn = 0; turn < 100 && count == 0; ++turn) {
        engine.wait(100'000'000);
        count = engine.reap(done);
    }
    EXPECT_EQ(count, 1U);
    EXPECT_EQ(done[0].cookie, 77U);
    return count == 1 ? done[0].result : INT64_MIN + 1;
}

// Waits for `count` completions.
inline std::vector<IoCompletion> collect(IoEngine& engine, std::size_t count) {
    std::vector<IoCompletion> all;
    for (int turn = 0; turn < 1000 && all.size() < count; ++turn) {
        engine.wait(100'000'000);
        IoCompletion some[3];
        while (const std::size_t got = engine.reap(some)) {
            all.insert(all.end(), some, some + got);
        }
    }
    return all;
}

}  // namespace penstock::test
