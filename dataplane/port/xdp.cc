#include "dataplane/port/xdp.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#if PENSTOCK_XDP
#include "storage/base/descriptor.h"
#include "xdp_steer_object.h"
#endif

namespace penstock {
namespace {

constexpr std::string_view program_name = "penstock_steer";
constexpr std::size_t maps_max = 16;

// As struct address in xdp_steer.bpf.c.
struct XdpAddress {
    std::uint32_t family = 0;
    std::array<std::uint8_t, 16> bytes{};
};
static_assert(sizeof(XdpAddress) == 20);

struct Program {
    std::string name;
    std::array<std::uint32_t, maps_max> maps{};
    std::uint32_t map_count = 0;
};

bool describe_program(int fd, Program& out) {
    bpf_prog_info info{};
    info.nr_map_ids = maps_max;
    info.map_ids = reinterpret_cast<std::uintptr_t>(out.maps.data());
    std::uint32_t size = sizeof info;
    if (bpf_obj_get_info_by_fd(fd, &info, &size) != 0) {
        return false;
    }
    out.name.assign(info.name, ::strnlen(info.name, sizeof info.name));
    out.map_count = std::min<std::uint32_t>(info.nr_map_ids, maps_max);
    return true;
}

// The program's map of this name; invalid without one.
int open_map(const Program& program, std::string_view name) {
    for (std::uint32_t i = 0; i < program.map_count; ++i) {
        const int fd = bpf_map_get_fd_by_id(program.maps[i]);
        bpf_map_info info{};
        std::uint32_t size = sizeof info;
        if (fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
            name == std::string_view(info.name, ::strnlen(info.name, sizeof info.name))) {
            return fd;
        }
        if (fd >= 0) {
            ::close(fd);
        }
    }
    return -1;
}

bool fill_ports(int map, std::span<const std::uint16_t> ports) {
    std::array<std::uint64_t, 65536 / 64> words{};
    for (const std::uint16_t port : ports) {
        words[port / 64] |= std::uint64_t{1} << (port % 64);
    }
    for (std::uint32_t i = 0; i < words.size(); ++i) {
        if (words[i] != 0 && bpf_map_update_elem(map, &i, &words[i], BPF_ANY) != 0) {
            return false;
        }
    }
    return true;
}

bool fill_addresses(int map, std::span<const IpPrefix> addresses) {
    std::vector<XdpAddress> wanted;
    for (const IpPrefix& own : addresses) {
        XdpAddress& key = wanted.emplace_back();
        key.family = own.address.family == IpFamily::v4 ? 4 : 6;
        std::memcpy(key.bytes.data(), own.address.bytes.data(), key.family == 4 ? 4 : 16);
    }
    if (wanted.empty()) {
        wanted.emplace_back();  // family 0: all
    }
    const std::uint8_t present = 1;
    for (const XdpAddress& key : wanted) {
        if (bpf_map_update_elem(map, &key, &present, BPF_ANY) != 0) {
            return false;
        }
    }
    return true;
}

}  // namespace

XdpProgramFile::XdpProgramFile() {
#if PENSTOCK_XDP
    const int fd = ::memfd_create("penstock-xdp", MFD_CLOEXEC);
    if (fd >= 0 && ::write(fd, xdp_steer_object, sizeof xdp_steer_object) ==
                       static_cast<ssize_t>(sizeof xdp_steer_object)) {
        fd_ = fd;
    } else if (fd >= 0) {
        ::close(fd);
    }
#endif
}

XdpProgramFile::~XdpProgramFile() {
    if (fd_ >= 0) {
        ::close(fd_);
    }
}

std::string XdpProgramFile::path() const {
    return fd_ < 0 ? std::string() : "/proc/self/fd/" + std::to_string(fd_);
}

XdpState xdp_state(const std::string& interface, bool release) {
    XdpState state;
    const unsigned index = ::if_nametoindex(interface.c_str());
    std::uint32_t id = 0;
    if (index == 0 || bpf_xdp_query_id(static_cast<int>(index), 0, &id) != 0) {
        state.attachment = XdpAttachment::unknown;
        return state;
    }
    if (id == 0) {
        return state;
    }
    Program program;
    const Descriptor fd(bpf_prog_get_fd_by_id(id));
    if (!fd.valid() || !describe_program(fd.get(), program)) {
        state.attachment = XdpAttachment::foreign;
        state.program = "number " + std::to_string(id);
        return state;
    }
    state.program = program.name;
    if (program.name != program_name) {
        state.attachment = XdpAttachment::foreign;
        return state;
    }
    // The kernel refuses this while a link holds the program: its owner lives.
    state.attachment = release && bpf_xdp_detach(static_cast<int>(index), 0, nullptr) == 0
                           ? XdpAttachment::ours_left
                           : XdpAttachment::ours_in_use;
    return state;
}

Result<std::unique_ptr<XdpSteering>> XdpSteering::take_over(
    const std::string& interface, std::span<const std::uint16_t> udp_ports,
    std::span<const IpPrefix> addresses, std::string& why) {
    const auto refuse = [&](const char* step) {
        const int error = errno;
        why = std::string("the XDP program on '") + interface + "': could not " + step + " (" +
              std::strerror(error) + ")";
        return fail(Errc::unsupported, error);
    };
    const int index = static_cast<int>(::if_nametoindex(interface.c_str()));
    bpf_xdp_query_opts attached{};
    attached.sz = sizeof attached;
    if (bpf_xdp_query(index, 0, &attached) != 0 || attached.prog_id == 0) {
        return refuse("find it");
    }
    const Descriptor program_fd(bpf_prog_get_fd_by_id(attached.prog_id));
    Program program;
    if (!program_fd.valid() || !describe_program(program_fd.get(), program)) {
        return refuse("open it");
    }
    if (program.name != program_name) {
        errno = EBUSY;
        return refuse("use it: it is not ours");
    }
    const Descriptor ports(open_map(program, "udp_ports"));
    const Descriptor to(open_map(program, "addresses"));
    if (!ports.valid() || !to.valid()) {
        return refuse("open its maps");
    }
    std::unique_ptr<XdpSteering> steering(new XdpSteering);
    if (bpf_xdp_detach(index, 0, nullptr) != 0) {
        return refuse("detach the driver's attachment");
    }
    steering->link_ = bpf_link_create(program_fd.get(), index, BPF_XDP, nullptr);
    if (steering->link_ < 0) {
        return refuse("attach it for as long as this process lives");
    }
    bpf_xdp_query_opts now{};
    now.sz = sizeof now;
    steering->native_ = bpf_xdp_query(index, 0, &now) == 0 && now.attach_mode != XDP_ATTACHED_SKB;
    if (!fill_addresses(to.get(), addresses) || !fill_ports(ports.get(), udp_ports)) {
        return refuse("tell it our addresses and ports");
    }
    return steering;
}

XdpSteering::~XdpSteering() {
    if (link_ >= 0) {
        ::close(link_);
    }
}

}  // namespace penstock
