// StartStreamEncryption and StopStreamEncryption, and what records of an encrypted stream need
// wherever they are put and read.
//
// Runs on: any control thread; the two operations block on the catalog.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/keys/stream_crypt.h"
#include "control/kinesis/operations/operations.h"

namespace penstock::kinesis {

struct ServiceContext;

// As Kinesis has it.
inline constexpr std::size_t keys_applied_per_day = 25;

struct EncryptionInput {
    StreamRef stream;
    OptionalText type;
    OptionalText key_id;
};
[[nodiscard]] InputResult read_input(const InputSource& source, EncryptionInput& out);
// Runs an operation of this file; nothing for any other.
[[nodiscard]] std::optional<ApiStatus> run_encryption_operation(const OperationContext& context,
                                                                const InputSource& source);

// The member EncryptionType, and KeyId for a stream that is encrypted.
void write_encryption(ReplyWriter& reply, const Stream& stream);

// Why the stream's records cannot be sealed now; nothing where they can, or need not be.
[[nodiscard]] std::optional<ApiError> key_refusal(const StreamView& view, keys::KeyStore& store);

// Opens the sealed records of one shard, for as long as a plan is read. It takes the keys of the
// stream as it is now: somebody may have given it another one after the request came.
class RecordsOfShard {
public:
    RecordsOfShard(const ServiceContext& context, std::string_view stream, const Shard& shard)
        : context_(context), stream_(stream), shard_(shard) {}
    // Puts key and data in clear in their place, until the next call. A record that is in clear
    // stays as it is. False: is_refused(), and refuse() says why.
    [[nodiscard]] bool open(RecordView& record) {
        return record.seal.empty() || open_sealed(record);
    }
    [[nodiscard]] bool is_refused() const noexcept { return refusal_.has_value(); }
    // The answer to whoever gets no record for it, counted.
    [[nodiscard]] ApiError refuse() const;

private:
    [[nodiscard]] bool open_sealed(RecordView& record);
    const ServiceContext& context_;
    const std::string_view stream_;
    const Shard& shard_;
    std::shared_ptr<const StreamView> view_;
    keys::KeyFault fault_ = keys::KeyFault::none;
    std::optional<ApiError> refusal_;
};

}  // namespace penstock::kinesis
