// docs/openapi.json, which the build puts into the program.
#pragma once

#include <string_view>

namespace penstock::rest {

extern const std::string_view openapi_json;

}  // namespace penstock::rest
