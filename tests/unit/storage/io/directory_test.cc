#include "storage/io/directory.h"

#include <sys/wait.h>

#include "tests/unit/storage/io/support.h"

namespace penstock {
namespace {

using Create = ReplicaDirectory::Create;
using test::TempDir;

Errc open_code(const std::string& path, Create create = Create::no) {
    const auto directory = ReplicaDirectory::open(path, create);
    return directory ? Errc::ok : directory.error().code;
}

// What another process finds.
Errc open_code_elsewhere(const std::string& path) {
    const pid_t child = ::fork();
    if (child == 0) {
        ::_exit(static_cast<int>(open_code(path)));
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return static_cast<Errc>(WEXITSTATUS(status));
}

TEST(ReplicaDirectory, IsMadeOnlyWhenAsked) {
    const TempDir dir;
    EXPECT_EQ(open_code(dir.path() + "/r"), Errc::not_found);
    EXPECT_EQ(open_code(dir.path() + "/r", Create::yes), Errc::ok);
    EXPECT_EQ(open_code(dir.path() + "/r"), Errc::ok);
    EXPECT_EQ(open_code(dir.path() + "/no/r", Create::yes), Errc::not_found);
    const int fd = ::open((dir.path() + "/file").c_str(), O_CREAT | O_WRONLY, 0600);
    ::close(fd);
    EXPECT_EQ(open_code(dir.path() + "/file"), Errc::invalid_argument);
}

TEST(ReplicaDirectory, HasOneHolderAtATime) {
    const TempDir dir;
    {
        const auto held = ReplicaDirectory::open(dir.path(), Create::no);
        ASSERT_TRUE(held);
        EXPECT_EQ(open_code(dir.path()), Errc::locked);
        EXPECT_EQ(open_code_elsewhere(dir.path()), Errc::locked);
        // Closing another descriptor of the file must not drop it, as it would with plain locks.
        ::close(::open((dir.path() + "/lock").c_str(), O_RDWR));
        EXPECT_EQ(open_code_elsewhere(dir.path()), Errc::locked);
    }
    EXPECT_EQ(open_code_elsewhere(dir.path()), Errc::ok);
}

TEST(ReplicaDirectory, LockGoesWithTheProcessThatHeldIt) {
    const TempDir dir;
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    const pid_t child = ::fork();
    if (child == 0) {
        const auto held = ReplicaDirectory::open(dir.path(), Create::no);
        const char answer = held ? 'y' : 'n';
        if (::write(ready[1], &answer, 1) == 1) {
            ::pause();
        }
        ::_exit(0);
    }
    char answer = 0;
    ASSERT_EQ(::read(ready[0], &answer, 1), 1);
    EXPECT_EQ(answer, 'y');
    EXPECT_EQ(open_code(dir.path()), Errc::locked);
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(open_code(dir.path()), Errc::ok);
    ::close(ready[0]);
    ::close(ready[1]);
}

TEST(ReplicaDirectory, NoticesThatItsPathLeadsElsewhere) {
    const TempDir dir;
    const std::string path = dir.path() + "/r";
    const auto held = ReplicaDirectory::open(path, Create::yes);
    ASSERT_TRUE(held);
    EXPECT_TRUE((*held)->same_as_path());
    std::filesystem::rename(path, dir.path() + "/moved");
    EXPECT_EQ((*held)->same_as_path().error().code, Errc::not_found);
    std::filesystem::create_directory(path);
    EXPECT_EQ((*held)->same_as_path().error().code, Errc::foreign);
    std::filesystem::remove(path);
    std::filesystem::rename(dir.path() + "/moved", path);
    EXPECT_TRUE((*held)->same_as_path());
    std::filesystem::remove(path + "/lock");
    EXPECT_EQ((*held)->same_as_path().error().code, Errc::not_found);
    ::close(::open((path + "/lock").c_str(), O_CREAT | O_RDWR, 0600));
    EXPECT_EQ((*held)->same_as_path().error().code, Errc::foreign);
}

TEST(ReplicaDirectory, RemovedWhileOpenIsNotFound) {
    const TempDir dir;
    const std::string path = dir.path() + "/r";
    const auto held = ReplicaDirectory::open(path, Create::yes);
    ASSERT_TRUE(held);
    std::filesystem::remove_all(path);
    EXPECT_EQ((*held)->same_as_path().error().code, Errc::not_found);
}

}  // namespace
}  // namespace penstock
