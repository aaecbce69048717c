#include "dataplane/lane/wake_flag.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include "storage/base/check.h"

namespace penstock {

WakeFlag::WakeFlag(bool armed) noexcept : armed_(armed) {
    fd_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    // Only a process out of descriptors gets here, at start-up.
    PENSTOCK_CHECK(fd_ >= 0);
}

WakeFlag::~WakeFlag() {
    close(fd_);
}

void WakeFlag::signal() noexcept {
    const std::uint64_t one = 1;
    // EAGAIN means the counter is at its maximum: readable, which is all that is wanted.
    (void)!write(fd_, &one, sizeof one);
}

void WakeFlag::clear() noexcept {
    std::uint64_t count = 0;
    (void)!read(fd_, &count, sizeof count);
}

}  // namespace penstock
