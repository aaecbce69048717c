// How far a stream was read, in a file, so that a later run goes on behind it.
//
// The file is written anew and put in the old one's place each time: a crash leaves one or the
// other whole. It says what was written out before it was made, never more; what was written out
// after it comes again.
//
// Runs on: one thread at a time. Blocks.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "tools/consumer/position.h"

namespace penstock::consumer {

struct Checkpoint {
    struct Shard {
        std::string sequence;  // of the last record; empty: none yet
        bool ended = false;    // read to its end
        friend bool operator==(const Shard&, const Shard&) = default;
    };
    std::string stream;
    Position start;  // of shards without a sequence; never `newest`
    std::map<std::string, Shard> shards;
    friend bool operator==(const Checkpoint&, const Checkpoint&) = default;
};

[[nodiscard]] std::string checkpoint_text(const Checkpoint& checkpoint);
// False, with one line in `why`, when the text is no checkpoint of this version.
[[nodiscard]] bool parse_checkpoint(const std::string& text, Checkpoint& out, std::string& why);

enum class CheckpointFile : std::uint8_t { read, absent, bad };
// `why` says what is wrong with a bad one.
[[nodiscard]] CheckpointFile read_checkpoint(const std::string& path, Checkpoint& out,
                                             std::string& why);
// False, with one line in `why`: the file is as it was.
[[nodiscard]] bool write_checkpoint(const std::string& path, const Checkpoint& checkpoint,
                                    std::string& why);

}  // namespace penstock::consumer
