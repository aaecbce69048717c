#include <gtest/gtest.h>

#include "control/catalog/embedded_catalog.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace penstock {
namespace {

std::unique_ptr<EmbeddedCatalog> open(MemoryLog& log, ManualClock& clock,
                                      std::uint64_t log_bytes_max = 4U << 20) {
    auto catalog = EmbeddedCatalog::open(log, clock, {log_bytes_max});
    EXPECT_TRUE(catalog) << describe(catalog.error());
    return catalog ? std::move(*catalog) : nullptr;
}

CatalogChange put(std::string key, std::string value, std::optional<Revision> expected = {}) {
    CatalogChange change;
    change.key = std::move(key);
    change.value = std::move(value);
    change.expected = expected;
    return change;
}

std::map<std::string, std::string> contents(Catalog& catalog) {
    std::map<std::string, std::string> all;
    const auto listed = catalog.list("");
    for (const CatalogEntry& entry : *listed) {
        all[entry.key] = entry.value;
    }
    return all;
}

TEST(Catalog, PutIsReadBackWithItsRevision) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    EXPECT_EQ(catalog->get("a").error().code, Errc::not_found);
    EXPECT_EQ(*catalog->put("a", "1"), 1U);
    EXPECT_EQ(*catalog->put("b", "2"), 2U);
    EXPECT_EQ(catalog->get("a")->value, "1");
    EXPECT_EQ(catalog->get("b")->revision, 2U);
    EXPECT_EQ(*catalog->remove("a"), 3U);
    EXPECT_EQ(catalog->get("a").error().code, Errc::not_found);
}

TEST(Catalog, CommitIsAllOrNothingOnExpectedRevisions) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    ASSERT_TRUE(catalog->put("a", "1", 0));
    EXPECT_EQ(catalog->put("a", "2", 0).error().code, Errc::canceled);
    const CatalogChange changes[] = {put("b", "1", 0), put("a", "2", 7)};
    const auto refused = catalog->commit(changes);
    EXPECT_EQ(refused.error().code, Errc::canceled);
    EXPECT_EQ(refused.error().detail, 1U);
    EXPECT_EQ(catalog->get("b").error().code, Errc::not_found);
    const CatalogChange good[] = {put("b", "1", 0), put("a", "2", 1)};
    EXPECT_EQ(*catalog->commit(good), 2U);
    CatalogChange check;
    check.kind = CatalogChange::Kind::check;
    check.key = "a";
    check.expected = 1;
    const CatalogChange guarded[] = {check, put("c", "1")};
    EXPECT_EQ(catalog->commit(guarded).error().code, Errc::canceled);
    const CatalogChange twice[] = {put("d", "1"), put("d", "2")};
    EXPECT_EQ(catalog->commit(twice).error().code, Errc::invalid_argument);
    EXPECT_EQ(catalog->put("", "x").error().code, Errc::invalid_argument);
    EXPECT_EQ(catalog->put(std::string(513, 'k'), "x").error().code, Errc::too_large);
}

TEST(Catalog, ListGivesThePrefixInOrder) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    for (const char* key : {"stream/b", "stream/a", "strean", "stream0", "strea"}) {
        ASSERT_TRUE(catalog->put(key, key));
    }
    const auto found = catalog->list("stream/");
    ASSERT_EQ(found->size(), 2U);
    EXPECT_EQ((*found)[0].key, "stream/a");
    EXPECT_EQ((*found)[1].key, "stream/b");
}

TEST(Catalog, WatchersHearOfEachChangeUnderTheirPrefixBeforeCommitReturns) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    std::vector<std::string> heard;
    auto watch = catalog->watch("s/", [&](const CatalogEvent& event) {
        heard.push_back(std::string(event.key) + "=" + (event.value ? *event.value : "-"));
        EXPECT_EQ(catalog->get(event.key).has_value(), event.value != nullptr);
    });
    ASSERT_TRUE(catalog->put("s/1", "a"));
    ASSERT_TRUE(catalog->put("t/1", "a"));
    ASSERT_TRUE(catalog->remove("s/1"));
    EXPECT_EQ(heard, (std::vector<std::string>{"s/1=a", "s/1=-"}));
    watch.reset();
    ASSERT_TRUE(catalog->put("s/2", "a"));
    EXPECT_EQ(heard.size(), 2U);
}

TEST(Catalog, RestartRecoversEverythingAndGoesOn) {
    MemoryLog log;
    ManualClock clock;
    {
        auto catalog = open(log, clock);
        for (int i = 0; i < 50; ++i) {
            ASSERT_TRUE(catalog->put("k" + std::to_string(i % 7), std::to_string(i)));
        }
        ASSERT_TRUE(catalog->remove("k3"));
    }
    auto catalog = open(log, clock);
    EXPECT_EQ(catalog->revision(), 51U);
    EXPECT_EQ(contents(*catalog).size(), 6U);
    EXPECT_EQ(catalog->get("k0")->value, "49");
    EXPECT_EQ(catalog->get("k0")->revision, 50U);
    EXPECT_EQ(*catalog->put("new", "x"), 52U);
}

