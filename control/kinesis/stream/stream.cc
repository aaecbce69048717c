#include "control/kinesis/stream/stream.h"

#include <rapidjson/stringbuffer.h>
#include <rapidjson/writer.h>
#include <simdjson.h>

#include <algorithm>
#include <array>
#include <unordered_map>

#include "control/auth/crypto.h"
#include "control/kinesis/stream/reshard.h"

namespace penstock::kinesis {

namespace {

// Of a stream that was encrypted once, so that a build from before that does not take its records
// for clear ones.
constexpr unsigned current_version = 2;
constexpr unsigned version_before_encryption = 1;
constexpr std::array<std::string_view, 4> status_names = {"CREATING", "ACTIVE", "DELETING",
                                                          "UPDATING"};
constexpr std::array<std::string_view, 2> mode_names = {"PROVISIONED", "ON_DEMAND"};
constexpr std::array<std::string_view, 5> shard_state_names = {"creating", "open", "closed",
                                                               "closing", "opening"};

using Writer = rapidjson::Writer<rapidjson::StringBuffer>;

void write_text(Writer& writer, std::string_view key, std::string_view text) {
    writer.Key(key.data(), static_cast<rapidjson::SizeType>(key.size()));
    writer.String(text.data(), static_cast<rapidjson::SizeType>(text.size()));
}
void write_number(Writer& writer, const char* key, std::uint64_t number) {
    writer.Key(key);
    writer.Uint64(number);
}

void write_tags(Writer& writer, const std::map<std::string, std::string>& tags) {
    writer.Key("tags");
    writer.StartObject();
    for (const auto& [key, text] : tags) {
        write_text(writer, key, text);
    }
    writer.EndObject();
}

void write_consumers(Writer& writer, const Stream& stream) {
    write_number(writer, "next_consumer_number", stream.next_consumer_number);
    writer.Key("consumers");
    writer.StartArray();
    for (const Consumer& consumer : stream.consumers) {
        writer.StartObject();
        write_number(writer, "number", consumer.number);
        write_text(writer, "name", consumer.name);
        write_number(writer, "created_ms", static_cast<std::uint64_t>(consumer.created_ms));
        write_tags(writer, consumer.tags);
        if (!consumer.resource_policy.empty()) {
            write_text(writer, "resource_policy", consumer.resource_policy);
        }
        writer.EndObject();
    }
    writer.EndArray();
}

void write_times(Writer& writer, const char* key, const std::vector<std::int64_t>& times_ms) {
    if (times_ms.empty()) {
        return;
    }
    writer.Key(key);
    writer.StartArray();
    for (const std::int64_t at_ms : times_ms) {
        writer.Int64(at_ms);
    }
    writer.EndArray();
}

void write_encryption(Writer& writer, const keys::Encryption& encryption) {
    writer.Key("encryption");
    writer.StartObject();
    if (!encryption.key_id.empty()) {
        write_text(writer, "key_id", encryption.key_id);
    }
    write_times(writer, "applied_ms", encryption.applied_ms);
    writer.Key("data_keys");
    writer.StartArray();
    for (const keys::DataKey& key : encryption.data_keys) {
        writer.StartObject();
        write_number(writer, "generation", key.generation);
        write_text(writer, "key_id", key.key_id);
        write_text(writer, "sealed", auth::to_base64(key.sealed));
        write_number(writer, "made_ms", static_cast<std::uint64_t>(key.made_ms));
        if (key.ended_ms != 0) {
            write_number(writer, "ended_ms", static_cast<std::uint64_t>(key.ended_ms));
        }
        writer.EndObject();
    }
    writer.EndArray();
    writer.EndObject();
}

void write_shard(Writer& writer, const Shard& shard) {
    writer.StartObject();
    write_number(writer, "uid", value(shard.uid));
    write_number(writer, "number", shard.number);
    write_number(writer, "group", value(shard.group));
    write_number(writer, "created_s", static_cast<std::uint64_t>(shard.created_s));
    write_text(writer, "hash_start", to_decimal(shard.range.start));
    write_text(writer, "hash_end", to_decimal(shard.range.end));
    if (shard.parent) {
        write_number(writer, "parent", *shard.parent);
    }
    if (shard.adjacent_parent) {
        write_number(writer, "adjacent_parent", *shard.adjacent_parent);
    }
    write_number(writer, "first_index", shard.first_index);
    if (shard.closing_index) {
        write_number(writer, "closing_index", *shard.closing_index);
    }
    write_text(writer, "state", shard_state_names[static_cast<std::size_t>(shard.state)]);
    if (shard.opened_ms != 0) {
        write_number(writer, "opened_ms", static_cast<std::uint64_t>(shard.opened_ms));
    }
    if (shard.closed_ms != 0) {
        write_number(writer, "closed_ms", static_cast<std::uint64_t>(shard.closed_ms));
    }
    writer.EndObject();
}

// Reads members of one JSON object; remembers that one was missing or of the wrong kind.
class Members {
public:
    explicit Members(simdjson::dom::object object) : object_(object) {}

