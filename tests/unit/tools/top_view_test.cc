#include "tools/penstock/top_view.h"

#include <algorithm>
#include <sstream>

#include <gtest/gtest.h>

#include "tools/penstock/replica_command.h"

namespace penstock {
namespace {

TEST(Scrape, ReadsSamplesAndSkipsWhatIsNone) {
    const Scrape scrape(
        "# HELP a_total Something.\n"
        "# TYPE a_total counter\n"
        "a_total{lane=\"0\",reason=\"x\"} 3\n"
        "a_total{lane=\"1\",reason=\"x\"} 4\n"
        "a_total{lane=\"0\",reason=\"y\"} 5e-1\n"
        "plain 7\n"
        "odd{text=\"a\\\\b\\\"c\\nd, e=\\\"f\\\" }\"} 1\n"
        "broken{lane=\"0\" 1\n"
        "broken{lane=\"0\n"
        "broken{lane} 1\n"
        "broken\n"
        "broken nonsense\n"
        "broken 1x\n"
        "\n"
        "last 9");
    EXPECT_EQ(scrape.all("a_total").size(), 3U);
    EXPECT_EQ(scrape.sum("a_total"), 7.5);
    EXPECT_EQ(scrape.sum("a_total", "lane", "0"), 3.5);
    EXPECT_EQ(scrape.by("a_total", "reason"),
              (std::map<std::string, double>{{"x", 7}, {"y", 0.5}}));
    EXPECT_EQ(scrape.sum("plain"), 7);
    EXPECT_EQ(scrape.all("odd").at(0).label("text"), "a\\b\"c\nd, e=\"f\" }");
    EXPECT_TRUE(scrape.all("broken").empty());
    EXPECT_EQ(scrape.sum("last"), 9);
    EXPECT_EQ(scrape.sum("absent"), 0);
    EXPECT_TRUE(Scrape("").empty());
}

TEST(Scrape, GrowthStartsAnewWithTheNode) {
    const Scrape before("a{lane=\"0\"} 10\na{lane=\"1\"} 10\na{lane=\"gone\"} 1\n");
    const Scrape now("a{lane=\"0\"} 25\na{lane=\"1\"} 4\na{lane=\"new\"} 2\n");
    EXPECT_EQ(grown(before, now, "a", "lane"),
              (std::map<std::string, double>{{"0", 15}, {"1", 4}, {"new", 2}}));
}

std::string histogram(double one, double ten, double all) {
    std::ostringstream text;
    text << "h_bucket{le=\"0.001\"} " << one << "\nh_bucket{le=\"0.01\"} " << ten
         << "\nh_bucket{le=\"+Inf\"} " << all << "\n";
    return text.str();
}

TEST(Scrape, QuantileIsOfWhatCameInBetween) {
    const Scrape before(histogram(1000, 1000, 1000));
    const Scrape now(histogram(1000, 1100, 1100));
    EXPECT_NEAR(quantile_between(before, now, "h", 0.5), 0.0055, 1e-9);
    EXPECT_NEAR(quantile_between(before, now, "h", 1), 0.01, 1e-9);
    EXPECT_NEAR(quantile_between({}, now, "h", 0.5), 0.00055, 1e-9);
    // Above the last bound nothing is known but that.
    EXPECT_NEAR(quantile_between(before, Scrape(histogram(1000, 1000, 1001)), "h", 0.5), 0.01,
                1e-9);
    EXPECT_LT(quantile_between(before, before, "h", 0.5), 0);
    EXPECT_LT(quantile_between({}, {}, "h", 0.5), 0);
}

// Readings of a node with two lanes, one port and three shards, `turn` seconds after its start.
std::string node_text(double turn) {
    std::ostringstream text;
    text << "penstock_build_info{version=\"1.2.3\"} 1\n"
         << "penstock_shards 3\n"
         << "penstock_lane_busy_seconds_total{lane=\"0\"} " << 0.25 * turn << "\n"
         << "penstock_lane_busy_seconds_total{lane=\"1\"} 0\n"
         << "penstock_packets_received_total{lane=\"0\"} " << 1000 * turn << "\n"
         << "penstock_packets_received_total{lane=\"1\"} 0\n"
         << "penstock_lane_records_total{lane=\"0\",from=\"doors\"} " << 900 * turn << "\n"
         << "penstock_lane_records_total{lane=\"0\",from=\"api\"} " << 7 * turn << "\n"
         << "penstock_lane_dropped_total{lane=\"0\",reason=\"no_door\"} " << 20 * turn << "\n"
         << "penstock_lane_dropped_total{lane=\"0\",reason=\"fragment\"} " << 80 * turn << "\n"
         << "penstock_lane_dropped_total{lane=\"1\",reason=\"no_door\"} 5\n"
         << "penstock_memory_used_bytes{lane=\"0\"} 50\n"
         << "penstock_memory_size_bytes{lane=\"0\"} 200\n"
         << "penstock_port_received_packets_total{port=\"p\\n0\"} " << 1000 * turn << "\n"
         << "penstock_port_received_bytes_total{port=\"p\\n0\"} " << 1.5e6 * turn << "\n"
         << "penstock_port_missed_total{port=\"p\\n0\"} " << 3 * turn << "\n"
         << "penstock_replica_state{replica=\"0\",state=\"voting\"} 1\n"
         << "penstock_replica_state{replica=\"0\",state=\"out\"} 0\n"
         << "penstock_replica_state{replica=\"1\",state=\"voting\"} 0\n"
         << "penstock_replica_state{replica=\"1\",state=\"out\"} 1\n"
         << "penstock_replica_missing_chunks{replica=\"1\"} 12\n"
         << "penstock_replica_free_bytes{replica=\"0\"} 2.5e10\n"
         << "penstock_replica_size_bytes{replica=\"0\"} 1e11\n";
    for (const auto& [stream, shard, rate] :
         {std::tuple{"slow", 0, 1.0}, {"fast", 0, 10.0}, {"fast", 1, 2000.0}}) {
        const std::string labels = std::string("{stream=\"") + stream + "\",shard=\"shardId-" +
                                   std::to_string(shard) + "\"} ";
        text << "penstock_shard_records_committed_total" << labels << rate * turn << "\n"
             << "penstock_shard_bytes_committed_total" << labels << rate * turn * 1000 << "\n";
    }
    text << "penstock_records_committed_total{stream=\"slow\"} " << turn << "\n"
         << "penstock_bytes_committed_total{stream=\"slow\"} " << 1000 * turn << "\n"
         << "penstock_records_committed_total{stream=\"fast\"} " << 2010 * turn << "\n"
         << "penstock_bytes_committed_total{stream=\"fast\"} " << 2.01e6 * turn << "\n";
    return text.str();
}

std::string text_of(const std::vector<TopLine>& lines) {
    std::string text;
    for (const TopLine& line : lines) {
        text += line.text + "\n";
    }
    return text;
}

TEST(TopView, OneThingIsNotCalledMany) {
    const Scrape one("penstock_shards 1\npenstock_http_connections_open 1\n");
    const std::string head = top_lines(one, one, {.title = "here", .seconds = 1}).front().text;
    EXPECT_TRUE(head.ends_with(": 1 shard, 0 requests/s, 1 connection")) << head;
}

TEST(TopView, ShowsRatesOfTheInterval) {
    const auto lines =
        top_lines(Scrape(node_text(10)), Scrape(node_text(12)), {.title = "here", .seconds = 2});
    EXPECT_EQ(text_of(lines),
              "penstock 1.2.3 at here: 3 shards, 0 requests/s, 0 connections\n"
              "committed 2011 records/s, 2.01 MB/s; commit latency p50 -, p99 -\n"
              "\n"
              "LANE  DUTY  PACKETS/s  DOORS/s  API/s  SLEEPS/s  MEMORY  DROPS/s\n"
              "0     25 %       1000      900      7         0    25 %  fragment 80, no_door 20\n"
              "1      0 %          0        0      0         0       -  (5 since the start)\n"
              "\n"
              "PORT  PACKETS/s  MB/s  MISSED/s  ERRORS/s  NO-BUFFER/s  SENT/s\n"
              "p?0        1000  1.50         3         0            0       0\n"
              "\n"
              "REPLICA  STATE   MISSING CHUNKS  REFILLED  LEFT  FREE GB  FREE\n"
              "0        voting               0         -     -       25  25 %\n"
              "1        out                 12         -     -        -     -\n"
              "\n"
              "STREAM  RECORDS/s  MB/s  RECORDS\n"
              "fast         2010  2.01    24.1k\n"
              "slow            1  0.00       12\n"
              "\n"
              "SHARD      STREAM  RECORDS/s  MB/s  RECORDS\n"
              "shardId-1  fast         2000  2.00    24.0k\n"
              "shardId-0  fast           10  0.01      120\n"
              "shardId-0  slow            1  0.00       12\n");
    EXPECT_EQ(std::ranges::count(lines, true, &TopLine::heading), 5);
}

TEST(TopView, KnowsNoRatesFromOneReading) {
    const std::string text = text_of(top_lines({}, Scrape(node_text(10)), {.title = "here"}));
    EXPECT_NE(text.find("committed - records/s, - MB/s"), std::string::npos) << text;
    EXPECT_NE(text.find("0        -          -        -      -         -    25 %"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("(1000 since the start)"), std::string::npos) << text;
}

TEST(TopView, NeverHasMoreRowsThanThereIsRoomFor) {
    const Scrape before(node_text(10));
    const Scrape now(node_text(12));
    const std::size_t all = top_lines(before, now, {.title = "x", .seconds = 2}).size();
    for (std::size_t rows = 1; rows <= all; ++rows) {
        const auto lines = top_lines(before, now, {.title = "x", .seconds = 2, .rows_max = rows});
        EXPECT_LE(lines.size(), rows);
        EXPECT_FALSE(lines.back().heading) << rows << " rows end with a heading";
    }
    // The busiest is what is shown where not all are.
    const std::string text =
        text_of(top_lines(before, now, {.title = "x", .seconds = 2, .busiest_max = 1}));
    EXPECT_NE(text.find("shardId-1  fast"), std::string::npos) << text;
    EXPECT_EQ(text.find("shardId-0"), std::string::npos) << text;
    EXPECT_NE(text.find("(1 of 3)"), std::string::npos) << text;
}

TEST(TopView, SaysWhatIsWrongAtTheTop) {
    const std::string text = text_of(
        top_lines({}, Scrape("penstock_disk_full 1\npenstock_lost_records 2\n"), {.title = "x"}));
    EXPECT_NE(text.find("WRITES ARE REFUSED"), std::string::npos) << text;
    EXPECT_NE(text.find("RECORDS ARE LOST"), std::string::npos) << text;
}

TEST(TopView, CutsBetweenCharacters) {
    EXPECT_EQ(cut_to("abc", 5), "abc");
    EXPECT_EQ(cut_to("abc", 2), "ab");
    EXPECT_EQ(cut_to("a\xc3\xbc"
                     "b",
                     2),
              "a\xc3\xbc");
    EXPECT_EQ(cut_to("abc", 0), "");
}

TEST(TopView, ShowsHowFarAReplicaIsRefilledAndWhatScrubbingFound) {
    const Scrape now(
        "penstock_replica_state{replica=\"1\",state=\"filling\"} 1\n"
        "penstock_replica_missing_chunks{replica=\"1\"} 3\n"
        "penstock_replica_missing_bytes{replica=\"1\"} 3000000\n"
        "penstock_replica_refill_total_bytes{replica=\"1\"} 4000000\n"
        "penstock_replica_refill_bytes_per_second{replica=\"1\"} 1048576\n"
        "penstock_replica_refill_seconds_left{replica=\"1\"} 2.9\n"
        "penstock_scrub_total_bytes 1000\n"
        "penstock_scrub_done_bytes 250\n"
        "penstock_scrub_damaged_total{replica=\"0\"} 2\n"
        "penstock_scrub_read_bytes_total 4000000\n");
    const Scrape before("penstock_scrub_read_bytes_total 2000000\n");
    const std::string text = text_of(top_lines(before, now, {.title = "x", .seconds = 2}));
    EXPECT_NE(text.find("1        filling               3      25 %   3 s"), std::string::npos)
        << text;
    EXPECT_NE(text.find("scrub: 25 % of the pass, 1.00 MB/s, 2 damaged places mended"),
              std::string::npos)
        << text;
    EXPECT_EQ(watch_line(now), "replica 1 filling 25 %, 977 KiB of 3.8 MiB, 1.0 MiB/s, 3 s left");
    EXPECT_EQ(watch_line(Scrape("penstock_replica_state{replica=\"1\",state=\"out\"} 1\n")),
              "replica 1 out, not taken in yet");
    EXPECT_EQ(watch_line(Scrape("penstock_replica_state{replica=\"1\",state=\"voting\"} 1\n")), "");
}

}  // namespace
}  // namespace penstock
