#include "tools/penstock/version.h"

#include <array>
#include <string_view>
#include <utility>

#include "storage/format/block.h"
#include "storage/format/frame.h"

namespace penstock {

std::string version_text(bool json) {
    const std::array<std::pair<std::string_view, std::string>, 8> facts{{
        {"version", PENSTOCK_VERSION},
        {"build", PENSTOCK_BUILD_TYPE},
        {"compiler", PENSTOCK_COMPILER},
        {"dpdk", PENSTOCK_DPDK_VERSION},
        {"liburing", PENSTOCK_URING_VERSION},
        {"isa_l", PENSTOCK_ISAL_VERSION},
        {"block_format", std::to_string(block_version)},
        {"frame_format", std::to_string(frame_version)},
    }};
    std::string text = json ? "{" : "";
    for (const auto& [name, value] : facts) {
        if (json) {
            text += (text.size() > 1 ? ",\"" : "\"") + std::string(name) + "\":\"" + value + "\"";
        } else {
            text += std::string(name) + std::string(14 - name.size(), ' ') + value + "\n";
        }
    }
    return json ? text + "}\n" : text;
}

}  // namespace penstock
