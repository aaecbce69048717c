#include "control/auth/credential_store.h"

#include <filesystem>
#include <fstream>
#include <set>

#include "control/auth/crypto.h"
#include "tests/unit/control/auth/credential_fixture.h"

namespace penstock::auth {
namespace {

TEST_F(CredentialTest, MadeOnesOutliveARestart) {
    const auto made = make("reader");
    EXPECT_EQ(made.key.id.size(), 20U);
    EXPECT_TRUE(made.key.id.starts_with("AKIA"));
    EXPECT_EQ(made.key.secret.size(), 40U);
    ASSERT_EQ(open(), "");
    const auto table = store->table();
    ASSERT_TRUE(table->by_key.contains(made.key.id));
    const auto& found = table->by_key.at(made.key.id);
    EXPECT_EQ(found.key->secret, made.key.secret);
    EXPECT_EQ(found.credential->name, "reader");
    EXPECT_EQ(found.credential->arn, "arn:aws:iam::000000000000:user/reader");
    EXPECT_EQ(found.credential->policy->decide("any:Thing", "any"), Decision::allow);
}

// A table for each would make the start take a time that grows with the square of their number.
TEST_F(CredentialTest, AStartMakesOneTableOfAllCredentials) {
    std::vector<AccessKey> keys;
    for (int i = 0; i < 20; ++i) {
        keys.push_back(make("c" + std::to_string(i)).key);
    }
    ASSERT_TRUE(store->rotate("c7", 60));
    const std::uint64_t changes = 21;
    EXPECT_EQ(store->version(), 2 + changes);
    EXPECT_EQ(open(), "");
    EXPECT_EQ(store->version(), 2U);
    const auto table = store->table();
    EXPECT_EQ(table->by_name.size(), 20U);
    EXPECT_EQ(table->by_key.size(), 21U);
    for (const AccessKey& key : keys) {
        ASSERT_TRUE(table->by_key.contains(key.id));
        EXPECT_EQ(table->by_key.at(key.id).key->secret, key.secret);
    }
}

TEST_F(CredentialTest, NoSecretStandsInTheCatalogOrTheLog) {
    const auto made = make("reader");
    const auto rotated = store->rotate("reader", 60);
    ASSERT_TRUE(rotated);
    const auto session = store->make_session("reader", 3600, "");
    ASSERT_TRUE(session);
    std::string all;
    for (const auto& [kind, bytes] : log.records()) {
        all += bytes;
    }
    for (const std::string& line : lines) {
        all += line;
    }
    for (const std::string& secret :
         {made.key.secret, rotated->key.secret, session->secret, session->token}) {
        EXPECT_EQ(all.find(secret), std::string::npos);
    }
    // Nor does the policy, so that nobody with a hand on the disks can widen it unseen.
    EXPECT_EQ(all.find("Statement"), std::string::npos);
    EXPECT_NE(all.find("credential/reader"), std::string::npos);
}

TEST_F(CredentialTest, NamesAndPoliciesAreChecked) {
    for (const std::string& name : {std::string(), std::string("a b"), std::string("a/b"),
                                    std::string("\xc3\xa4"), std::string(65, 'a')}) {
        EXPECT_EQ(store->make(name, admin_policy).error().code, Errc::invalid_argument) << name;
    }
    EXPECT_EQ(store->make("a", "{}").error().code, Errc::invalid_argument);
    make("a");
    EXPECT_EQ(store->make("a", admin_policy).error().code, Errc::already_exists);
    EXPECT_EQ(store->rotate("b", 0).error().code, Errc::not_found);
    EXPECT_EQ(store->revoke("b").error().code, Errc::not_found);
    EXPECT_EQ(store->set_policy("b", admin_policy).error().code, Errc::not_found);
    EXPECT_EQ(store->make_session("b", 3600, "").error().code, Errc::not_found);
    EXPECT_EQ(store->rotate("a", -1).error().code, Errc::invalid_argument);
    EXPECT_EQ(store->make_session("a", 59, "").error().code, Errc::invalid_argument);
    EXPECT_EQ(store->make_session("a", 3600, "{}").error().code, Errc::invalid_argument);
}

TEST_F(CredentialTest, RotationKeepsTheKeyBeforeForAWhile) {
    const auto first = make("a").key;
    const auto second = store->rotate("a", 100)->key;
    auto table = store->table();
    ASSERT_TRUE(table->by_key.contains(first.id));
    const AccessKey& old = *table->by_key.at(first.id).key;
    EXPECT_TRUE(old.is_live(clock.wall_ms() + 99'999));
    EXPECT_FALSE(old.is_live(clock.wall_ms() + 100'000));
    EXPECT_TRUE(table->by_key.at(second.id).key->is_live(INT64_MAX));
    // The next rotation ends what was before the one before.
    const auto third = store->rotate("a", 100)->key;
    table = store->table();
    EXPECT_FALSE(table->by_key.contains(first.id));
    EXPECT_TRUE(table->by_key.contains(second.id));
    const auto fourth = store->rotate("a", 0)->key;
    table = store->table();
    EXPECT_FALSE(table->by_key.contains(third.id));
    EXPECT_TRUE(table->by_key.contains(fourth.id));
    EXPECT_EQ(table->by_key.size(), 1U);
}

TEST_F(CredentialTest, ARevokedOneIsGoneAtOnceAndAfterARestart) {
    const auto key = make("a").key;
    const std::uint64_t version = store->version();
    ASSERT_TRUE(store->revoke("a"));
    EXPECT_GT(store->version(), version);
    EXPECT_FALSE(store->table()->by_key.contains(key.id));
    ASSERT_EQ(open(), "");
    EXPECT_TRUE(store->table()->by_key.empty());
}

TEST_F(CredentialTest, SessionsEndWithTheirTimeOrTheirCredential) {
    using Fault = CredentialStore::TokenFault;
    make("a");
    const auto session = store->make_session("a", 3600, "");
    ASSERT_TRUE(session);
    EXPECT_TRUE(session->key_id.starts_with("ASIA"));
    const auto opened = store->open_session(session->key_id, session->token);
    ASSERT_TRUE(opened);
    EXPECT_EQ(opened->secret, session->secret);
    EXPECT_EQ(opened->credential->name, "a");
    EXPECT_FALSE(opened->policy);
    // Of another key, damaged, none of ours.
    EXPECT_EQ(store->open_session("ASIAOTHER", session->token).error(), Fault::invalid);
    for (std::size_t i = 0; i < session->token.size(); i += 7) {
        std::string damaged = session->token;
        damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
        EXPECT_EQ(store->open_session(session->key_id, damaged).error(), Fault::invalid);
    }
    EXPECT_EQ(store->open_session(session->key_id, "").error(), Fault::invalid);
    // A restart changes nothing, a rotation neither.
    ASSERT_EQ(open(), "");
    ASSERT_TRUE(store->rotate("a", 0));
    EXPECT_TRUE(store->open_session(session->key_id, session->token));
    clock.ms = clock.wall_ms() + 3'600'000;
    EXPECT_EQ(store->open_session(session->key_id, session->token).error(), Fault::expired);
    // Another credential of the same name is another one.
    const auto later = store->make_session("a", 3600, "");
    ASSERT_TRUE(store->revoke("a"));
    EXPECT_EQ(store->open_session(later->key_id, later->token).error(), Fault::invalid);
    make("a");
    EXPECT_EQ(store->open_session(later->key_id, later->token).error(), Fault::invalid);
}

TEST_F(CredentialTest, AWrongOrMissingKeyFileStopsTheStartAndLosesNothing) {
    const auto made = make("a");
    const std::string path = scratch.path("key");
    const std::size_t writes = log.writes();
    std::filesystem::rename(path, path + ".away");
    std::string why = open();
    EXPECT_NE(why.find("--key-file " + path), std::string::npos) << why;
    EXPECT_NE(why.find("No such file"), std::string::npos) << why;
    EXPECT_NE(why.find("bring the file back"), std::string::npos) << why;
    EXPECT_EQ(why.find('\n'), std::string::npos);
    EXPECT_FALSE(std::filesystem::exists(path));
    std::ofstream(path) << std::string(64, 'a');
    std::filesystem::permissions(path, std::filesystem::perms::owner_read);
    why = open();
    EXPECT_NE(why.find("not the key that sealed"), std::string::npos) << why;
    EXPECT_NE(why.find("fingerprint found"), std::string::npos) << why;
    EXPECT_EQ(why.find('\n'), std::string::npos);
    EXPECT_EQ(log.writes(), writes);
    std::filesystem::rename(path + ".away", path);
    ASSERT_EQ(open(), "");
    EXPECT_TRUE(store->table()->by_key.contains(made.key.id));
}

TEST_F(CredentialTest, WithoutItsKeyASetStartsOnlyWhenToldToForget) {
    make("a");
    std::filesystem::remove(scratch.path("key"));
    CredentialStoreOptions options;
    options.key_file = scratch.path("key");
    options.discard = true;
    ASSERT_EQ(open(&options), "");
    EXPECT_TRUE(store->table()->by_name.empty());
    const auto made = make("a");
    // With the right key there is nothing to forget, told to or not.
    ASSERT_EQ(open(&options), "");
    EXPECT_TRUE(store->table()->by_key.contains(made.key.id));
}

TEST_F(CredentialTest, WithoutAKeyFileThereAreNoCredentials) {
    make("a");
    CredentialStoreOptions none;
    ASSERT_EQ(open(&none), "");
    EXPECT_TRUE(store->table()->by_name.empty());
    EXPECT_EQ(store->make("b", admin_policy).error().code, Errc::unavailable);
    EXPECT_EQ(store->revoke("a").error().code, Errc::unavailable);
    ASSERT_EQ(open(), "");
    EXPECT_TRUE(store->table()->by_name.contains("a"));
}

TEST_F(CredentialTest, WhatCannotBeOpenedLetsNobodyInAndCanBeRevoked) {
    const auto a = make("a");
    make("b");
    const auto entry = catalog->get("credential/a");
    ASSERT_TRUE(entry);
    // b's place with a's content, a's with one bit flipped.
    ASSERT_TRUE(catalog->put("credential/b", entry->value));
    EXPECT_FALSE(store->table()->by_name.contains("b"));
    std::string damaged = entry->value;
    damaged.back() = static_cast<char>(damaged.back() ^ 1);
    ASSERT_TRUE(catalog->put("credential/a", damaged));
    EXPECT_TRUE(store->table()->by_key.empty());
    lines.clear();
    ASSERT_EQ(open(), "");
    EXPECT_TRUE(store->table()->by_key.empty());
    EXPECT_EQ(lines.size(), 2U);
    EXPECT_EQ(store->rotate("a", 0).error().code, Errc::not_found);
    EXPECT_TRUE(store->revoke("a"));
    EXPECT_NE(make("a").key.id, a.key.id);
}

TEST_F(CredentialTest, AChangeThatTheCatalogRefusesIsToldAndNotSeen) {
    make("a");
    log.fail_at(1, MemoryLog::Failure::nothing_kept, true);
    EXPECT_EQ(store->make("b", admin_policy).error().code, Errc::unavailable);
    EXPECT_EQ(store->revoke("a").error().code, Errc::unavailable);
    EXPECT_TRUE(store->table()->by_name.contains("a"));
    EXPECT_FALSE(store->table()->by_name.contains("b"));
    log.heal();
    EXPECT_TRUE(store->revoke("a"));
}

}  // namespace
}  // namespace penstock::auth
