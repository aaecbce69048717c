// An engine whose drives are infinitely fast: every request has succeeded when reap() is called
// next. For benchmarks of what the storage layer itself costs. Reads give zeroes, so a set on it is
// always new.
//
// Runs on: one thread.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "storage/io/engine.h"

namespace penstock::bench {

class NullEngine final : public IoEngine {
public:
    NullEngine() { done_.reserve(4096); }

    [[nodiscard]] Result<FileHandle> open(unsigned replica, std::string_view name,
                                          OpenMode mode) override {
        const std::string key = std::to_string(replica) + "/" + std::string(name);
        const auto found = names_.find(key);
        if (found != names_.end()) {
            return found->second;
        }
        if (mode != OpenMode::create_or_existing) {
            return fail(Errc::not_found);
        }
        const FileHandle file{static_cast<std::uint32_t>(sizes_.size())};
        sizes_.push_back(0);
        names_.emplace(key, file);
        return file;
    }
    void close(FileHandle) override {}
    [[nodiscard]] Result<std::uint64_t> size_bytes(FileHandle file) override {
        return size_of(file);
    }
    [[nodiscard]] Status remove(unsigned replica, std::string_view name) override {
        names_.erase(std::to_string(replica) + "/" + std::string(name));
        return {};
    }
    [[nodiscard]] bool queue(const IoRequest& request) noexcept override {
        std::int64_t result = static_cast<std::int64_t>(request.length);
        std::uint64_t& size = size_of(request.file);
        const std::uint64_t end = request.offset + request.length;
        if (request.kind == IoKind::flush) {
            result = 0;
        } else if (request.kind == IoKind::read) {
            const std::uint64_t there = std::min(end, size);
            const std::uint64_t bytes = there > request.offset ? there - request.offset : 0;
            std::memset(request.data, 0, bytes);
            result = static_cast<std::int64_t>(bytes);
        } else if (request.kind != IoKind::reserve) {
            size = std::max(size, end);
            written_bytes_ += request.length;
        }
        done_.push_back({request.cookie, result});
        return true;
    }
    void submit() noexcept override {}
    [[nodiscard]] std::size_t reap(std::span<IoCompletion> out) noexcept override {
        const std::size_t count = std::min(out.size(), done_.size());
        std::copy_n(done_.begin(), count, out.begin());
        done_.erase(done_.begin(), done_.begin() + static_cast<std::ptrdiff_t>(count));
        return count;
    }
    void wait(std::uint64_t) noexcept override {}
    [[nodiscard]] std::size_t in_flight() const noexcept override { return done_.size(); }
    [[nodiscard]] std::byte* allocate_buffer(std::size_t bytes) override {
        constexpr std::size_t page = std::size_t{2} << 20;
        memory_.emplace_back(
            static_cast<std::byte*>(std::aligned_alloc(page, align_up(bytes, page))));
        if (memory_.back() != nullptr) {
            std::memset(memory_.back().get(), 0, bytes);
        }
        return memory_.back().get();
    }
    [[nodiscard]] std::uint64_t written_bytes() const noexcept { return written_bytes_; }

private:
    struct Free {
        void operator()(std::byte* memory) const noexcept { std::free(memory); }
    };
    [[nodiscard]] std::uint64_t& size_of(FileHandle file) noexcept {
        return sizes_[static_cast<std::uint32_t>(file)];
    }
    std::unordered_map<std::string, FileHandle> names_;
    std::vector<std::uint64_t> sizes_;
    std::vector<IoCompletion> done_;
    std::vector<std::unique_ptr<std::byte, Free>> memory_;
    std::uint64_t written_bytes_ = 0;
};

}  // namespace penstock::bench