    [[nodiscard]] bool has(std::string_view key) const {
        return object_.at_key(key).error() == simdjson::SUCCESS;
    }
    std::uint64_t number(std::string_view key, std::uint64_t max) {
        std::uint64_t number = 0;
        if (object_.at_key(key).get(number) != simdjson::SUCCESS || number > max) {
            sound_ = false;
            return 0;
        }
        return number;
    }
    std::string_view text(std::string_view key) {
        std::string_view text;
        if (object_.at_key(key).get(text) != simdjson::SUCCESS) {
            sound_ = false;
        }
        return text;
    }
    simdjson::dom::object object(std::string_view key) {
        simdjson::dom::object object;
        if (object_.at_key(key).get(object) != simdjson::SUCCESS) {
            sound_ = false;
        }
        return object;
    }
    simdjson::dom::array array(std::string_view key) {
        simdjson::dom::array array;
        if (object_.at_key(key).get(array) != simdjson::SUCCESS) {
            sound_ = false;
        }
        return array;
    }
    template <std::size_t count>
    std::size_t choice(std::string_view key, const std::array<std::string_view, count>& names) {
        const auto it = std::find(names.begin(), names.end(), text(key));
        if (it == names.end()) {
            sound_ = false;
            return 0;
        }
        return static_cast<std::size_t>(it - names.begin());
    }
    Hash128 hash(std::string_view key) {
        const auto parsed = parse_hash_key(text(key));
        sound_ = sound_ && parsed.has_value();
        return parsed.value_or(Hash128{});
    }
    [[nodiscard]] bool sound() const { return sound_; }

private:
    simdjson::dom::object object_;
    bool sound_ = true;
};

constexpr std::uint64_t u32_max = 0xffffffffU;
constexpr std::uint64_t i63_max = ~std::uint64_t{0} >> 1;

Result<Shard> read_shard(simdjson::dom::element json) {
    simdjson::dom::object object;
    if (json.get(object) != simdjson::SUCCESS) {
        return fail(Errc::corrupt);
    }
    Members members(object);
    Shard shard;
    shard.uid = static_cast<ShardUid>(members.number("uid", i63_max));
    shard.number = static_cast<std::uint32_t>(members.number("number", 0x7fffffff));
    shard.group = static_cast<GroupId>(members.number("group", u32_max));
    shard.created_s = static_cast<std::int64_t>(members.number("created_s", i63_max >> 27));
    shard.range = {members.hash("hash_start"), members.hash("hash_end")};
    if (members.has("parent")) {
        shard.parent = static_cast<std::uint32_t>(members.number("parent", u32_max));
    }
    if (members.has("adjacent_parent")) {
        shard.adjacent_parent =
            static_cast<std::uint32_t>(members.number("adjacent_parent", u32_max));
    }
    shard.first_index = members.number("first_index", i63_max);
    if (members.has("closing_index")) {
        shard.closing_index = members.number("closing_index", i63_max);
    }
    shard.state = static_cast<ShardState>(members.choice("state", shard_state_names));
    if (members.has("opened_ms")) {
        shard.opened_ms = static_cast<std::int64_t>(members.number("opened_ms", i63_max));
    }
    if (members.has("closed_ms")) {
        shard.closed_ms = static_cast<std::int64_t>(members.number("closed_ms", i63_max));
    }
    if (!members.sound() || value(shard.uid) == 0 || shard.range.end < shard.range.start) {
        return fail(Errc::corrupt);
    }
    return shard;
}

// Absent when there are none.
bool read_times(Members& members, std::string_view key, std::vector<std::int64_t>& times_ms) {
    if (!members.has(key)) {
        return true;
    }
    for (const simdjson::dom::element item : members.array(key)) {
        if (item.get(times_ms.emplace_back()) != simdjson::SUCCESS) {
            return false;
        }
    }
    return members.sound();
}

bool read_tags(simdjson::dom::object json, std::map<std::string, std::string>& tags) {
    for (const auto& [key, value] : json) {
        std::string_view text;
        if (value.get(text) != simdjson::SUCCESS) {
            return false;
        }
        tags.emplace(key, text);
    }
    return true;
}

Status read_consumers(Members& members, Stream& stream) {
    stream.next_consumer_number =
        static_cast<std::uint32_t>(members.number("next_consumer_number", u32_max));
    for (const simdjson::dom::element item : members.array("consumers")) {
        simdjson::dom::object object;
        if (item.get(object) != simdjson::SUCCESS) {
            return fail(Errc::corrupt);
        }
        Members of_one(object);
        Consumer consumer;
        consumer.number = static_cast<std::uint32_t>(of_one.number("number", u32_max));
        consumer.name = of_one.text("name");
        consumer.created_ms = static_cast<std::int64_t>(of_one.number("created_ms", i63_max));
        if (of_one.has("resource_policy")) {
            consumer.resource_policy = of_one.text("resource_policy");
        }
        const auto tags = of_one.object("tags");
        const std::uint32_t last = stream.consumers.empty() ? 0 : stream.consumers.back().number;
        if (!of_one.sound() || !read_tags(tags, consumer.tags) || consumer.number <= last ||
            consumer.number >= stream.next_consumer_number) {
            return fail(Errc::corrupt);
        }
        stream.consumers.push_back(std::move(consumer));
    }
    return members.sound() ? Status{} : fail(Errc::corrupt);
}

Status read_encryption(simdjson::dom::object json, keys::Encryption& encryption) {
    Members members(json);
    if (members.has("key_id")) {
        encryption.key_id = members.text("key_id");
    }
    if (!read_times(members, "applied_ms", encryption.applied_ms)) {
        return fail(Errc::corrupt);
    }
    for (const simdjson::dom::element item : members.array("data_keys")) {
        simdjson::dom::object object;
        if (item.get(object) != simdjson::SUCCESS) {
            return fail(Errc::corrupt);
        }
        Members of_one(object);
        keys::DataKey key;
        key.generation = static_cast<std::uint32_t>(of_one.number("generation", u32_max));
        key.key_id = of_one.text("key_id");
        const auto sealed = auth::from_base64(of_one.text("sealed"));
        key.made_ms = static_cast<std::int64_t>(of_one.number("made_ms", i63_max));
        if (of_one.has("ended_ms")) {
            key.ended_ms = static_cast<std::int64_t>(of_one.number("ended_ms", i63_max));
        }
        const std::uint32_t last =
            encryption.data_keys.empty() ? 0 : encryption.data_keys.back().generation;
        if (!of_one.sound() || !sealed || key.generation <= last) {
            return fail(Errc::corrupt);
        }
        key.sealed = *sealed;
        encryption.data_keys.push_back(std::move(key));
    }
    // A key without a data key would leave records in clear.
    const bool whole = encryption.key_id.empty() || !encryption.data_keys.empty();
    return members.sound() && whole ? Status{} : fail(Errc::corrupt);
}

bool read_metrics(simdjson::dom::array json, std::uint8_t& metrics) {
    for (const simdjson::dom::element item : json) {
        std::string_view name;
        if (item.get(name) != simdjson::SUCCESS) {
            return false;
        }
        const auto it = std::find(shard_metric_names.begin(), shard_metric_names.end(), name);
        if (it == shard_metric_names.end()) {
            return false;
        }
        metrics |= static_cast<std::uint8_t>(1U << (it - shard_metric_names.begin()));
    }
    return true;
}

}  // namespace

std::string_view name_of(StreamStatus status) noexcept {
    return status_names[static_cast<std::size_t>(status)];
}
std::string_view name_of(StreamMode mode) noexcept {
    return mode_names[static_cast<std::size_t>(mode)];
}

const Shard* Stream::shard(std::uint32_t number) const noexcept {
    const auto it = std::lower_bound(shards.begin(), shards.end(), number,
                                     [](const Shard& s, std::uint32_t n) { return s.number < n; });
    return it != shards.end() && it->number == number ? &*it : nullptr;
}

const Consumer* Stream::consumer(std::string_view wanted) const noexcept {
    const auto it = std::find_if(consumers.begin(), consumers.end(),
                                 [&](const Consumer& c) { return c.name == wanted; });
    return it == consumers.end() ? nullptr : &*it;
}

const Consumer* Stream::consumer(std::uint32_t number) const noexcept {
    const auto it = std::find_if(consumers.begin(), consumers.end(),
                                 [&](const Consumer& c) { return c.number == number; });
    return it == consumers.end() ? nullptr : &*it;
}

std::uint32_t Stream::open_shard_count() const noexcept {
    return static_cast<std::uint32_t>(
        std::count_if(shards.begin(), shards.end(), [](const Shard& s) { return s.is_open(); }));
}

std::uint32_t Stream::open_shard_count_soon() const noexcept {
    if (status != StreamStatus::updating) {
        return open_shard_count();
    }
    const ReshardParts parts = parts_of_reshard(*this);
    const std::uint32_t now = open_shard_count();
    // Those of the ends that are open; the others were made only to be parents.
    const auto ending =
        std::ranges::count_if(parts.ends, [this](std::size_t i) { return shards[i].is_open(); });
    return std::max(now, now - static_cast<std::uint32_t>(ending) +
                             static_cast<std::uint32_t>(parts.begins.size()));
}

std::string encode_stream(const Stream& stream) {
    rapidjson::StringBuffer buffer;
    Writer writer(buffer);
    writer.StartObject();
    const bool was_encrypted = !stream.encryption.data_keys.empty();
    write_number(writer, "version", was_encrypted ? current_version : version_before_encryption);
    write_text(writer, "name", stream.name);
    write_number(writer, "incarnation", stream.incarnation);
    write_text(writer, "status", name_of(stream.status));
    write_text(writer, "mode", name_of(stream.mode));
    write_number(writer, "retention_hours", stream.retention_hours);
    write_number(writer, "created_ms", static_cast<std::uint64_t>(stream.created_ms));
    write_number(writer, "max_record_kib", stream.max_record_kib);
    write_number(writer, "next_shard_number", stream.next_shard_number);
    write_tags(writer, stream.tags);
    if (stream.shard_metrics != 0) {
        writer.Key("shard_metrics");
        writer.StartArray();
        for (std::size_t i = 0; i < shard_metric_names.size(); ++i) {
            if ((stream.shard_metrics >> i & 1) != 0) {
                writer.String(shard_metric_names[i].data(),
                              static_cast<rapidjson::SizeType>(shard_metric_names[i].size()));
            }
        }
        writer.EndArray();
    }
    if (stream.warm_throughput_mibps != 0) {
        write_number(writer, "warm_throughput_mibps", stream.warm_throughput_mibps);
    }
    if (stream.distribution != Distribution::by_key) {
        write_text(writer, "distribution",
                   distribution_names[static_cast<std::size_t>(stream.distribution)]);
    }
    if (!stream.resource_policy.empty()) {
        write_text(writer, "resource_policy", stream.resource_policy);
    }
    write_times(writer, "scalings_ms", stream.scalings_ms);
    write_times(writer, "mode_changes_ms", stream.mode_changes_ms);
    if (was_encrypted) {
        write_encryption(writer, stream.encryption);
    }
    writer.Key("shards");
    writer.StartArray();
    for (const Shard& shard : stream.shards) {
        write_shard(writer, shard);
    }
    writer.EndArray();
    if (stream.next_consumer_number != 1) {
        write_consumers(writer, stream);
    }
    writer.EndObject();
    return {buffer.GetString(), buffer.GetSize()};
}

Result<Stream> decode_stream(std::string_view json) {
    simdjson::dom::parser parser;
    simdjson::dom::object document;
    if (parser.parse(json.data(), json.size(), true).get(document) != simdjson::SUCCESS) {
        return fail(Errc::corrupt);
    }
    Members members(document);
    const std::uint64_t version = members.number("version", u32_max);
    if (members.sound() && (version == 0 || version > current_version)) {
        return fail(Errc::unsupported, 0, static_cast<std::uint32_t>(version));
    }
    Stream stream;
    stream.name = members.text("name");
    stream.incarnation = members.number("incarnation", i63_max);
    stream.status = static_cast<StreamStatus>(members.choice("status", status_names));
    stream.mode = static_cast<StreamMode>(members.choice("mode", mode_names));
    stream.retention_hours = static_cast<std::uint32_t>(members.number("retention_hours", u32_max));
    stream.created_ms = static_cast<std::int64_t>(members.number("created_ms", i63_max));
    stream.max_record_kib = static_cast<std::uint32_t>(members.number("max_record_kib", u32_max));
    stream.next_shard_number =
        static_cast<std::uint32_t>(members.number("next_shard_number", u32_max));
    if (members.has("resource_policy")) {
        stream.resource_policy = members.text("resource_policy");
    }
    if (members.has("warm_throughput_mibps")) {
        stream.warm_throughput_mibps =
            static_cast<std::uint32_t>(members.number("warm_throughput_mibps", u32_max));
    }
    if (members.has("distribution")) {
        stream.distribution =
            static_cast<Distribution>(members.choice("distribution", distribution_names));
    }
    if (members.has("shard_metrics") &&
        !read_metrics(members.array("shard_metrics"), stream.shard_metrics)) {
        return fail(Errc::corrupt);
    }
    if (!read_times(members, "scalings_ms", stream.scalings_ms) ||
        !read_times(members, "mode_changes_ms", stream.mode_changes_ms)) {
        return fail(Errc::corrupt);
    }
    if (members.has("encryption")) {
        PENSTOCK_TRY_VOID(read_encryption(members.object("encryption"), stream.encryption));
    }
    const auto shards = members.array("shards");
    const auto tags = members.object("tags");
    if (!members.sound() || !read_tags(tags, stream.tags)) {
        return fail(Errc::corrupt);
    }
    for (const simdjson::dom::element item : shards) {
        PENSTOCK_TRY(shard, read_shard(item));
        if (shard.number >= stream.next_shard_number ||
            (!stream.shards.empty() && stream.shards.back().number >= shard.number)) {
            return fail(Errc::corrupt);
        }
        // A shard that is not there yet is somebody's child.
        if (!shard.is_listed() && !(shard.parent && stream.shard(*shard.parent) != nullptr)) {
            return fail(Errc::corrupt);
        }
        stream.shards.push_back(shard);
    }
    if (members.has("next_consumer_number")) {
        PENSTOCK_TRY_VOID(read_consumers(members, stream));
    }
    return stream;
}

Result<std::shared_ptr<const StreamView>> StreamView::make(Stream stream,
                                                           const std::map<GroupId, unsigned>& lanes,
                                                           keys::KeyStore* keys) {
    std::shared_ptr<StreamView> view(new StreamView);
    view->stream_ = std::move(stream);
    view->lanes_ = lanes;
    const Stream& s = view->stream_;
    if (!s.resource_policy.empty()) {
        auto policy = auth::Policy::parse(s.resource_policy, auth::Policy::Kind::of_resource_kept);
        if (!policy) {
            return fail(Errc::corrupt);
        }
        view->resource_policy_ = std::move(*policy);
    }
    if (!s.encryption.data_keys.empty()) {
        unsigned lane_count = 1;
        for (const auto& [group, lane] : lanes) {
            lane_count = std::max(lane_count, lane + 1);
        }
        view->crypt_ = keys != nullptr ? keys->crypt_of(s.encryption, s.incarnation, lane_count)
                                       : std::make_shared<const keys::StreamCrypt>(
                                             s.encryption, s.incarnation, nullptr, lane_count);
    }
    for (const Consumer& consumer : s.consumers) {
        if (consumer.resource_policy.empty()) {
            continue;
        }
        auto policy =
            auth::Policy::parse(consumer.resource_policy, auth::Policy::Kind::of_resource_kept);
        if (!policy) {
            return fail(Errc::corrupt);
        }
        view->consumer_policies_.emplace(consumer.number, std::move(*policy));
    }
    if (s.status != StreamStatus::active && s.status != StreamStatus::updating) {
        return view;
    }
    std::vector<ShardRoute> routes;
    for (const Shard& shard : s.shards) {
        if (shard.state == ShardState::open || shard.state == ShardState::opening) {
            routes.push_back(
                {shard.range.start, shard.range.end, shard.uid, shard.group, view->lane_of(shard)});
        }
    }
    PENSTOCK_TRY(route, StreamRoute::make(s.name, std::move(routes)));
    std::unordered_map<ShardUid, std::uint32_t> index_of;
    for (std::uint32_t i = 0; i < s.shards.size(); ++i) {
        index_of.emplace(s.shards[i].uid, i);
    }
    for (const ShardRoute& target : route.shards()) {
        view->shard_of_route_.push_back(index_of.at(target.shard));
    }
    if (view->crypt_) {
        route.set_sealers(view->crypt_->sealers());
    }
    view->route_ = std::move(route);
    return view;
}

StreamView::Target StreamView::find(const Hash128& hash) const noexcept {
    const ShardRoute* route = route_->find(hash);
    const auto index = static_cast<std::uint32_t>(route - route_->shards().data());
    return {route, shard_of_route_[index], index};
}

unsigned StreamView::lane_of(const Shard& shard) const noexcept {
    const auto it = lanes_.find(shard.group);
    return it == lanes_.end() ? 0 : it->second;
}

}  // namespace penstock::kinesis
