// Feeds arbitrary requests to REST: the readers of targets, queries and bodies by themselves, what
// is made of an operation's answer, and whole requests to the handler with a node behind it that
// keeps everything in memory. Whatever comes, what is answered is sound JSON with a status of ours.
//
// Input: "METHOD TARGET", then headers, "name:value", up to an empty line, then the body.
#include <simdjson.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "control/catalog/embedded_catalog.h"
#include "control/kinesis/service.h"
#include "control/rest/answer.h"
#include "control/rest/handler.h"
#include "control/rest/members.h"
#include "control/rest/route.h"
#include "storage/base/check.h"
#include "tests/fuzz/exact_request.h"
#include "tests/unit/control/kinesis/memory_lane.h"
#include "tests/unit/control/kinesis/memory_log.h"

namespace {

using namespace penstock;
using namespace penstock::rest;

bool is_json(std::string_view text) {
    static simdjson::dom::parser parser;
    return parser.parse(text.data(), text.size()).error() == simdjson::SUCCESS;
}

// What the protocols let pass as a method, but for a few signs.
bool is_token(std::string_view text) {
    return !text.empty() && std::ranges::all_of(text, [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '-';
    });
}

bool is_json_lines(std::string_view text) {
    while (!text.empty()) {
        if (!is_json(fuzz::take_line(text))) {
            return false;
        }
    }
    return true;
}

// A node without disks, network or signatures, whose only stream has two records.
class Node final : private http::ResponseSink {
public:
    Node() {
        auto catalog = EmbeddedCatalog::open(log_, clock_);
        PENSTOCK_CHECK(catalog);
        catalog_ = std::move(*catalog);
        kinesis::StreamStoreOptions options;
        options.keys = &keys_;
        options.shards_max = 50;
        options.publish = [](std::unique_ptr<const RouteTable>) {};
        auto store = kinesis::StreamStore::open(*catalog_, lanes_, clock_, std::move(options));
        PENSTOCK_CHECK(store);
        store_ = std::move(*store);
        auto loop = http::LoopThread::open();
        PENSTOCK_CHECK(loop);
        loop_ = std::move(*loop);
        kinesis::ServiceOptions service;
        service.lane_requests_max = 16;
        kinesis_ = std::make_unique<kinesis::KinesisHandler>(
            *loop_, *store_, lanes_, clock_,
            [this] { return std::make_unique<MemoryRecordSource>(lanes_); }, service);
        rest_ = std::make_unique<RestHandler>(*kinesis_, nullptr, RestOptions{});
        static constexpr std::array<std::pair<std::string_view, std::string_view>, 2> first{
            {{"POST /v1/streams", R"({"stream_name":"s","shard_count":1})"},
             {"POST /v1/streams/s/records",
              R"({"records":[{"data":{"t":1},"partition_key":"k"},{"data":"é","partition_key":"l"}]})"}}};
        for (const auto& [what, body] : first) {
            fuzz::ExactBlocks blocks;
            const auto answer = ask(fuzz::exact_request(
                blocks, "POST", what.substr(5), {{"content-type", "application/json"}}, body));
            PENSTOCK_CHECK(answer.status / 100 == 2);
            settle();
        }
        log_writes_ = log_.writes();
        appends_ = lanes_.append_requests();
    }
    // REST hears the last answers of what it asked for.
    ~Node() override { kinesis_.reset(); }

    http::HttpResponse ask(std::unique_ptr<http::HttpRequest> request) {
        answer_.reset();
        rest_->handle(std::make_unique<http::HttpExchange>(static_cast<http::ResponseSink&>(*this),
                                                           http::ConnectionId{1}, http::StreamId{1},
                                                           std::move(request)));
        while (!answer_) {
            loop_->run_once(1000);
        }
        return std::move(*answer_);
    }
    // Something was kept, so that the next request would meet another node.
    [[nodiscard]] bool has_changed() const {
        return log_.writes() != log_writes_ || lanes_.append_requests() != appends_;
    }

private:
    void respond(http::ConnectionId, http::StreamId, http::HttpResponse&& response) override {
        PENSTOCK_CHECK(!answer_);
        answer_ = std::move(response);
    }
    [[nodiscard]] bool is_open(http::ConnectionId) const noexcept override { return true; }
    void settle() {
        while (!store_->settled()) {
            loop_->run_once(1);
        }
    }

