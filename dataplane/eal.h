// DPDK's environment: started only when a DPDK port is configured, once per process.
//
// Runs on: a control thread. The caller's CPU affinity is the same before and after.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "storage/base/result.h"

namespace penstock {

struct EalOptions {
    enum class HugePages : std::uint8_t { automatic, required, never };
    HugePages huge_pages = HugePages::automatic;
    // Packet memory wanted; eal_memory_mb() computes it.
    unsigned memory_mb = 64;
    // CPUs of the lanes; EAL's own thread data goes to the first. Empty: the caller's first CPU.
    std::vector<unsigned> cpus;
    // PCI addresses that may be probed; empty: the PCI bus is left alone.
    std::vector<std::string> pci_addresses;
};

// Packet memory for so many ports and lanes, in MiB; `jumbo_count` of the ports take frames above
// 1500 bytes (port_takes_jumbo).
[[nodiscard]] unsigned eal_memory_mb(unsigned port_count, unsigned lane_count,
                                     unsigned jumbo_count = 0) noexcept;

class Eal {
public:
    // Errc::unsupported, with the reason in `why`, when EAL refuses; Errc::already_exists when it
    // runs already or ran before in this process (DPDK cannot start twice).
    [[nodiscard]] static Result<std::unique_ptr<Eal>> start(const EalOptions& options,
                                                            std::string& why);
    // Every DPDK port must be closed already.
    ~Eal();
    Eal(const Eal&) = delete;
    Eal& operator=(const Eal&) = delete;

    // One line for start-up: with or without huge pages, and what that costs.
    [[nodiscard]] const std::string& describe() const noexcept { return description_; }
    [[nodiscard]] bool huge_pages() const noexcept { return huge_pages_; }

private:
    Eal() = default;
    std::string description_;
    bool huge_pages_ = false;
};

// Makes the calling thread known to DPDK while it lives, so that packet buffers come from the
// thread's own cache. Without a running EAL it does nothing.
class EalThread {
public:
    EalThread() noexcept;
    ~EalThread();
    EalThread(const EalThread&) = delete;
    EalThread& operator=(const EalThread&) = delete;
    [[nodiscard]] bool registered() const noexcept { return registered_; }

private:
    bool registered_ = false;
};

}  // namespace penstock
