#include "tools/penstock/port_command.h"

#include "dataplane/port/release.h"

namespace penstock {

int port_release(const std::vector<std::string>& ports, std::ostream& out, std::ostream& err) {
    std::vector<PortRelease> found;
    std::string why;
    for (const std::string& port : ports) {
        auto released = release_port(port, why);
        if (!released) {
            err << "penstock port release: " << why << '\n';
            return 2;
        }
        found.push_back(std::move(*released));
    }
    if (ports.empty()) {
        found = release_interfaces();
        if (found.empty()) {
            out << "no interface runs an XDP program of ours: nothing to release\n";
        }
    }
    bool in_use = false;
    for (const PortRelease& port : found) {
        in_use |= port.outcome == PortRelease::Outcome::in_use;
        const char* const word = port.outcome == PortRelease::Outcome::released ? "released"
                                 : port.outcome == PortRelease::Outcome::in_use ? "in use"
                                                                                : "nothing left";
        out << port.subject << ": " << word << ": " << port.detail << '\n';
    }
    return in_use ? 1 : 0;
}

}  // namespace penstock
