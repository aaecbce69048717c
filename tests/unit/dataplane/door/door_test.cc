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
        {"udp:514=syslog", "udp:514=syslog,key=source,framing=datagram,ports=one"},
        {"udp:65535=a", "udp:65535=a,key=source,framing=datagram,ports=one"},
        {"udp:2055=flows,key=source,framing=datagram",
         "udp:2055=flows,key=source,framing=datagram,ports=one"},
        {"udp:1=s.t-r_9,key=fixed:gateway 7,framing=lines",
         "udp:1=s.t-r_9,key=fixed:gateway 7,framing=lines,ports=one"},
        {"udp:1=s,key=fixed:a=b", "udp:1=s,key=fixed:a=b,framing=datagram,ports=one"},
        {"udp:1=s,key=fixed:\xC3\xA9", "udp:1=s,key=fixed:\xC3\xA9,framing=datagram,ports=one"},
        {"udp:1=s,from=192.0.2.0/24,from=2001:db8::/32",
         "udp:1=s,key=source,framing=datagram,ports=one,from=192.0.2.0/24,from=2001:db8::/32"},
        {"udp:1=s,from=192.0.2.9",
         "udp:1=s,key=source,framing=datagram,ports=one,from=192.0.2.9/32"},
        {"udp:1=s,quota=1000", "udp:1=s,key=source,framing=datagram,ports=one,quota=1000"},
        {"udp:1=s,quota=64K", "udp:1=s,key=source,framing=datagram,ports=one,quota=65536"},
        {"udp:1=s,quota=10m/s", "udp:1=s,key=source,framing=datagram,ports=one,quota=10485760"},
        {"udp:1=s,ports=one", "udp:1=s,key=source,framing=datagram,ports=one"},
        {"udp:1=s,ports=per-lane,framing=lines,key=fixed:a,from=::1",
         "udp:1=s,key=fixed:a,framing=lines,ports=per-lane,from=::1/128"},
        {"udp:1=s,quota=1G", "udp:1=s,key=source,framing=datagram,ports=one,quota=1073741824"},
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
        {"udp:1=s,ports=2", "ports=2", "ports=per-lane"},
        {"udp:1=s,per-lane", "'per-lane'", "name=value with key, framing, ports"},
        {"udp:1=s,ports=one,ports=one", "ports= found twice", "only from="},
        {"udp:1=s,from=192.0.2.0/33", "from=192.0.2.0/33", "prefix"},
        {"udp:1=s,quota=0", "quota=0", "above 0"},
        {"udp:1=s,quota=fast", "quota=fast", "bytes per second"},
        {"udp:1=s,quota=99999999999G", "quota=99999999999G", "bytes per second"},
        {"udp:1=s,color=red", "'color'", "key, framing, ports, from and quota"},
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
    EXPECT_TRUE(check_doors(std::span(doors).first(2), 4, why));
    EXPECT_FALSE(check_doors(doors, 4, why));
    EXPECT_NE(why.find("UDP port 5"), std::string::npos) << why;
}

TEST(DoorParse, RefusesARangeOfPortsThatAnotherDoorReachesInto) {
    std::string why;
    const auto check = [&](std::vector<const char*> texts, unsigned lanes) {
        std::vector<DoorSpec> doors;
        for (const char* text : texts) {
            doors.push_back(parse_door(text, why).value());
        }
        why.clear();
        const Status checked = check_doors(doors, lanes, why);
        return checked ? Errc::ok : checked.error().code;
    };
    const char* const wide = "udp:5600=a,ports=per-lane";
    EXPECT_EQ(check({wide, "udp:5602=b", "udp:5598=c,ports=per-lane"}, 2), Errc::ok);
    for (const char* other :
         {"udp:5602=b", "udp:5600=b", "udp:5598=b,ports=per-lane", "udp:5602=b,ports=per-lane"}) {
        EXPECT_EQ(check({wide, other}, 3), Errc::already_exists) << other;
        EXPECT_EQ(check({other, wide}, 3), Errc::already_exists) << other;
    }
    EXPECT_EQ(check({"udp:5602=b", wide}, 3), Errc::already_exists);
    EXPECT_EQ(why,
              "--door: UDP port 5602 found for streams 'b' and 'a' (ports=per-lane: 5600 to 5602); "
              "a port leads to one stream: give one of them another port");
    EXPECT_EQ(check({"udp:65534=a,ports=per-lane"}, 2), Errc::ok);
    EXPECT_EQ(check({"udp:65534=a,ports=per-lane"}, 3), Errc::invalid_argument);
    EXPECT_EQ(why,
              "--door udp:65534=a: ports=per-lane found, which with 3 lanes are UDP ports up to "
              "65536; the last there is is 65535: choose a lower one");
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

TEST(DoorSet, FindsOneDoorByEachOfItsLanesPorts) {
    std::string why;
    const std::vector<DoorSpec> specs{parse_door("udp:5600=a,ports=per-lane", why).value(),
                                      parse_door("udp:5603=b", why).value()};
    const auto quotas = make_quotas(specs);
    DoorSet doors(specs, quotas, 3);
    ASSERT_EQ(doors.size(), 2U);
    for (std::uint16_t lane = 0; lane < 3; ++lane) {
        const auto port = static_cast<std::uint16_t>(5600 + lane);
        EXPECT_EQ(doors.find(port), 0U);
        EXPECT_TRUE(doors[0].spec().is_for(lane, port));
        EXPECT_FALSE(doors[0].spec().is_for(lane + 1, port));
        EXPECT_TRUE(doors[1].spec().is_for(lane, 5603));
    }
    EXPECT_EQ(doors.find(5599), DoorSet::npos);
    EXPECT_EQ(doors.find(5603), 1U);
    EXPECT_EQ(doors.find(5604), DoorSet::npos);
}

}  // namespace
}  // namespace penstock
