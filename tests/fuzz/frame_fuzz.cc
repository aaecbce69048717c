// Whatever stands on a drive: frames, their records, journal blocks, state blocks and manifest
// entries are decoded without a bad access, and what is accepted adds up.
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

#include "control/keys/stream_crypt.h"
#include "storage/base/check.h"
#include "storage/base/crc32c.h"
#include "storage/format/block.h"
#include "storage/format/frame.h"
#include "storage/log/state_log.h"
#include "storage/segment/table.h"

namespace {

using namespace penstock;

// What is sealed is opened with some key: it may fail, and touches what is the record's.
void open(RecordView record) {
    static const keys::StreamCrypt::Opened key{1, "", keys::KeyFault::none,
                                               std::string(keys::data_key_bytes, 'k')};
    static keys::RecordOpener opener;
    if (!record.seal.empty() && opener.open(key, ShardUid{1}, record)) {
        PENSTOCK_CHECK(record.seal.empty());
    }
}

// Walks records as a reader does, but only of frames it may walk.
void walk(const FrameHeader& header, Bytes payload) {
    RecordWalker walker(header, payload);
    RecordView record;
    std::uint64_t bytes = 0;
    while (walker.next(record)) {
        bytes += record.extras.size() + record.seal.size() + record.partition_key.size() +
                 record.data.size();
        PENSTOCK_CHECK(record.seal.empty() || record.seal.size() == sizeof(RecordSeal));
        open(record);
        PENSTOCK_CHECK(record.sequence >= header.first_sequence);
        PENSTOCK_CHECK(record.sequence <= header.last_sequence());
    }
    PENSTOCK_CHECK(bytes <= payload.size());
    (void)records_add_up(header, payload);
}

void frames(Bytes input) {
    FrameHeader header;
    if (check_frame(input, 0, header) == FrameFault::none) {
        walk(header, input.subspan(sizeof header, header.payload_bytes));
    }
    // The same bytes with checksums that hold, or the fuzzer would never get past them.
    if (input.size() < sizeof(FrameHeader)) {
        return;
    }
    std::vector<std::byte> mended(input.begin(), input.end());
    auto sound = load<FrameHeader>(mended.data());
    sound.magic = frame_magic;
    sound.version = frame_version;
    sound.refuse_flags = 0;
    sound.payload_bytes = static_cast<std::uint32_t>(mended.size() - sizeof sound);
    sound.payload_crc = crc32c(Bytes(mended).subspan(sizeof sound));
    seal_header(sound, mended.data());
    if (check_frame(mended, 0, header) == FrameFault::none) {
        walk(header, Bytes(mended).subspan(sizeof header));
    }
}

void blocks(Bytes input) {
    JournalBlockHeader journal;
    (void)check_block(input, 1, 1, journal);
    StateBlockHeader state;
    (void)check_block(input, 1, 1, state);
}

// The input as the stream of a state log: entries of a manifest, applied to an empty table.
void manifest(Bytes input) {
    StateRead read;
    read.found = true;
    read.stream.assign(input.begin(), input.end());
    GroupTable table(32);
    (void)replay_state(read, [&table](bool, Bytes entry) { return table.apply(entry); });
    std::size_t entries = 0;
    table.snapshot({}, [&entries](Bytes) { ++entries; });
    PENSTOCK_CHECK(entries >= 1);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const Bytes input{reinterpret_cast<const std::byte*>(data), size};
    frames(input);
    blocks(input);
    manifest(input);
    return 0;
}
