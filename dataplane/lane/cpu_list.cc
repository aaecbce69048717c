#include "dataplane/lane/cpu_list.h"

#include <sched.h>

#include <algorithm>
#include <charconv>

namespace penstock {
namespace {

constexpr unsigned cpu_limit = CPU_SETSIZE;

bool parse_number(std::string_view text, unsigned& out) noexcept {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

std::unexpected<Error> refuse(std::string& why, std::string_view part, const std::string& reason) {
    why = "CPU list: '" + std::string(part) + "' " + reason +
          "; write numbers and ranges such as 0-3,5";
    return fail(Errc::invalid_argument);
}

}  // namespace

Result<std::vector<unsigned>> parse_cpu_list(std::string_view text, std::string& why) {
    std::vector<unsigned> cpus;
    for (std::size_t at = 0; at <= text.size();) {
        const std::size_t comma = std::min(text.find(',', at), text.size());
        const std::string_view part = text.substr(at, comma - at);
        at = comma + 1;
        const std::size_t dash = part.find('-');
        unsigned first = 0;
        unsigned last = 0;
        if (!parse_number(part.substr(0, dash), first) ||
            (dash != std::string_view::npos && !parse_number(part.substr(dash + 1), last))) {
            return refuse(why, part, "is no CPU number and no range");
        }
        if (dash == std::string_view::npos) {
            last = first;
        }
        if (last < first) {
            return refuse(why, part, "ends before it begins");
        }
        if (last >= cpu_limit) {
            return refuse(why, part,
                          "is beyond the last possible CPU " + std::to_string(cpu_limit - 1));
        }
        for (unsigned cpu = first; cpu <= last; ++cpu) {
            if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
                return refuse(why, part, "names CPU " + std::to_string(cpu) + " a second time");
            }
            cpus.push_back(cpu);
        }
    }
    return cpus;
}

Status check_cpus_usable(const std::vector<unsigned>& cpus, std::string& why) {
    cpu_set_t usable;
    CPU_ZERO(&usable);
    if (sched_getaffinity(0, sizeof usable, &usable) != 0) {
        return {};  // more CPUs than the set holds: pinning itself will tell
    }
    for (const unsigned cpu : cpus) {
        if (!CPU_ISSET(cpu, &usable)) {
            why = "CPU " + std::to_string(cpu) +
                  " is not one this process may run on; `nproc --all`"
                  " and `taskset -pc $$` show which there are";
            return fail(Errc::invalid_argument, 0, cpu);
        }
    }
    return {};
}

}  // namespace penstock
