#include "dataplane/port/interface.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "dataplane/port/port.h"

namespace penstock {
namespace {

namespace fs = std::filesystem;

// Files as the kernel shows them, gone with this object.
class Tree {
public:
    Tree() {
        std::string path = (fs::temp_directory_path() / "penstock-XXXXXX").string();
        root_ = ::mkdtemp(path.data());
    }
    ~Tree() { fs::remove_all(root_); }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;

    void write(const std::string& path, const std::string& text) const {
        fs::create_directories(fs::path(root_ + "/" + path).parent_path());
        std::ofstream(root_ + "/" + path) << text;
    }
    [[nodiscard]] const std::string& root() const { return root_; }

private:
    std::string root_;
};

using Names = std::vector<std::string>;

TEST(Interface, DeviceStringsAreTakenApart) {
    EXPECT_EQ(device_argument("net_tap0,iface=a,remote=eth0", "remote"), "eth0");
    EXPECT_EQ(device_argument("net_tap0,iface=a", "remote"), "");
    EXPECT_EQ(device_argument("net_x,rx_iface=a", "iface"), "");
}

TEST(Interface, NamesWhatADeviceTakesTrafficFrom) {
    EXPECT_EQ(interfaces_of("net_af_packet0,iface=eth1,qpairs=2"), Names{"eth1"});
    EXPECT_EQ(interfaces_of("net_af_xdp0,iface=eth1"), Names{"eth1"});
    EXPECT_EQ(interfaces_of("net_pcap0,rx_iface=eth1,tx_iface=eth2"), (Names{"eth1", "eth2"}));
    EXPECT_EQ(interfaces_of("net_tap0,iface=new0"), Names{});
    EXPECT_EQ(interfaces_of("net_tap0,iface=new0,remote=eth1"), Names{"eth1"});
    EXPECT_EQ(interfaces_of("net_memif0,socket=/x"), Names{});
    const Tree sys;
    sys.write("bus/pci/devices/0000:01:00.0/net/eth7/mtu", "1500\n");
    EXPECT_EQ(interfaces_of("0000:01:00.0", sys.root()), Names{"eth7"});
    EXPECT_EQ(interfaces_of("01:00.0,arg=1", sys.root()), Names{"eth7"});
    EXPECT_EQ(interfaces_of("0000:02:00.0", sys.root()), Names{});
}

TEST(Interface, WhatStandsOnAnInterfaceDependsOnIt) {
    const Tree sys;
    sys.write("class/net/eth0/upper_bond0/mtu", "");
    sys.write("class/net/bond0/upper_br0/mtu", "");
    sys.write("class/net/br0/upper_eth0/mtu", "");  // no such loop exists, but it must end
    EXPECT_EQ(with_uppers("eth0", sys.root()), (Names{"eth0", "bond0", "br0"}));
    EXPECT_EQ(with_uppers("eth9", sys.root()), Names{"eth9"});
}

TEST(Interface, DefaultRouteIsOneOfEveryDestination) {
    const Tree proc;
    proc.write("net/route",
               "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n"
               "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
               "eth1\t0002000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
               "eth4\t00000000\t00000000\t0001\t0\t0\t0\t00000080\t0\t0\t0\n");
    proc.write("net/ipv6_route",
               "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
               "fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth2\n"
               "00000000000000000000000000000000 00 00000000000000000000000000000000 00 "
               "00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo\n");
    EXPECT_TRUE(has_default_route("eth0", proc.root()));
    EXPECT_FALSE(has_default_route("eth1", proc.root()));
    EXPECT_TRUE(has_default_route("eth2", proc.root()));
    EXPECT_FALSE(has_default_route("eth3", proc.root()));
    EXPECT_FALSE(has_default_route("eth4", proc.root()));  // a half of all, as VPNs add
    EXPECT_FALSE(has_default_route("lo", proc.root()));
}

TEST(Interface, ALoginIsFoundByTheAddressItWasMadeTo) {
    EXPECT_FALSE(carries_login("nosuchif0"));
    // The environment that /proc shows is the one a process started with.
    const auto login_over = [](const char* connection) {
        const pid_t child = ::fork();
        if (child == 0) {
            ::setenv("SSH_CONNECTION", connection, 1);
            ::close(STDOUT_FILENO);
            ::execl("/proc/self/exe", "test", "--gtest_filter=Interface.DISABLED_LoginOverLoopback",
                    "--gtest_also_run_disabled_tests", nullptr);
            ::_exit(127);
        }
        int status = 0;
        ::waitpid(child, &status, 0);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0;
    };
    EXPECT_TRUE(login_over("127.0.0.1 50000 127.0.0.1 22"));
    EXPECT_FALSE(login_over("203.0.113.5 50000 203.0.113.9 22"));
}

TEST(Interface, DISABLED_LoginOverLoopback) {
    ASSERT_TRUE(carries_login("lo"));
    EXPECT_NE(reason_not_to_take("net_af_packet0,iface=lo").find("login"), std::string::npos);
}

TEST(Interface, KnowsItsSizes) {
    EXPECT_GE(interface_mtu("lo"), 1500);
    EXPECT_EQ(interface_mtu("nosuchif0"), 0);
    EXPECT_EQ(interface_queues("lo"), InterfaceQueues{});
    EXPECT_TRUE(port_takes_jumbo("net_memif0", 9000));
    EXPECT_TRUE(port_takes_jumbo("net_af_packet0,iface=lo", 0));
    EXPECT_FALSE(port_takes_jumbo("net_memif0", 1500));
    EXPECT_FALSE(port_takes_jumbo("kernel:127.0.0.1", 0));
}

}  // namespace
}  // namespace penstock