TEST(Catalog, LogIsCompactedPastItsLimitAndRecoversTheSame) {
    MemoryLog log;
    ManualClock clock;
    std::map<std::string, std::string> expected;
    {
        auto catalog = open(log, clock, 2000);
        for (int i = 0; i < 500; ++i) {
            ASSERT_TRUE(catalog->put("k" + std::to_string(i % 5), std::to_string(i)));
        }
        expected = contents(*catalog);
    }
    EXPECT_GT(log.snapshots(), 3U);
    auto catalog = open(log, clock, 2000);
    EXPECT_EQ(contents(*catalog), expected);
    EXPECT_EQ(catalog->revision(), 500U);
}

// Fails the n-th write of a run, for every n, in both ways it can fail; then restarts. What was
// answered is there; what was answered "unavailable" is there or not; later commits work and stay.
TEST(Catalog, EveryFailedWriteLeavesAnsweredCommitsAndNothingHalf) {
    for (const auto how :
         {MemoryLog::Failure::nothing_kept, MemoryLog::Failure::kept_all_the_same}) {
        for (int n = 1;; ++n) {
            MemoryLog log;
            ManualClock clock;
            std::map<std::string, std::string> answered;
            std::map<std::string, std::string> doubtful;
            std::size_t failures = 0;
            {
                auto catalog = open(log, clock, 300);
                log.fail_at(n, how);
                for (int i = 0; i < 12; ++i) {
                    const std::string key = "k" + std::to_string(i % 4);
                    const std::string text = std::to_string(i);
                    const CatalogChange changes[] = {put(key, text), put(key + "'", text)};
                    const auto done = catalog->commit(changes);
                    if (done) {
                        answered[key] = answered[key + "'"] = text;
                        doubtful.clear();  // the snapshot before it made the failed one void
                    } else {
                        ASSERT_EQ(done.error().code, Errc::unavailable);
                        doubtful[key] = doubtful[key + "'"] = text;
                        ++failures;
                    }
                    ASSERT_EQ(contents(*catalog), answered) << "n=" << n;
                }
            }
            const bool untouched = static_cast<std::size_t>(n) > log.writes();
            log.heal();
            auto catalog = open(log, clock, 300);
            ASSERT_NE(catalog, nullptr);
            auto with_doubtful = answered;
            for (const auto& [key, text] : doubtful) {
                with_doubtful[key] = text;
            }
            const auto found = contents(*catalog);
            EXPECT_TRUE(found == answered || found == with_doubtful) << "n=" << n;
            EXPECT_TRUE(catalog->put("after", "x"));
            EXPECT_EQ(open(log, clock)->get("after")->value, "x");
            if (untouched) {
                EXPECT_EQ(failures, 0U);
                break;
            }
        }
    }
}

TEST(Catalog, AFailedCommitIsVoidOnceALaterOneSucceeded) {
    MemoryLog log;
    ManualClock clock;
    {
        auto catalog = open(log, clock);
        ASSERT_TRUE(catalog->put("a", "1"));
        log.fail_at(1, MemoryLog::Failure::kept_all_the_same);
        EXPECT_EQ(catalog->put("a", "ghost").error().code, Errc::unavailable);
        EXPECT_EQ(catalog->get("a")->value, "1");
        ASSERT_TRUE(catalog->put("b", "1"));
    }
    EXPECT_EQ(open(log, clock)->get("a")->value, "1");
}

TEST(Catalog, WhileTheLogFailsNothingIsCommittedAndReadsGoOn) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    ASSERT_TRUE(catalog->put("a", "1"));
    log.fail_at(1, MemoryLog::Failure::nothing_kept, true);
    for (int i = 0; i < 3; ++i) {
        EXPECT_EQ(catalog->put("a", "2").error().code, Errc::unavailable);
        EXPECT_EQ(catalog->get("a")->value, "1");
    }
    log.heal();
    ASSERT_TRUE(catalog->put("a", "3"));
    EXPECT_EQ(open(log, clock)->get("a")->value, "3");
}

TEST(CatalogLease, KeysEndWithTheirLease) {
    MemoryLog log;
    ManualClock clock;
    auto catalog = open(log, clock);
    const auto lease = *catalog->grant(1000);
    CatalogChange change = put("member/1", "here");
    change.lease = lease;
    ASSERT_TRUE(catalog->commit(std::span(&change, 1)));
    std::vector<std::string> gone;
    auto watch = catalog->watch("member/", [&](const CatalogEvent& event) {
        if (event.value == nullptr) {
            gone.emplace_back(event.key);
        }
    });
    clock.ns += 900'000'000;
    ASSERT_TRUE(catalog->keep_alive(lease));
    clock.ns += 900'000'000;
    EXPECT_TRUE(catalog->get("member/1"));
    clock.ns += 200'000'000;
    EXPECT_EQ(catalog->get("member/1").error().code, Errc::not_found);
    EXPECT_EQ(catalog->keep_alive(lease).error().code, Errc::not_found);
    ASSERT_TRUE(catalog->expire_leases());
    EXPECT_EQ(gone, std::vector<std::string>{"member/1"});
    EXPECT_EQ(catalog->commit(std::span(&change, 1)).error().code, Errc::not_found);
}

