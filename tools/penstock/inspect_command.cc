#include "tools/penstock/inspect_command.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "control/catalog/change_codec.h"
#include "storage/base/counted.h"
#include "storage/inspect/set_view.h"
#include "storage/inspect/verify.h"
#include "storage/io/uring_engine.h"
#include "storage/journal/ring.h"
#include "storage/segment/reader.h"
#include "tools/penstock/data_directories.h"
#include "tools/penstock/json_text.h"

namespace penstock {
namespace {

constexpr int exit_sound = 0;
constexpr int exit_differs = 1;
constexpr int exit_unreadable = 2;

// -- Output ---------------------------------------------------------------------------------------

[[gnu::format(printf, 1, 2)]] void say(const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    std::vprintf(format, arguments);
    va_end(arguments);
}

[[nodiscard]] std::string hex(std::uint64_t number) {
    char text[17];
    std::snprintf(text, sizeof text, "%016" PRIx64, number);
    return text;
}

// Collects the members of a JSON object in order.
class JsonObject {
public:
    JsonObject& add(std::string_view key, std::string_view text) {
        return raw(key, json_text(text));
    }
    JsonObject& add(std::string_view key, const char* text) {
        return add(key, std::string_view(text));
    }
    JsonObject& add(std::string_view key, std::uint64_t number) {
        return raw(key, std::to_string(number));
    }
    JsonObject& add_signed(std::string_view key, std::int64_t number) {
        return raw(key, std::to_string(number));
    }
    JsonObject& add(std::string_view key, bool truth) { return raw(key, truth ? "true" : "false"); }
    JsonObject& raw(std::string_view key, const std::string& json) {
        text_ += (text_.empty() ? "" : ",") + json_text(key) + ":" + json;
        return *this;
    }
    [[nodiscard]] std::string str() const { return "{" + text_ + "}"; }

private:
    std::string text_;
};

template <typename List, typename Item>
[[nodiscard]] std::string json_list(const List& list, Item item) {
    std::string out = "[";
    for (const auto& one : list) {
        out += (out.size() > 1 ? "," : "") + item(one);
    }
    return out + "]";
}

[[nodiscard]] std::string json_replicas(ReplicaMask mask) {
    std::vector<unsigned> replicas;
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((mask >> r & 1) != 0) {
            replicas.push_back(r);
        }
    }
    return json_list(replicas, [](unsigned r) { return std::to_string(r); });
}

[[nodiscard]] std::string json_ranges(const std::vector<SequenceRange>& ranges) {
    return json_list(ranges, [](const SequenceRange& range) {
        return "[" + std::to_string(range.first) + "," + std::to_string(range.last) + "]";
    });
}

// -- The set, opened for reading ------------------------------------------------------------------

class Inspection {
public:
    explicit Inspection(const InspectOptions& options) : options_(options) {}
    ~Inspection() {
        for (const int fd : fds_) {
            if (fd >= 0) {
                ::close(fd);
            }
        }
    }
    Inspection(const Inspection&) = delete;
    Inspection& operator=(const Inspection&) = delete;

    int run();

private:
    [[nodiscard]] Result<std::unique_ptr<IoEngine>> engine() const {
        UringOptions uring;
        uring.directory_fds = fds_;
        auto opened = UringEngine::open(uring);
        if (!opened) {
            std::fprintf(stderr, "penstock inspect: %s\n",
                         UringEngine::explain_open_failure(opened.error()).c_str());
            return std::unexpected(opened.error());
        }
        return std::unique_ptr<IoEngine>(std::move(*opened));
    }
    [[nodiscard]] VerifyOptions verify_options() const {
        VerifyOptions options;
        options.geometry = view_.decision.geometry;
        options.readable = view_.members;
        options.voting = view_.decision.voting == 0 ? view_.members : view_.decision.voting;
        return options;
    }
    [[nodiscard]] GroupId group_at(std::uint32_t number) const { return GroupId{number}; }
    [[nodiscard]] std::uint32_t group_count() const {
        return view_.decision.geometry.data_groups + 1;
    }
    static int cannot(const std::string& what, const Error& error) {
        std::fprintf(stderr, "penstock inspect: %s: %s\n", what.c_str(), describe(error).c_str());
        return exit_unreadable;
    }
    // State view of a group, its differences put aside.
    [[nodiscard]] Result<StateView> state_of(std::uint32_t group, IoEngine& over) const {
        std::vector<Difference> ignored;
        return view_state_log(over, verify_options(), group_at(group), ignored);
    }

