#include "dataplane/door/door.h"

#include <thread>

#include <gtest/gtest.h>

#include "dataplane/wire/partition_hash.h"

namespace penstock {
namespace {

TEST(DoorParse, TakesEveryForm) {
    struct Case {
        const char* text;
        const char* normal;
    };
    const Case cases[] = {
        {"udp:514=syslog", "udp:514=syslog,key=source,framing=datagram"},
        {"udp:65535=a", "udp:65535=a,key=source,framing=datagram"},
        {"udp:2055=flows,key=source,framing=datagram",
         "udp:2055=flows,key=source,framing=datagram"},
        {"udp:1=s.t-r_9,key=fixed:gateway 7,framing=lines",
         "udp:1=s.t-r_9,key=fixed:gateway 7,framing=lines"},
        {"udp:1=s,key=fixed:a=b", "udp:1=s,key=fixed:a=b,framing=datagram"},
        {"udp:1=s,key=fixed:\xC3\xA9", "udp:1=s,key=fixed:\xC3\xA9,framing=datagram"},
        {"udp:1=s,from=192.0.2.0/24,from=2001:db8::/32",
         "udp:1=s,key=source,framing=datagram,from=192.0.2.0/24,from=2001:db8::/32"},
        {"udp:1=s,from=192.0.2.9", "udp:1=s,key=source,framing=datagram,from=192.0.2.9/32"},
        {"udp:1=s,quota=1000", "udp:1=s,key=source,framing=datagram,quota=1000"},
        {"udp:1=s,quota=64K", "udp:1=s,key=source,framing=datagram,quota=65536"},
        {"udp:1=s,quota=10m/s", "udp:1=s,key=source,framing=datagram,quota=10485760"},
        {"udp:1=s,quota=1G", "udp:1=s,key=source,framing=datagram,quota=1073741824"},
    };
    for (const Case& c : cases) {
        std::string why;
        const auto spec = parse_door(c.text, why);
        ASSERT_TRUE(spec) << c.text << ": " << why;
        EXPECT_EQ(to_text(*spec), c.normal);
        EXPECT_EQ(parse_door(to_text(*spec), why).value(), *spec);
    }
}

TEST(DoorParse, SaysWhatWasFoundAndWhatIsAllowed) {
    struct Case {
        const char* text;
        const char* found;
        const char* allowed;
    };
    const Case cases[] = {
        {"", "''", "udp:PORT=STREAM"},
        {"tcp:1=s", "'tcp:1=s'", "udp:PORT=STREAM"},
        {"udp:514", "'udp:514'", "udp:PORT=STREAM"},
        {"udp:=s", "UDP port ''", "1 to 65535"},
        {"udp:0=s", "UDP port '0'", "1 to 65535"},
        {"udp:65536=s", "UDP port '65536'", "1 to 65535"},
        {"udp:5x=s", "UDP port '5x'", "1 to 65535"},
        {"udp:1=", "stream name ''", "a-z A-Z 0-9"},
        {"udp:1=a b", "stream name 'a b'", "1 to 128 characters"},
        {"udp:1=s,", "''", "name=value"},
        {"udp:1=s,lines", "'lines'", "name=value"},
        {"udp:1=s,key=random", "key=random", "key=fixed:TEXT"},
        {"udp:1=s,key=fixed:", "key=fixed:", "1 to 256 characters"},
        {"udp:1=s,key=fixed:\xFF", "key=fixed:", "UTF-8"},
        {"udp:1=s,framing=line", "framing=line", "framing=lines"},
        {"udp:1=s,from=192.0.2.0/33", "from=192.0.2.0/33", "prefix"},
        {"udp:1=s,quota=0", "quota=0", "above 0"},
        {"udp:1=s,quota=fast", "quota=fast", "bytes per second"},
        {"udp:1=s,quota=99999999999G", "quota=99999999999G", "bytes per second"},
        {"udp:1=s,color=red", "'color'", "key, framing, from and quota"},
        {"udp:1=s,key=source,key=source", "key= found twice", "only from="},
    };
    for (const Case& c : cases) {
        std::string why;
        const auto spec = parse_door(c.text, why);
        ASSERT_FALSE(spec) << c.text;
        EXPECT_EQ(spec.error().code, Errc::invalid_argument);
        EXPECT_TRUE(why.starts_with(std::string("--door ") + c.text)) << why;
        EXPECT_NE(why.find(c.found), std::string::npos) << why;
        EXPECT_NE(why.find(c.allowed), std::string::npos) << why;
    }
}

TEST(DoorParse, RefusesTwoDoorsOnOnePort) {
    std::string why;
    const std::vector<DoorSpec> doors{parse_door("udp:5=a", why).value(),
                                      parse_door("udp:6=a", why).value(),
                                      parse_door("udp:5=b", why).value()};
    EXPECT_TRUE(check_doors(std::span(doors).first(2), why));
    EXPECT_FALSE(check_doors(doors, why));
    EXPECT_NE(why.find("UDP port 5"), std::string::npos) << why;
}

class DoorRun : public ::testing::Test {
protected:
    void open(const char* text) {
        std::string why;
        specs = {parse_door(text, why).value()};
        quotas = make_quotas(specs);
        doors = std::make_unique<DoorSet>(specs, quotas);
    }
    Door& door() { return (*doors)[0]; }
    DropReason take(std::string_view payload, const char* from = "192.0.2.7",
                    std::uint64_t now_ns = 0) {
        Decoded datagram;
        datagram.source = parse_address(from).value();
        datagram.source_port = 999;
        datagram.payload = as_bytes(payload);
        records.clear();
        return door().take(datagram, now_ns, [this](const DoorRecord& record) {
            records.emplace_back(as_text(record.data));
            key = as_text(record.key);
            hash = record.hash;
        });
    }
    using Lines = std::vector<std::string>;
    std::vector<DoorSpec> specs;
    std::vector<std::unique_ptr<DoorQuota>> quotas;
    std::unique_ptr<DoorSet> doors;
    Lines records;
    std::string key;
    Hash128 hash;
};

TEST_F(DoorRun, MakesOneRecordOfOneDatagram) {
    open("udp:514=s");
    EXPECT_EQ(take("two\nlines\n"), DropReason::none);
    EXPECT_EQ(records, Lines{"two\nlines\n"});
    EXPECT_EQ(door().counters().packets.get(), 1U);
    EXPECT_EQ(door().counters().bytes.get(), 10U);
    EXPECT_EQ(door().counters().records.get(), 1U);
}

TEST_F(DoorRun, KeysByTheSourceAddressWithoutItsPort) {
    open("udp:514=s");
    for (int round = 0; round < 2; ++round) {
        for (int i = 0; i < 2000; ++i) {  // more sources than the cache holds
            const std::string from =
                i % 2 == 0 ? "10.0." + std::to_string(i / 250) + "." + std::to_string(i % 250)
                           : to_text(parse_address("2001:db8::" + std::to_string(i)).value());
            ASSERT_EQ(take("x", from.c_str()), DropReason::none);
            ASSERT_EQ(key, from);
            ASSERT_EQ(hash, partition_hash(as_bytes(from)));
        }
    }
}

TEST_F(DoorRun, KeysByAFixedText) {
    open("udp:514=s,key=fixed:site-9");
    EXPECT_EQ(take("x"), DropReason::none);
    EXPECT_EQ(key, "site-9");
    EXPECT_EQ(hash, partition_hash(as_bytes("site-9")));
}

TEST_F(DoorRun, CutsLines) {
    open("udp:514=s,framing=lines");
    EXPECT_EQ(take("a\nbc\r\nd"), DropReason::none);
    EXPECT_EQ(records, (Lines{"a", "bc", "d"}));
    EXPECT_EQ(take("\n\r\n\nx\n\n"), DropReason::none);
    EXPECT_EQ(records, Lines{"x"});
    EXPECT_EQ(take("a\rb\n"), DropReason::none);
    EXPECT_EQ(records, Lines{"a\rb"});
    EXPECT_EQ(door().counters().records.get(), 5U);
}

TEST_F(DoorRun, CountsDatagramsWithoutARecord) {
    open("udp:514=s,framing=lines");
    EXPECT_EQ(take(""), DropReason::empty_datagram);
    EXPECT_EQ(take("\n\r\n"), DropReason::empty_datagram);
    EXPECT_TRUE(records.empty());
    EXPECT_EQ(door().counters().drops.get(DropReason::empty_datagram), 2U);
    EXPECT_EQ(door().counters().packets.get(), 2U);
}

TEST_F(DoorRun, KeepsStrangersOut) {
    open("udp:514=s,from=192.0.2.0/24,from=2001:db8::/32");
    EXPECT_EQ(take("x", "192.0.2.255"), DropReason::none);
    EXPECT_EQ(take("x", "2001:db8:1::1"), DropReason::none);
    EXPECT_EQ(take("x", "192.0.3.1"), DropReason::source_not_allowed);
    EXPECT_EQ(take("x", "2001:db9::1"), DropReason::source_not_allowed);
    EXPECT_EQ(door().counters().drops.get(DropReason::source_not_allowed), 2U);
}

TEST_F(DoorRun, HoldsItsQuota) {
    open("udp:514=s,quota=100K");
    const std::string kilobyte(1024, 'x');
    std::uint64_t taken = 0;
    // Ten seconds of a sender ten times too fast: one burst and ten seconds' worth pass.
    for (std::uint64_t i = 0; i < 10000; ++i) {
        taken +=
            take(kilobyte, "192.0.2.7", 1'000'000'000 + i * 1'000'000) == DropReason::none ? 1 : 0;
    }
    EXPECT_GE(taken, 1098U);
    EXPECT_LE(taken, 1101U);
    EXPECT_EQ(door().counters().drops.get(DropReason::door_quota), 10000 - taken);
}

TEST(DoorQuota, LetsALargeDatagramPassASmallQuota) {
    DoorQuota quota(100);
    EXPECT_TRUE(quota.take(65000, 1));
    EXPECT_FALSE(quota.take(65000, 1'000'000'000));
    EXPECT_TRUE(quota.take(100, 1'000'000'000));
}

TEST(DoorQuota, IsSharedByLanesWithoutLosingBytes) {
    DoorQuota quota(1 << 20);
    std::atomic<unsigned> taken{0};
    const auto spend = [&] {
        for (int i = 0; i < 10000; ++i) {
            taken += quota.take(1024, 5) ? 1 : 0;
        }
    };
    std::thread other(spend);
    spend();
    other.join();
    EXPECT_EQ(taken.load(), 1024U);
}

TEST(DoorSet, FindsDoorsByPort) {
    std::string why;
    const std::vector<DoorSpec> specs{parse_door("udp:514=a", why).value(),
                                      parse_door("udp:65535=b", why).value()};
    const auto quotas = make_quotas(specs);
    DoorSet doors(specs, quotas);
    EXPECT_EQ(doors.find(514), 0U);
    EXPECT_EQ(doors.find(65535), 1U);
    EXPECT_EQ(doors.find(0), DoorSet::npos);
    EXPECT_EQ(doors.find(515), DoorSet::npos);
    EXPECT_EQ(doors[1].spec().stream, "b");
}

}  // namespace
}  // namespace penstock
