#include "storage/io/sim_disk.h"

#include <algorithm>
#include <cstring>

namespace penstock {

namespace {

constexpr std::size_t sector_bytes = 512;

SimBlockPtr make_block(Bytes from) {
    auto block = std::make_shared<SimBlock>();
    std::memcpy(block->data(), from.data(), block_bytes);
    return block;
}

// Each sector is the old one or the new one.
SimBlockPtr tear(const SimBlockPtr& old_content, const SimBlock& new_content, SimRandom& random) {
    auto torn = std::make_shared<SimBlock>(old_content ? *old_content : SimBlock{});
    for (std::size_t at = 0; at < block_bytes; at += sector_bytes) {
        if (random.chance(500'000)) {
            std::memcpy(torn->data() + at, new_content.data() + at, sector_bytes);
        }
    }
    return torn;
}

}  // namespace

void SimImage::resize(std::uint64_t size_bytes) {
    if (size_bytes < size_bytes_) {
        blocks_.resize((size_bytes + block_bytes - 1) / block_bytes);
        const std::uint64_t tail = size_bytes % block_bytes;
        // What lay behind the new end must not come back when the file grows again.
        if (tail != 0 && blocks_.back()) {
            auto cut = std::make_shared<SimBlock>(*blocks_.back());
            std::fill(cut->begin() + static_cast<std::ptrdiff_t>(tail), cut->end(), std::byte{});
            blocks_.back() = std::move(cut);
        }
    }
    size_bytes_ = size_bytes;
}

void SimImage::set(std::uint64_t block, SimBlockPtr content) {
    if (blocks_.size() <= block) {
        blocks_.resize(block + 1);
    }
    blocks_[block] = std::move(content);
    size_bytes_ = std::max(size_bytes_, (block + 1) * block_bytes);
}

SimBlockPtr SimImage::get(std::uint64_t block) const noexcept {
    return block < blocks_.size() ? blocks_[block] : nullptr;
}

std::size_t SimImage::read(std::uint64_t offset, MutableBytes into) const noexcept {
    if (offset >= size_bytes_) {
        return 0;
    }
    const std::size_t total = std::min<std::uint64_t>(into.size(), size_bytes_ - offset);
    std::size_t done = 0;
    while (done < total) {
        const std::uint64_t at = offset + done;
        const std::uint64_t inside = at % block_bytes;
        const std::size_t part = std::min<std::uint64_t>(total - done, block_bytes - inside);
        const std::uint64_t block = at / block_bytes;
        if (block < blocks_.size() && blocks_[block]) {
            std::memcpy(into.data() + done, blocks_[block]->data() + inside, part);
        } else {
            std::memset(into.data() + done, 0, part);
        }
        done += part;
    }
    return total;
}

std::size_t SimImage::overwrite(std::uint64_t offset, Bytes from) {
    if (offset >= size_bytes_) {
        return 0;
    }
    const std::size_t total = std::min<std::uint64_t>(from.size(), size_bytes_ - offset);
    const std::uint64_t size_before = size_bytes_;
    std::size_t done = 0;
    while (done < total) {
        const std::uint64_t at = offset + done;
        const std::uint64_t inside = at % block_bytes;
        const std::size_t part = std::min<std::uint64_t>(total - done, block_bytes - inside);
        const SimBlockPtr old_content = get(at / block_bytes);
        auto block = std::make_shared<SimBlock>(old_content ? *old_content : SimBlock{});
        std::memcpy(block->data() + inside, from.data() + done, part);
        set(at / block_bytes, std::move(block));
        done += part;
    }
    size_bytes_ = size_before;
    return total;
}

void SimFile::write_unflushed(std::uint64_t offset, Bytes data, std::uint64_t landing) {
    for (std::size_t at = 0; at < data.size(); at += block_bytes) {
        const std::uint64_t block = (offset + at) / block_bytes;
        SimBlockPtr content = make_block(data.subspan(at, block_bytes));
        unflushed[block].push_back({landing, content});
        visible.set(block, std::move(content));
    }
}

void SimFile::write_durable(std::uint64_t offset, Bytes data) {
    for (std::size_t at = 0; at < data.size(); at += block_bytes) {
        const std::uint64_t block = (offset + at) / block_bytes;
        SimBlockPtr content = make_block(data.subspan(at, block_bytes));
        unflushed.erase(block);
        durable.set(block, content);
        visible.set(block, std::move(content));
    }
}

void SimFile::flush(std::uint64_t up_to_landing) {
    for (auto entry = unflushed.begin(); entry != unflushed.end();) {
        auto& versions = entry->second;
        const auto newest = std::find_if(versions.rbegin(), versions.rend(),
                                         [&](const auto& v) { return v.landing <= up_to_landing; });
        if (newest != versions.rend()) {
            durable.set(entry->first, newest->content);
            versions.erase(versions.begin(), newest.base());
        }
        entry = versions.empty() ? unflushed.erase(entry) : std::next(entry);
    }
}

void SimFile::fail_flush(std::uint64_t up_to_landing) {
    for (auto& [block, versions] : unflushed) {
        for (auto& version : versions) {
            if (version.landing <= up_to_landing) {
                version.landing = never_flushed;
            }
        }
    }
}

void SimFile::lose_power(SimRandom& random, std::uint32_t survives_per_million,
                         std::uint32_t tears_per_million) {
    for (const auto& [block, versions] : unflushed) {
        for (const auto& version : versions) {
            if (random.chance(survives_per_million)) {
                durable.set(block, version.content);
            } else if (random.chance(tears_per_million)) {
                durable.set(block, tear(durable.get(block), *version.content, random));
            }
        }
    }
    unflushed.clear();
    visible = durable;
}

void SimFile::settle() {
    unflushed.clear();
    durable = visible;
}

std::uint64_t SimFile::held_bytes() const noexcept {
    return std::max(align_up(visible.size_bytes(), block_bytes), reserved_bytes);
}

std::uint64_t SimDirectory::used_bytes() const noexcept {
    std::uint64_t used = 0;
    for (const auto& [name, file] : files) {
        used += file->held_bytes();
    }
    return used;
}

}  // namespace penstock
