// How an operation writes its answer, whatever the encoding.
//
// Runs on: one control thread per writer.
#pragma once

#include <charconv>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "control/kinesis/dialect.h"
#include "control/kinesis/input/base64.h"
#include "storage/base/bytes.h"

namespace penstock::kinesis {

class ReplyWriter {
public:
    virtual ~ReplyWriter() = default;
    virtual void begin_object() = 0;
    virtual void end_object() = 0;
    virtual void begin_array() = 0;
    virtual void end_array() = 0;
    // Keys are ours and need no escaping.
    virtual void key(std::string_view name) = 0;
    virtual void text(std::string_view value) = 0;
    // Text that is known to need no escaping: ids, numbers as text.
    virtual void plain(std::string_view value) = 0;
    virtual void number(std::int64_t value) = 0;
    virtual void boolean(bool value) = 0;
    virtual void blob(Bytes value) = 0;
    virtual void timestamp_ms(std::int64_t value) = 0;
};

void append_json_string(std::string& out, std::string_view value);
// Milliseconds as seconds with a fraction, none when it is 0.
void append_json_seconds(std::string& out, std::int64_t wall_ms);

// Puts the pieces, one behind the other, at the end of `out`.
template <typename... Pieces>
void append_pieces(std::string& out, Pieces... pieces) {
    const std::size_t before = out.size();
    const std::size_t after = before + (pieces.size() + ... + 0);
    // The size handed to the function is not used: libstdc++ 12.2 passes the capacity instead when
    // the string grows.
    out.resize_and_overwrite(after, [&](char* data, std::size_t) {
        char* to = data + before;
        const auto put = [&to](std::string_view piece) {
            if (!piece.empty()) {
                std::memcpy(to, piece.data(), piece.size());
                to += piece.size();
            }
        };
        (put(pieces), ...);
        return after;
    });
}

// Appends to a string: {"key":"value"}, blobs as base64, times as seconds with a fraction.
class JsonWriter final : public ReplyWriter {
public:
    explicit JsonWriter(std::string& out) : out_(out) {}
    void begin_object() override { open("{"); }
    void end_object() override { close("}"); }
    void begin_array() override { open("["); }
    void end_array() override { close("]"); }
    void key(std::string_view name) override {
        append_pieces(out_, comma(), std::string_view("\""), name, std::string_view("\":"));
        needs_comma_ = false;
    }
    void text(std::string_view value) override;
    void plain(std::string_view value) override {
        append_pieces(out_, comma(), std::string_view("\""), value, std::string_view("\""));
    }
    void number(std::int64_t value) override;
    void boolean(bool value) override {
        append_pieces(out_, comma(), std::string_view(value ? "true" : "false"));
    }
    void blob(Bytes value) override {
        append_pieces(out_, comma(), std::string_view("\""));
        base64_append(out_, value);
        out_.push_back('"');
    }
    void timestamp_ms(std::int64_t value) override { append_json_seconds(begin_raw(), value); }

    // For one value that the caller appends as text.
    [[nodiscard]] std::string& begin_raw() {
        if (needs_comma_) {
            out_.push_back(',');
        }
        needs_comma_ = true;
        return out_;
    }

private:
    // What stands before the next value or key.
    std::string_view comma() {
        const bool needed = needs_comma_;
        needs_comma_ = true;
        return std::string_view(",").substr(0, needed ? 1 : 0);
    }
    void open(std::string_view bracket) {
        append_pieces(out_, comma(), bracket);
        needs_comma_ = false;
    }
    void close(std::string_view bracket) {
        append_pieces(out_, bracket);
        needs_comma_ = true;
    }
    std::string& out_;
    bool needs_comma_ = false;
};

// Appends CBOR to a string: maps and arrays end with a break, blobs are byte strings, times whole
// milliseconds under tag 1, as Kinesis answers.
class CborWriter final : public ReplyWriter {
public:
    explicit CborWriter(std::string& out) : out_(out) {}
    void begin_object() override { out_.push_back('\xbf'); }
    void end_object() override { out_.push_back('\xff'); }
    void begin_array() override { out_.push_back('\x9f'); }
    void end_array() override { out_.push_back('\xff'); }
    void key(std::string_view name) override { string(text_kind, name); }
    void text(std::string_view value) override { string(text_kind, value); }
    void plain(std::string_view value) override { string(text_kind, value); }
    void number(std::int64_t value) override {
        const bool negative = value < 0;
        put_head(negative ? negative_kind : positive_kind,
                 static_cast<std::uint64_t>(negative ? -1 - value : value), {});
    }
    void boolean(bool value) override { out_.push_back(value ? '\xf5' : '\xf4'); }
    void blob(Bytes value) override { string(bytes_kind, as_text(value)); }
    void timestamp_ms(std::int64_t value) override {
        out_.push_back('\xc1');
        number(value);
    }

private:
    static constexpr unsigned positive_kind = 0;
    static constexpr unsigned negative_kind = 1;
    static constexpr unsigned bytes_kind = 2;
    static constexpr unsigned text_kind = 3;

    void string(unsigned kind, std::string_view value) { put_head(kind, value.size(), value); }
    // The head of an item in its shortest form, and what follows it.
    void put_head(unsigned kind, std::uint64_t number, std::string_view rest);

    std::string& out_;
};

// Calls `write` with a writer of the dialect, by its own type.
template <typename Write>
auto with_writer(Dialect dialect, std::string& out, const Write& write) {
    if (dialect == Dialect::cbor) {
        CborWriter writer(out);
        return write(writer);
    }
    JsonWriter writer(out);
    return write(writer);
}

}  // namespace penstock::kinesis
