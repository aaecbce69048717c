// The text form of a door: parse, check, print.
#include <algorithm>
#include <array>
#include <charconv>

#include "dataplane/door/door.h"

namespace penstock {
namespace {

constexpr std::string_view form =
    "udp:PORT=STREAM[,key=source|fixed:TEXT][,framing=datagram|lines][,ports=one|per-lane]"
    "[,from=PREFIX][,quota=BYTES/s]";
// Kinesis' limits for partition keys and stream names.
constexpr std::size_t key_characters_max = 256;
constexpr std::size_t stream_characters_max = 128;
constexpr unsigned udp_port_max = 65535;

std::unexpected<Error> refuse(std::string& why, std::string_view door, const std::string& problem) {
    why = "--door " + std::string(door) + ": " + problem;
    return fail(Errc::invalid_argument);
}

std::string quoted(std::string_view text) {
    return "'" + std::string(text) + "'";
}

bool valid_stream_name(std::string_view name) {
    constexpr std::string_view allowed =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-";
    return !name.empty() && name.size() <= stream_characters_max &&
           name.find_first_not_of(allowed) == std::string_view::npos;
}

bool parse_number(std::string_view text, std::uint64_t& out) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
    return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

// "500", "64K", "10M", "1G", each with an optional "/s"; powers of 1024. 0 is refused.
bool parse_quota(std::string_view text, std::uint64_t& out) {
    if (text.ends_with("/s")) {
        text.remove_suffix(2);
    }
    unsigned shift = 0;
    if (!text.empty()) {
        switch (text.back()) {
            case 'k':
            case 'K':
                shift = 10;
                break;
            case 'm':
            case 'M':
                shift = 20;
                break;
            case 'g':
            case 'G':
                shift = 30;
                break;
            default:
                break;
        }
        if (shift != 0) {
            text.remove_suffix(1);
        }
    }
    if (!parse_number(text, out) || out == 0 || out > (~std::uint64_t{0} >> (shift + 1))) {
        return false;
    }
    out <<= shift;
    return true;
}

// Counts the code points; false when the text is not UTF-8 (the API hands keys out as JSON text).
bool count_utf8(std::string_view text, std::size_t& characters) {
    characters = 0;
    for (std::size_t i = 0; i < text.size(); ++characters) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const std::size_t length = lead < 0x80                   ? 1
                                   : lead >= 0xC2 && lead < 0xE0 ? 2
                                   : lead >= 0xE0 && lead < 0xF0 ? 3
                                   : lead >= 0xF0 && lead < 0xF5 ? 4
                                                                 : 0;
        if (length == 0 || length > text.size() - i) {
            return false;
        }
        const auto second = length > 1 ? static_cast<unsigned char>(text[i + 1]) : 0;
        // Overlong forms, surrogates and numbers above U+10FFFF.
        if ((lead == 0xE0 && second < 0xA0) || (lead == 0xED && second > 0x9F) ||
            (lead == 0xF0 && second < 0x90) || (lead == 0xF4 && second > 0x8F)) {
            return false;
        }
        for (std::size_t j = 1; j < length; ++j) {
            if ((static_cast<unsigned char>(text[i + j]) & 0xC0U) != 0x80) {
                return false;
            }
        }
        i += length;
    }
    return true;
}

// Applies one `name=value`; an empty string when it was good, else the problem.
std::string apply_option(std::string_view name, std::string_view value, DoorSpec& spec) {
    if (name == "key") {
        if (value == "source") {
            spec.key = DoorKey::source;
            return {};
        }
        std::size_t characters = 0;
        if (value.starts_with("fixed:") && value.size() > 6 &&
            count_utf8(value.substr(6), characters) && characters <= key_characters_max) {
            spec.key = DoorKey::fixed;
            spec.fixed_key = value.substr(6);
            return {};
        }
        return "key=" + std::string(value) +
               " found; allowed are key=source and key=fixed:TEXT with 1 to 256 characters of "
               "UTF-8";
    }
    if (name == "framing") {
        if (value != "datagram" && value != "lines") {
            return "framing=" + std::string(value) +
                   " found; allowed are framing=datagram and framing=lines";
        }
        spec.framing = value == "lines" ? DoorFraming::lines : DoorFraming::datagram;
        return {};
    }
    if (name == "ports") {
        if (value != "one" && value != "per-lane") {
            return "ports=" + std::string(value) +
                   " found; allowed are ports=one and ports=per-lane";
        }
        spec.ports = value == "one" ? DoorPorts::one : DoorPorts::per_lane;
        return {};
    }
    if (name == "from") {
        const auto prefix = parse_prefix(value);
        if (!prefix) {
            return "from=" + std::string(value) +
                   " found; allowed is an IPv4 or IPv6 prefix such as from=192.0.2.0/24 or "
                   "from=2001:db8::/32, several times if need be";
        }
        spec.from.push_back(*prefix);
        return {};
    }
    if (name == "quota") {
        if (!parse_quota(value, spec.quota_bytes_per_s)) {
            return "quota=" + std::string(value) +
                   " found; allowed is a whole number of bytes per second above 0, with K, M or G "
                   "for powers of 1024, such as quota=10M";
        }
        return {};
    }
    return "option " + quoted(name) + " found; allowed are key, framing, ports, from and quota";
}

}  // namespace

