// A lane's sessions under anything that an authenticated client may send, and under anything else:
// the input is a list of steps. What is checked besides memory safety: an address gets no more than
// it sent before it has answered, records of a flow are stored in order and once, and after all
// sessions have ended nothing of them is left.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "dataplane/session/encode.h"
#include "dataplane/session/session_lane.h"

namespace {

using namespace penstock;
using namespace penstock::session;

void require(bool holds) {
    if (!holds) {
        std::abort();
    }
}

KeyMaterial key_of(unsigned seed) {
    KeyMaterial out;
    std::memset(out.key.data(), static_cast<int>(seed), out.key.size());
    return out;
}

constexpr std::uint64_t session_count = 2;

struct Host : SessionHost {
    using Place = std::pair<std::uint64_t, std::uint64_t>;  // batch, offset
    std::map<std::tuple<std::uint64_t, std::uint64_t, std::uint32_t>, Sequence> marks;
    std::map<std::uint64_t, Place> newest;  // by the marks' producer
    Sequence sequence = 0;
    Sequence committed = 0;
    std::deque<CommitWaiter*> waiters;
    std::uint8_t mood = 0;  // how appends go
    std::uint64_t sent_bytes = 0;
    unsigned ended_count = 0;

    PartStatus place(const Session&, ShardUid shard, ShardPlace& out) noexcept override {
        out.last = {UINT64_MAX, UINT64_MAX};
        return value(shard) == 1   ? PartStatus::none
               : value(shard) == 2 ? PartStatus::shard_closed
                                   : PartStatus::wrong_shard;
    }
    AppendVerdict append(const ShardPlace& place, const RecordIn& record, AckLevel,
                         Appended& out) noexcept override {
        if (known(place, *record.producer, out) == AppendVerdict::accepted) {
            return AppendVerdict::accepted;
        }
        if (mood % 4 == 1) {
            return static_cast<AppendVerdict>(1 + mood / 4 % 12);
        }
        const ProducerMark& mark = *record.producer;
        const Place at{mark.batch, mark.offset_in_batch};
        const auto [last, first] = newest.emplace(mark.producer, at);
        require(first || last->second < at);
        last->second = at;
        out = {++sequence, static_cast<std::int64_t>(mood / 16), false};
        marks[{mark.producer, mark.batch, mark.offset_in_batch}] = sequence;
        return AppendVerdict::accepted;
    }
    AppendVerdict known(const ShardPlace&, const ProducerMark& mark,
                        Appended& out) noexcept override {
        const auto found = marks.find({mark.producer, mark.batch, mark.offset_in_batch});
        if (found == marks.end()) {
            return AppendVerdict::producer_window;
        }
        out = {found->second, 0, true};
        return AppendVerdict::accepted;
    }
    void wait_commit(const ShardPlace&, CommitWaiter& waiter) noexcept override {
        if (waiter.sequence <= committed) {
            waiter.on_done(waiter, Errc::ok);
        } else {
            waiters.push_back(&waiter);
        }
    }
    void commit(Sequence through, Errc outcome) {
        committed = std::max(committed, std::min(through, sequence));
        for (auto waiting = std::move(waiters); !waiting.empty(); waiting.pop_front()) {
            if (waiting.front()->sequence <= committed) {
                waiting.front()->on_done(*waiting.front(), outcome);
            } else {
                waiters.push_back(waiting.front());
            }
        }
    }
    std::size_t map(const Session&, const Hash128&, std::span<MapEntry> out,
                    bool& more) noexcept override {
        more = true;
        std::ranges::fill(out, MapEntry{});
        return out.size();
    }
    std::uint32_t map_epoch(const Session&) noexcept override { return 1; }
    CreditState credit() noexcept override {
        return {mood % 8 == 3 ? 2000U : 1U << 20, CreditCause::memory, 10};
    }
    bool send(const Peer&, Bytes datagram) noexcept override {
        require(datagram.size() <= datagram_bytes_max);
        sent_bytes += datagram.size();
        return mood != 255;
    }
    bool is_busy_opening() noexcept override { return mood % 2 == 0; }
    bool opening(const Peer&, Bytes datagram) noexcept override {
        require(datagram.size() == open_bytes);
        return true;
    }
    void activated(const Session&) noexcept override {}
    void ended(const Session&) noexcept override { ++ended_count; }
    void wants_keys(const Session&) noexcept override {}
};

// The input's bytes, one after the other; zeroes behind its end.
class Steps {
public:
    Steps(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}
    [[nodiscard]] bool any() const { return !rest_.empty(); }
    std::uint8_t byte() {
        const std::uint8_t out = rest_.empty() ? std::uint8_t{0} : rest_.front();
        rest_ = rest_.subspan(rest_.empty() ? 0 : 1);
        return out;
    }
    Bytes bytes(std::size_t size) {
        const auto out = rest_.first(std::min(size, rest_.size()));
        rest_ = rest_.subspan(out.size());
        return std::as_bytes(out);
    }

private:
    std::span<const std::uint8_t> rest_;
};

struct World {
    static const Aead& aead() {
        static const auto one = Aead::open().value();
        return *one;
    }
    static SessionLane::Limits limits() {
        SessionLane::Limits out;
        out.table = {session_count, 8};
        out.results = 700;
        return out;
    }
    Host host;
    SessionLane lane{0, limits(), aead(), key_of(9), Cmac::open(key_of(8).key).value(), host};
    std::array<std::uint64_t, session_count> numbers{};
    std::uint64_t now_ns = 1'000'000'000;
    std::uint64_t received_bytes = 0;

