// What `penstock doctor` looks at of the files with secrets: the key that seals credentials and the
// keys of encrypted streams. Reads them as the node would, and shows nothing of what they hold.
//
// Runs on: any thread.
#pragma once

#include <span>
#include <string>

#include "tools/penstock/finding.h"

namespace penstock {

// Neither path may be empty; `directories` are those of the three replicas, or none.
void check_key_file(const std::string& path, std::span<const std::string> directories,
                    Findings& findings);
void check_keys_file(const std::string& path, std::span<const std::string> directories,
                     Findings& findings);

}  // namespace penstock
