#include "dataplane/eal.h"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <fstream>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>
#include <rte_log.h>

#include "dataplane/port/dpdk_log.h"

namespace penstock {
namespace {

// EAL is one per process by DPDK's design, and cannot be started again after it was stopped.
enum class EalState : int { never_started, running, stopped };
std::atomic<EalState> eal_state{EalState::never_started};

constexpr const char* free_huge_pages_path =
    "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
constexpr unsigned huge_page_mb = 2;

unsigned free_huge_memory_mb() {
    std::ifstream file(free_huge_pages_path);
    unsigned pages = 0;
    return file >> pages ? pages * huge_page_mb : 0;
}

unsigned first_cpu(const cpu_set_t& set) {
    for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (CPU_ISSET(cpu, &set)) {
            return cpu;
        }
    }
    return 0;
}

std::vector<std::string> arguments_of(const EalOptions& options, bool huge, unsigned cpu) {
    std::vector<std::string> arguments{"penstock",
                                       "--no-telemetry",
                                       "--lcores=0@" + std::to_string(cpu),
                                       "-m",
                                       std::to_string(options.memory_mb),
                                       "--log-level=" + std::to_string(RTE_LOG_WARNING)};
    // Nothing is shared with other processes either way. EAL takes --no-huge for legacy memory,
    // which it does not combine with --in-memory.
    if (huge) {
        arguments.emplace_back("--in-memory");
    } else {
        arguments.emplace_back("--no-huge");
        arguments.emplace_back("--no-shconf");
    }
    if (options.pci_addresses.empty()) {
        arguments.emplace_back("--no-pci");
    }
    for (const std::string& address : options.pci_addresses) {
        arguments.emplace_back("-a");
        arguments.push_back(address);
    }
    return arguments;
}

}  // namespace

unsigned eal_memory_mb(unsigned port_count, unsigned lane_count, unsigned jumbo_count) noexcept {
    // 16 MiB for EAL itself; per port and lane a pool of up to 4096 buffers, which are 2.5 KiB with
    // the usual MTU and up to 12.5 KiB with jumbo frames.
    const unsigned lanes = std::max(1U, lane_count);
    return std::max(64U, 16 + port_count * lanes * 40 + jumbo_count * lanes * 20);
}

Result<std::unique_ptr<Eal>> Eal::start(const EalOptions& options, std::string& why) {
    const unsigned free_mb = free_huge_memory_mb();
    const bool enough = free_mb >= options.memory_mb;
    if (options.huge_pages == EalOptions::HugePages::required && !enough) {
        const unsigned missing = (options.memory_mb - free_mb + huge_page_mb - 1) / huge_page_mb;
        why = "huge pages are required: " + std::to_string(options.memory_mb) + " MiB wanted, " +
              std::to_string(free_mb) + " MiB free; " + std::to_string(missing) +
              " more pages are needed: sysctl vm.nr_hugepages";
        return fail(Errc::unsupported);
    }
    EalState expected = EalState::never_started;
    if (!eal_state.compare_exchange_strong(expected, EalState::running)) {
        why = "DPDK was started already in this process; it starts once only";
        return fail(Errc::already_exists);
    }
    const bool huge = enough && options.huge_pages != EalOptions::HugePages::never;

    cpu_set_t before;
    CPU_ZERO(&before);
    static_cast<void>(::pthread_getaffinity_np(::pthread_self(), sizeof before, &before));
    std::vector<std::string> arguments = arguments_of(
        options, huge, options.cpus.empty() ? first_cpu(before) : options.cpus.front());
    // EAL keeps and permutes the pointers.
    std::vector<char*> argv;
    for (std::string& argument : arguments) {
        argv.push_back(argument.data());
    }
    DpdkLog log;
    const int outcome = rte_eal_init(static_cast<int>(argv.size()), argv.data());
    const int error = rte_errno;
    static_cast<void>(::pthread_setaffinity_np(::pthread_self(), sizeof before, &before));
    if (outcome < 0) {
        eal_state.store(EalState::stopped);
        why = "DPDK did not start (" + std::string(rte_strerror(error)) + ")";
        if (const std::string said = log.summary("EAL: "); !said.empty()) {
            why += ": " + said;
        }
        why += error == EACCES || error == EPERM ? "; run as root" : "";
        return fail(Errc::unsupported, error);
    }
    std::unique_ptr<Eal> eal(new Eal);
    eal->huge_pages_ = huge;
    const std::string memory = std::to_string(options.memory_mb) + " MiB";
    eal->description_ =
        huge ? "DPDK with huge pages: " + memory + " of packet memory in 2 MiB pages"
             : "DPDK without huge pages: " + memory + " of packet memory in 4 KiB pages, " +
                   (options.huge_pages == EalOptions::HugePages::never
                        ? std::string("as configured")
                        : std::to_string(free_mb) + " MiB of huge pages free") +
                   "; this costs address translation on every packet, and NICs bound to vfio-pci "
                   "need them (sysctl vm.nr_hugepages=" +
                   std::to_string((options.memory_mb + huge_page_mb - 1) / huge_page_mb) + ")";
    return eal;
}

// rte_eal_cleanup() unmaps what EAL's interrupt thread, which it does not stop, may be reading: a
// port that was closed just before has woken that thread (seen as SIGSEGV with net_memif, DPDK
// 22.11). It would give back nothing that the end of the process does not: no file is made.
Eal::~Eal() {
    eal_state.store(EalState::stopped);
}

EalThread::EalThread() noexcept {
    registered_ = eal_state.load() == EalState::running && rte_lcore_id() == LCORE_ID_ANY &&
                  rte_thread_register() == 0;
}

EalThread::~EalThread() {
    if (registered_ && eal_state.load() == EalState::running) {
        rte_thread_unregister();
    }
}

}  // namespace penstock
