#include "control/kinesis/operations/encryption.h"

#include <algorithm>
#include <functional>

#include "control/keys/key_store.h"
#include "control/kinesis/operations/settings.h"
#include "control/kinesis/service.h"
#include "control/kinesis/stream/shard_id.h"

namespace penstock::kinesis {

namespace {

constexpr std::int64_t day_ms = 24LL * 3600 * 1000;
// No record lives longer than the longest retention, so nobody needs a data key that ended before.
constexpr std::int64_t data_key_kept_ms = std::int64_t{retention_hours_max} * 3600 * 1000 + day_ms;

ApiError key_error(keys::KeyStore& store, keys::KeyFault fault, std::string_view key) {
    store.counters().refused[static_cast<std::size_t>(fault)].fetch_add(1,
                                                                        std::memory_order_relaxed);
    return {std::string(keys::exception_of(fault)), keys::describe(fault, key)};
}

std::string where(const OperationContext& context, const Stream& stream) {
    return "stream " + stream.shown() + " under account " + std::string(context.account);
}

// Changes how the stream as it is now is encrypted; `edit` may run more than once.
ApiStatus change(const OperationContext& context, const Stream& stream,
                 const std::function<ApiStatus(Stream&)>& edit) {
    std::optional<ApiError> refusal;
    const Status done = context.streams.update(stream.name, [&](Stream& now) -> Status {
        refusal.reset();
        if (now.status != StreamStatus::active) {
            return fail(Errc::locked);
        }
        if (auto edited = edit(now); !edited) {
            refusal = std::move(edited.error());
            return fail(Errc::canceled);
        }
        return {};
    });
    if (refusal) {
        return std::unexpected(std::move(*refusal));
    }
    if (!done) {
        const auto now = context.streams.find(stream.name);
        return std::unexpected(stream_failure(context, now ? now->stream() : stream, done.error()));
    }
    return {};
}

// The data key in use is no longer.
void end_data_key(keys::Encryption& encryption, std::int64_t now_ms) {
    if (!encryption.key_id.empty() && !encryption.data_keys.empty()) {
        encryption.data_keys.back().ended_ms = now_ms;
    }
    // The last one stays in any case: its number must not come again.
    const auto last = encryption.data_keys.empty() ? 0 : encryption.data_keys.back().generation;
    std::erase_if(encryption.data_keys, [&](const keys::DataKey& key) {
        return key.generation != last && key.ended_ms != 0 &&
               key.ended_ms < now_ms - data_key_kept_ms;
    });
}

ApiStatus start_encryption(const OperationContext& context, const EncryptionInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    if (*input.type != "KMS") {
        return std::unexpected(invalid_argument(
            "EncryptionType of StartStreamEncryption must be KMS, found " +
            std::string(*input.type) + "; StopStreamEncryption ends the encryption of " +
            where(context, stream) + "."));
    }
    keys::KeyStore& store = context.streams.keys();
    const auto named = store.find(*input.key_id, context.region, context.account);
    if (named.fault != keys::KeyFault::none) {
        return std::unexpected(key_error(store, named.fault, *input.key_id));
    }
    return change(context, stream, [&](Stream& now) -> ApiStatus {
        keys::Encryption& encryption = now.encryption;
        const std::int64_t now_ms = context.clock.wall_ms();
        std::erase_if(encryption.applied_ms,
                      [&](std::int64_t at_ms) { return at_ms <= now_ms - day_ms; });
        if (encryption.applied_ms.size() >= keys_applied_per_day) {
            return std::unexpected(ApiError{"LimitExceededException",
                                            "A key was applied to " + where(context, now) + " " +
                                                std::to_string(keys_applied_per_day) +
                                                " times in 24 hours, which is the most allowed."});
        }
        encryption.applied_ms.push_back(now_ms);
        end_data_key(encryption, now_ms);
        const std::uint32_t generation =
            encryption.data_keys.empty() ? 1 : encryption.data_keys.back().generation + 1;
        encryption.key_id = *input.key_id;
        encryption.data_keys.push_back(
            keys::make_data_key(named.key, now.incarnation, generation, now_ms));
        return {};
    });
}

ApiStatus stop_encryption(const OperationContext& context, const EncryptionInput& input) {
    const auto view = resolve_stream(context, input.stream);
    if (!view) {
        return std::unexpected(view.error());
    }
    const Stream& stream = (*view)->stream();
    if (*input.type != "KMS") {
        return std::unexpected(
            invalid_argument("EncryptionType of StopStreamEncryption must be KMS, as that of the "
                             "stream, found " +
                             std::string(*input.type) + "."));
    }
    return change(context, stream, [&](Stream& now) -> ApiStatus {
        keys::Encryption& encryption = now.encryption;
        if (encryption.key_id.empty()) {
            return {};  // as it should be
        }
        // The key itself is not needed to stop, so that a lost one can be left behind.
        const auto named =
            context.streams.keys().find(*input.key_id, context.region, context.account);
        const bool is_it = *input.key_id == encryption.key_id ||
                           *input.key_id == encryption.data_keys.back().key_id ||
                           (named.fault == keys::KeyFault::none &&
                            named.key.id == encryption.data_keys.back().key_id);
        if (!is_it) {
            return std::unexpected(invalid_argument("KeyId " + std::string(*input.key_id) +
                                                    " is not the key of " + where(context, now) +
                                                    ", which is " + encryption.key_id + "."));
        }
        end_data_key(encryption, context.clock.wall_ms());
        encryption.key_id.clear();
        return {};
    });
}

}  // namespace

InputResult read_input(const InputSource& source, EncryptionInput& out) {
    auto fault = read_members(source, [&](std::string_view key, InputValue value) {
        if (read_stream_ref(out.stream, key, value)) {
            return;
        }
        if (key == "EncryptionType") {
            out.type = value.text();
        } else if (key == "KeyId") {
            out.key_id = value.text();
        }
    });
    if (fault) {
        return fault;
    }
    Checks checks;
    checks.required("encryptionType", out.type.has_value());
    checks.choice("encryptionType", out.type, {"NONE", "KMS"});
    checks.required("keyId", out.key_id.has_value());
    checks.length("keyId", out.key_id, 1, 2048);
    check_stream_ref(checks, out.stream);
    return checks.result();
}

std::optional<ApiStatus> run_encryption_operation(const OperationContext& context,
                                                  const InputSource& source) {
    const bool starts = context.operation == Operation::start_stream_encryption;
    if (!starts && context.operation != Operation::stop_stream_encryption) {
        return std::nullopt;
    }
    EncryptionInput input;
    if (auto fault = read_input(source, input)) {
        return ApiStatus(std::unexpected(std::move(*fault)));
    }
    return starts ? start_encryption(context, input) : stop_encryption(context, input);
}

void write_encryption(ReplyWriter& reply, const Stream& stream) {
    const bool is_encrypted = !stream.encryption.key_id.empty();
    reply.key("EncryptionType");
    reply.plain(is_encrypted ? "KMS" : "NONE");
    if (is_encrypted) {
        reply.key("KeyId");
        reply.text(stream.encryption.key_id);
    }
}

std::optional<ApiError> key_refusal(const StreamView& view, keys::KeyStore& store) {
    const keys::StreamCrypt* crypt = view.crypt();
    if (crypt == nullptr || crypt->seal_fault() == keys::KeyFault::none) {
        return std::nullopt;
    }
    return key_error(store, crypt->seal_fault(), crypt->seal_key_id());
}

ApiError RecordsOfShard::refuse() const {
    keys::KeyCounters& counters = context_.streams.keys().counters();
    if (fault_ == keys::KeyFault::count_) {
        counters.damaged.fetch_add(1, std::memory_order_relaxed);
    } else if (fault_ != keys::KeyFault::none) {
        counters.refused[static_cast<std::size_t>(fault_)].fetch_add(1, std::memory_order_relaxed);
    }
    return *refusal_;
}

bool RecordsOfShard::open_sealed(RecordView& record) {
    const std::uint32_t generation = load<RecordSeal>(record.seal.data()).generation;
    const auto find = [&]() -> const keys::StreamCrypt::Opened* {
        const keys::StreamCrypt* crypt = view_ ? view_->crypt() : nullptr;
        return crypt == nullptr ? nullptr : crypt->find(generation);
    };
    const keys::StreamCrypt::Opened* key = find();
    if (key == nullptr) {
        view_ = context_.streams.find(stream_);
        const Shard* now = view_ ? view_->stream().shard(shard_.number) : nullptr;
        if (now == nullptr || now->uid != shard_.uid) {
            refusal_ =
                shard_not_found(format_shard_id(shard_.number), stream_, context_.options.account);
            return false;
        }
        key = find();
    }
    if (key != nullptr && key->fault != keys::KeyFault::none) {
        fault_ = key->fault;
        refusal_ = ApiError{std::string(keys::exception_of(key->fault)),
                            keys::describe(key->fault, key->key_id)};
        return false;
    }
    if (key == nullptr || !context_.opener.open(*key, shard_.uid, record)) {
        fault_ = keys::KeyFault::count_;  // the record's
        refusal_ = internal_failure(
            "The record at index " + std::to_string(record.sequence) + " of shard " +
            format_shard_id(shard_.number) + " in stream " + std::string(stream_) +
            (key == nullptr
                 ? " was sealed with data key " + std::to_string(generation) +
                       ", which the catalog does not have."
                 : " does not open with its key: it is not what was written there. Go on with an "
                   "iterator behind it."));
        refusal_->type = "InternalFailureException";
        return false;
    }
    return true;
}

}  // namespace penstock::kinesis
