// The hex examples of docs/formats are what the encoders write: a page that no longer is fails here
// and the failure prints what should stand there.
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/base/crc32c.h"
#include "storage/format/block.h"
#include "storage/format/frame.h"
#include "storage/format/manifest.h"
#include "storage/log/state_log.h"
#include "tests/unit/storage/format/golden.h"

namespace penstock {
namespace {

using Buffer = std::vector<std::byte>;
constexpr std::uint64_t example_set = 0x1122334455667788;

// The frame of all examples: record 4294967299 of shard 5, "hello" under the key "pk".
FrameHeader example_header() {
    FrameHeader header;
    header.shard = 5;
    header.group = 1;
    header.epoch = 3;
    header.first_sequence = 4294967299;
    header.previous_epoch = 2;
    header.previous_sequence = 1000;
    header.previous_crc = 0xa1b2c3d4;
    header.committed_through = 1000;
    header.first_arrival_ms = 1'700'000'000'000;
    header.last_arrival_ms = 1'700'000'000'000;
    header.set_id = example_set;
    return header;
}

Buffer make_frame(FrameHeader& header, std::string_view key, std::string_view data) {
    RecordIn record;
    record.partition_key = as_bytes(key);
    record.data = as_bytes(data);
    header.record_count = 1;
    header.payload_bytes = static_cast<std::uint32_t>(record_bytes(record));
    Buffer frame(header.total_bytes());
    encode_record(record, 0, frame.data() + sizeof header);
    header.payload_crc = crc32c({frame.data() + sizeof header, header.payload_bytes});
    seal_header(header, frame.data());
    return frame;
}

Buffer frame_example() {
    FrameHeader header = example_header();
    return make_frame(header, "pk", "hello");
}

// The same write's second frame: it names the first one.
Buffer segment_example() {
    FrameHeader first = example_header();
    const Buffer before = make_frame(first, "pk", "hello");
    FrameHeader next = example_header();
    next.first_sequence = first.last_sequence() + 1;
    next.previous_epoch = first.epoch;
    next.previous_sequence = first.last_sequence();
    next.previous_crc = first.header_crc;
    Buffer both = before;
    const Buffer after = make_frame(next, "pk", "world");
    both.insert(both.end(), after.begin(), after.end());
    return both;
}

Buffer journal_example() {
    const Buffer frame = frame_example();
    JournalBlockHeader header;
    header.sent_to = all_replicas;
    header.group = 1;
    header.set_id = example_set;
    header.epoch = 3;
    header.number = 9;
    header.frame_count = 1;
    header.used_bytes = static_cast<std::uint32_t>(sizeof header + frame.size());
    header.durable_through = 8;
    Buffer block(sizeof header + frame.size());
    std::memcpy(block.data() + sizeof header, frame.data(), frame.size());
    seal_header(header, block.data());
    return block;
}

Buffer manifest_example() {
    StateEntries entries;
    entries.add(EncodedEntry<TakeChunkEntry>(
                    {.uid = 5, .ordinal = 12, .container = 0, .unit = 7, .units = 2, .missing = 0})
                    .bytes());
    entries.add(EncodedEntry<DropShardEntry>({.uid = 4}).bytes());
    StateBlockHeader header;
    header.kind = StateKind::delta;
    header.sent_to = all_replicas;
    header.group = 1;
    header.set_id = example_set;
    header.epoch = 3;
    header.generation = 6;
    header.index = 1;
    header.previous_crc = 0x0badcafe;
    header.payload_bytes = static_cast<std::uint32_t>(entries.bytes().size());
    header.payload_crc = crc32c(entries.bytes());
    Buffer block(sizeof header + entries.bytes().size());
    std::memcpy(block.data() + sizeof header, entries.bytes().data(), entries.bytes().size());
    seal_header(header, block.data());
    return block;
}

// The same in producers_test.cc, which has it from what a shard group remembers.
Buffer producer_run_example() {
    ProducerRunEntry run{.uid = 5,
                         .producer = 0x0123456789abcdef,
                         .batch = 42,
                         .floor = 7,
                         .first_sequence = 4294967299,
                         .arrival_ms = 1'700'000'000'000,
                         .epoch = 3,
                         .base = 512};
    run.bits[0] = 0b1011;
    run.bits[7] = 1ULL << 63;
    StateEntries entries;
    entries.add(EncodedEntry<ProducerRunEntry>(run).bytes());
    return {entries.bytes().begin(), entries.bytes().end()};
}

std::string hex_lines(const Buffer& bytes) {
    std::string out;
    char text[32];
    for (std::size_t at = 0; at < bytes.size(); at += 16) {
        std::snprintf(text, sizeof text, "    %04zx:", at);
        out += text;
        for (std::size_t i = at; i < std::min(at + 16, bytes.size()); ++i) {
            std::snprintf(text, sizeof text, "%s%02x", i % 2 == 0 ? " " : "",
                          static_cast<unsigned>(bytes[i]));
            out += text;
        }
        out += '\n';
    }
    return out;
}

std::string page(const std::string& name) {
    const char* top = std::getenv("PENSTOCK_SOURCE_ROOT");
    std::ifstream in(std::string(top == nullptr ? "." : top) + "/docs/formats/" + name);
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

// The hex lines of a section of a page without what is remarked behind them.
std::string hex_of_page(const std::string& name, std::string_view heading = "## Example") {
    std::istringstream lines(page(name));
    std::string out;
    bool inside = false;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("## ")) {
            inside = line == heading;
        } else if (inside && line.starts_with("    0") && line.size() > 9 && line[8] == ':') {
            out += line.substr(0, line.find("  ", 9)) + "\n";
        }
    }
    return out;
}

TEST(FormatPages, FrameExampleIsWhatTheEncoderWrites) {
    EXPECT_EQ(hex_of_page("frame.md"), hex_lines(frame_example()));
    FrameHeader header;
    EXPECT_EQ(check_frame(frame_example(), example_set, header), FrameFault::none);
}

TEST(FormatPages, JournalExampleIsWhatTheEncoderWrites) {
    EXPECT_EQ(hex_of_page("journal.md"), hex_lines(journal_example()));
    JournalBlockHeader header;
    EXPECT_EQ(check_block(journal_example(), example_set, 1, header), BlockFault::none);
}

TEST(FormatPages, SegmentExampleIsWhatTheEncoderWrites) {
    EXPECT_EQ(hex_of_page("segment.md"), hex_lines(segment_example()));
}

TEST(FormatPages, ManifestExampleIsWhatTheEncoderWrites) {
    EXPECT_EQ(hex_of_page("manifest.md"), hex_lines(manifest_example()));
    StateBlockHeader header;
    EXPECT_EQ(check_block(manifest_example(), example_set, 1, header), BlockFault::none);
}

TEST(FormatPages, ProducerRunExampleIsWhatTheEncoderWritesAndTheGoldenFile) {
    EXPECT_EQ(hex_of_page("manifest.md", "## Example of a producer run"),
              hex_lines(producer_run_example()));
    test::expect_golden("manifest-producer-run-v1.bin", producer_run_example());
}

// -- Tables ---------------------------------------------------------------------------------------

struct Row {
    std::size_t offset = 0;
    std::size_t size = 0;
};

// Rows "| offset | size | …" of the table below a heading; sizes must be plain numbers.
std::vector<Row> rows_of(const std::string& name, const std::string& heading) {
    std::istringstream lines(page(name));
    std::vector<Row> out;
    bool inside = false;
    for (std::string line; std::getline(lines, line);) {
        if (line.starts_with("#")) {
            inside = line == heading;
        }
        Row row;
        if (inside && std::sscanf(line.c_str(), "| %zu | %zu |", &row.offset, &row.size) == 2) {
            out.push_back(row);
        }
    }
    return out;
}

void expect_complete(const std::string& name, const std::string& heading, std::size_t bytes) {
    std::size_t at = 0;
    for (const Row& row : rows_of(name, heading)) {
        EXPECT_EQ(row.offset, at) << name << " " << heading;
        at = row.offset + row.size;
    }
    EXPECT_EQ(at, bytes) << name << " " << heading;
}

TEST(FormatPages, TablesCoverEachStructWithoutAHole) {
    expect_complete("frame.md", "## Frame header", sizeof(FrameHeader));
    expect_complete("frame.md", "## Record", sizeof(RecordHeader));
    expect_complete("journal.md", "## Block header", sizeof(JournalBlockHeader));
    expect_complete("manifest.md", "## Block header", sizeof(StateBlockHeader));
    expect_complete("manifest.md", "### 1 epoch begun", sizeof(EpochBegunEntry));
    expect_complete("manifest.md", "### 2 shard", sizeof(ShardEntry));
    expect_complete("manifest.md", "### 3 drop shard", sizeof(DropShardEntry));
    expect_complete("manifest.md", "### 4 container", sizeof(ContainerEntry));
    expect_complete("manifest.md", "### 5 take chunk", sizeof(TakeChunkEntry));
    expect_complete("manifest.md", "### 6 point", sizeof(PointEntry));
    expect_complete("manifest.md", "### 7 trim", sizeof(TrimEntry));
    expect_complete("manifest.md", "### 8 replica left", sizeof(ReplicaLeftEntry));
    expect_complete("manifest.md", "### 9 chunk refilled", sizeof(ChunkRefilledEntry));
    expect_complete("manifest.md", "### 10 lost range", sizeof(LostRangeEntry));
    expect_complete("manifest.md", "### 11 next sequence", sizeof(NextSequenceEntry));
    expect_complete("manifest.md", "### 12 epoch started", sizeof(EpochStartedEntry));
    expect_complete("manifest.md", "### 13 retention", sizeof(RetentionEntry));
    expect_complete("manifest.md", "### 14 seal chunk", sizeof(SealChunkEntry));
    expect_complete("manifest.md", "### 15 replica blank", sizeof(ReplicaBlankEntry));
    expect_complete("manifest.md", "### 16 close shard", sizeof(CloseShardEntry));
    expect_complete("manifest.md", "### 17 producer run", sizeof(ProducerRunEntry));
}

}  // namespace
}  // namespace penstock
