// Messages of event streams, held against a reader of their own and against known bytes.
#include "control/kinesis/reply/event_stream.h"

#include <gtest/gtest.h>

#include "tests/unit/control/kinesis/event_reader.h"

namespace penstock::kinesis {
namespace {

TEST(EventStream, AMessageIsWhatAwsSaysItIs) {
    // A message of AWS' own test vectors: no headers, no payload.
    std::string out;
    append_event(out, {}, {});
    EXPECT_EQ(out, std::string("\0\0\0\x10\0\0\0\0\x05\xc2\x48\xeb\x7d\x98\xc8\xff", 16));
    out.clear();
    append_event(out, {}, "{'foo':'bar'}");
    EXPECT_EQ(out,
              std::string("\0\0\0\x1d\0\0\0\0\xfd\x52\x8c\x5a{'foo':'bar'}\xc3\x65\x39\x36", 29));
}

TEST(EventStream, MessagesComeBackAsTheyWent) {
    std::string out = "before";
    const std::string large(1'000'000, 'x');
    append_event(out, {{":event-type", "initial-response"}, {"empty", ""}}, "{}");
    append_event(out, {{std::string(255, 'n'), std::string(32767, 'v')}}, large);
    {
        EventMessage message(out, {{"a", "b"}});
        out += "piece by ";
        out += "piece";
        message.finish();
    }
    std::string_view left = std::string_view(out).substr(6);
    auto event = read_event(left);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->headers, (std::map<std::string, std::string>{
                                  {":event-type", "initial-response"}, {"empty", ""}}));
    EXPECT_EQ(event->payload, "{}");
    event = read_event(left);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->headers[std::string(255, 'n')].size(), 32767U);
    EXPECT_EQ(event->payload, large);
    event = read_event(left);
    ASSERT_TRUE(event);
    EXPECT_EQ(event->payload, "piece by piece");
    EXPECT_TRUE(left.empty());
}

TEST(EventStream, EveryDamagedByteIsSeen) {
    std::string sound;
    append_event(sound, {{":event-type", "x"}}, "payload");
    for (std::size_t i = 0; i < sound.size(); ++i) {
        std::string damaged = sound;
        damaged[i] = static_cast<char>(damaged[i] ^ 1);
        std::string_view left = damaged;
        EXPECT_FALSE(read_event(left)) << i;
    }
}

}  // namespace
}  // namespace penstock::kinesis
