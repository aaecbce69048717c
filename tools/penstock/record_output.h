// Records as text on a descriptor.
//
// A descriptor that takes nothing is waited for, and stop() ends the waiting.
//
// Runs on: one thread at a time; stop() from any.
#pragma once

#include <atomic>
#include <span>
#include <string>
#include <string_view>

#include "storage/base/descriptor.h"
#include "tools/consumer/delivery.h"
#include "tools/penstock/consume_command.h"

namespace penstock {

// One line of JSON with its line feed, as REST has records: data as text where it is UTF-8, else
// `data_base64`.
void append_json_record(std::string& to, std::string_view shard, const consumer::Record& record);

class RecordOutput final : public consumer::RecordSink {
public:
    RecordOutput(int out, ConsumeFormat format);

    [[nodiscard]] std::size_t write(std::string_view shard,
                                    std::span<const consumer::Record> records) override;
    [[nodiscard]] std::string why() const override { return why_; }
    void stop() noexcept;

private:
    // How much of it was written.
    [[nodiscard]] std::size_t put(std::string_view text);
    [[nodiscard]] bool wait_for_room();

    const int out_;
    const ConsumeFormat format_;
    bool is_pipe_ = false;  // or a terminal: may take a part only, or nothing for long
    Descriptor stop_;
    std::atomic<bool> stopped_{false};
    std::string why_;
    std::string text_;
};

}  // namespace penstock
