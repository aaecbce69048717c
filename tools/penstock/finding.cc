#include "tools/penstock/finding.h"

#include <algorithm>
#include <iomanip>

#include "tools/penstock/json_text.h"

namespace penstock {

const char* name_of(FindingLevel level) noexcept {
    switch (level) {
        case FindingLevel::ok:
            return "ok";
        case FindingLevel::note:
            return "note";
        case FindingLevel::warning:
            return "warning";
        case FindingLevel::error:
            return "error";
    }
    return "error";
}

std::size_t count_of(const Findings& findings, FindingLevel level) noexcept {
    return static_cast<std::size_t>(std::ranges::count(findings, level, &Finding::level));
}

void print_text(const Findings& findings, std::ostream& out) {
    for (const Finding& f : findings) {
        out << std::left << std::setw(9) << name_of(f.level) << f.id << (f.about.empty() ? "" : " ")
            << f.about << ": " << f.text << '\n';
        if (!f.mend.empty()) {
            out << "         mend: " << f.mend << '\n';
        }
    }
}

void print_json(const Findings& findings, std::ostream& out) {
    out << "{\"findings\":[";
    for (std::size_t i = 0; i < findings.size(); ++i) {
        const Finding& f = findings[i];
        out << (i == 0 ? "" : ",") << "{\"level\":" << json_text(name_of(f.level))
            << ",\"id\":" << json_text(f.id) << ",\"about\":" << json_text(f.about)
            << ",\"text\":" << json_text(f.text) << ",\"mend\":" << json_text(f.mend) << '}';
    }
    out << "],\"errors\":" << count_of(findings, FindingLevel::error)
        << ",\"warnings\":" << count_of(findings, FindingLevel::warning)
        << ",\"notes\":" << count_of(findings, FindingLevel::note) << "}\n";
}

}  // namespace penstock
