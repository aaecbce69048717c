#include "control/auth/key_file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "control/auth/crypto.h"
#include "tests/unit/control/auth/scratch.h"

namespace penstock::auth {
namespace {

void write(const std::string& path, const std::string& text, mode_t mode = 0600) {
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
}

TEST(KeyFile, IsMadeForItsOwnerAloneAndReadAgain) {
    const Scratch scratch;
    const std::vector<std::string> data{scratch.path("data")};
    const std::string path = scratch.path("key");
    EXPECT_EQ(read_key_file(path, data).error().fault, KeyFileFault::missing);
    const auto made = make_key_file(path, data);
    ASSERT_TRUE(made) << made.error().why;
    EXPECT_EQ(made->size(), 32U);
    struct stat info{};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777, 0600U);
    EXPECT_EQ(read_key_file(path, data), *made);
    // One that is there is never written over.
    const auto again = make_key_file(path, data);
    ASSERT_FALSE(again);
    EXPECT_EQ(again.error().why, "cannot be written: File exists");
    EXPECT_EQ(read_key_file(path, data), *made);
    // And nothing is left beside it.
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(scratch.path("")),
                            std::filesystem::directory_iterator()),
              1);
}

TEST(KeyFile, IsThereWholeOrNotAtAllAlsoWhenTheDriveIsFull) {
    const Scratch scratch;
    const rlimit none{0, RLIM_INFINITY};
    rlimit before{};
    ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
    const auto on_signal = std::signal(SIGXFSZ, SIG_IGN);
    ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &none), 0);
    const auto made = make_key_file(scratch.path("etc/key"), {});
    ::setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, on_signal);
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().why, "cannot be written: File too large");
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path("etc")));
    EXPECT_TRUE(make_key_file(scratch.path("etc/key"), {}));
}

TEST(KeyFile, HasNoPlaceAmongTheData) {
    const Scratch scratch;
    std::filesystem::create_directory(scratch.path("data"));
    std::filesystem::create_symlink(scratch.path("data"), scratch.path("link"));
    const std::vector<std::string> data{scratch.path("elsewhere"), scratch.path("data") + "/"};
    for (const std::string& place : {scratch.path("data/key"), scratch.path("data/a/../key"),
                                     scratch.path("link/key"), scratch.path("link/../data/key")}) {
        const auto made = make_key_file(place, data);
        ASSERT_FALSE(made) << place;
        EXPECT_NE(made.error().why.find("outside the data directories"), std::string::npos);
        EXPECT_NE(read_key_file(place, data).error().why.find("outside"), std::string::npos);
    }
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path("data")));
    EXPECT_TRUE(make_key_file(scratch.path("database"), data));
    // Its own directory is made, those above are not.
    EXPECT_TRUE(make_key_file(scratch.path("etc/key"), data));
    EXPECT_FALSE(make_key_file(scratch.path("no/such/key"), data));
}

TEST(KeyFile, WhatIsNoKeyIsRefusedInOneLine) {
    const Scratch scratch;
    const std::string path = scratch.path("key");
    const std::string digits(64, 'a');
    for (const auto& text : {std::string(), digits.substr(1), digits + "a", digits + "\n\n",
                             std::string(64, 'g'), " " + digits}) {
        write(path, text);
        const auto read = read_key_file(path, {});
        ASSERT_FALSE(read) << text;
        EXPECT_EQ(read.error().fault, KeyFileFault::refused);
        EXPECT_NE(read.error().why.find("64 hexadecimal digits"), std::string::npos);
        EXPECT_EQ(read.error().why.find(digits.substr(0, 8)), std::string::npos);
    }
    write(path, digits);
    EXPECT_EQ(read_key_file(path, {}), std::string(32, '\xaa'));
    write(path, digits + "\n", 0640);
    EXPECT_NE(read_key_file(path, {}).error().why.find("chmod 600"), std::string::npos);
    EXPECT_FALSE(read_key_file(scratch.path(""), {}));
}

TEST(KeyFile, AProblemIsFoundBeforeAnythingIsMade) {
    const Scratch scratch;
    const std::vector<std::string> data{scratch.path("data")};
    // One that is missing is no problem where it can be made, with its directory.
    EXPECT_EQ(key_file_problem(scratch.path("key"), data), "");
    EXPECT_EQ(key_file_problem(scratch.path("etc/key"), data), "");
    EXPECT_TRUE(std::filesystem::is_empty(scratch.path("")));
    const std::string far = key_file_problem(scratch.path("no/such/key"), data);
    EXPECT_NE(far.find("none can be made: " + scratch.path("no")), std::string::npos) << far;
    write(scratch.path("file"), "");
    EXPECT_NE(key_file_problem(scratch.path("file/key"), data), "");
    EXPECT_NE(key_file_problem(scratch.path("data/key"), data).find("outside"), std::string::npos);
    write(scratch.path("key"), "no key");
    EXPECT_NE(key_file_problem(scratch.path("key"), data).find("64 hexadecimal"),
              std::string::npos);
    write(scratch.path("key"), std::string(64, 'a'));
    EXPECT_EQ(key_file_problem(scratch.path("key"), data), "");
}

}  // namespace
}  // namespace penstock::auth
