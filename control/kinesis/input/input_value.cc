#include "control/kinesis/input/input_value.h"

#include "control/kinesis/input/cbor_input.h"

namespace penstock::kinesis {

std::string_view InputValue::text() {
    return cbor_ == nullptr ? json_.text() : cbor_->text();
}
std::int64_t InputValue::integer() {
    return cbor_ == nullptr ? json_.integer() : cbor_->integer();
}
bool InputValue::boolean() {
    return cbor_ == nullptr ? json_.boolean() : cbor_->boolean();
}
std::int64_t InputValue::timestamp_ms() {
    return cbor_ == nullptr ? json_.timestamp_ms() : cbor_->timestamp_ms();
}
Bytes InputValue::blob() {
    return cbor_ == nullptr ? json_.blob() : cbor_->blob();
}
void InputValue::structure(const Member& member) {
    cbor_ == nullptr ? json_.structure(member) : cbor_->structure(member);
}
void InputValue::map(const Member& member) {
    cbor_ == nullptr ? json_.map(member) : cbor_->map(member);
}
void InputValue::list(const Item& item) {
    cbor_ == nullptr ? json_.list(item) : cbor_->list(item);
}

std::optional<ApiError> read_body(simdjson::ondemand::parser& parser, Arena& arena,
                                  const EncodedBody& body, const InputMember& member) {
    try {
        if (body.dialect == Dialect::cbor) {
            CborReader(body.text, arena).read_all(member);
        } else {
            read_json_text(parser, arena, body.text, member);
        }
    } catch (const InputFault& found) {
        return found.error;
    } catch (const simdjson::simdjson_error&) {
        return serialization_error("");
    }
    return std::nullopt;
}

}  // namespace penstock::kinesis
