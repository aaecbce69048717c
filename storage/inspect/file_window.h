// A piece of one file in memory, moved along as a reader walks through the file.
//
// Runs on: the thread of its engine.
// Allocates: its buffer, from the engine, once.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "storage/base/bytes.h"
#include "storage/base/result.h"
#include "storage/io/engine.h"

namespace penstock {

class FileWindow {
public:
    // `capacity_bytes` bounds what view() can show at once.
    FileWindow(IoEngine& engine, std::size_t capacity_bytes) noexcept
        : engine_(engine), capacity_(align_up(capacity_bytes, block_bytes)) {}
    ~FileWindow() { close(); }
    FileWindow(const FileWindow&) = delete;
    FileWindow& operator=(const FileWindow&) = delete;

    // Opens a file read-only. Errors: not_found, io_failed, no_memory_room.
    [[nodiscard]] Status open(unsigned replica, std::string_view name);
    void close() noexcept;
    [[nodiscard]] bool is_open() const noexcept { return file_ != no_file; }
    [[nodiscard]] std::uint64_t size_bytes() const noexcept { return size_; }

    // The bytes from `at` on that are in the window; load() brings more.
    [[nodiscard]] Bytes view(std::uint64_t at) const noexcept;
    // Whether `need` bytes from `at` on, or all to the file's end, are in the window.
    [[nodiscard]] bool has(std::uint64_t at, std::uint64_t need) const noexcept;
    [[nodiscard]] const Error& error() const noexcept { return error_; }

    // Brings `need` bytes from `at` on into each open window, reading `piece_bytes` ahead, all at
    // once. What a file lacks or cannot give stays absent: see error().
    static void load(IoEngine& engine, std::span<FileWindow* const> windows, std::uint64_t at,
                     std::uint64_t need, std::uint64_t piece_bytes, std::uint64_t limit);
    Bytes load(std::uint64_t at, std::uint64_t need, std::uint64_t piece_bytes);

private:
    IoEngine& engine_;
    std::size_t capacity_;
    std::byte* buffer_ = nullptr;
    FileHandle file_ = no_file;
    std::uint64_t size_ = 0;
    std::uint64_t from_ = 0;
    std::uint64_t have_ = 0;
    std::uint64_t failed_until_ = 0;  // what could not be read is not tried again at once
    Error error_;
};

}  // namespace penstock
