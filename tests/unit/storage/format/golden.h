// Compares bytes with a file of tests/golden/, which is what a version once wrote.
#pragma once

#include <array>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "storage/base/bytes.h"
#include "storage/base/crc32c.h"

namespace penstock::test {

inline std::uint32_t crc_of(Bytes bytes) {
    return crc32c(bytes);
}

inline void expect_golden(const std::string& name, const std::vector<std::byte>& bytes) {
    const char* root = std::getenv("PENSTOCK_SOURCE_ROOT");
    ASSERT_NE(root, nullptr) << "PENSTOCK_SOURCE_ROOT must name the source tree";
    const std::string path = std::string(root) + "/tests/golden/" + name;
    if (std::getenv("PENSTOCK_WRITE_GOLDEN") != nullptr) {
        std::ofstream(path, std::ios::binary)
            .write(reinterpret_cast<const char*>(bytes.data()),
                   static_cast<std::streamsize>(bytes.size()));
    }
    std::ifstream file(path, std::ios::binary);
    ASSERT_TRUE(file.good()) << "cannot read " << path;
    const std::string golden{std::istreambuf_iterator<char>(file), {}};
    EXPECT_TRUE(golden == as_text(bytes))
        << name << ": expected the bytes that version 1 wrote; a format change needs a new version";
}

}  // namespace penstock::test