TEST(CatalogLease, RevokedAndRestartedLeasesAreGone) {
    MemoryLog log;
    ManualClock clock;
    LeaseId lease{};
    {
        auto catalog = open(log, clock);
        const auto first = *catalog->grant(1000);
        lease = *catalog->grant(1000);
        CatalogChange one = put("m/1", "x");
        one.lease = first;
        CatalogChange two = put("m/2", "x");
        two.lease = lease;
        ASSERT_TRUE(catalog->commit(std::span(&one, 1)));
        ASSERT_TRUE(catalog->commit(std::span(&two, 1)));
        ASSERT_TRUE(catalog->revoke(first));
        EXPECT_EQ(catalog->list("m/")->size(), 1U);
    }
    auto catalog = open(log, clock);
    EXPECT_TRUE(catalog->list("m/")->empty());
    EXPECT_NE(*catalog->grant(1000), lease);
}

// -- Format ---------------------------------------------------------------------------------------

CatalogRecord golden_record() {
    CatalogRecord record;
    record.revision = 0x0102;
    record.operations.push_back(
        {CatalogOperation::Kind::put, "stream/a", "{}", 0x0102, LeaseId{5}});
    record.operations.push_back({CatalogOperation::Kind::remove, "x", "", 0x0102, LeaseId{}});
    return record;
}

std::string hex(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        constexpr std::string_view digits = "0123456789abcdef";
        out.push_back(digits[static_cast<unsigned char>(c) >> 4]);
        out.push_back(digits[static_cast<unsigned char>(c) & 15]);
    }
    return out;
}

constexpr std::string_view golden_v1 =
    "01010000020000000201000000000000d83744e26300000001000000080000000200000000000000"
    "0201000000000000050000000000000073747265616d2f617b7d0200000001000000000000000000"
    "00000201000000000000000000000000000078";

TEST(CatalogFormat, VersionOneIsWhatItAlwaysWas) {
    EXPECT_EQ(hex(encode_catalog_record(golden_record())), golden_v1);
}

TEST(CatalogFormat, EncodedIsDecodedTheSame) {
    CatalogRecord record = golden_record();
    EXPECT_EQ(*decode_catalog_record(as_bytes(encode_catalog_record(record))), record);
    record.kind = ChangeLog::Kind::snapshot;
    record.operations.pop_back();
    EXPECT_EQ(*decode_catalog_record(as_bytes(encode_catalog_record(record))), record);
    record.operations.clear();
    EXPECT_EQ(*decode_catalog_record(as_bytes(encode_catalog_record(record))), record);
}

TEST(CatalogFormat, EveryFlippedBitAndEveryCutIsRefused) {
    const std::string good = encode_catalog_record(golden_record());
    for (std::size_t bit = 0; bit < good.size() * 8; ++bit) {
        std::string bad = good;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
        EXPECT_FALSE(decode_catalog_record(as_bytes(bad))) << bit;
    }
    for (std::size_t size = 0; size < good.size(); ++size) {
        EXPECT_FALSE(decode_catalog_record(as_bytes(good.substr(0, size)))) << size;
    }
    EXPECT_FALSE(decode_catalog_record(as_bytes(good + '\0')));
}

TEST(CatalogFormat, UnknownVersionIsRefusedAsUnsupported) {
    std::string later = encode_catalog_record(golden_record());
    later[0] = 2;
    const auto refused = decode_catalog_record(as_bytes(later));
    EXPECT_EQ(refused.error().code, Errc::unsupported);
    EXPECT_EQ(refused.error().detail, 2U);
    MemoryLog log;
    log.records().emplace_back(ChangeLog::Kind::change, later);
    ManualClock clock;
    EXPECT_EQ(EmbeddedCatalog::open(log, clock).error().code, Errc::unsupported);
}

TEST(CatalogFormat, AGapBetweenChangesIsRefused) {
    MemoryLog log;
    ManualClock clock;
    {
        auto catalog = open(log, clock);
        ASSERT_TRUE(catalog->put("a", "1"));
        ASSERT_TRUE(catalog->put("a", "2"));
        ASSERT_TRUE(catalog->put("a", "3"));
    }
    log.records().erase(log.records().begin() + 1);
    EXPECT_EQ(EmbeddedCatalog::open(log, clock).error().code, Errc::corrupt);
}

}  // namespace
}  // namespace penstock
