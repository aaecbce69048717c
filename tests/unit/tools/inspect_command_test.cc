#include "tools/penstock/inspect_command.h"

#include <chrono>
#include <string>

#include "control/catalog/change_codec.h"
#include "control/node/catalog_log.h"
#include "tests/unit/storage/inspect/small_set.h"

namespace penstock {
namespace {

class InspectCommand : public SmallSet {
protected:
    void SetUp() override {
        SmallSet::SetUp();
        if (IsSkipped()) {
            return;
        }
        ReplicaSetOptions set_options = options();
        set_options.for_new = small();
        auto set = open(set_options);
        ASSERT_TRUE(set.has_value()) << message_;
        CatalogLog::Options log;
        log.geometry = (*set)->geometry();
        log.epoch = (*set)->epoch();
        log.voting = (*set)->voting();
        log.make_engine = [&] { return engine_over(**set); };
        auto catalog = CatalogLog::open(std::move(log));
        ASSERT_TRUE(catalog.has_value());
        CatalogRecord record;
        record.revision = 1;
        record.operations.push_back(
            {CatalogOperation::Kind::put, "stream/orders", "a stream", 1, {}});
        record.operations.push_back(
            {CatalogOperation::Kind::put, "secret/iterator", "do not show this", 1, {}});
        const std::string bytes = encode_catalog_record(record);
        ASSERT_TRUE((*catalog)->append(as_bytes(bytes)).has_value());
        catalog->reset();
        geometry_ = (*set)->geometry();
    }

    // Exit code of `inspect`, its output in out_.
    int inspect(InspectView view, bool json = false) {
        testing::internal::CaptureStdout();
        testing::internal::CaptureStderr();
        const int code = run_inspect({.view = view, .data = {base_}, .json = json});
        std::fflush(stdout);
        out_ = testing::internal::GetCapturedStdout();
        err_ = testing::internal::GetCapturedStderr();
        return code;
    }

    std::string out_;
    std::string err_;
};

TEST_F(InspectCommand, CatalogShowsKeysAndHidesSecrets) {
    for (const bool json : {false, true}) {
        EXPECT_EQ(inspect(InspectView::catalog, json), 0) << out_ << err_;
        EXPECT_NE(out_.find("stream/orders"), std::string::npos);
        EXPECT_NE(out_.find("a stream"), std::string::npos);
        EXPECT_NE(out_.find("secret/iterator"), std::string::npos);
        EXPECT_NE(out_.find("(hidden)"), std::string::npos);
        EXPECT_EQ(out_.find("do not show this"), std::string::npos) << out_;
    }
}

TEST_F(InspectCommand, EveryViewOfASoundSetExitsWithZero) {
    for (const InspectView view :
         {InspectView::summary, InspectView::superblock, InspectView::manifest,
          InspectView::journal, InspectView::segments, InspectView::catalog, InspectView::verify}) {
        EXPECT_EQ(inspect(view), 0) << out_ << err_;
        EXPECT_EQ(inspect(view, true), 0) << out_ << err_;
        EXPECT_TRUE(out_.starts_with('{') && out_.ends_with("}\n")) << out_;
    }
}

TEST_F(InspectCommand, DamageExitsWithOneAndIsNamed) {
    flip(1, "superblock", 4096 + 30);
    EXPECT_EQ(inspect(InspectView::verify), 1) << out_;
    EXPECT_NE(out_.find("damage: superblock on replica 1"), std::string::npos) << out_;
    EXPECT_NE(out_.find("NOT SOUND"), std::string::npos) << out_;
}

TEST_F(InspectCommand, NothingToReadExitsWithTwoAndSaysWhatIsThere) {
    std::filesystem::remove_all(base_);
    for (const InspectView view :
         {InspectView::summary, InspectView::superblock, InspectView::verify}) {
        EXPECT_EQ(inspect(view), 2) << out_;
    }
    EXPECT_NE(err_.find("expected a replica set"), std::string::npos) << err_;
    EXPECT_NE(err_.find("replica-0"), std::string::npos) << err_;
}

TEST_F(InspectCommand, HeldLockIsSaidAndNotTaken) {
    auto set = open(options());
    ASSERT_TRUE(set.has_value()) << message_;
    inspect(InspectView::superblock);
    EXPECT_TRUE(out_.starts_with("note: a running node holds these directories")) << out_;
    EXPECT_EQ((*set)->check(), 0);
}

}  // namespace
}  // namespace penstock
