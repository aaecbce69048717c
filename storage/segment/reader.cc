#include "storage/segment/reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <map>

#include "storage/format/frame.h"

namespace penstock {

namespace {

constexpr std::size_t window_bytes = 4U << 20;
// A frame can be this large; the window grows to it when one is met.
constexpr std::size_t window_bytes_max = 17U << 20;

class DirectoryFiles final : public ContainerFiles {
public:
    explicit DirectoryFiles(std::array<std::string, 3> directories)
        : directories_(std::move(directories)) {}
    ~DirectoryFiles() override {
        for (const auto& [key, open] : files_) {
            ::close(open.fd);
        }
    }
    DirectoryFiles(const DirectoryFiles&) = delete;
    DirectoryFiles& operator=(const DirectoryFiles&) = delete;

    Result<std::size_t> read(unsigned replica, std::uint32_t group, std::uint32_t container,
                             std::uint64_t offset, MutableBytes into) override {
        PENSTOCK_TRY(fd, file(replica, group, container));
        std::size_t have = 0;
        while (have < into.size()) {
            const ssize_t got = ::pread(fd, into.data() + have, into.size() - have,
                                        static_cast<off_t>(offset + have));
            if (got < 0 && errno == EINTR) {
                continue;
            }
            if (got < 0) {
                forget(replica, group, container);
                return fail(Errc::io_failed, errno, replica);
            }
            if (got == 0) {
                break;
            }
            have += static_cast<std::size_t>(got);
        }
        return have;
    }

private:
    struct Open {
        int fd = -1;
        dev_t device = 0;
        ino_t inode = 0;
        unsigned uses = 0;
    };
    using Key = std::uint64_t;
    static Key key_of(unsigned replica, std::uint32_t group, std::uint32_t container) {
        return (std::uint64_t{replica} << 60) | (std::uint64_t{group} << 32) | container;
    }

    void forget(unsigned replica, std::uint32_t group, std::uint32_t container) {
        const auto found = files_.find(key_of(replica, group, container));
        if (found != files_.end()) {
            ::close(found->second.fd);
            files_.erase(found);
        }
    }

    // A replica's directory may be replaced under a running node, so every so often the path is
    // looked at again.
    Result<int> file(unsigned replica, std::uint32_t group, std::uint32_t container) {
        constexpr unsigned look_again_after = 64;
        const std::string path = directories_[replica] + "/" + container_name(group, container);
        const auto found = files_.find(key_of(replica, group, container));
        if (found != files_.end()) {
            struct stat now{};
            if (++found->second.uses % look_again_after != 0) {
                return found->second.fd;
            }
            if (::stat(path.c_str(), &now) == 0 && now.st_dev == found->second.device &&
                now.st_ino == found->second.inode) {
                return found->second.fd;
            }
            forget(replica, group, container);
        }
        int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_DIRECT);
        if (fd < 0 && errno == EINVAL) {
            fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);  // a file system without O_DIRECT
        }
        if (fd < 0) {
            return fail(errno == ENOENT ? Errc::not_found : Errc::io_failed, errno, replica);
        }
        struct stat info{};
        if (::fstat(fd, &info) != 0) {
            const int code = errno;
            ::close(fd);
            return fail(Errc::io_failed, code, replica);
        }
        files_[key_of(replica, group, container)] = {fd, info.st_dev, info.st_ino, 0};
        return fd;
    }

    std::array<std::string, 3> directories_;
    std::map<Key, Open> files_;
};

}  // namespace

std::string container_name(std::uint32_t group, std::uint32_t container) {
    return "segment-" + std::to_string(group) + "-" + std::to_string(container);
}

std::unique_ptr<ContainerFiles> open_container_files(std::array<std::string, 3> directories) {
    return std::make_unique<DirectoryFiles>(std::move(directories));
}

struct SegmentReader::Core {
    struct Window {
        std::byte* data = nullptr;
        std::size_t capacity = 0;
        unsigned replica = replica_count;
        std::uint32_t group = 0;
        std::uint32_t container = 0;
        std::uint64_t from = 0;
        std::size_t have = 0;
    };

