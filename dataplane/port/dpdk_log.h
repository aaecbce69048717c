// What DPDK says on its log stream while this object lives, kept for our own messages instead of
// flooding the console.
//
// Runs on: a control thread, one at a time: DPDK has one stream per process.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace penstock {

class DpdkLog {
public:
    DpdkLog();
    // Later lines go to standard error again.
    ~DpdkLog();
    DpdkLog(const DpdkLog&) = delete;
    DpdkLog& operator=(const DpdkLog&) = delete;

    [[nodiscard]] std::vector<std::string> lines();
    // The lines that begin with `prefix`, joined, cut to what fits an error message: the first says
    // the cause.
    [[nodiscard]] std::string summary(std::string_view prefix = {});

private:
    char* text_ = nullptr;
    std::size_t size_ = 0;
    std::FILE* stream_;
};

}  // namespace penstock