    int summary();
    int superblock();
    int manifest();
    int journal();
    int segments();
    int catalog();
    int verify();
    void check_catalog(SetReport& report);
    void print_report(const SetReport& report, double seconds) const;
    void print_report_json(const SetReport& report, double seconds) const;
    void head(JsonObject& out) const;

    const InspectOptions& options_;
    SetView view_;
    std::array<int, replica_count> fds_{-1, -1, -1};
};

void Inspection::head(JsonObject& out) const {
    out.add("set", hex(view_.decision.geometry.set_id))
        .add("running", view_.any_locked())
        .raw("members", json_replicas(view_.members))
        .raw("voting", json_replicas(view_.decision.voting));
}

int Inspection::run() {
    const auto directories = expand_data_directories(options_.data);
    if (!directories) {
        std::fprintf(stderr, "penstock inspect: %s\n", directories.error().c_str());
        return exit_unreadable;
    }
    view_ = look_at_set(*directories);
    if (view_.any_locked() && !options_.json) {
        say("note: a running node holds these directories: what follows may change while it is "
            "read; stop the node for an exact answer\n");
    }
    if (options_.view == InspectView::superblock) {
        return superblock();
    }
    if (view_.members == 0) {
        std::fprintf(stderr, "penstock inspect: expected a replica set, found none to read\n");
        for (unsigned r = 0; r < replica_count; ++r) {
            std::fprintf(stderr, "  %s: %s\n", view_.directories[r].c_str(),
                         describe(view_.decision.verdicts[r]));
        }
        return exit_unreadable;
    }
    for (unsigned r = 0; r < replica_count; ++r) {
        if ((view_.members >> r & 1) != 0) {
            fds_[r] = ::open(view_.directories[r].c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        }
    }
    switch (options_.view) {
        case InspectView::summary:
            return summary();
        case InspectView::superblock:
            return superblock();
        case InspectView::manifest:
            return manifest();
        case InspectView::journal:
            return journal();
        case InspectView::segments:
            return segments();
        case InspectView::catalog:
            return catalog();
        case InspectView::verify:
            return verify();
    }
    return exit_unreadable;
}

// -- Superblocks ----------------------------------------------------------------------------------

int Inspection::superblock() {
    std::vector<std::string> rows;
    for (unsigned r = 0; r < replica_count; ++r) {
        const PlaceState& place = view_.places[r];
        const Superblock& s = place.superblock;
        const SetGeometry& g = s.geometry;
        JsonObject row;
        row.add("directory", view_.directories[r])
            .add("place", describe(place.kind))
            .add("verdict", describe(view_.decision.verdicts[r]))
            .add("locked", view_.locked[r]);
        if (place.kind == PlaceKind::readable) {
            row.add("set", hex(g.set_id))
                .add("replica", std::uint64_t{s.replica_index})
                .add("replica_id", hex(s.replica_id))
                .add("state", describe(s.state))
                .add("epoch_promised", value(s.epoch_promised))
                .add("generation", s.generation)
                .add_signed("created_ms", s.created_ms)
                .add("roster_version", s.roster_version)
                .raw("roster",
                     json_list(s.roster, [](std::uint64_t id) { return json_text(hex(id)); }))
                .add("data_groups", std::uint64_t{g.data_groups})
                .add("journal_files", std::uint64_t{g.journal_files})
                .add("journal_file_bytes", g.journal_file_bytes)
                .add("container_bytes", g.container_bytes)
                .add("chunk_unit_bytes", std::uint64_t{g.chunk_unit_bytes})
                .add("chunk_units_max", std::uint64_t{g.chunk_units_max})
                .add("manifest_bytes", g.manifest_bytes);
        }
        rows.push_back(row.str());
        if (options_.json) {
            continue;
        }
        say("replica %u  %s\n  %s; counts as %s%s\n", r, view_.directories[r].c_str(),
            describe(place.kind), describe(view_.decision.verdicts[r]),
            view_.locked[r] ? "; a running node holds it" : "");
        if (place.kind == PlaceKind::readable) {
            say("  set %s, replica %u, id %s, %s\n", hex(g.set_id).c_str(), s.replica_index,
                hex(s.replica_id).c_str(), describe(s.state));
            say("  promised epoch %" PRIu64 ", generation %" PRIu64 ", roster version %" PRIu64
                ": %s %s %s\n",
                value(s.epoch_promised), s.generation, s.roster_version, hex(s.roster[0]).c_str(),
                hex(s.roster[1]).c_str(), hex(s.roster[2]).c_str());
            say("  %s; journal %u x %" PRIu64 " bytes; container %" PRIu64
                " bytes, chunks of 1 to %u x %u bytes; manifest slot %" PRIu64 " bytes\n",
                counted(g.data_groups, "data group").c_str(), g.journal_files, g.journal_file_bytes,
                g.container_bytes, g.chunk_units_max, g.chunk_unit_bytes, g.manifest_bytes);
        }
    }
    if (options_.json) {
        say("{\"replicas\":%s}\n", json_list(rows, [](const std::string& r) { return r; }).c_str());
    }
    if (view_.members == 0) {
        return exit_unreadable;
    }
    return view_.members == all_replicas ? exit_sound : exit_differs;
}

// -- Manifest -------------------------------------------------------------------------------------

[[nodiscard]] std::string json_shard(const ShardTable& shard) {
    JsonObject out;
    out.add("uid", value(shard.uid))
        .add("next_sequence", shard.next_sequence)
        .add("trim_sequence", shard.trim_sequence)
        .add("end_sequence", shard.end.sequence)
        .add("end_epoch", shard.end.epoch)
        .add("end_crc", std::uint64_t{shard.end.crc})
        .add_signed("retention_ms", shard.retention_ms)
        .add("closed", shard.closed)
        .raw("chunks", json_list(shard.chunks,
                                 [](const Chunk& chunk) {
                                     JsonObject one;
                                     one.add("ordinal", chunk.ordinal)
                                         .add("container", std::uint64_t{chunk.run.container})
                                         .add("unit", std::uint64_t{chunk.run.unit})
                                         .add("units", std::uint64_t{chunk.run.units})
                                         .add("end_offset", chunk.end_offset)
                                         .add("before_sequence", chunk.before_sequence)
                                         .add("end_sequence", chunk.end_sequence)
                                         .add("sealed", chunk.sealed)
                                         .raw("missing", json_replicas(chunk.missing));
                                     return one.str();
                                 }))
        .raw("lost", json_list(shard.lost, [](const LostRange& range) {
                 return "[" + std::to_string(range.from) + "," + std::to_string(range.until - 1) +
                        "]";
             }));
    return out.str();
}

void print_shard(const ShardTable& shard) {
    say("  shard %" PRIu64 ": records %" PRIu64 "..%" PRIu64 " in %s, next %" PRIu64
        ", retention %" PRId64 " h%s\n",
        value(shard.uid), shard.trim_sequence, shard.end.sequence,
        counted(shard.chunks.size(), "chunk").c_str(), shard.next_sequence,
        shard.retention_ms / 3'600'000, shard.closed ? ", closed" : "");
    for (const Chunk& chunk : shard.chunks) {
        say("    chunk %" PRIu64 ": container %u, units %u..%u, filled %" PRIu64
            " bytes, records behind %" PRIu64 " to %" PRIu64 "%s%s\n",
            chunk.ordinal, chunk.run.container, chunk.run.unit,
            chunk.run.unit + chunk.run.units - 1, chunk.end_offset, chunk.before_sequence,
            chunk.end_sequence, chunk.sealed ? ", sealed" : "",
            chunk.missing == 0 ? "" : (", missing on " + replica_names(chunk.missing)).c_str());
    }
    for (const LostRange& range : shard.lost) {
        say("    LOST records %" PRIu64 "..%" PRIu64 "\n", range.from, range.until - 1);
    }
}

int Inspection::manifest() {
    std::string groups;
    for (std::uint32_t number = 1; number < group_count(); ++number) {
        const auto over = engine();
        if (!over) {
            return exit_unreadable;
        }
        const auto state = state_of(number, **over);
        if (!state) {
            return cannot("state log of group " + std::to_string(number), state.error());
        }
        const auto table = table_of(view_.decision.geometry, state->read);
        if (!table) {
            return cannot("manifest of group " + std::to_string(number), table.error());
        }
        JsonObject group;
        group.add("group", std::uint64_t{number})
            .add("found", state->read.found)
            .add("epoch", state->read.epoch)
            .add("started_epoch", table->started_epoch())
            .add("generation", state->read.generation)
            .add("blocks", std::uint64_t{state->blocks.size()})
            .raw("sent_to", json_replicas(state->sent_to))
            .add("free_units", table->space().free_units())
            .add("total_units", table->space().total_units());
        std::vector<std::string> shards;
        for (const auto& [uid, shard] : table->shards()) {
            shards.push_back(json_shard(shard));
        }
        group.raw("shards", json_list(shards, [](const std::string& s) { return s; }));
        groups += (groups.empty() ? "" : ",") + group.str();
        if (options_.json) {
            continue;
        }
        say("group %u: epoch %" PRIu64 " (started %" PRIu64 "), generation %" PRIu64
            ", %zu blocks in %s, sent to %s; %" PRIu64 " of %" PRIu64 " units free\n",
            number, state->read.epoch, table->started_epoch(), state->read.generation,
            state->blocks.size(), state_name(group_at(number), state->read.slot).c_str(),
            replica_names(state->sent_to).c_str(), table->space().free_units(),
            table->space().total_units());
        for (const auto& [uid, shard] : table->shards()) {
            print_shard(shard);
        }
    }
    if (options_.json) {
        JsonObject out;
        head(out);
        say("%s\n", out.raw("groups", "[" + groups + "]").str().c_str());
    }
    return exit_sound;
}

// -- Journal --------------------------------------------------------------------------------------

int Inspection::journal() {
    std::string blocks;
    for (std::uint32_t number = 1; number < group_count(); ++number) {
        const auto over = engine();
        if (!over) {
            return exit_unreadable;
        }
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((view_.members >> r & 1) == 0) {
                continue;
            }
            const auto copy =
                read_journal_copy(**over, view_.decision.geometry, group_at(number), r);
            if (!copy) {
                return cannot("journal of replica " + std::to_string(r), copy.error());
            }
            if (!options_.json) {
                say("group %u, replica %u: %zu blocks\n", number, r, copy->blocks.size());
            }
            for (const SeenJournalBlock& block : copy->blocks) {
                const std::string file = journal_name(group_at(number), block.file);
                const char* verdict = block.fault != BlockFault::none ? describe(block.fault)
                                      : block.sound                   ? "intact"
                                                                      : "a frame is damaged";
                if (!options_.json) {
                    say("  %s at %" PRIu64 ": epoch %" PRIu64 " block %" PRIu64
                        ", %u frames, %u bytes, %s\n",
                        file.c_str(), block.offset, block.header.epoch, block.header.number,
                        block.header.frame_count, block.header.used_bytes, verdict);
                    continue;
                }
                JsonObject one;
                one.add("group", std::uint64_t{number})
                    .add("replica", std::uint64_t{r})
                    .add("file", file)
                    .add("offset", block.offset)
                    .add("epoch", block.header.epoch)
                    .add("number", block.header.number)
                    .add("frames", std::uint64_t{block.header.frame_count})
                    .add("bytes", std::uint64_t{block.header.used_bytes})
                    .raw("sent_to", json_replicas(block.header.sent_to))
                    .add("durable_through", block.header.durable_through)
                    .add("state", verdict);
                blocks += (blocks.empty() ? "" : ",") + one.str();
            }
        }
    }
    if (options_.json) {
        JsonObject out;
        head(out);
        say("%s\n", out.raw("blocks", "[" + blocks + "]").str().c_str());
    }
    return exit_sound;
}

// -- Segments -------------------------------------------------------------------------------------

// Every shard's chunks with what a verification finds in them.
int Inspection::segments() {
    auto report = verify_set(verify_options(), [this] { return engine(); });
    if (!report) {
        return cannot("segments", report.error());
    }
    if (options_.json) {
        JsonObject out;
        head(out);
        out.raw("shards", json_list(report->shards, [](const ShardReport& shard) {
                    JsonObject one;
                    one.add("uid", shard.uid)
                        .add("group", std::uint64_t{shard.group})
                        .add("chunks", shard.chunks)
                        .add("frames", shard.frames)
                        .add("records", shard.records)
                        .raw("ranges", json_ranges(shard.ranges));
                    return one.str();
                }));
        say("%s\n", out.str().c_str());
        return report->sound() ? exit_sound : exit_differs;
    }
    for (const ShardReport& shard : report->shards) {
        say("shard %" PRIu64 " (group %u): %s, %s in segments, %" PRIu64 " pending, %s\n",
            shard.uid, shard.group, counted(shard.chunks, "chunk").c_str(),
            counted(shard.frames, "frame").c_str(), shard.pending_frames,
            counted(shard.records, "record").c_str());
        for (const SequenceRange& range : shard.ranges) {
            say("  records %" PRIu64 "..%" PRIu64 "\n", range.first, range.last);
        }
    }
    return report->sound() ? exit_sound : exit_differs;
}

// -- Catalog --------------------------------------------------------------------------------------

// Text as it may be shown: secrets never, other bytes escaped.
[[nodiscard]] std::string shown_value(const CatalogOperation& operation) {
    if (operation.key.starts_with("secret/")) {
        return "(hidden)";
    }
    return operation.key.starts_with("credential/")
               ? "(sealed, " + std::to_string(operation.value.size()) + " bytes)"
               : operation.value;
}

// An entry of group 0's state log: one byte for its kind, then the record.
[[nodiscard]] Result<CatalogRecord> decode_entry(Bytes entry) {
    if (entry.empty() || static_cast<std::uint8_t>(entry[0]) > 1) {
        return fail(Errc::corrupt);
    }
    return decode_catalog_record(entry.subspan(1));
}

int Inspection::catalog() {
    const auto over = engine();
    if (!over) {
        return exit_unreadable;
    }
    const auto state = state_of(0, **over);
    if (!state) {
        return cannot("state log of the catalog", state.error());
    }
    std::string records;
    bool sound = true;
    const bool whole = replay_state(state->read, [&](bool, Bytes entry) {
        const auto record = decode_entry(entry);
        if (!record) {
            sound = false;
            if (!options_.json) {
                say("damage: an entry of %zu bytes cannot be decoded: %s\n", entry.size(),
                    describe(record.error()).c_str());
            }
            return true;
        }
        const bool snapshot = record->kind == ChangeLog::Kind::snapshot;
        if (!options_.json) {
            say("%s, revision %" PRIu64 "\n", snapshot ? "snapshot" : "change",
                static_cast<std::uint64_t>(record->revision));
        }
        std::string operations;
        for (const CatalogOperation& operation : record->operations) {
            const bool put = operation.kind == CatalogOperation::Kind::put;
            const std::string text = put ? shown_value(operation) : "";
            if (!options_.json) {
                say("  %s %s%s\n", put ? "put" : "remove", json_text(operation.key).c_str(),
                    put ? (" = " + json_text(text)).c_str() : "");
                continue;
            }
            JsonObject one;
            one.add("operation", put ? "put" : "remove").add("key", operation.key);
            if (put) {
                one.add("value", text);
            }
            one.add("revision", static_cast<std::uint64_t>(operation.revision));
            operations += (operations.empty() ? "" : ",") + one.str();
        }
        JsonObject one;
        one.add("kind", snapshot ? "snapshot" : "change")
            .add("revision", static_cast<std::uint64_t>(record->revision))
            .raw("operations", "[" + operations + "]");
        records += (records.empty() ? "" : ",") + one.str();
        return true;
    });
    if (options_.json) {
        JsonObject out;
        head(out);
        say("%s\n",
            out.add("sound", sound && whole).raw("records", "[" + records + "]").str().c_str());
    }
    return sound && whole ? exit_sound : exit_differs;
}

// -- Verify ---------------------------------------------------------------------------------------

void Inspection::check_catalog(SetReport& report) {
    const auto over = engine();
    const auto state =
        over ? state_of(0, **over) : Result<StateView>(std::unexpected(over.error()));
    if (!state || !state->read.found) {
        return;  // told by the verification of its blocks
    }
    std::uint64_t number = 0;
    const auto bad = [&](const std::string& what) {
        Difference difference;
        difference.level = DifferenceLevel::damage;
        difference.kind = DifferenceKind::state_log;
        difference.file = state_name(GroupId{0}, state->read.slot);
        difference.what = what;
        report.differences.push_back(std::move(difference));
    };
    const bool whole = replay_state(state->read, [&](bool, Bytes entry) {
        ++number;
        if (const auto record = decode_entry(entry); !record) {
            bad("catalog entry " + std::to_string(number) + ": " + describe(record.error()));
        }
        return true;
    });
    if (!whole) {
        bad("the catalog's entries are malformed behind entry " + std::to_string(number));
    }
}

void Inspection::print_report(const SetReport& report, double seconds) const {
    for (const Difference& difference : report.differences) {
        say("%s\n", describe(difference).c_str());
    }
    std::uint64_t journal_blocks = 0;
    for (const GroupReport& group : report.groups) {
        journal_blocks += group.journal_blocks;
    }
    std::uint64_t all_bytes = 0;
    say("%s, %s, %s in segments, %" PRIu64 " pending (%" PRIu64
        " behind the recorded ends), %s, %s\n",
        counted(report.shards.size(), "shard").c_str(), counted(report.chunks, "chunk").c_str(),
        counted(report.frames, "frame").c_str(), report.pending_frames, report.tail_frames,
        counted(journal_blocks, "journal block").c_str(),
        counted(report.records, "record").c_str());
    for (unsigned r = 0; r < replica_count; ++r) {
        say("replica %u: %" PRIu64 " bytes verified\n", r, report.verified_bytes[r]);
        all_bytes += report.verified_bytes[r];
    }
    say("%.2f s, %.0f MB/s\n", seconds,
        seconds > 0 ? static_cast<double>(all_bytes) / 1e6 / seconds : 0.0);
    say("%" PRIu64 " lost, %" PRIu64 " damaged, %s: %s\n", report.count(DifferenceLevel::lost),
        report.count(DifferenceLevel::damage),
        counted(report.count(DifferenceLevel::note), "note").c_str(),
        report.sound() ? "sound" : "NOT SOUND");
}

[[nodiscard]] std::string json_difference(const Difference& d) {
    JsonObject out;
    out.add("level", describe(d.level)).add("kind", describe(d.kind));
    if (d.replica >= 0) {
        out.add_signed("replica", d.replica);
    }
    if (!d.file.empty()) {
        out.add("file", d.file).add("offset", d.offset).add("bytes", d.bytes);
    }
    if (d.shard != 0) {
        out.add("shard", d.shard);
    }
    if (d.last != 0) {
        out.add("first", d.first).add("last", d.last);
    }
    return out.raw("good", json_replicas(d.good)).add("what", d.what).str();
}

void Inspection::print_report_json(const SetReport& report, double seconds) const {
    JsonObject out;
    head(out);
    out.add("sound", report.sound())
        .add("lost", report.count(DifferenceLevel::lost))
        .add("damaged", report.count(DifferenceLevel::damage))
        .add("notes", report.count(DifferenceLevel::note))
        .add("chunks", report.chunks)
        .add("frames", report.frames)
        .add("records", report.records)
        .add("pending_frames", report.pending_frames)
        .add("tail_frames", report.tail_frames)
        .raw("verified_bytes",
             json_list(report.verified_bytes, [](std::uint64_t b) { return std::to_string(b); }))
        .raw("seconds", std::to_string(seconds))
        .raw("groups", json_list(report.groups,
                                 [](const GroupReport& group) {
                                     JsonObject one;
                                     one.add("group", std::uint64_t{group.group})
                                         .add("found", group.found)
                                         .add("epoch", group.epoch)
                                         .add("started_epoch", group.started_epoch)
                                         .add("generation", group.generation)
                                         .add("state_blocks", group.state_blocks)
                                         .add("journal_blocks", group.journal_blocks)
                                         .add("journal_frames", group.journal_frames);
                                     return one.str();
                                 }))
        .raw("shards", json_list(report.shards,
                                 [](const ShardReport& shard) {
                                     JsonObject one;
                                     one.add("uid", shard.uid)
                                         .add("group", std::uint64_t{shard.group})
                                         .add("trim_sequence", shard.trim_sequence)
                                         .add("end_sequence", shard.end_sequence)
                                         .add("chunks", shard.chunks)
                                         .add("frames", shard.frames)
                                         .add("pending_frames", shard.pending_frames)
                                         .add("void_frames", shard.void_frames)
                                         .add("records", shard.records)
                                         .raw("ranges", json_ranges(shard.ranges))
                                         .raw("lost", json_ranges(shard.lost));
                                     return one.str();
                                 }))
        .raw("differences", json_list(report.differences, json_difference));
    say("%s\n", out.str().c_str());
}

int Inspection::verify() {
    const auto begun = std::chrono::steady_clock::now();
    auto report = verify_set(verify_options(), [this] { return engine(); });
    if (!report) {
        return cannot("verification", report.error());
    }
    compare_superblocks(view_, report->differences);
    check_catalog(*report);
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    options_.json ? print_report_json(*report, seconds) : print_report(*report, seconds);
    return report->sound() ? exit_sound : exit_differs;
}

// -- Summary --------------------------------------------------------------------------------------

int Inspection::summary() {
    JsonObject out;
    head(out);
    std::vector<Difference> differences;
    compare_superblocks(view_, differences);
    std::vector<std::string> groups;
    if (!options_.json) {
        say("set %s, epoch %" PRIu64 "; %s voting\n", hex(view_.decision.geometry.set_id).c_str(),
            value(view_.decision.highest_promised), replica_names(view_.decision.voting).c_str());
        for (unsigned r = 0; r < replica_count; ++r) {
            say("replica %u  %s  %s\n", r, view_.directories[r].c_str(),
                describe(view_.decision.verdicts[r]));
        }
    }
    for (std::uint32_t number = 0; number < group_count(); ++number) {
        const auto over = engine();
        if (!over) {
            return exit_unreadable;
        }
        const auto state = view_state_log(**over, verify_options(), group_at(number), differences);
        if (!state) {
            return cannot("state log of group " + std::to_string(number), state.error());
        }
        JsonObject group;
        group.add("group", std::uint64_t{number})
            .add("found", state->read.found)
            .add("epoch", state->read.epoch)
            .add("generation", state->read.generation);
        std::string line = "group " + std::to_string(number) + ": epoch " +
                           std::to_string(state->read.epoch) + ", generation " +
                           std::to_string(state->read.generation);
        if (number == 0) {
            line += ", the catalog";
        } else if (const auto table = table_of(view_.decision.geometry, state->read); table) {
            std::uint64_t chunks = 0;
            std::uint64_t bytes = 0;
            for (const auto& [uid, shard] : table->shards()) {
                chunks += shard.chunks.size();
                for (const Chunk& chunk : shard.chunks) {
                    bytes += chunk.end_offset;
                }
            }
            group.add("shards", std::uint64_t{table->shards().size()})
                .add("chunks", chunks)
                .add("segment_bytes", bytes);
            line += ", " + counted(table->shards().size(), "shard") + ", " +
                    counted(chunks, "chunk") + ", " + counted(bytes, "byte") + " in segments";
        } else {
            line += ", its entries contradict each other";
        }
        groups.push_back(group.str());
        if (!options_.json) {
            say("%s\n", line.c_str());
        }
    }
    bool sound = true;
    for (const Difference& difference : differences) {
        sound = sound && difference.level == DifferenceLevel::note;
        if (!options_.json) {
            say("%s\n", describe(difference).c_str());
        }
    }
    if (options_.json) {
        out.add("epoch", value(view_.decision.highest_promised))
            .raw("groups", json_list(groups, [](const std::string& g) { return g; }))
            .raw("differences", json_list(differences, json_difference));
        say("%s\n", out.str().c_str());
    } else {
        say("'inspect verify' reads every frame\n");
    }
    return sound ? exit_sound : exit_differs;
}

}  // namespace

int run_inspect(const InspectOptions& options) {
    return Inspection(options).run();
}

}  // namespace penstock
