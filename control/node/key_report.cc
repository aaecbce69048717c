#include "control/node/key_report.h"

#include <map>

#include "control/keys/key_store.h"
#include "storage/base/counted.h"

namespace penstock {

namespace {

// A line of a log should stay one that can be read; the metric has the count.
constexpr std::size_t streams_named_max = 20;
constexpr std::int64_t hour_ms = 3'600'000;
// Records go some time after they have expired.
constexpr std::int64_t expired_hours = 24;

const char* what_ails(keys::KeyFault fault) noexcept {
    switch (fault) {
        case keys::KeyFault::not_found:
            return " is not in the file";
        case keys::KeyFault::disabled:
            return " is disabled";
        case keys::KeyFault::invalid_state:
            return " has another secret in the file";
        case keys::KeyFault::opt_in:
        case keys::KeyFault::none:
        case keys::KeyFault::count_:
            break;
    }
    return "";
}

// "orders (key A is not in the file, key B is disabled)", or nothing.
std::string keys_of(const kinesis::StreamView& view, std::int64_t now_ms) {
    const kinesis::Stream& stream = view.stream();
    const std::int64_t expired_ms =
        now_ms - (std::int64_t{stream.retention_hours} + expired_hours) * hour_ms;
    std::map<std::string, keys::KeyFault> faults;
    for (const keys::DataKey& key : stream.encryption.data_keys) {
        const auto* opened = view.crypt() == nullptr ? nullptr : view.crypt()->find(key.generation);
        const bool has_records = key.ended_ms == 0 || key.ended_ms > expired_ms;
        if (opened != nullptr && opened->fault != keys::KeyFault::none && has_records) {
            faults.emplace(opened->key_id, opened->fault);
        }
    }
    std::string text;
    for (const auto& [id, fault] : faults) {
        text += (text.empty() ? "" : ", ") + ("key " + id) + what_ails(fault);
    }
    return text.empty() ? text : stream.name + " (" + text + ")";
}

}  // namespace

std::string unusable_keys(const kinesis::StreamTable& streams, const std::string& keys_file,
                          std::int64_t now_ms) {
    std::string names;
    std::size_t count = 0;
    for (const auto& [name, view] : streams) {
        const std::string found = keys_of(*view, now_ms);
        if (!found.empty() && count++ < streams_named_max) {
            names += (names.empty() ? "" : ", ") + found;
        }
    }
    if (count == 0) {
        return {};
    }
    if (count > streams_named_max) {
        names += " and " + counted(count - streams_named_max, "other stream");
    }
    return (keys_file.empty() ? std::string("there is no --keys-file, but streams are encrypted: ")
                              : "keys file " + keys_file + " lacks keys of encrypted streams: ") +
           names +
           ". Until they are back, records that they sealed cannot be read, and a stream that is "
           "encrypted with one takes none";
}

}  // namespace penstock
