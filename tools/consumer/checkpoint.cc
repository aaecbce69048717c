#include "tools/consumer/checkpoint.h"

#include <fcntl.h>
#include <simdjson.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "storage/base/descriptor.h"
#include "tools/penstock/json_text.h"

namespace penstock::consumer {

namespace {

constexpr std::int64_t version = 1;
constexpr std::size_t file_bytes_max = 64U << 20;

std::string start_text(const Position& start) {
    switch (start.kind) {
        case PositionKind::at_time:
            return "time:" + time_text(start.time_ms);
        case PositionKind::at_sequence:
            return "at:" + start.sequence;
        case PositionKind::after_sequence:
            return "after:" + start.sequence;
        case PositionKind::oldest:
        case PositionKind::newest:
            break;
    }
    return "trim-horizon";
}

std::string system_error(const std::string& path, const char* what) {
    return path + ": " + what + ": " + std::strerror(errno);
}

bool write_whole(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t written = ::write(fd, text.data(), text.size());
        if (written < 0 && errno == EINTR) {
            continue;
        }
        if (written <= 0) {
            return false;
        }
        text.remove_prefix(static_cast<std::size_t>(written));
    }
    return true;
}

}  // namespace

std::string checkpoint_text(const Checkpoint& checkpoint) {
    std::string text = "{\"version\":" + std::to_string(version) +
                       ",\"stream\":" + json_text(checkpoint.stream) +
                       ",\"start\":" + json_text(start_text(checkpoint.start)) + ",\"shards\":{";
    bool first = true;
    for (const auto& [id, shard] : checkpoint.shards) {
        text += first ? "\n" : ",\n";
        first = false;
        text += json_text(id) + ":{\"sequence_number\":" +
                (shard.sequence.empty() ? std::string("null") : json_text(shard.sequence)) +
                ",\"ended\":" + (shard.ended ? "true" : "false") + "}";
    }
    return text + "}}\n";
}

bool parse_checkpoint(const std::string& text, Checkpoint& out, std::string& why) {
    simdjson::dom::parser parser;
    simdjson::dom::object root;
    std::int64_t found = 0;
    if (parser.parse(text).get(root) != simdjson::SUCCESS) {
        why = "found no JSON object; expected what an earlier run wrote there";
        return false;
    }
    if (root["version"].get(found) != simdjson::SUCCESS || found != version) {
        why = "found another version than " + std::to_string(version);
        return false;
    }
    std::string_view stream;
    std::string_view start;
    simdjson::dom::object shards;
    if (root["stream"].get(stream) != simdjson::SUCCESS ||
        root["start"].get(start) != simdjson::SUCCESS ||
        root["shards"].get(shards) != simdjson::SUCCESS) {
        why = "found no \"stream\", \"start\" or \"shards\"; expected what an earlier run wrote";
        return false;
    }
    const auto position = parse_position(start);
    if (!position || position->kind == PositionKind::newest) {
        why = "found \"start\" '" + std::string(start) + "'; expected a position";
        return false;
    }
    out.stream = stream;
    out.start = *position;
    out.shards.clear();
    for (const auto& [id, value] : shards) {
        Checkpoint::Shard& shard = out.shards[std::string(id)];
        std::string_view sequence;
        simdjson::dom::element number;
        if (value["ended"].get(shard.ended) != simdjson::SUCCESS ||
            value["sequence_number"].get(number) != simdjson::SUCCESS ||
            (!number.is_null() && number.get(sequence) != simdjson::SUCCESS)) {
            why = "found shard '" + std::string(id) + "' without \"sequence_number\" or \"ended\"";
            return false;
        }
        shard.sequence = sequence;
    }
    return true;
}

CheckpointFile read_checkpoint(const std::string& path, Checkpoint& out, std::string& why) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (file.get() < 0) {
        if (errno == ENOENT) {
            return CheckpointFile::absent;
        }
        why = system_error(path, "cannot be read");
        return CheckpointFile::bad;
    }
    std::string text;
    char piece[16'384];
    for (;;) {
        const ssize_t got = ::read(file.get(), piece, sizeof piece);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            why = system_error(path, "cannot be read");
            return CheckpointFile::bad;
        }
        if (got == 0) {
            break;
        }
        text.append(piece, static_cast<std::size_t>(got));
        if (text.size() > file_bytes_max) {
            why = path + ": found more than 64 MiB; expected a checkpoint";
            return CheckpointFile::bad;
        }
    }
    if (!parse_checkpoint(text, out, why)) {
        why = path + ": " + why;
        return CheckpointFile::bad;
    }
    return CheckpointFile::read;
}

bool write_checkpoint(const std::string& path, const Checkpoint& checkpoint, std::string& why) {
    const std::string fresh = path + ".new";
    {
        const Descriptor file(
            ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
        if (file.get() < 0 || !write_whole(file.get(), checkpoint_text(checkpoint)) ||
            ::fsync(file.get()) != 0) {
            why = system_error(fresh, "cannot be written");
            return false;
        }
    }
    if (std::rename(fresh.c_str(), path.c_str()) != 0) {
        why = system_error(path, "cannot be replaced");
        return false;
    }
    const std::size_t slash = path.rfind('/');
    const std::string directory =
        slash == std::string::npos ? "." : path.substr(0, slash == 0 ? 1 : slash);
    const Descriptor at(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (at.get() >= 0) {
        (void)::fsync(at.get());  // some file systems cannot; the name is in place anyway
    }
    return true;
}

}  // namespace penstock::consumer
