// Keys and datagrams against what another implementation makes of docs/formats/session.md.
#include <gtest/gtest.h>

#include "dataplane/session/aead.h"
#include "dataplane/session/decode.h"
#include "dataplane/session/encode.h"
#include "dataplane/session/keys.h"
#include "tests/unit/dataplane/session/vectors.h"

namespace penstock::session {
namespace {

using namespace test;

KeyContext context_of(const nlohmann::json& all) {
    const auto& session = all.at("session");
    return {number_of(session.at("id")), session.at("owner_epoch").get<std::uint64_t>(),
            number_of(session.at("node"))};
}
Secret prk_of(const nlohmann::json& all) {
    return session_prk(array_of<32>(all.at("session").at("secret")));
}

Buffer sealed(const KeyMaterial& material, const Header& header, Bytes text) {
    const auto aead = Aead::open().value();
    PreparedKey key;
    aead->prepare(material, key);
    Buffer out(header_bytes + text.size() + tag_bytes);
    store(out.data(), header);
    std::copy(text.begin(), text.end(), out.begin() + header_bytes);
    aead->seal(key, header.packet_number, out);
    return out;
}

TEST(SessionGolden, LaneKeysAreTheOtherImplementations) {
    const auto all = vectors();
    const Secret prk = prk_of(all);
    EXPECT_EQ(to_hex(prk), all.at("session").at("prk").get<std::string>());
    ASSERT_EQ(all.at("lane_keys").size(), 4U);
    for (const auto& wanted : all.at("lane_keys")) {
        const KeyMaterial found =
            lane_key(prk, context_of(all), wanted.at("lane").get<std::uint16_t>(),
                     static_cast<Direction>(wanted.at("direction").get<int>()),
                     wanted.at("key_epoch").get<std::uint8_t>());
        EXPECT_EQ(to_hex(found.key), wanted.at("key").get<std::string>());
        EXPECT_EQ(to_hex(found.salt), wanted.at("salt").get<std::string>());
    }
}

TEST(SessionGolden, EveryDatagramOpensToItsText) {
    const auto all = vectors();
    const Secret prk = prk_of(all);
    const auto aead = Aead::open().value();
    for (const auto& vector : all.at("datagrams")) {
        SCOPED_TRACE(vector.at("name").get<std::string>());
        Buffer datagram = from_hex(vector.at("datagram"));
        const auto direction = static_cast<Direction>(vector.at("direction").get<int>());
        Header header;
        EXPECT_EQ(direction == Direction::to_server ? check_at_server(datagram, header)
                                                    : check_at_client(datagram, header),
                  DropReason::none);
        EXPECT_EQ(header.packet_number, vector.at("packet_number").get<std::uint64_t>());
        const KeyMaterial material =
            lane_key(prk, context_of(all), header.lane, direction, header.key_epoch);
        PreparedKey key;
        aead->prepare(material, key);
        OpenJob job;
        job.key = &key;
        job.datagram = datagram.data();
        job.size = static_cast<std::uint32_t>(datagram.size());
        job.packet_number = header.packet_number;
        aead->open(job);
        ASSERT_TRUE(job.authentic);
        EXPECT_EQ(to_hex(job.text()), vector.at("clear").get<std::string>());
        // And the other way round.
        EXPECT_EQ(to_hex(sealed(material, header, job.text())),
                  vector.at("datagram").get<std::string>());
    }
}

// The page's example is the first vector, line by line.
TEST(SessionGolden, ThePageShowsIt) {
    std::ifstream file(std::string(std::getenv("PENSTOCK_SOURCE_ROOT")) +
                       "/docs/formats/session.md");
    const std::string page{std::istreambuf_iterator<char>(file), {}};
    const auto shows = [&](const std::string& hex) {
        for (std::size_t at = 0; at < hex.size(); at += 32) {
            std::string line = "    00" + to_hex(std::array{static_cast<std::byte>(at / 2)}) + ":";
            for (std::size_t i = at; i < std::min(at + 32, hex.size()); i += 4) {
                line += " " + hex.substr(i, 4);
            }
            EXPECT_NE(page.find(line), std::string::npos) << "expected on the page: " << line;
        }
    };
    const auto vector = vector_of("batch");
    shows(vector.at("clear").get<std::string>());
    shows(vector.at("datagram").get<std::string>());
    const auto all = vectors();
    for (const std::string& one : {all.at("session").at("prk").get<std::string>(),
                                   all.at("lane_keys")[0].at("key").get<std::string>(),
                                   all.at("lane_keys")[0].at("salt").get<std::string>()}) {
        EXPECT_NE(page.find(one), std::string::npos) << one;
    }
}

TEST(SessionGolden, OpeningWithAPresharedKey) {
    const auto psk = vectors().at("psk");
    const std::uint64_t id = number_of(psk.at("id"));
    const Secret secret = array_of<32>(psk.at("psk"));
    const Random client = array_of<32>(psk.at("client_random"));
    const Random server = array_of<32>(psk.at("server_random"));
    const KeyMaterial opens = open_key(secret, id, client);
    EXPECT_EQ(to_hex(opens.key) + to_hex(opens.salt), psk.at("open_key").get<std::string>());
    const KeyMaterial accepts = accept_key(secret, id, client, server);
    EXPECT_EQ(to_hex(accepts.key) + to_hex(accepts.salt), psk.at("accept_key").get<std::string>());
    EXPECT_EQ(to_hex(psk_session_secret(secret, id, client, server)),
              psk.at("session_secret").get<std::string>());

    const auto aead = Aead::open().value();
    const auto text_of = [&](const char* name, const KeyMaterial& material, std::size_t text_at) {
        Buffer datagram = from_hex(psk.at(name));
        PreparedKey key;
        aead->prepare(material, key);
        OpenJob job;
        job.key = &key;
        job.datagram = datagram.data();
        job.size = static_cast<std::uint32_t>(datagram.size());
        job.text_at = static_cast<std::uint32_t>(text_at);
        job.packet_number = load<Header>(datagram.data()).packet_number;
        aead->open(job);
        EXPECT_TRUE(job.authentic) << name;
        return Buffer(job.text().begin(), job.text().end());
    };
    constexpr std::size_t open_text_at = header_bytes + random_bytes + cookie_bytes;
    for (const char* const name : {"open", "open_again"}) {
        const Buffer text = text_of(name, opens, open_text_at);
        ASSERT_EQ(text.size(), open_clear_bytes);
        const auto request = load<OpenRequest>(text.data());
        EXPECT_EQ(request.lifetime_s, 3600U);
        EXPECT_EQ(request.level, 1);
        EXPECT_EQ(request.role, 1);
        Header header;
        EXPECT_EQ(check_at_server(from_hex(psk.at(name)), header), DropReason::none);
        EXPECT_EQ(header.session, id);
    }
    const Buffer text = text_of("accept", accepts, header_bytes + random_bytes);
    const auto grant = load<Grant>(text.data());
    EXPECT_EQ(grant.session, number_of(vectors().at("session").at("id")));
    EXPECT_EQ(grant.owner_epoch, 12U);
    EXPECT_EQ(grant.producer, 0x0011223344556677U);
    EXPECT_EQ(grant.producer_epoch, 217382400U);
    EXPECT_EQ(grant.lanes, 2);
    EXPECT_EQ(grant.port, 4600);
    EXPECT_EQ(grant.flows, 64);
    Header header;
    EXPECT_EQ(check_at_client(from_hex(psk.at("accept")), header), DropReason::none);
    EXPECT_EQ(check_at_client(from_hex(psk.at("retry")), header), DropReason::none);
}

TEST(SessionGolden, TextsAreDecoded) {
    ClientText text;
    BlockType fault = BlockType::none;
    const auto decode = [&](const char* name) -> Buffer {
        Buffer bytes = from_hex(vector_of(name).at("clear"));
        EXPECT_TRUE(decode_client(bytes, text, fault)) << name << " " << static_cast<int>(fault);
        return bytes;
    };
    const Buffer batch = decode("batch");
    ASSERT_EQ(text.parts.size(), 1U);
    EXPECT_TRUE(text.parts[0].starts_flow() && text.parts[0].is_last());
    EXPECT_EQ(text.parts[0].header.shard, 5U);
    EXPECT_EQ(text.parts[0].end_offset, 1);
    EXPECT_EQ(as_text(text.parts[0].records[0].key), "pk");
    EXPECT_EQ(as_text(text.parts[0].records[0].data), "hello");

    const Buffer blocks = decode("blocks");
    ASSERT_EQ(text.parts.size(), 2U);
    const auto records = text.parts[0].records;
    ASSERT_EQ(records.size(), 4U);
    EXPECT_TRUE(records[0].defines_alias() && records[0].alias == 7);
    EXPECT_TRUE(records[1].uses_alias() && records[1].alias == 7 && records[1].key.empty());
    EXPECT_EQ(as_text(records[1].data), "bc");
    EXPECT_EQ(records[2].offset, 5);
    EXPECT_EQ(records[2].explicit_hash, (Hash128{1, 2}));
    EXPECT_TRUE(records[2].data.empty());
    EXPECT_EQ(records[3].offset, 506);
    EXPECT_EQ(records[3].alias, 8);
    EXPECT_EQ(text.parts[0].end_offset, 507);
    EXPECT_EQ(text.parts[1].header.first_offset, 500);
    EXPECT_EQ(text.parts[1].records[0].offset, 511);
    EXPECT_EQ(text.parts[1].end_offset, 512);
    EXPECT_TRUE(text.has_path_response && text.wants_report && text.wants_size);

    const Buffer first = decode("fragment-first");
    const Buffer piece(text.parts[0].piece.begin(), text.parts[0].piece.end());
    EXPECT_EQ(piece.size(), 1024U);
    const BatchBlock part = text.parts[0].header;
    const Buffer last = decode("fragment-last");
    EXPECT_EQ(text.parts[0].fragment.offset, 1024U);
    Buffer whole = piece;
    whole.insert(whole.end(), text.parts[0].piece.begin(), text.parts[0].piece.end());
    std::array<RecordView, 1> record;
    std::uint16_t end = 0;
    ASSERT_TRUE(decode_records(whole, part, record, end));
    EXPECT_EQ(as_text(record[0].key), "large");
    EXPECT_EQ(record[0].data.size(), 1500U);

    const Buffer ask = decode("ask-map");
    EXPECT_TRUE(text.wants_map);
    EXPECT_EQ(text.map_from, (Hash128{std::uint64_t{1} << 63, 9}));
    const Buffer subscribe = decode("subscribe");
    ASSERT_EQ(text.subscribes.size(), 1U);
    EXPECT_EQ(text.subscribes[0].start, SubscribeStart::at_sequence);
    EXPECT_EQ(text.subscribes[0].value, 4294967299U);
    ASSERT_EQ(text.pulls.size(), 1U);
    EXPECT_EQ(text.pulls[0].window_bytes, 1U << 16);
    const Buffer close = decode("close");
    EXPECT_TRUE(text.closes);
    EXPECT_EQ(text.close_code, 1);
}

TEST(SessionGolden, ServerBlocksAreWrittenTheSame) {
    std::array<std::byte, 1200> memory;
    TextWriter writer(memory);
    std::array<std::byte, 8> challenge;
    for (unsigned i = 0; i < 8; ++i) {
        challenge[i] = static_cast<std::byte>(i);
    }
    EXPECT_TRUE(writer.add_path(BlockType::path_challenge, challenge));
    ResultsBlock results;
    results.shard = 5;
    results.through = 1;
    results.map_epoch = 3;
    const std::array<ResultEntry, 2> entries{
        {{1, 0, 1, PartStatus::stored, 1, 0, 4294967299, 1'700'000'000'000},
         {2, 0, 64, PartStatus::throttled, 0, static_cast<std::uint16_t>(CreditCause::memory), 0,
          2500}}};
    EXPECT_EQ(writer.add_results(results, entries), 2U);
    ReportBlock report;
    report.echo_us = 0x01020304;
    report.highest = 300;
    report.delay_us = 250;
    report.received = 299;
    report.bitmap[0] = 7;
    report.bitmap[31] = 128;
    EXPECT_TRUE(writer.add(report));
    CreditBlock credit;
    credit.batches = 64;
    credit.cause = CreditCause::memory;
    credit.bytes = 4U << 20;
    credit.expires_in_s = 3600;
    credit.clock_ms = 1'700'000'000'000;
    EXPECT_TRUE(writer.add(credit));
    MapEntry shard;
    shard.shard = 5;
    shard.last = {(std::uint64_t{1} << 63) - 1, UINT64_MAX};
    shard.created_s = 1'700'000'000;
    shard.lane = 1;
    shard.port = 4601;
    shard.address = array_of<16>("00000000000000000000ffffc0000201");
    shard.state = 1;
    MapBlock map;
    map.block.flags = map_has_more;
    map.map_epoch = 3;
    EXPECT_EQ(writer.add_map(map, {&shard, 1}), 1U);
    EXPECT_EQ(to_hex(writer.text()), vector_of("server").at("clear").get<std::string>());

    TextWriter closing(memory);
    ClosedBlock closed;
    closed.code = CloseCode::fenced;
    closed.detail = 217382401;
    EXPECT_TRUE(closing.add(closed));
    EXPECT_EQ(to_hex(closing.text()), vector_of("closed").at("clear").get<std::string>());
}

TEST(SessionGolden, ClientBlocksAreWrittenTheSame) {
    std::array<std::byte, 1200> memory;
    TextWriter batch(memory);
    BatchBlock head;
    head.shard = 5;
    head.batch = 1;
    ASSERT_TRUE(batch.begin_part(head));
    EXPECT_TRUE(batch.add_record({as_bytes("pk"), as_bytes("hello")}));
    EXPECT_TRUE(batch.end_part(part_starts_flow | part_is_last));
    EXPECT_EQ(to_hex(batch.text()), vector_of("batch").at("clear").get<std::string>());

    const auto vector = from_hex(vector_of("blocks").at("clear"));
    TextWriter writer(memory);
    std::array<std::byte, 8> response;
    for (unsigned i = 0; i < 8; ++i) {
        response[i] = static_cast<std::byte>(i);
    }
    EXPECT_TRUE(writer.add_path(BlockType::path_response, response));
    EXPECT_TRUE(writer.add_ping(true));
    head.batch = 2;
    head.flow = 1;
    head.follows = 1;
    ASSERT_TRUE(writer.begin_part(head));
    RecordOut record{as_bytes("pk"), as_bytes("a")};
    record.defines_alias = true;
    record.alias = 7;
    EXPECT_TRUE(writer.add_record(record));
    record = {{}, as_bytes("bc")};
    record.uses_alias = true;
    record.alias = 7;
    EXPECT_TRUE(writer.add_record(record));
    const Hash128 low{1, 2};
    const Hash128 high{std::uint64_t{1} << 63, 0};
    record = {as_bytes("k"), {}, &low};
    record.skip = 3;
    EXPECT_TRUE(writer.add_record(record));
    record = {as_bytes("key"), as_bytes("d"), &high};
    record.defines_alias = true;
    record.alias = 8;
    record.skip = 500;
    EXPECT_TRUE(writer.add_record(record));
    EXPECT_EQ(writer.next_offset(), 507);
    EXPECT_TRUE(writer.end_part(0));
    head.shard = 6;
    head.batch = 3;
    head.flow = 2;
    head.follows = 2;
    head.first_offset = 500;
    ASSERT_TRUE(writer.begin_part(head));
    record = {as_bytes("x"), as_bytes("y")};
    record.skip = 11;
    EXPECT_TRUE(writer.add_record(record));
    EXPECT_FALSE(writer.add_record({as_bytes("x"), as_bytes("y")})) << "the batch is full";
    EXPECT_TRUE(writer.end_part(part_is_last));
    writer.pad_to(writer.size() + 13);
    EXPECT_EQ(to_hex(writer.text()), to_hex(vector));

    TextWriter pieces(memory);
    const auto clear = from_hex(vector_of("fragment-last").at("clear"));
    const auto fragment = load<FragmentBlock>(clear.data());
    FragmentBlock again = fragment;
    again.part.block.type = BlockType::none;
    again.part.block.length = 0;
    EXPECT_TRUE(pieces.add_fragment(again, Bytes(clear).subspan(sizeof fragment)));
    EXPECT_EQ(to_hex(pieces.text()), to_hex(clear));
    TextWriter asking(memory);
    EXPECT_TRUE(asking.add_ask_map({std::uint64_t{1} << 63, 9}));
    EXPECT_EQ(to_hex(asking.text()), vector_of("ask-map").at("clear").get<std::string>());
}

}  // namespace
}  // namespace penstock::session