    Core(ContainerFiles& f, std::uint64_t id) : files(f), set_id(id) {}
    ~Core() { std::free(window.data); }
    Core(const Core&) = delete;
    Core& operator=(const Core&) = delete;

    ContainerFiles& files;
    std::uint64_t set_id;
    Window window;

    // Bytes [at, at + length) of an extent on a replica; fewer at its end.
    Result<Bytes> view(const ReadPlan& plan, const ReadExtent& extent, unsigned replica,
                       std::uint64_t at, std::uint64_t length, bool again) {
        const std::uint64_t start = align_down(extent.offset + at, block_bytes);
        const std::uint64_t skip = extent.offset + at - start;
        // A frame that begins in the extent may end behind it.
        const std::uint64_t limit =
            std::max(extent.offset + extent.length, extent.offset + at + length);
        Window& w = window;
        const bool have = !again && w.replica == replica && w.group == plan.group &&
                          w.container == extent.container && start >= w.from &&
                          start + skip + length <= w.from + w.have;
        if (!have) {
            const std::uint64_t need = align_up(skip + length, block_bytes);
            if (w.capacity < need || w.data == nullptr) {
                std::free(w.data);
                w.capacity = need <= window_bytes ? window_bytes : window_bytes_max;
                w.data = static_cast<std::byte*>(std::aligned_alloc(block_bytes, w.capacity));
                if (w.data == nullptr) {
                    w.capacity = 0;
                    return fail(Errc::no_memory_room);
                }
            }
            w.replica = replica_count;  // nothing valid while it is being read
            const std::uint64_t want =
                std::min<std::uint64_t>(w.capacity, align_up(limit - start, block_bytes));
            PENSTOCK_TRY(got, files.read(replica, plan.group, extent.container, start,
                                         {w.data, static_cast<std::size_t>(want)}));
            w.replica = replica;
            w.group = plan.group;
            w.container = extent.container;
            w.from = start;
            w.have = got;
        }
        const std::uint64_t at_window = start - w.from + skip;
        if (at_window >= w.have) {
            return Bytes{};
        }
        return Bytes{w.data + at_window,
                     static_cast<std::size_t>(std::min(length, w.have - at_window))};
    }

    enum class Found : std::uint8_t { frame, padding, stale, bad };

    // The frame at `at` of the extent on one replica.
    Found frame_on(const ReadPlan& plan, const ReadExtent& extent, unsigned replica,
                   std::uint64_t at, Sequence expected, bool again, FrameHeader& header,
                   Bytes& payload) {
        auto head = view(plan, extent, replica, at, sizeof(FrameHeader), again);
        if (!head) {
            return Found::bad;
        }
        FrameFault fault = check_frame_header(*head, set_id, header);
        if (fault == FrameFault::not_a_frame && (extent.offset + at) % block_bytes != 0) {
            return Found::padding;
        }
        if (fault != FrameFault::none) {
            return Found::bad;
        }
        // A plan begins at a frame whose predecessor was not asked for; from there the chain is
        // followed.
        const bool follows = expected == 0 ? header.previous_sequence >= extent.before_sequence &&
                                                 header.previous_sequence <
                                                     std::max<Sequence>(plan.first_sequence, 1)
                                           : header.previous_sequence + 1 == expected;
        if (header.shard != plan.shard || !follows) {
            return Found::stale;
        }
        auto whole =
            view(plan, extent, replica, at, sizeof(FrameHeader) + header.payload_bytes, false);
        if (!whole) {
            return Found::bad;
        }
        fault = check_frame(*whole, set_id, header);
        if (fault != FrameFault::none) {
            return Found::bad;
        }
        payload = whole->subspan(sizeof(FrameHeader), header.payload_bytes);
        return Found::frame;
    }

    // The same on the first replica that has it; with `take_padding` also where one says padding.
    Found frame_at(const ReadPlan& plan, const ReadExtent& extent, std::uint64_t at,
                   Sequence expected, bool take_padding, FrameHeader& header, Bytes& payload,
                   bool& stale, std::uint32_t& bad_copies) {
        bool padding = false;
        for (unsigned r = 0; r < replica_count; ++r) {
            if ((extent.replicas >> r & 1) == 0) {
                continue;
            }
            Found found = frame_on(plan, extent, r, at, expected, false, header, payload);
            if (found != Found::frame && found != Found::padding) {
                // The window may have been read before the frame was written whole.
                found = frame_on(plan, extent, r, at, expected, true, header, payload);
            }
            if (found == Found::frame || (found == Found::padding && take_padding)) {
                return found;
            }
            padding = padding || found == Found::padding;
            stale = stale || found == Found::stale;
            bad_copies += found == Found::bad ? 1U : 0U;
        }
        return padding ? Found::padding : Found::bad;
    }
};

