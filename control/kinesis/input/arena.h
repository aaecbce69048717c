// Memory of one request: grows in blocks, freed as a whole, kept for the next request.
//
// Runs on: one control thread per arena.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

namespace penstock::kinesis {

class Arena {
public:
    // `size` bytes that stay where they are until clear().
    [[nodiscard]] std::byte* take(std::size_t size) {
        if (size > left_) {
            // The rest of the last block is given up: blocks are made large enough for what a
            // request is known to need.
            const std::size_t block = std::max(size, block_bytes_min);
            blocks_.push_back({std::make_unique_for_overwrite<std::byte[]>(block), block});
            next_ = blocks_.back().memory.get();
            left_ = block;
        }
        std::byte* taken = next_;
        next_ += size;
        left_ -= size;
        return taken;
    }
    // Gives back the end of what the last take() gave.
    void give_back(std::size_t size) {
        next_ -= size;
        left_ += size;
    }
    [[nodiscard]] std::string_view copy(std::string_view text) {
        auto* to = reinterpret_cast<char*>(take(text.size()));
        if (!text.empty()) {
            std::memcpy(to, text.data(), text.size());
        }
        return {to, text.size()};
    }
    // Forgets everything; keeps the largest block when it is no larger than `keep_bytes_max`.
    void clear(std::size_t keep_bytes_max) {
        const auto largest =
            std::max_element(blocks_.begin(), blocks_.end(),
                             [](const Block& a, const Block& b) { return a.size < b.size; });
        if (largest == blocks_.end() || largest->size > keep_bytes_max) {
            blocks_.clear();
            next_ = nullptr;
            left_ = 0;
            return;
        }
        std::swap(blocks_.front(), *largest);
        blocks_.resize(1);
        next_ = blocks_.front().memory.get();
        left_ = blocks_.front().size;
    }

private:
    static constexpr std::size_t block_bytes_min = 4096;
    struct Block {
        std::unique_ptr<std::byte[]> memory;
        std::size_t size = 0;
    };
    std::vector<Block> blocks_;
    std::byte* next_ = nullptr;
    std::size_t left_ = 0;
};

}  // namespace penstock::kinesis
