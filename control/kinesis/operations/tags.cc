// AddTagsToStream, RemoveTagsFromStream, ListTagsForStream and their Resource forms.
#include <algorithm>

#include "control/kinesis/operations/settings.h"

namespace penstock::kinesis {

namespace {

// Letters of any script, digits, white space and a few signs; what is not ASCII is let be.
bool is_tag_character(char c) noexcept {
    constexpr std::string_view signs = "_.:/=+-@% \t\n\r";
    return static_cast<unsigned char>(c) >= 0x80 || (c >= 'a' && c <= 'z') ||
           (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           signs.find(c) != std::string_view::npos;
}
bool is_tag_text(std::string_view text) noexcept {
    return std::all_of(text.begin(), text.end(), is_tag_character);
}

ApiError too_many_tags(std::string_view stream, std::string_view account) {
    return invalid_argument("Failed to add tags to stream " + std::string(stream) +
                            " under account " + std::string(account) +
                            " because a given stream cannot have more than " +
                            std::to_string(tags_per_resource_max) + " tags associated with it.");
}

}  // namespace

std::optional<ApiError> check_tags(const Checks::TextPairs& tags, std::string_view resource,
                                   std::string_view account) {
    const std::string start = "Failed to add tags to stream " + std::string(resource) +
                              " under account " + std::string(account) + " because some tags ";
    for (const auto& [key, text] : tags) {
        if (!is_tag_text(key) || !is_tag_text(text)) {
            return invalid_argument(start +
                                    "contained illegal characters. The allowed characters are "
                                    "Unicode letters, digits, white space and _ . : / = + - @ %.");
        }
        if (key.starts_with("aws:")) {
            return invalid_argument(start + "have a key that begins with aws:, which is reserved.");
        }
    }
    if (tags.size() > tags_per_resource_max) {
        return too_many_tags(resource, account);
    }
    return std::nullopt;
}

ApiStatus change_tags(const OperationContext& context, const TagsInput& input) {
    const auto found = resolve_resource(context, input.stream);
    if (!found) {
        return std::unexpected(found.error());
    }
    const Stream& stream = found->view->stream();
    const std::string& name = found->consumer != nullptr ? found->consumer->name : stream.name;
    if (auto fault = check_tags(input.tags, name, context.account)) {
        return std::unexpected(std::move(*fault));
    }
    const auto change = [&](std::map<std::string, std::string>& tags) -> Status {
        for (const auto& [key, text] : input.tags) {
            tags.insert_or_assign(std::string(key), std::string(text));
        }
        for (const std::string_view key : input.keys) {
            tags.erase(std::string(key));
        }
        return tags.size() > tags_per_resource_max ? fail(Errc::too_large) : Status{};
    };
    const Status done =
        found->consumer != nullptr
            ? update_consumer(context, *found,
                              [&](Consumer& consumer) { return change(consumer.tags); })
            : context.streams.update(stream.name, [&](Stream& now) { return change(now.tags); });
    if (!done && done.error().code == Errc::too_large) {
        return std::unexpected(too_many_tags(name, context.account));
    }
    if (!done) {
        return std::unexpected(stream_failure(context, stream, done.error()));
    }
    return {};
}

ApiStatus list_tags(const OperationContext& context, const TagsInput& input, ReplyWriter& reply) {
    const auto found = resolve_resource(context, input.stream);
    if (!found) {
        return std::unexpected(found.error());
    }
    const auto& tags =
        found->consumer != nullptr ? found->consumer->tags : found->view->stream().tags;
    const auto limit = input.limit.value_or(tags_per_resource_max);
    auto it = input.exclusive_start ? tags.upper_bound(std::string(*input.exclusive_start))
                                    : tags.begin();
    reply.begin_object();
    reply.key("Tags");
    reply.begin_array();
    for (std::int64_t i = 0; i < limit && it != tags.end(); ++i, ++it) {
        reply.begin_object();
        reply.key("Key");
        reply.text(it->first);
        reply.key("Value");
        reply.text(it->second);
        reply.end_object();
    }
    reply.end_array();
    if (context.operation == Operation::list_tags_for_stream) {
        reply.key("HasMoreTags");
        reply.boolean(it != tags.end());
    }
    reply.end_object();
    return {};
}

}  // namespace penstock::kinesis
