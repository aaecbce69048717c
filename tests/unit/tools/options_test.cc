#include "tools/penstock/options.h"

#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "tools/penstock/config.h"

namespace penstock {
namespace {

const std::vector<unsigned> two_cpus{0, 1};

CommandLine parse(std::vector<std::string> words) {
    return parse_command_line(words, two_cpus);
}

// `serve --data /d --unsigned` and more words.
CommandLine serve(std::vector<std::string> more) {
    std::vector<std::string> words{"serve", "--data", "/d", "--unsigned"};
    words.insert(words.end(), more.begin(), more.end());
    return parse(words);
}

class ConfigFile {
public:
    explicit ConfigFile(const std::string& text)
        : path_(std::filesystem::temp_directory_path() /
                ("penstock-options-" + std::to_string(::getpid()) + ".toml")) {
        std::ofstream(path_) << text;
    }
    ~ConfigFile() { std::filesystem::remove(path_); }
    [[nodiscard]] std::string path() const { return path_.string(); }

private:
    std::filesystem::path path_;
};

TEST(Options, ServeNeedsNothingButDataAndAWordOnWhoMayAsk) {
    CommandLine line = parse({"serve", "--data", "/d", "--key-file", "/k"});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    EXPECT_FALSE(line.serve.unsigned_requests);
    line = serve({});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    EXPECT_EQ(line.serve.data, std::vector<std::string>{"/d"});
    EXPECT_TRUE(line.serve.unsigned_requests);
    EXPECT_EQ(line.serve.http, "127.0.0.1:4567");
    EXPECT_EQ(line.serve.lane_cpus, std::vector<unsigned>{1});
    EXPECT_EQ(line.serve.ack_level, AckLevel::quorum);
    EXPECT_EQ(line.serve.poll, IdlePolicy::adaptive);
}

TEST(Options, AddressBelongsToThePortBeforeIt) {
    const CommandLine line =
        serve({"--port", "net_af_packet0,iface=a", "--address", "192.0.2.1/24", "--address",
               "2001:db8::1/64", "--port", "net_af_packet1,iface=b", "--port", "net_memif0",
               "--mtu", "9000", "--address", "198.51.100.1/24", "--rss", "off"});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    const std::vector<PortOption> expected{
        {"net_af_packet0,iface=a", {"192.0.2.1/24", "2001:db8::1/64"}, 0},
        {"net_af_packet1,iface=b", {}, 0},
        {"net_memif0", {"198.51.100.1/24"}, 9000, RssMode::off}};
    EXPECT_EQ(line.serve.ports, expected);
}

TEST(Options, PortReleaseTakesPortsOrNone) {
    CommandLine line = parse({"port", "release"});
    EXPECT_EQ(line.kind, CommandKind::port_release) << line.err;
    EXPECT_TRUE(line.arguments.ports.empty());
    line = parse({"port", "release", "net_af_xdp0,iface=a", "kernel:[::]"});
    EXPECT_EQ(line.kind, CommandKind::port_release) << line.err;
    EXPECT_EQ(line.arguments.ports,
              (std::vector<std::string>{"net_af_xdp0,iface=a", "kernel:[::]"}));
    EXPECT_EQ(parse({"port"}).exit_code, 2);
}

TEST(Options, DoorTextStaysWhole) {
    const std::string door = "udp:5514=syslog,key=fixed:a,framing=lines,from=10.0.0.0/8,quota=1000";
    const CommandLine line = serve({"--port", "kernel:127.0.0.1", "--door", door});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    EXPECT_EQ(line.serve.doors, std::vector<std::string>{door});
}

TEST(Options, ValuesReachTheirFields) {
    const CommandLine line = parse({"serve",
                                    "--data",
                                    "/a",
                                    "--data=/b",
                                    "--data",
                                    "/c",
                                    "--http",
                                    "[::1]:0",
                                    "--https",
                                    "localhost:0",
                                    "--tls-cert",
                                    "c.pem",
                                    "--tls-key",
                                    "k.pem",
                                    "--lanes",
                                    "0-1",
                                    "--ack-level",
                                    "all",
                                    "--poll",
                                    "busy",
                                    "--hugepages",
                                    "never",
                                    "--http-threads",
                                    "3",
                                    "--consumers-max",
                                    "50",
                                    "--existing",
                                    "--accept-loss",
                                    "--force",
                                    "--key-file",
                                    "/k",
                                    "--local-socket",
                                    "@penstock",
                                    "--discard-credentials",
                                    "--region",
                                    "eu-west-1,us-east-1",
                                    "--account",
                                    "123456789012",
                                    "--shard-quota",
                                    "in=4MiB,out-calls=50",
                                    "--on-demand",
                                    "in=64KiB,in-records=7,split-after=1,shards-max=9",
                                    "--rate-limits",
                                    "aws",
                                    "--linger-us",
                                    "50",
                                    "--direct-threshold",
                                    "128KiB",
                                    "--replica-lag",
                                    "1GiB",
                                    "--scrub",
                                    "8MiB",
                                    "--scrub-every",
                                    "48",
                                    "--memory",
                                    "64MiB",
                                    "--journal-size",
                                    "32MiB",
                                    "--container-size",
                                    "32MiB",
                                    "--groups",
                                    "4",
                                    "--log-level",
                                    "debug"});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    ServeOptions expected;
    expected.data = {"/a", "/b", "/c"};
    expected.http = "[::1]:0";
    expected.https = "localhost:0";
    expected.tls_cert = "c.pem";
    expected.tls_key = "k.pem";
    expected.key_file = "/k";
    expected.local_socket = "@penstock";
    expected.discard_credentials = true;
    expected.lanes = "0-1";
    expected.lane_cpus = {0, 1};
    expected.ack_level = AckLevel::all;
    expected.poll = IdlePolicy::busy;
    expected.hugepages = EalOptions::HugePages::never;
    expected.http_threads = 3;
    expected.consumers_max = 50;
    expected.existing = expected.accept_loss = expected.force = true;
    expected.regions = {"eu-west-1", "us-east-1"};
    expected.account = "123456789012";
    expected.shard_quota = kinesis::ShardQuotaLimits{4U << 20, 1000, 2U << 20, 50};
    expected.on_demand = {true, 64U << 10, 7, 1000, 900'000, 9};
    expected.rate_limits = true;
    expected.linger_us = 50;
    expected.direct_threshold_bytes = 128U << 10;
    expected.replica_lag_bytes = 1U << 30;
    expected.scrub_bytes_per_s = 8U << 20;
    expected.scrub_every_h = 48;
    expected.memory_bytes = 64U << 20;
    expected.journal_bytes = 32U << 20;
    expected.container_bytes = 32U << 20;
    expected.groups = 4;
    expected.log_level = LogLevel::debug;
    EXPECT_EQ(line.serve, expected);
    EXPECT_EQ(geometry_of(line.serve).journal_file_bytes, 8U << 20);
    EXPECT_EQ(geometry_of(line.serve).chunk_units_max, 32U);
}

struct BadLine {
    std::vector<std::string> words;
    std::vector<std::string> said;  // each must stand in the one line
};

TEST(Options, ShardsHaveTheQuotaOfAwsUnlessSaidOtherwise) {
    const auto quota = [](std::vector<std::string> more) {
        more.insert(more.begin(), {"serve", "--data", "/d", "--unsigned"});
        return parse(more).serve.shard_quota;
    };
    EXPECT_EQ(quota({}), kinesis::ShardQuotaLimits{});
    EXPECT_EQ(quota({"--shard-quota", "unlimited"}), std::nullopt);
    EXPECT_EQ(quota({"--shard-quota", "in=2MiB"}),
              (kinesis::ShardQuotaLimits{2U << 20, 1000, 2U << 20, 5}));
}

TEST(Options, BadValuesAreOneLineWithNameFoundAndAllowed) {
    const std::string kernel = "kernel:127.0.0.1";
    const std::vector<BadLine> table{
        {{"serve", "--data", "/d", "--unsigned", "--https", "10.0.0.1:1"},
         {"--https", "10.0.0.1", "loopback"}},
        {{"serve", "--data", "/d", "--unsigned", "--https", "127.0.0.1:1"},
         {"--https", "no --tls-cert", "certificate make"}},
        {{"serve", "--data", "/d", "--unsigned", "--https", "127.0.0.1:1", "--tls-cert", "c"},
         {"--https", "no --tls-key"}},
        {{"serve", "--data", "/d", "--unsigned", "--tls-cert", "c", "--tls-key", "k"},
         {"no --https"}},
        {{"serve", "--data", "/d", "--unsigned", "--tls-key", ""},
         {"--tls-key", "expected a file"}},
        {{"serve", "--data", "/d", "--unsigned", "--scrub", "4KiB"},
         {"--scrub", "'4KiB'", "expected off, or a size from 64KiB to 16GiB"}},
        {{"serve", "--data", "/d", "--unsigned", "--scrub-every", "1d"},
         {"--scrub-every", "0 to 8760"}},
        {{"serve"}, {"--data", "not given", "one directory, or three"}},
        {{"serve", "--data", "/a", "--data", "/b"}, {"--data", "found 2", "one, or three"}},
        {{"serve", "--data", "/a", "--data", "/b", "--data", "/a"}, {"--data", "'/a' twice"}},
        {{"serve", "--data", "/d", "--unsigned", "--http", "4567"},
         {"--http", "'4567'", "HOST:PORT"}},
        {{"serve", "--data", "/d", "--unsigned", "--http", "127.0.0.1:99999"},
         {"--http", "99999", "65535"}},
        {{"serve", "--data", "/d", "--unsigned", "--http", "::1:80"},
         {"--http", "'::1:80'", "[::1]:4567"}},
        {{"serve", "--data", "/d", "--unsigned", "--http", "0.0.0.0:80"},
         {"--http", "0.0.0.0", "loopback"}},
        {{"serve", "--data", "/d"}, {"--key-file: not given", "outside the data", "--unsigned"}},
        {{"serve", "--data", "/d", "--key-file", ""}, {"--key-file", "outside the data"}},
        {{"serve", "--data", "/d", "--key-file", "/k", "--local-socket", "here"},
         {"--local-socket", "'here'", "absolute path, @NAME or none"}},
        {{"credentials"}, {"one of make, list, show"}},
        {{"credentials", "make", "a"}, {"--policy"}},
        {{"credentials", "make", "a b", "--policy", "admin"}, {"'a b'", "letters, digits"}},
        {{"credentials", "rotate"}, {"NAME"}},
        {{"credentials", "rotate", "a", "--keep-old", "-1"}, {"--keep-old"}},
        {{"credentials", "session", "a", "--seconds", "59"}, {"--seconds", "60"}},
        {{"credentials", "list", "--local-socket", "x"}, {"--local-socket", "absolute path"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "eth0!"}, {"--port", "eth0!"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--port", kernel},
         {"--port", "once"}},
        {{"serve", "--data", "/d", "--unsigned", "--address", "192.0.2.1/24"},
         {"--address", "after the --port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--address", "192.0.2.1"},
         {"--address", "'192.0.2.1'", "IP/PREFIX"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--address",
          "192.0.2.1/33"},
         {"--address", "'192.0.2.1/33'", "IP/PREFIX"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--address", "192.0.2.1/24"},
         {"--address", "DPDK port"}},
        {{"serve", "--data", "/d", "--unsigned", "--mtu", "9000"}, {"--mtu", "after the --port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--mtu", "9001"},
         {"--mtu", "'9001'", "1280 to 9000"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--mtu", "1500", "--mtu",
          "1500"},
         {"--mtu", "once for each port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--mtu", "1500"},
         {"--mtu", "DPDK port"}},
        {{"serve", "--data", "/d", "--unsigned", "--rss", "on"}, {"--rss", "after the --port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--rss", "yes"},
         {"--rss", "'yes'", "auto, on or off"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", "net_null0", "--rss", "on", "--rss",
          "auto"},
         {"--rss", "once for each port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--rss", "off"},
         {"--rss", "DPDK port"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--door", "udp:x=s"},
         {"--door", "udp:x=s"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--lanes", "0,1", "--door",
          "udp:5600=s,ports=per-lane", "--door", "udp:5601=t"},
         {"--door", "UDP port 5601", "'s' (ports=per-lane: 5600 to 5601)", "'t'"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--lanes", "0,1", "--door",
          "udp:65535=s,ports=per-lane"},
         {"--door udp:65535=s", "2 lanes", "65536", "65535"}},
        {{"serve", "--data", "/d", "--unsigned", "--port", kernel, "--door", "udp:1=s", "--door",
          "udp:1=t"},
         {"--door", "1"}},
        {{"serve", "--data", "/d", "--unsigned", "--door", "udp:5514=s"}, {"--door", "no --port"}},
        {{"serve", "--data", "/d", "--unsigned", "--lanes", "2-1"},
         {"--lanes", "'2-1'", "ends before"}},
        {{"serve", "--data", "/d", "--unsigned", "--lanes", "0,0"},
         {"--lanes", "'0,0'", "second time"}},
        {{"serve", "--data", "/d", "--unsigned", "--lanes", "7"}, {"--lanes", "CPU 7", "0,1"}},
        {{"serve", "--data", "/d", "--unsigned", "--lanes", ""}, {"--lanes"}},
        {{"serve", "--data", "/d", "--unsigned", "--ack-level", "memory"},
         {"--ack-level", "'memory'", "quorum or all"}},
        {{"serve", "--data", "/d", "--unsigned", "--shard-quota", "in=1KiB"},
         {"--shard-quota", "'in=1KiB'", "unlimited, aws"}},
        {{"serve", "--data", "/d", "--unsigned", "--shard-quota", "aws,"}, {"--shard-quota"}},
        {{"serve", "--data", "/d", "--unsigned", "--on-demand", "in=1KiB"},
         {"--on-demand", "'in=1KiB'", "off, or some of in=BYTES"}},
        {{"serve", "--data", "/d", "--unsigned", "--on-demand", "split-after=0"}, {"--on-demand"}},
        {{"serve", "--data", "/d", "--unsigned", "--on-demand", "off,in=1MiB"}, {"--on-demand"}},
        {{"serve", "--data", "/d", "--unsigned", "--on-demand", "shards-max=10001"},
         {"--on-demand"}},
        {{"serve", "--data", "/d", "--unsigned", "--poll", "fast"},
         {"--poll", "'fast'", "adaptive or busy"}},
        {{"serve", "--data", "/d", "--unsigned", "--hugepages", "yes"},
         {"--hugepages", "'yes'", "auto, require or never"}},
        {{"serve", "--data", "/d", "--unsigned", "--http-threads", "0"},
         {"--http-threads", "'0'", "1 to 64"}},
        {{"serve", "--data", "/d", "--unsigned", "--region", "US"},
         {"--region", "'US'", "us-east-1"}},
        {{"serve", "--data", "/d", "--unsigned", "--region", "a,b,a"}, {"--region", "a again"}},
        {{"serve", "--data", "/d", "--unsigned", "--account", "12"},
         {"--account", "'12'", "12 digits"}},
        {{"serve", "--data", "/d", "--unsigned", "--linger-us", "-5"},
         {"--linger-us", "'-5'", "0 to 1000000"}},
        {{"serve", "--data", "/d", "--unsigned", "--memory", "1MiB"},
         {"--memory", "'1MiB'", "32MiB to 1024GiB"}},
        {{"serve", "--data", "/d", "--unsigned", "--memory", "64MB"},
         {"--memory", "'64MB'", "32MiB"}},
        {{"serve", "--data", "/d", "--unsigned", "--journal-size", "17MiB"},
         {"--journal-size", "'17MiB'", "multiple of 4MiB"}},
        {{"serve", "--data", "/d", "--unsigned", "--container-size", "16777217"},
         {"--container-size", "'16777217'", "multiple of 1MiB"}},
        {{"serve", "--data", "/d", "--unsigned", "--groups", "x"}, {"--groups", "'x'", "1 to 256"}},
        {{"serve", "--data", "/d", "--unsigned", "--log-level", "loud"},
         {"--log-level", "'loud'", "warn"}},
        {{"serve", "--data", "/d", "--unsigned", "--poll", "busy", "--poll", "busy"},
         {"--poll", "twice"}},
        {{"serve", "--data", "/d", "--unsigned", "--nosuch", "1"}, {"--nosuch"}},
        {{"serve", "--data", "/d", "--unsigned", "stray"}, {"stray"}},
        {{"serve", "--data"}, {"--data"}},
        {{"serve", "--data", "/d", "--unsigned", "--config", "/no/such.toml"},
         {"--config", "/no/such.toml", "No such file"}},
        {{"serve", "--data", "/d", "--unsigned", "--config", "/"}, {"--config", "'/'"}},
        {{"inspect"}, {"view-and-dirs"}},
        {{"inspect", "verify"}, {"DIR", "not given"}},
        {{"inspect", "verify", "/a", "/b"}, {"found 2", "one, or the three"}},
        {{"doctor", "--data", "/a", "--data", "/b"}, {"found 2"}},
        {{"top", "--http", "nowhere"}, {"--http", "'nowhere'", "HOST:PORT"}},
        {{"top", "--interval", "0"}, {"--interval", "0.1"}},
        {{"replica"}, {"'penstock replica' alone", "one of status, replace"}},
        {{"keys", "mak"}, {"'mak'", "one of make, list"}},
        {{"serve", "--dta", "/d"}, {"penstock serve: ", "unknown option '--dta'", "'--data'"}},
        {{"serve", "--lane=1"}, {"unknown option '--lane'", "'--lanes'"}},
        {{"serve", "--nothing-like-it", "1"}, {"unknown option '--nothing-like-it' (see"}},
        {{"keys", "make", "--keys-fil", "k"}, {"--keys-file"}},
        {{"serve", "/d"}, {"found '/d'", "nothing more is expected"}},
        {{"replica", "replace", "--data", "/a"}, {"DIRECTORY"}},
        {{"replica", "replace", "/n"}, {"--data"}},
        {{"nosuch"}, {"nosuch"}},
        {{}, {"'penstock' alone", "one of serve, "}},
    };
    for (const BadLine& bad : table) {
        std::string words;
        for (const std::string& word : bad.words) {
            words += word + " ";
        }
        SCOPED_TRACE(words);
        const CommandLine line = parse(bad.words);
        EXPECT_EQ(line.kind, CommandKind::none);
        EXPECT_EQ(line.exit_code, 2);
        EXPECT_EQ(line.out, "");
        EXPECT_TRUE(line.err.starts_with("penstock")) << line.err;
        // One line.
        EXPECT_EQ(line.err.find('\n'), line.err.size() - 1) << line.err;
        for (const std::string& part : bad.said) {
            EXPECT_NE(line.err.find(part), std::string::npos) << part << " not in: " << line.err;
        }
    }
}

TEST(Options, HelpNamesEverySettingAndIsNoError) {
    const CommandLine line = parse({"serve", "--help"});
    EXPECT_EQ(line.kind, CommandKind::none);
    EXPECT_EQ(line.exit_code, 0);
    EXPECT_EQ(line.err, "");
    for (const SettingSpec& spec : setting_specs()) {
        EXPECT_NE(line.out.find("--" + std::string(spec.key)), std::string::npos) << spec.key;
    }
    for (const char* command : {"doctor", "inspect", "replica", "certificate", "top", "version"}) {
        EXPECT_EQ(parse({command, "--help"}).exit_code, 0) << command;
        EXPECT_NE(parse({"--help"}).out.find(command), std::string::npos) << command;
    }
    EXPECT_EQ(parse({"replica", "replace", "--help"}).exit_code, 0);
    for (const auto& [words, usage] : std::vector<std::pair<std::vector<std::string>, std::string>>{
             {{"--help"}, "Usage: penstock [OPTIONS] SUBCOMMAND\n"},
             {{"serve", "--help"}, "Usage: penstock serve [OPTIONS]\n"},
             {{"credentials", "make", "--help"},
              "Usage: penstock credentials make [OPTIONS] NAME"}}) {
        EXPECT_NE(parse(words).out.find(usage), std::string::npos) << parse(words).out;
    }
}

TEST(Options, InspectTakesAViewOrNone) {
    CommandLine line = parse({"inspect", "/a"});
    ASSERT_EQ(line.kind, CommandKind::inspect) << line.err;
    EXPECT_EQ(line.inspect.view, InspectView::summary);
    EXPECT_EQ(line.inspect.data, std::vector<std::string>{"/a"});
    line = parse({"inspect", "verify", "/a", "/b", "/c", "--json"});
    ASSERT_EQ(line.kind, CommandKind::inspect) << line.err;
    EXPECT_EQ(line.inspect.view, InspectView::verify);
    EXPECT_EQ(line.inspect.data.size(), 3U);
    EXPECT_TRUE(line.inspect.json);
}

TEST(Options, OtherCommandsTakeTheirArguments) {
    CommandLine line = parse({"replica", "replace", "--data", "/a", "/a/replica-1"});
    ASSERT_EQ(line.kind, CommandKind::replica_replace) << line.err;
    EXPECT_EQ(line.arguments.data, std::vector<std::string>{"/a"});
    EXPECT_EQ(line.arguments.directory, "/a/replica-1");
    line = parse({"replica", "status", "--data", "/a", "--json"});
    ASSERT_EQ(line.kind, CommandKind::replica_status) << line.err;
    EXPECT_TRUE(line.arguments.json);
    EXPECT_EQ(parse({"doctor"}).kind, CommandKind::doctor);
    line = parse({"doctor", "--port", "a", "--port", "b", "--lanes", "2-3", "--json"});
    ASSERT_EQ(line.kind, CommandKind::doctor) << line.err;
    EXPECT_EQ(line.arguments.ports, (std::vector<std::string>{"a", "b"}));
    EXPECT_EQ(line.arguments.lanes, "2-3");
    EXPECT_TRUE(line.arguments.json);
    EXPECT_EQ(parse({"version"}).kind, CommandKind::version);
    line = parse({"top"});
    ASSERT_EQ(line.kind, CommandKind::top) << line.err;
    EXPECT_EQ(line.top.http, ServeOptions{}.http);
    line = parse({"top", "--http", "[::1]:99", "--interval", "0.5", "--once"});
    ASSERT_EQ(line.kind, CommandKind::top) << line.err;
    EXPECT_EQ(line.top.http, "[::1]:99");
    EXPECT_EQ(line.top.interval_s, 0.5);
    EXPECT_TRUE(line.top.once);
}

TEST(Options, CertificateMakeTakesNamesAndRefusesWhatIsNone) {
    CommandLine line = parse({"certificate", "make", "--dir", "d", "--name", "a.example", "::1",
                              "--name", "*.local", "--days", "30"});
    ASSERT_EQ(line.kind, CommandKind::certificate_make) << line.err;
    EXPECT_EQ(line.certificate, (CertificateOptions{"d", {"a.example", "::1", "*.local"}, 30}));
    for (const char* bad : {"", "a:1", "http://a", "a b", "a,DNS:b", "x*", "a\nb"}) {
        line = parse({"certificate", "make", "--dir", "d", "--name", bad});
        EXPECT_EQ(line.exit_code, 2) << bad;
        EXPECT_EQ(line.err.find('\n'), line.err.size() - 1) << line.err;
    }
    EXPECT_EQ(parse({"certificate", "make", "--dir", "d"}).exit_code, 2);
}

TEST(Options, DoctorTakesTheNodesConfigurationAndFlagsWin) {
    const ConfigFile file(
        "data = [\"/a\", \"/b\", \"/c\"]\nlanes = \"4-5\"\nmemory = \"1GiB\"\n"
        "key-file = \"/etc/key\"\nkeys-file = \"/etc/keys\"\n"
        "[[port]]\ndevice = \"0000:01:00.0\"\naddress = [\"192.0.2.1/24\"]\n");
    CommandLine line = parse({"doctor", "--config", file.path()});
    ASSERT_EQ(line.kind, CommandKind::doctor) << line.err;
    EXPECT_EQ(line.arguments.data, (std::vector<std::string>{"/a", "/b", "/c"}));
    EXPECT_EQ(line.arguments.ports, std::vector<std::string>{"0000:01:00.0"});
    EXPECT_EQ(line.arguments.lanes, "4-5");
    EXPECT_EQ(line.arguments.key_file, "/etc/key");
    EXPECT_EQ(line.arguments.keys_file, "/etc/keys");
    line = parse({"doctor", "--config", file.path(), "--data", "/d", "--port", "kernel:[::]",
                  "--lanes", "1", "--key-file", "k", "--keys-file", "s"});
    ASSERT_EQ(line.kind, CommandKind::doctor) << line.err;
    EXPECT_EQ(line.arguments.key_file, "k");
    EXPECT_EQ(line.arguments.keys_file, "s");
    EXPECT_EQ(line.arguments.data, std::vector<std::string>{"/d"});
    EXPECT_EQ(line.arguments.ports, std::vector<std::string>{"kernel:[::]"});
    EXPECT_EQ(line.arguments.lanes, "1");
    line = parse({"doctor", "--config", "/no/such.toml"});
    EXPECT_EQ(line.exit_code, 2);
}

TEST(Options, CredentialsTakeANameAPolicyAndANode) {
    CommandLine line = parse({"credentials", "make", "reader", "--policy", "read", "--streams",
                              "logs-*", "--env", "--http", "127.0.0.1:99"});
    ASSERT_EQ(line.kind, CommandKind::credentials) << line.err;
    EXPECT_EQ(line.credentials.action, CredentialsAction::make);
    EXPECT_EQ(line.credentials.name, "reader");
    EXPECT_EQ(line.credentials.policy, "read");
    EXPECT_EQ(line.credentials.streams, "logs-*");
    EXPECT_EQ(line.credentials.http, "127.0.0.1:99");
    EXPECT_TRUE(line.credentials.env);
    line = parse({"credentials", "rotate", "reader", "--keep-old", "0", "--local-socket", "/s"});
    EXPECT_EQ(line.credentials.action, CredentialsAction::rotate);
    EXPECT_EQ(line.credentials.keep_old_s, 0);
    EXPECT_EQ(line.credentials.local_socket, "/s");
    line = parse({"credentials", "list", "--json"});
    EXPECT_EQ(line.credentials.action, CredentialsAction::list);
    EXPECT_TRUE(line.credentials.json);
    line = parse({"credentials", "set-policy", "reader", "--policy", "admin"});
    EXPECT_EQ(line.credentials.action, CredentialsAction::policy);
}

TEST(Options, StreamsThatThePolicyWouldNotHeedAreRefused) {
    const std::vector<std::vector<std::string>> unheeded{
        {"make", "a", "--policy", "admin"},      {"make", "a", "--policy", "metrics"},
        {"make", "a", "--policy", "some.json"},  {"set-policy", "a", "--policy", "admin"},
        {"session", "a", "--policy", "metrics"}, {"session", "a"}};
    for (std::vector<std::string> words : unheeded) {
        words.insert(words.begin(), "credentials");
        EXPECT_EQ(parse(words).exit_code, 0) << words[3];
        words.insert(words.end(), {"--streams", "logs-*"});
        const CommandLine line = parse(words);
        EXPECT_EQ(line.exit_code, 2) << words[1];
        EXPECT_NE(line.err.find("--streams: limits --policy read and write"), std::string::npos)
            << line.err;
        EXPECT_EQ(std::count(line.err.begin(), line.err.end(), '\n'), 1) << line.err;
    }
    for (const char* policy : {"read", "write"}) {
        EXPECT_EQ(parse({"credentials", "session", "a", "--policy", policy, "--streams", "logs-*"})
                      .exit_code,
                  0);
    }
}

TEST(Config, FileGivesEverySettingAndFlagsWin) {
    const ConfigFile file(R"(
data = ["/a", "/b", "/c"]
http = "127.0.0.1:1234"
key-file = "/etc/penstock/key"
lanes = "0,1"
door = ["udp:5514=syslog", "udp:2055=netflow"]
ack-level = "all"
http-threads = 2
existing = true
memory = "256MiB"
[[port]]
device = "net_memif0"
address = ["192.0.2.1/24"]
mtu = 9000
rss = "on"
[[port]]
device = "kernel:127.0.0.1"
)");
    CommandLine line = parse({"serve", "--config", file.path()});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    EXPECT_EQ(line.serve.data.size(), 3U);
    EXPECT_EQ(line.serve.http_threads, 2U);
    EXPECT_EQ(line.serve.key_file, "/etc/penstock/key");
    EXPECT_FALSE(line.serve.unsigned_requests);
    EXPECT_TRUE(line.serve.existing);
    EXPECT_EQ(line.serve.ports.size(), 2U);
    EXPECT_EQ(line.serve.ports[0].addresses, std::vector<std::string>{"192.0.2.1/24"});
    EXPECT_EQ(line.serve.ports[0].mtu, 9000);
    EXPECT_EQ(line.serve.ports[0].rss, RssMode::on);
    EXPECT_FALSE(line.serve.ports[1].rss);
    EXPECT_TRUE(line.serve.ports[1].addresses.empty());
    EXPECT_EQ(line.serve.ports[1].mtu, 0);

    line = parse({"serve", "--http", "127.0.0.1:9", "--config", file.path(), "--data", "/x",
                  "--port", "net_null0"});
    ASSERT_EQ(line.kind, CommandKind::serve) << line.err;
    EXPECT_EQ(line.serve.http, "127.0.0.1:9");
    EXPECT_EQ(line.serve.data, std::vector<std::string>{"/x"});
    EXPECT_EQ(line.serve.ports, (std::vector<PortOption>{{"net_null0", {}, 0}}));
    EXPECT_EQ(line.serve.doors.size(), 2U);
    EXPECT_EQ(line.serve.ack_level, AckLevel::all);
}

TEST(Config, EverySettingCanStandInTheFile) {
    for (const SettingSpec& spec : setting_specs()) {
        if (spec.key == "port" || spec.key == "address" || spec.key == "mtu" || spec.key == "rss") {
            continue;  // these have tables of their own
        }
        const bool flag = spec.shape == SettingSpec::Shape::flag;
        const auto settings =
            parse_config(std::string(spec.key) + (flag ? " = true" : " = \"1\""), "f");
        ASSERT_TRUE(settings) << settings.error();
        EXPECT_EQ(settings->front().key, spec.key);
    }
}

struct BadFile {
    std::string text;
    std::vector<std::string> said;
};

TEST(Config, MistakesNameFileLineAndKey) {
    const std::vector<BadFile> table{
        {"\nlanez = \"1\"\n", {"n.toml:2:", "'lanez'", "'lanes'"}},
        {"completely-different = 1\n", {"n.toml:1:", "completely-different", "ack-level"}},
        {"data = 5.5\n", {"n.toml:1: data:", "strings"}},
        {"existing = \"yes\"\n", {"n.toml:1: existing:", "true or false"}},
        {"http = [\"a\"]\n", {"n.toml:1: http:", "one string"}},
        {"port = \"net_null0\"\n", {"n.toml:1:", "[[port]]"}},
        {"address = \"192.0.2.1/24\"\n", {"n.toml:1:", "inside a [[port]]"}},
        {"\n[[port]]\naddress = [\"192.0.2.1/24\"]\n", {"n.toml:2:", "device"}},
        {"[[port]]\ndevice = \"net_null0\"\nsize = 5\n",
         {"n.toml:3:", "'size'", "device, address, mtu, rss"}},
        {"[[port]]\ndevice = \"net_null0\"\nport = \"a\"\n",
         {"n.toml:3:", "'port'", "device, address, mtu, rss"}},
        {"[[port]]\ndevice = \"net_null0\"\nrss = true\n", {"n.toml:3:", "rss", "one string"}},
        {"rss = \"on\"\n", {"n.toml:1:", "inside a [[port]]"}},
        {"[[port]]\ndevice = \"net_null0\"\nmtu = true\n", {"n.toml:3:", "mtu", "whole number"}},
        {"mtu = 1500\n", {"n.toml:1:", "inside a [[port]]"}},
        {"data = [\"/a\"\nhttp = 1\n", {"n.toml:2:", "not TOML"}},
        {"http = \"a\"\nhttp = \"b\"\n", {"n.toml:2:", "not TOML"}},
    };
    for (const BadFile& bad : table) {
        SCOPED_TRACE(bad.text);
        const auto settings = parse_config(bad.text, "n.toml");
        ASSERT_FALSE(settings);
        EXPECT_EQ(settings.error().find('\n'), std::string::npos);
        for (const std::string& part : bad.said) {
            EXPECT_NE(settings.error().find(part), std::string::npos)
                << part << " not in: " << settings.error();
        }
    }
}

TEST(Config, BadValueInFileNamesItsLine) {
    const auto settings = parse_config("data = \"/d\"\n\npoll = \"fast\"\n", "n.toml");
    ASSERT_TRUE(settings) << settings.error();
    const std::vector<Setting> flags{{"poll", "busy", "--poll"}};
    // Also when a flag overrides it.
    for (const auto& given : {std::vector<Setting>{}, flags}) {
        const auto options = resolve_settings(*settings, given, two_cpus);
        ASSERT_FALSE(options);
        EXPECT_TRUE(options.error().starts_with("n.toml:3: poll: found 'fast'; expected adaptive"))
            << options.error();
    }
}

TEST(Sizes, UnitsAndLimits) {
    EXPECT_EQ(parse_size("0"), 0U);
    EXPECT_EQ(parse_size("512"), 512U);
    EXPECT_EQ(parse_size("512B"), 512U);
    EXPECT_EQ(parse_size("4KiB"), 4096U);
    EXPECT_EQ(parse_size("64MiB"), 64U << 20);
    EXPECT_EQ(parse_size("3GiB"), 3ULL << 30);
    EXPECT_EQ(parse_size("2TiB"), 2ULL << 40);
    EXPECT_EQ(parse_size("16777215TiB"), 16777215ULL << 40);
    for (const char* bad : {"", "MiB", "64MB", "64 MiB", "-1", "1.5GiB", "0x10", "16777216TiB",
                            "18446744073709551616", "64mib", " 64"}) {
        EXPECT_EQ(parse_size(bad), std::nullopt) << bad;
    }
}

}  // namespace
}  // namespace penstock
