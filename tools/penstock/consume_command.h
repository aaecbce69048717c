// `penstock consume`: records of a stream on standard output, from any Kinesis endpoint.
//
// Runs on: the main thread, and threads of its own.
#pragma once

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "tools/consumer/position.h"

namespace penstock {

enum class ConsumeFormat : std::uint8_t { json, lines, raw };

struct ConsumeArguments {
    std::string stream;    // name or ARN
    std::string endpoint;  // empty: where the AWS CLI finds one, else http://127.0.0.1:4567
    std::string region;    // empty: likewise
    std::string profile;
    std::string ca;  // file of certificates
    std::vector<std::string> shards;
    consumer::Position from;
    bool from_given = false;
    bool follow = false;
    std::uint64_t limit = 0;  // 0: none
    ConsumeFormat format = ConsumeFormat::json;
    std::string checkpoint;
    std::uint64_t poll_ms = 200;
    std::uint64_t give_up_s = 60;
    unsigned threads = 8;
};

// Records go to the descriptor `out`. 0: everything that was asked for was written; 1: it was not,
// and one line on `err` says why; 130: a signal ended it before that.
[[nodiscard]] int run_consume(const ConsumeArguments& arguments, int out, std::ostream& err);

}  // namespace penstock
