// How many connections the process has descriptors for, beside what its files need.
//
// Runs on: the thread that starts the node.
#pragma once

#include <cstddef>

namespace penstock {

// Raises the limit of open files to what the system lets the process have, and returns it. Shells
// and service managers start programs with 1024, for the sake of some that are old.
[[nodiscard]] std::size_t raise_descriptor_limit() noexcept;

// Connections that each of `threads` may have, at most `wanted`, so that files can still be opened
// when all connections are there.
[[nodiscard]] std::size_t connections_within(std::size_t descriptors, unsigned threads,
                                             std::size_t wanted) noexcept;

}  // namespace penstock
