#include "tools/penstock/keys_command.h"

#include <expected>

#include "control/keys/key_ring.h"

namespace penstock {

namespace {

using keys::Key;
using keys::KeyRing;

constexpr const char* tell_node = "A running node uses it once it gets a SIGHUP.\n";

// Aliases are good wherever an id is.
std::string id_of(const KeyRing& ring, const std::string& name) {
    const Key* key = ring.find_alias(name);
    return key == nullptr ? name : key->id;
}

std::string joined(const std::vector<std::string>& words) {
    std::string text;
    for (const std::string& word : words) {
        text += (text.empty() ? "" : " ") + word;
    }
    return text;
}

// Ids, aliases and fingerprints need no escaping.
void list_as_json(const KeyRing& ring, std::ostream& out) {
    out << R"({"keys":[)";
    const char* before = "";
    for (const Key& key : ring.keys()) {
        out << before << R"({"id":")" << key.id << R"(","state":")"
            << (key.enabled ? "enabled" : "disabled") << R"(","fingerprint":")"
            << keys::fingerprint(key) << R"(","aliases":[)";
        const char* comma = "";
        for (const std::string& alias : key.aliases) {
            out << comma << '"' << alias << '"';
            comma = ",";
        }
        out << "]}";
        before = ",";
    }
    out << "]}\n";
}

void list(const KeyRing& ring, bool json, std::ostream& out) {
    if (json) {
        return list_as_json(ring, out);
    }
    for (const Key& key : ring.keys()) {
        out << key.id << "  " << (key.enabled ? "enabled " : "disabled") << "  "
            << keys::fingerprint(key) << "  " << joined(key.aliases) << '\n';
    }
}

std::expected<std::string, std::string> change(const KeysArguments& arguments, KeyRing& ring) {
    const std::string id = id_of(ring, arguments.id);
    std::expected<void, std::string> done;
    switch (arguments.action) {
        case KeysAction::make: {
            // What requests mean that name no key of their own should lead somewhere.
            std::vector<std::string> aliases = arguments.aliases;
            if (aliases.empty() && ring.keys().empty()) {
                aliases.emplace_back(keys::default_alias);
            }
            return ring.make_key(aliases);
        }
        case KeysAction::enable:
        case KeysAction::disable:
            done = ring.set_enabled(id, arguments.action == KeysAction::enable);
            break;
        case KeysAction::alias:
            done = ring.set_alias(arguments.alias, id);
            break;
        case KeysAction::remove:
            done = ring.remove(id);
            break;
        case KeysAction::list:
            break;
    }
    if (!done) {
        return std::unexpected(done.error());
    }
    return id;
}

}  // namespace

int run_keys(const KeysArguments& arguments, std::ostream& out, std::ostream& err) {
    const auto refuse = [&](const std::string& why) {
        err << "penstock keys: " << why << '\n';
        return 1;
    };
    if (arguments.action == KeysAction::list) {
        const auto ring = keys::read_key_ring(arguments.file, {});
        if (!ring) {
            return refuse(arguments.file + ": " + ring.error());
        }
        list(*ring, arguments.json, out);
        return 0;
    }
    std::string id;
    const auto edit = [&](KeyRing& ring) -> std::expected<void, std::string> {
        auto done = change(arguments, ring);
        if (!done) {
            return std::unexpected(std::move(done.error()));
        }
        id = std::move(*done);
        return {};
    };
    const auto changed =
        keys::change_key_ring(arguments.file, arguments.action == KeysAction::make, edit);
    if (!changed) {
        return refuse(arguments.file + ": " + changed.error());
    }
    if (arguments.action == KeysAction::make && arguments.json) {
        out << R"({"id":")" << id << "\"}\n";
    } else if (arguments.action == KeysAction::make) {
        out << id << '\n';
        err << "Keep a copy of " << arguments.file
            << " away from the data: nothing that is sealed with its keys can be read without it. "
            << tell_node;
    } else {
        err << arguments.file << " is changed. " << tell_node;
    }
    return 0;
}

}  // namespace penstock
