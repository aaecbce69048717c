// A directory of a test's own, which goes with it.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "storage/base/check.h"

namespace penstock::auth {

class Scratch {
public:
    Scratch() {
        std::string name =
            (std::filesystem::temp_directory_path() / "penstock-auth-XXXXXX").string();
        PENSTOCK_CHECK(::mkdtemp(name.data()) != nullptr);
        place_ = name;
    }
    ~Scratch() {
        std::error_code ignored;
        std::filesystem::remove_all(place_, ignored);
    }
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    [[nodiscard]] std::string path(const std::string& name) const {
        return (place_ / name).string();
    }

private:
    std::filesystem::path place_;
};

}  // namespace penstock::auth
