// How an operation writes its answer, whatever the encoding; JSON 1.1 is the one there is.
//
// Runs on: one control thread per writer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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

// Appends to a string: {"key":"value"}, blobs as base64, times as seconds with a fraction.
class JsonWriter final : public ReplyWriter {
public:
    explicit JsonWriter(std::string& out) : out_(out) {}
    void begin_object() override;
    void end_object() override;
    void begin_array() override;
    void end_array() override;
    void key(std::string_view name) override;
    void text(std::string_view value) override;
    void plain(std::string_view value) override;
    void number(std::int64_t value) override;
    void boolean(bool value) override;
    void blob(Bytes value) override;
    void timestamp_ms(std::int64_t value) override;

private:
    void comma() {
        if (needs_comma_) {
            out_.push_back(',');
        }
        needs_comma_ = true;
    }
    std::string& out_;
    bool needs_comma_ = false;
};

void append_json_string(std::string& out, std::string_view value);

}  // namespace penstock::kinesis
