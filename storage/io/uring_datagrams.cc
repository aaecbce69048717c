#include "storage/io/uring_datagrams.h"

#include <netinet/in.h>
#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>

#include "storage/base/check.h"

namespace penstock {

namespace {

// A receiver's sockets share the numbers of buffer groups with those of the engine's others.
constexpr std::uint32_t sockets_max = 1024;
constexpr std::size_t guests_max = 65536 / sockets_max;
// Marks the request that ends a socket's receives.
constexpr std::uint32_t cancel_mark = 1U << 16;
// A header of 16 bytes stands before the name, control messages behind it, which are aligned.
constexpr std::size_t name_bytes = (sizeof(sockaddr_in6) + 7) / 8 * 8;
constexpr std::size_t control_bytes = CMSG_SPACE(sizeof(std::uint32_t));

static_assert(datagram_overhead_bytes == sizeof(io_uring_recvmsg_out) + name_bytes + control_bytes);

std::size_t slots_ring_bytes(std::uint16_t slots) noexcept {
    return slots * sizeof(io_uring_buf);
}

}  // namespace

// -- What the engine knows of its guests ---------------------------------------------------------

std::optional<unsigned> UringEngine::admit(RingGuest& guest) {
    const auto free = std::find(guests_.begin(), guests_.end(), nullptr);
    if (free != guests_.end()) {
        *free = &guest;
        return static_cast<unsigned>(free - guests_.begin());
    }
    if (guests_.size() == guests_max) {
        return std::nullopt;
    }
    guests_.push_back(&guest);
    return static_cast<unsigned>(guests_.size() - 1);
}

void UringEngine::dismiss(unsigned guest) noexcept {
    guests_[guest] = nullptr;
}

std::uint64_t UringEngine::guest_label(unsigned guest, std::uint32_t what) noexcept {
    return static_cast<std::uint64_t>(Tag::guest) << 56 | std::uint64_t{guest} << 32 | what;
}

void UringEngine::wait_for_one() noexcept {
    const int result = io_uring_submit_and_wait(&ring_, 1);
    PENSTOCK_CHECK(result >= 0 || result == -EINTR || result == -EAGAIN || result == -EBUSY);
    take_completions();
}

std::unique_ptr<DatagramReceiver> UringEngine::receive_datagrams(const DatagramOptions& options) {
    return UringDatagrams::open(*this, options);
}

// -- The receiver --------------------------------------------------------------------------------

std::unique_ptr<UringDatagrams> UringDatagrams::open(UringEngine& engine,
                                                     const DatagramOptions& options) {
    PENSTOCK_CHECK(std::has_single_bit(options.slots_per_socket));
    PENSTOCK_CHECK(options.slot_bytes > datagram_overhead_bytes);
    PENSTOCK_CHECK(options.memory.size() >=
                   options.sockets.size() * options.slots_per_socket * options.slot_bytes);
    if (options.sockets.size() > sockets_max) {
        return nullptr;
    }
    std::unique_ptr<UringDatagrams> made(new UringDatagrams(engine, options));
    return made->start() ? std::move(made) : nullptr;
}

UringDatagrams::UringDatagrams(UringEngine& engine, const DatagramOptions& options)
    : engine_(engine), options_(options), sockets_(options.sockets.size()) {
    layout_.msg_namelen = name_bytes;
    layout_.msg_controllen = control_bytes;
    for (std::size_t i = 0; i < sockets_.size(); ++i) {
        sockets_[i].fd = options.sockets[i];
        sockets_[i].ready.resize(options.slots_per_socket);
    }
    options_.sockets = {};
}

bool UringDatagrams::start() noexcept {
    engine_.own();
    const auto guest = engine_.admit(*this);
    if (!guest) {
        return false;
    }
    guest_ = *guest;
    admitted_ = true;
    for (std::uint32_t index = 0; index < sockets_.size(); ++index) {
        Socket& socket = sockets_[index];
        void* memory = ::mmap(nullptr, slots_ring_bytes(options_.slots_per_socket),
                              PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED) {
            return false;
        }
        socket.slots = static_cast<io_uring_buf_ring*>(memory);
        io_uring_buf_reg place{};
        place.ring_addr = reinterpret_cast<std::uintptr_t>(memory);
        place.ring_entries = options_.slots_per_socket;
        place.bgid = group_of(index);
        if (io_uring_register_buf_ring(&engine_.ring_, &place, 0) != 0) {
            return false;
        }
        socket.registered = true;
        for (std::uint16_t slot = 0; slot < options_.slots_per_socket; ++slot) {
            offer(socket, index, slot);
        }
        arm(index);
    }
    // A kernel that does not know the request refuses it while it is submitted.
    engine_.submit();
    engine_.take_completions();
    return !unsupported_;
}

UringDatagrams::~UringDatagrams() {
    closing_ = true;
    for (std::uint32_t index = 0; index < sockets_.size(); ++index) {
        // The kernel may write to the slots until each request has said that it ended.
        while (sockets_[index].armed) {
            if (io_uring_sqe* entry = engine_.guest_entry(); entry != nullptr) {
                io_uring_prep_cancel64(entry, engine_.guest_label(guest_, index), 0);
                entry->user_data = engine_.guest_label(guest_, cancel_mark | index);
            }
            engine_.wait_for_one();
        }
    }
    for (std::uint32_t index = 0; index < sockets_.size(); ++index) {
        if (sockets_[index].registered) {
            (void)io_uring_unregister_buf_ring(&engine_.ring_, group_of(index));
        }
        if (sockets_[index].slots != nullptr) {
            ::munmap(sockets_[index].slots, slots_ring_bytes(options_.slots_per_socket));
        }
    }
    if (admitted_) {
        engine_.dismiss(guest_);
    }
}

std::uint16_t UringDatagrams::group_of(std::uint32_t index) const noexcept {
    return static_cast<std::uint16_t>(guest_ * sockets_max + index);
}

void UringDatagrams::offer(Socket& socket, std::uint32_t index, std::uint16_t slot) noexcept {
    std::byte* const at =
        options_.memory.data() +
        (std::size_t{index} * options_.slots_per_socket + slot) * options_.slot_bytes;
    io_uring_buf_ring_add(socket.slots, at, options_.slot_bytes, slot,
                          io_uring_buf_ring_mask(options_.slots_per_socket), 0);
    io_uring_buf_ring_advance(socket.slots, 1);
    ++socket.with_kernel;
}

void UringDatagrams::arm(std::uint32_t index) noexcept {
    io_uring_sqe* entry = engine_.guest_entry();
    if (entry == nullptr) {
        return;  // the ring is full: the next take() tries again
    }
    Socket& socket = sockets_[index];
    io_uring_prep_recvmsg_multishot(entry, socket.fd, &layout_, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = group_of(index);
    entry->user_data = engine_.guest_label(guest_, index);
    socket.armed = true;
    ++armed_count_;
}

void UringDatagrams::complete(std::uint32_t what, std::int32_t result,
                              std::uint32_t flags) noexcept {
    if ((what & cancel_mark) != 0) {
        return;
    }
    Socket& socket = sockets_[what];
    if ((flags & IORING_CQE_F_BUFFER) != 0) {
        const auto slot = static_cast<std::uint16_t>(flags >> IORING_CQE_BUFFER_SHIFT);
        --socket.with_kernel;
        const auto at =
            static_cast<std::uint16_t>((socket.first + socket.count) % options_.slots_per_socket);
        if (result >= static_cast<std::int32_t>(datagram_overhead_bytes)) {
            socket.ready[at] = {slot, static_cast<std::uint32_t>(result)};
            ++socket.count;
            ++ready_count_;
        } else {
            offer(socket, what, slot);
        }
    }
    if ((flags & IORING_CQE_F_MORE) == 0) {
        socket.armed = false;
        --armed_count_;
    }
    if (result == -EINVAL) {
        unsupported_ = true;
    }
    if (result < 0 && result != -ENOBUFS && result != -ECANCELED && result != -EAGAIN &&
        result != -EINTR) {
        ++errors_;
    }
}

Datagram UringDatagrams::read(std::uint32_t index, const Filled& filled) noexcept {
    std::byte* const slot =
        options_.memory.data() +
        (std::size_t{index} * options_.slots_per_socket + filled.slot) * options_.slot_bytes;
    auto* const header = reinterpret_cast<io_uring_recvmsg_out*>(slot);
    const auto* const name = static_cast<std::byte*>(io_uring_recvmsg_name(header));
    Datagram datagram;
    datagram.socket = index;
    datagram.data = slot + datagram_overhead_bytes;
    datagram.length = filled.bytes - datagram_overhead_bytes;
    datagram.name = name;
    datagram.control = {name + layout_.msg_namelen,
                        std::min<std::size_t>(header->controllen, control_bytes)};
    return datagram;
}

std::size_t UringDatagrams::take(std::span<Datagram> out) noexcept {
    // Requests that ended for want of slots; each turn begins with another socket.
    for (std::size_t i = 0; i < sockets_.size() && armed_count_ < sockets_.size(); ++i) {
        const auto index = static_cast<std::uint32_t>((next_ + i) % sockets_.size());
        if (!sockets_[index].armed && sockets_[index].with_kernel != 0) {
            arm(index);
        }
    }
    std::size_t filled = 0;
    std::size_t having = 0;
    if (ready_count_ != 0) {
        having = static_cast<std::size_t>(std::count_if(
            sockets_.begin(), sockets_.end(), [](const Socket& one) { return one.count != 0; }));
    }
    for (std::size_t i = 0; having > 0 && filled < out.size(); ++i) {
        const auto index = static_cast<std::uint32_t>((next_ + i) % sockets_.size());
        Socket& socket = sockets_[index];
        if (socket.count == 0) {
            continue;
        }
        const std::size_t share = (out.size() - filled + having - 1) / having;
        const std::size_t count = std::min<std::size_t>(socket.count, share);
        for (std::size_t taken = 0; taken < count; ++taken) {
            out[filled++] = read(index, socket.ready[socket.first]);
            socket.first =
                static_cast<std::uint16_t>((socket.first + 1) % options_.slots_per_socket);
        }
        socket.count = static_cast<std::uint16_t>(socket.count - count);
        ready_count_ -= count;
        --having;
    }
    next_ = sockets_.empty() ? 0 : (next_ + 1) % sockets_.size();
    return filled;
}

void UringDatagrams::give_back(const std::byte* data) noexcept {
    const auto at = static_cast<std::size_t>(data - options_.memory.data()) / options_.slot_bytes;
    const auto index = static_cast<std::uint32_t>(at / options_.slots_per_socket);
    offer(sockets_[index], index, static_cast<std::uint16_t>(at % options_.slots_per_socket));
}

}  // namespace penstock