    World() {
        aead().prepare(key_of(1), key_);
        for (std::uint64_t id = 1; id <= session_count; ++id) {
            SessionGrant grant;
            grant.id = id;
            grant.receive = key_of(1);
            grant.send = key_of(2);
            grant.producer = id == 1 ? "a" : "b";
            grant.expires_ns = grant.activate_by_ns = UINT64_MAX;
            grant.flows = 5;
            require(lane.add(grant, now_ns));
        }
    }
    void deliver(std::vector<std::byte> datagram) {
        Peer peer;
        peer.port = 1;
        SessionLane::Incoming incoming{datagram, peer};
        DropReason verdict = DropReason::none;
        lane.receive({&incoming, 1}, {&verdict, 1}, now_ns, 0);
        require(verdict < DropReason::count_);
    }
    // The text as a client of the session seals it; some steps further its number leaps.
    void say(std::uint64_t id, std::uint64_t leap, Bytes text) {
        if (text.empty()) {
            return;
        }
        std::uint64_t& number = numbers[id - 1];
        number = std::min(number + 1 + leap, (std::uint64_t{1} << key_epoch_shift) - 1);
        Header header;
        header.type = DatagramType::data;
        header.session = id;
        header.packet_number = number;
        std::vector<std::byte> datagram(header_bytes + text.size() + tag_bytes);
        store(datagram.data(), header);
        std::memcpy(datagram.data() + header_bytes, text.data(), text.size());
        aead().seal(key_, number, datagram);
        if (datagram.size() >= datagram_bytes_min && datagram.size() <= datagram_bytes_max) {
            received_bytes += datagram.size();
            deliver(std::move(datagram));
        }
    }
    // Parts that are mostly in order, with few numbers, so that they meet each other.
    void say_parts(std::uint64_t id, Steps& steps) {
        std::array<std::byte, 1000> memory;
        TextWriter text(memory);
        for (unsigned count = 1 + steps.byte() % 3; count > 0; --count) {
            const std::uint8_t head_byte = steps.byte();
            BatchBlock head;
            head.shard = head_byte % 16 == 15 ? 2 + head_byte / 16 % 2 : 1;
            head.flow = head_byte / 16 % 6;
            head.batch = 1 + steps.byte() % 8;
            const std::uint8_t how = steps.byte();
            head.follows = head.batch == 1 ? 0 : how / 4 % 8 == 7 ? 2 : 1;
            head.first_offset = how / 32;
            const bool starts = head.batch == 1 || how / 4 % 8 == 6;
            if (!text.begin_part(head)) {
                break;
            }
            const std::uint8_t shape = steps.byte();
            for (unsigned i = 0; i < 1U + shape % 4; ++i) {
                RecordOut record{as_bytes("key"), as_bytes("data")};
                record.skip = static_cast<std::uint16_t>(shape / 64 == i ? shape / 16 % 4 : 0);
                record.uses_alias = shape == 255;
                (void)text.add_record(record);
            }
            (void)text.end_part(static_cast<std::uint8_t>((starts ? part_starts_flow : 0) |
                                                          (how % 4 != 0 ? part_is_last : 0)));
        }
        say(id, 0, text.text());
    }
    void step(Steps& steps) {
        const std::uint8_t what = steps.byte();
        const std::uint64_t id = 1 + what / 16 % session_count;
        switch (what % 8) {
            case 0:
            case 1:
                say_parts(id, steps);
                break;
            case 2:
                say(id, 0, steps.bytes(2 * std::size_t{steps.byte()}));
                break;
            case 3:
                say(id, steps.byte(), steps.bytes(steps.byte()));
                break;
            case 4: {
                const Bytes raw = steps.bytes(steps.byte());
                std::vector<std::byte> datagram(raw.begin(), raw.end());
                datagram.resize(what < 128 ? raw.size() : open_bytes);
                received_bytes += datagram.size();
                deliver(std::move(datagram));
                break;
            }
            case 5:
                host.commit(host.committed + steps.byte() % 16,
                            what < 200 ? Errc::ok : Errc::not_enough_replicas);
                break;
            case 6:
                host.mood = steps.byte();
                now_ns += std::uint64_t{what} * 100'000;
                break;
            default:
                (void)lane.flush(now_ns, 0);
                break;
        }
        require(host.sent_bytes <= received_bytes);  // no challenge can be guessed
    }
    // Every session ends, and everything commits, in one or the other order.
    void end(bool commit_first) {
        if (commit_first) {
            host.commit(UINT64_MAX, Errc::ok);
        }
        for (std::uint64_t id = 1; id <= session_count; ++id) {
            (void)lane.close(id, CloseCode::revoked, 0, now_ns);
        }
        for (int i = 0; i < 10; ++i) {
            now_ns += 6'000'000'000;
            (void)lane.flush(now_ns, 0);
        }
        host.commit(UINT64_MAX, Errc::ok);
        require(lane.table().session_count() == 0 && lane.table().flow_count() == 0);
        require(host.ended_count == session_count && host.waiters.empty());
        require(lane.results_in_use() == 0);
    }

private:
    PreparedKey key_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    World world;
    Steps steps(data, size);
    const bool commit_first = steps.byte() % 2 == 0;
    while (steps.any()) {
        world.step(steps);
    }
    world.end(commit_first);
    return 0;
}
