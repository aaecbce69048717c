// The XDP program of a net_af_xdp port, and what is attached to an interface.
//
// DPDK's driver loads the program and attaches it with no owner, so that it would outlive a crash.
// XdpSteering takes it over: the attachment becomes a BPF link of this process, which the kernel
// detaches when the process ends, however it ends.
//
// Runs on: control threads.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "dataplane/wire/address.h"
#include "storage/base/result.h"

namespace penstock {

// A file of the program for the driver's `xdp_prog` argument, there as long as this object.
class XdpProgramFile {
public:
    XdpProgramFile();
    ~XdpProgramFile();
    XdpProgramFile(const XdpProgramFile&) = delete;
    XdpProgramFile& operator=(const XdpProgramFile&) = delete;
    // Empty when the program was built without it (no clang), or there is no memory.
    [[nodiscard]] std::string path() const;

private:
    int fd_ = -1;
};

enum class XdpAttachment : std::uint8_t {
    none,
    ours_left,    // our program without an owner: left by a node that was killed while it started
    ours_in_use,  // our program, held by a running node
    foreign,      // somebody else's
    unknown,      // no permission to look, or no such interface
};

struct XdpState {
    XdpAttachment attachment = XdpAttachment::none;
    std::string program;  // its name
};

// Finding out whether a program of ours has an owner takes trying to detach it: with `release` one
// without is gone afterwards (ours_left says that it was there). Without `release` every program of
// ours counts as ours_in_use.
[[nodiscard]] XdpState xdp_state(const std::string& interface, bool release);

class XdpSteering {
public:
    // Call once the driver has attached the program. Nothing is redirected before this returns;
    // then datagrams for the ports, and for the addresses (all when empty), are.
    [[nodiscard]] static Result<std::unique_ptr<XdpSteering>> take_over(
        const std::string& interface, std::span<const std::uint16_t> udp_ports,
        std::span<const IpPrefix> addresses, std::string& why);
    // Detaches the program.
    ~XdpSteering();
    XdpSteering(const XdpSteering&) = delete;
    XdpSteering& operator=(const XdpSteering&) = delete;

    // "native" (in the interface's driver) or "generic" (after the kernel has made its packet).
    [[nodiscard]] const char* mode() const noexcept { return native_ ? "native" : "generic"; }

private:
    XdpSteering() = default;
    int link_ = -1;
    bool native_ = false;
};

}  // namespace penstock