Result<DoorSpec> parse_door(std::string_view text, std::string& why) {
    DoorSpec spec;
    const std::size_t head_end = std::min(text.find(','), text.size());
    const std::string_view head = text.substr(0, head_end);
    const std::size_t equals = head.find('=');
    if (!head.starts_with("udp:") || equals == std::string_view::npos) {
        return refuse(why, text, quoted(head) + " found; expected " + std::string(form));
    }
    std::uint64_t port = 0;
    const std::string_view port_text = head.substr(4, equals - 4);
    if (!parse_number(port_text, port) || port == 0 || port > udp_port_max) {
        return refuse(
            why, text,
            "UDP port " + quoted(port_text) + " found; allowed is a number from 1 to 65535");
    }
    spec.port = static_cast<std::uint16_t>(port);
    const std::string_view stream = head.substr(equals + 1);
    if (!valid_stream_name(stream)) {
        return refuse(why, text,
                      "stream name " + quoted(stream) +
                          " found; allowed are 1 to 128 characters of a-z A-Z 0-9 _ . -");
    }
    spec.stream = stream;

    std::array<std::string_view, 4> seen{};  // options that may stand once
    std::size_t seen_count = 0;
    for (std::size_t at = head_end; at < text.size();) {
        const std::size_t end = std::min(text.find(',', at + 1), text.size());
        const std::string_view option = text.substr(at + 1, end - at - 1);
        at = end;
        const std::size_t sign = option.find('=');
        if (sign == std::string_view::npos) {
            return refuse(
                why, text,
                quoted(option) +
                    " found; expected name=value with key, framing, ports, from or quota");
        }
        const std::string_view name = option.substr(0, sign);
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) {
            return refuse(why, text,
                          std::string(name) + "= found twice; only from= may be repeated");
        }
        if (const std::string problem = apply_option(name, option.substr(sign + 1), spec);
            !problem.empty()) {
            return refuse(why, text, problem);
        }
        if (name != "from") {
            seen[seen_count++] = name;
        }
    }
    return spec;
}

Status check_doors(std::span<const DoorSpec> doors, unsigned lane_count, std::string& why) {
    const auto last = [&](const DoorSpec& door) {
        return door.port + door.udp_port_count(lane_count) - 1;
    };
    const auto named = [&](const DoorSpec& door) {
        return "'" + door.stream + "'" +
               (last(door) == door.port ? ""
                                        : " (ports=per-lane: " + std::to_string(door.port) +
                                              " to " + std::to_string(last(door)) + ")");
    };
    for (std::size_t i = 0; i < doors.size(); ++i) {
        if (last(doors[i]) > udp_port_max) {
            why = "--door udp:" + std::to_string(doors[i].port) + "=" + doors[i].stream +
                  ": ports=per-lane found, which with " + std::to_string(lane_count) +
                  " lanes are UDP ports up to " + std::to_string(last(doors[i])) +
                  "; the last there is is " + std::to_string(udp_port_max) + ": choose a lower one";
            return fail(Errc::invalid_argument);
        }
        for (std::size_t j = 0; j < i; ++j) {
            const unsigned shared = std::max(doors[i].port, doors[j].port);
            if (shared <= last(doors[i]) && shared <= last(doors[j])) {
                why = "--door: UDP port " + std::to_string(shared) + " found for streams " +
                      named(doors[j]) + " and " + named(doors[i]) +
                      "; a port leads to one stream: give one of them another port";
                return fail(Errc::already_exists);
            }
        }
    }
    return {};
}

std::string to_text(const DoorSpec& spec) {
    std::string out = "udp:" + std::to_string(spec.port) + "=" + spec.stream;
    out += spec.key == DoorKey::source ? ",key=source" : ",key=fixed:" + spec.fixed_key;
    out += spec.framing == DoorFraming::lines ? ",framing=lines" : ",framing=datagram";
    out += spec.ports == DoorPorts::per_lane ? ",ports=per-lane" : ",ports=one";
    for (const IpPrefix& prefix : spec.from) {
        out += ",from=" + to_text(prefix);
    }
    if (spec.quota_bytes_per_s != 0) {
        out += ",quota=" + std::to_string(spec.quota_bytes_per_s);
    }
    return out;
}

}  // namespace penstock
