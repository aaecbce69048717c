// Three directories of a test, removed with it.
#pragma once

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include <gtest/gtest.h>

#include "storage/replica/set.h"

namespace penstock {

class ReplicaDirectories : public testing::Test {
protected:
    void SetUp() override {
        std::string name = (std::filesystem::temp_directory_path() / "penstock-XXXXXX").string();
        ASSERT_NE(::mkdtemp(name.data()), nullptr);
        base_ = name;
        for (unsigned i = 0; i < replica_count; ++i) {
            paths_[i] = base_ + "/replica-" + std::to_string(i);
        }
    }
    void TearDown() override { std::filesystem::remove_all(base_); }

    [[nodiscard]] ReplicaSetOptions options() const {
        ReplicaSetOptions options;
        options.directories = paths_;
        options.probe_durability = false;
        return options;
    }
    [[nodiscard]] Result<std::unique_ptr<ReplicaSet>> open() { return open(options()); }
    [[nodiscard]] Result<std::unique_ptr<ReplicaSet>> open(const ReplicaSetOptions& options) {
        message_.clear();
        return ReplicaSet::open(options, message_);
    }
    // Makes the set and closes it again.
    void make() {
        auto set = open();
        ASSERT_TRUE(set.has_value()) << message_;
    }
    void blank(unsigned i) {
        std::filesystem::remove_all(paths_[i]);
        std::filesystem::create_directory(paths_[i]);
    }
    void copy(const std::string& from, const std::string& to) {
        std::filesystem::remove_all(to);
        std::filesystem::copy(from, to, std::filesystem::copy_options::recursive);
    }
    void damage(const std::string& directory, std::uint64_t at) {
        std::fstream file(directory + "/superblock",
                          std::ios::in | std::ios::out | std::ios::binary);
        // Ids are random, so no fixed value is sure to be another one.
        file.seekg(static_cast<std::streamoff>(at));
        const int before = file.get();
        file.seekp(static_cast<std::streamoff>(at));
        file.put(static_cast<char>(before ^ 0x7f));
        ASSERT_TRUE(file.good());
    }

    std::string base_;
    std::array<std::string, replica_count> paths_;
    std::string message_;
};

}  // namespace penstock
