#include "dataplane/port/dpdk_log.h"

#include <cstdlib>
#include <sstream>

#include <rte_log.h>

namespace penstock {
namespace {

constexpr std::size_t summary_bytes_max = 400;

}  // namespace

DpdkLog::DpdkLog() : stream_(::open_memstream(&text_, &size_)) {
    rte_openlog_stream(stream_);
}

DpdkLog::~DpdkLog() {
    rte_openlog_stream(stderr);
    if (stream_ != nullptr) {
        std::fclose(stream_);
    }
    std::free(text_);
}

std::vector<std::string> DpdkLog::lines() {
    std::vector<std::string> out;
    if (stream_ == nullptr) {
        return out;
    }
    std::fflush(stream_);
    std::istringstream all(std::string(text_, size_));
    for (std::string line; std::getline(all, line);) {
        if (!line.empty()) {
            out.push_back(std::move(line));
        }
    }
    return out;
}

std::string DpdkLog::summary(std::string_view prefix) {
    std::string out;
    for (const std::string& line : lines()) {
        if (line.starts_with(prefix) && out.size() < summary_bytes_max) {
            out += (out.empty() ? "" : "; ") + line;
        }
    }
    return out;
}

}  // namespace penstock
