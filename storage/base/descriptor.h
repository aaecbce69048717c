// A file descriptor that is closed at the end of its scope.
//
// Runs on: any thread. Allocates: nothing.
#pragma once

#include <unistd.h>

#include <utility>

namespace penstock {

class Descriptor {
public:
    // What open() and its like returned: below 0 there is none.
    explicit Descriptor(int fd) noexcept : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0) {
            ::close(fd_);
        }
    }
    Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Descriptor& operator=(Descriptor&& other) noexcept {
        std::swap(fd_, other.fd_);  // `other` closes what was held here
        return *this;
    }
    [[nodiscard]] int get() const noexcept { return fd_; }
    [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }

private:
    int fd_;
};

}  // namespace penstock