SegmentReader::SegmentReader(ContainerFiles& files, std::uint64_t set_id)
    : core_(std::make_unique<Core>(files, set_id)) {}
SegmentReader::~SegmentReader() = default;

namespace {

// Hands the wanted records of a verified frame to `take`. False: enough.
bool hand_out(const ReadPlan& plan, const FrameHeader& header, Bytes payload,
              const std::function<bool(const RecordView&)>& take, ReadOutcome& out) {
    RecordWalker walker(header, payload);
    RecordView record;
    while (walker.next(record)) {
        if (record.sequence < out.next_sequence) {
            continue;
        }
        if (record.sequence >= plan.end_sequence) {
            return false;
        }
        out.next_sequence = record.sequence;
        if (record.arrival_ms < plan.timestamp_ms) {
            out.next_sequence = record.sequence + 1;
            continue;
        }
        if (!take(record)) {
            return false;
        }
        out.next_sequence = record.sequence + 1;
        ++out.records;
        out.bytes += record.data.size() + record.partition_key.size();
    }
    return true;
}

}  // namespace

Status SegmentReader::read(const ReadPlan& plan, const std::function<bool(const RecordView&)>& take,
                           ReadOutcome& out) {
    out = ReadOutcome{};
    out.next_sequence = plan.first_sequence;
    Sequence expected = 0;
    for (std::uint32_t i = 0; i < plan.extent_count; ++i) {
        const ReadExtent& extent = plan.extents[i];
        constexpr std::uint64_t no_place = UINT64_MAX;
        std::uint64_t at = 0;
        std::uint64_t padding_from = no_place;  // skipped on one replica's word, not proved yet
        while (at < extent.length) {
            FrameHeader header;
            Bytes payload;
            bool stale = false;
            auto found = core_->frame_at(plan, extent, at, expected, padding_from == no_place,
                                         header, payload, stale, out.bad_copies);
            if (found == Core::Found::padding) {
                const std::uint64_t next =
                    align_up(extent.offset + at, block_bytes) - extent.offset;
                if (next < extent.length) {
                    padding_from = at;
                    at = next;
                    continue;
                }
                // Nothing behind it can prove it: the other replicas are asked.
                found = core_->frame_at(plan, extent, at, expected, false, header, payload, stale,
                                        out.bad_copies);
                if (found != Core::Found::frame) {
                    break;
                }
            }
            if (found != Core::Found::frame && padding_from != no_place) {
                // What looked like padding on one replica may be a frame that it does not have.
                found = core_->frame_at(plan, extent, padding_from, expected, false, header,
                                        payload, stale, out.bad_copies);
                at = found == Core::Found::frame ? padding_from : at;
            }
            padding_from = no_place;
            if (found != Core::Found::frame) {
                if (out.records != 0) {
                    return {};  // what is in hand first; the next call begins here and says what it
                                // is
                }
                out.stale = stale;
                return stale ? Status{} : Status(fail(Errc::lost, 0, plan.group));
            }
            expected = header.last_sequence() + 1;
            if (!hand_out(plan, header, payload, take, out)) {
                return {};
            }
            at += header.total_bytes();
        }
    }
    for (std::uint32_t i = 0; i < plan.frame_count; ++i) {
        const Bytes frame{plan.frames[i].data, plan.frames[i].length};
        FrameHeader header;
        if (check_frame(frame, core_->set_id, header) != FrameFault::none ||
            header.shard != plan.shard) {
            return fail(Errc::corrupt, 0,
                        plan.group);  // memory was damaged: nothing unverified goes out
        }
        if (!hand_out(plan, header, frame.subspan(sizeof header, header.payload_bytes), take,
                      out)) {
            return {};
        }
    }
    return {};
}

}  // namespace penstock
