// Preloaded into a node: separate receive queues of an interface are told as combined ones, each
// with a transmit queue. A veth pair has as many of either kind but counts them apart, and DPDK's
// AF_XDP driver takes several only from an interface that counts them together, as NICs do. Nothing
// else about the interface is changed.
#include <dlfcn.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>

#include <cstdarg>

extern "C" int ioctl(int fd, unsigned long request, ...) noexcept {
    using Ioctl = int (*)(int, unsigned long, ...);
    static const auto next = reinterpret_cast<Ioctl>(::dlsym(RTLD_NEXT, "ioctl"));
    std::va_list more;
    va_start(more, request);
    void* const argument = va_arg(more, void*);
    va_end(more);
    const int result = next(fd, request, argument);
    if (result == 0 && request == SIOCETHTOOL) {
        void* const asked = static_cast<ifreq*>(argument)->ifr_data;
        auto& channels = *static_cast<ethtool_channels*>(asked);
        if (channels.cmd == ETHTOOL_GCHANNELS && channels.max_combined == 0) {
            channels.max_combined = channels.max_rx;
            channels.combined_count = channels.rx_count;
            channels.max_rx = channels.max_tx = channels.rx_count = channels.tx_count = 0;
        }
    }
    return result;
}