    ManualClock clock_;
    MemoryLog log_;
    MemoryLanes lanes_{clock_, 1, 1};
    keys::KeyStore keys_;  // without a keys file
    std::unique_ptr<EmbeddedCatalog> catalog_;
    std::unique_ptr<kinesis::StreamStore> store_;
    std::unique_ptr<http::LoopThread> loop_;
    std::unique_ptr<kinesis::KinesisHandler> kinesis_;
    std::unique_ptr<RestHandler> rest_;
    std::optional<http::HttpResponse> answer_;
    std::size_t log_writes_ = 0;
    std::size_t appends_ = 0;
};

void read_target(std::string_view path, std::string_view query) {
    for (const std::string_view text : {path, query}) {
        if (const auto decoded = http::decode_percent(text)) {
            PENSTOCK_CHECK(http::decode_percent(http::encode_percent(*decoded)) == *decoded);
        }
    }
    const auto texts = http::read_query(query);
    for (const Route& route : routes()) {
        Members members;
        if (texts && read_parameters(route, *texts, members)) {
            PENSTOCK_CHECK(is_json(members.json()));
        }
    }
    if (const auto at_ms = parse_time_ms(query); at_ms && query.ends_with('Z')) {
        PENSTOCK_CHECK(parse_time_ms(format_time_ms(*at_ms)) == *at_ms);
    }
    static_cast<void>(iterator_from_link(query));
}

// The route whose request it is, or one or another.
const Route& route_of(const http::HttpRequest& request, std::size_t otherwise) {
    const auto found = match(request.method, request.path);
    return found ? *found->route : routes()[otherwise % routes().size()];
}

void read_bodies(const Route& route, std::string_view text) {
    Members members;
    if (read_body(route, text, members)) {
        PENSTOCK_CHECK(is_json(members.json()));
    }
    for (const Placing& placing : {Placing{}, Placing{"k", "7"}}) {
        if (const auto entries = lines_of_records(text, placing)) {
            PENSTOCK_CHECK(is_json("[" + *entries + "]"));
        }
    }
    if (const auto entries = listed_records(text)) {
        PENSTOCK_CHECK(is_json("[" + *entries + "]"));
    }
    if (const auto entry = one_record(text, {})) {
        PENSTOCK_CHECK(is_json("{" + *entry + "}"));
    }
}

void shape_answers(const Route& route, std::string_view text) {
    const http::Texts none;
    const Asked asked{route, route.path, none};
    PENSTOCK_CHECK(is_json(response_of(asked, {200, std::string(text)}).body));
    static_cast<void>(lines_of(asked, {200, std::string(text)}));
    PENSTOCK_CHECK(is_json(error_of({400, std::string(text)}).body));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static std::unique_ptr<Node> node;
    std::string_view rest(reinterpret_cast<const char*>(data), size);
    const std::string_view line = fuzz::take_line(rest);
    const std::size_t blank = std::min(line.find(' '), line.size());
    const std::string_view target = line.substr(std::min(blank + 1, line.size()));
    const auto headers = fuzz::take_headers(rest);
    fuzz::ExactBlocks blocks;
    auto request = fuzz::exact_request(blocks, line.substr(0, blank), target, headers, rest);
    read_target(request->path, request->query);
    const std::string_view body = blocks.keep(rest);
    const Route& route = route_of(*request, rest.size());
    read_bodies(route, body);
    shape_answers(route, body);
    // Others go to another handler, or are refused by the connection.
    if (!is_ours(request->path) || !is_token(request->method)) {
        return 0;
    }
    if (node == nullptr) {
        node = std::make_unique<Node>();
    }
    const http::HttpResponse answer = node->ask(std::move(request));
    PENSTOCK_CHECK(answer.status >= 200 && answer.status < 600);
    PENSTOCK_CHECK(
        answer.body.empty() ||
        (answer.content_type == lines_type ? is_json_lines(answer.body) : is_json(answer.body)));
    if (node->has_changed()) {
        node.reset();
    }
    return 0;
}
