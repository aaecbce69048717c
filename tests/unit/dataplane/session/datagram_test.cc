#include "dataplane/session/datagram.h"

#include <vector>

#include <gtest/gtest.h>

namespace penstock::session {
namespace {

std::vector<std::byte> datagram(const Header& header, std::size_t size) {
    std::vector<std::byte> out(size);
    if (size >= sizeof header) {
        store(out.data(), header);
    }
    return out;
}
Header good() {
    Header header;
    header.type = DatagramType::data;
    header.session = 7;
    header.packet_number = 1;
    return header;
}
DropReason at_server(const Header& header, std::size_t size = 100) {
    Header out;
    return check_at_server(datagram(header, size), out);
}
DropReason at_client(const Header& header, std::size_t size = 100) {
    Header out;
    return check_at_client(datagram(header, size), out);
}

TEST(SessionDatagram, SizesBeyondTheLimitsAreTruncated) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{31}, std::size_t{32},
                                   datagram_bytes_min - 1, datagram_bytes_max + 1}) {
        EXPECT_EQ(at_server(good(), size), DropReason::session_truncated) << size;
    }
    EXPECT_EQ(at_server(good(), datagram_bytes_min), DropReason::none);
    EXPECT_EQ(at_server(good(), datagram_bytes_max), DropReason::none);
}

TEST(SessionDatagram, AnythingUnknownIsAnotherVersion) {
    Header header = good();
    header.version = 2;
    EXPECT_EQ(at_server(header), DropReason::session_version);
    header = good();
    header.flags = 128;
    EXPECT_EQ(at_server(header), DropReason::session_version);
    header = good();
    header.reserved = 1;
    EXPECT_EQ(at_server(header), DropReason::session_version);
    header = good();
    header.type = DatagramType::none;
    EXPECT_EQ(at_server(header), DropReason::session_version);
    header.type = static_cast<DatagramType>(6);
    EXPECT_EQ(at_server(header), DropReason::session_version);
    header = good();
    header.packet_number = 0;
    EXPECT_EQ(at_server(header), DropReason::session_version);
}

TEST(SessionDatagram, EachSideTakesWhatTheOtherSends) {
    Header header = good();
    for (const auto type : {DatagramType::retry, DatagramType::accept, DatagramType::server}) {
        header.type = type;
        EXPECT_EQ(at_server(header), DropReason::session_direction);
    }
    for (const auto type : {DatagramType::open, DatagramType::data}) {
        header.type = type;
        EXPECT_EQ(at_client(header), DropReason::session_direction);
    }
    header.type = DatagramType::server;
    EXPECT_EQ(at_client(header), DropReason::none);
    header.type = DatagramType::accept;
    EXPECT_EQ(at_client(header, 1200), DropReason::none);
    EXPECT_EQ(at_client(header, 1201), DropReason::session_truncated);
    header.type = DatagramType::retry;
    EXPECT_EQ(at_client(header, retry_bytes), DropReason::none);
    EXPECT_EQ(at_client(header, retry_bytes + 1), DropReason::session_truncated);
}

TEST(SessionDatagram, ARequestToOpenIsPadded) {
    Header header = good();
    header.type = DatagramType::open;
    EXPECT_EQ(at_server(header, open_bytes), DropReason::none);
    EXPECT_EQ(at_server(header, open_bytes - 1), DropReason::session_open_size);
    EXPECT_EQ(at_server(header, open_bytes + 1), DropReason::session_open_size);
}

TEST(SessionDatagram, TheKeyEpochFollowsFromTheNumber) {
    Header header = good();
    header.key_epoch = 1;
    EXPECT_EQ(at_server(header), DropReason::session_key_epoch);
    header.packet_number = (std::uint64_t{1} << 28) - 1;
    EXPECT_EQ(at_server(header), DropReason::session_key_epoch);
    header.packet_number = std::uint64_t{1} << 28;
    EXPECT_EQ(at_server(header), DropReason::none);
    header.packet_number = packet_number_max;
    header.key_epoch = 255;
    EXPECT_EQ(at_server(header), DropReason::none);
    header.packet_number = packet_number_max + 1;
    header.key_epoch = 0;
    EXPECT_EQ(at_server(header), DropReason::session_key_epoch);
}

TEST(SessionDatagram, NoSessionHasNumberZero) {
    Header header = good();
    header.session = 0;
    EXPECT_EQ(at_server(header), DropReason::session_unknown);
}

}  // namespace
}  // namespace penstock::session
