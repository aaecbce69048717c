// A credential store over a catalog in memory and a key file of its own.
#pragma once

#include <gtest/gtest.h>

#include "control/auth/credential_store.h"
#include "control/catalog/embedded_catalog.h"
#include "tests/unit/control/auth/scratch.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace penstock::auth {

inline constexpr std::string_view admin_policy =
    R"({"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]})";

class CredentialTest : public ::testing::Test {
protected:
    CredentialTest() {
        clock.ms = 1'795'423'302'000;  // 20261123T084142Z
        EXPECT_EQ(open(), "");
    }

    // Anew, as after a restart. The error line.
    std::string open(const CredentialStoreOptions* options = nullptr) {
        store.reset();
        catalog.reset();
        auto opened_catalog = EmbeddedCatalog::open(log, clock);
        EXPECT_TRUE(opened_catalog);
        catalog = std::move(*opened_catalog);
        CredentialStoreOptions own;
        own.key_file = scratch.path("key");
        own.data_directories = {scratch.path("data")};
        if (options != nullptr) {
            own = *options;
        }
        own.log = [this](bool, std::string_view line) { lines.emplace_back(line); };
        auto opened = CredentialStore::open(*catalog, clock, own);
        if (!opened) {
            return opened.error();
        }
        store = std::move(*opened);
        return {};
    }

    CredentialStore::Made make(std::string_view name, std::string_view policy = admin_policy) {
        auto made = store->make(name, policy);
        EXPECT_TRUE(made) << made.error().why;
        return made ? *made : CredentialStore::Made{};
    }

    Scratch scratch;
    ManualClock clock;
    MemoryLog log;
    std::vector<std::string> lines;
    std::unique_ptr<EmbeddedCatalog> catalog;
    std::unique_ptr<CredentialStore> store;
};

}  // namespace penstock::auth
