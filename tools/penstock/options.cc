#include "tools/penstock/options.h"

#include <CLI/CLI.hpp>
#include <sched.h>

#include <algorithm>
#include <array>
#include <expected>
#include <utility>

#include "tools/penstock/config.h"
#include "tools/penstock/consume_options.h"
#include "tools/penstock/nearest.h"

namespace penstock {
namespace {

constexpr std::array<std::pair<std::string_view, InspectView>, 6> inspect_views{
    {{"verify", InspectView::verify},
     {"superblock", InspectView::superblock},
     {"journal", InspectView::journal},
     {"segments", InspectView::segments},
     {"manifest", InspectView::manifest},
     {"catalog", InspectView::catalog}}};

// One line, whatever CLI11 made of it.
[[nodiscard]] std::string one_line(std::string text) {
    std::ranges::replace(text, '\n', ' ');
    while (text.ends_with(' ')) {
        text.pop_back();
    }
    return text;
}

class Parser {
public:
    Parser() {
        app_.require_subcommand(1);
        app_.option_defaults()->always_capture_default(false);
        app_.get_formatter()->column_width(34);
        app_.footer(
            "Exit codes: 0 done, 1 failed, 2 the command line or configuration is wrong.\n"
            "'penstock COMMAND --help' tells more.");
        add_serve();
        add_doctor();
        add_inspect();
        add_replica();
        add_certificate();
        add_capture();
        consume_ = add_consume_command(app_, line_.consume);
        add_top();
        add_credentials();
        add_keys();
        add_port();
        version_ = app_.add_subcommand("version",
                                       "Print versions: this program, what it was built "
                                       "with, its formats");
        version_->add_flag("--json", line_.arguments.json, "Print one JSON object");
    }

    [[nodiscard]] CommandLine parse(std::span<const std::string> arguments,
                                    std::span<const unsigned> cpus) {
        if (const std::string problem = check_command(arguments); !problem.empty()) {
            refuse(problem);
            return std::move(line_);
        }
        // CLI11 takes them from the back.
        std::vector<std::string> reversed(arguments.rbegin(), arguments.rend());
        try {
            app_.parse(std::move(reversed));
            finish(cpus);
        } catch (const CLI::CallForHelp&) {
            // CLI11 adds the command's own name.
            const CLI::App* parent = innermost()->get_parent();
            line_.out = innermost()->help(parent == nullptr ? "" : command_path(parent));
        } catch (const CLI::CallForAllHelp&) {
            line_.out = app_.help("", CLI::AppFormatMode::All);
        } catch (const CLI::ExtrasError&) {
            refuse(unexpected());
        } catch (const CLI::ParseError& error) {
            refuse(one_line(error.what()));
        }
        return std::move(line_);
    }

private:
    // CLI11 would only say that a subcommand is required.
    [[nodiscard]] std::string check_command(std::span<const std::string> arguments) const {
        const CLI::App* app = &app_;
        for (const std::string& word : arguments) {
            const auto commands = app->get_subcommands(nullptr);
            if (word.starts_with('-') || commands.empty()) {
                return {};
            }
            std::string known;
            const CLI::App* next = nullptr;
            for (const CLI::App* command : commands) {
                next = command->get_name() == word ? command : next;
                known += (known.empty() ? "" : ", ") + command->get_name();
            }
            if (next == nullptr) {
                return "found command '" + one_line(word) + "'; expected one of " + known;
            }
            app = next;
        }
        const auto commands = app->get_subcommands(nullptr);
        if (commands.empty()) {
            return {};
        }
        std::string known;
        for (const CLI::App* command : commands) {
            known += (known.empty() ? "" : ", ") + command->get_name();
        }
        return "found '" + command_path(app) + "' alone; expected behind it one of " + known;
    }

    // CLI11 would list all that it did not understand, the last first.
    [[nodiscard]] std::string unexpected() const {
        const std::vector<std::string> extras = app_.remaining(true);
        const auto option = std::ranges::find_if(
            extras, [](const std::string& word) { return word.starts_with('-'); });
        if (option == extras.end()) {
            return "found '" + one_line(extras.empty() ? "" : extras.front()) +
                   "', where nothing more is expected";
        }
        const std::string found = option->substr(0, option->find('='));
        std::vector<std::string> names;
        for (const CLI::Option* known : innermost()->get_options()) {
            for (const std::string& name : known->get_lnames()) {
                names.push_back("--" + name);
            }
        }
        const std::vector<std::string_view> views(names.begin(), names.end());
        const std::string_view meant = nearest(found, views);
        return "unknown option '" + one_line(found) + "'" +
               (meant.empty() ? "" : "; did you mean '" + std::string(meant) + "'?");
    }

    void add_serve() {
        serve_ = app_.add_subcommand("serve", "Run a node");
        serve_
            ->add_option("--config", config_path_,
                         "TOML file with any of the settings below under the same names; flags "
                         "win over it.")
            ->type_name("FILE");
        for (const SettingSpec& spec : setting_specs()) {
            const std::string flag = "--" + std::string(spec.key);
            const std::string help(spec.help);
            if (spec.shape == SettingSpec::Shape::flag) {
                serve_->add_flag_callback(
                    flag, [this, &spec, flag] { add_setting(spec, "true", flag); }, help);
                continue;
            }
            // Settings are taken as they come, since an --address belongs to the --port before it.
            serve_
                ->add_option_function<std::string>(
                    flag,
                    [this, &spec, flag](const std::string& value) {
                        add_setting(spec, value, flag);
                    },
                    help)
                ->type_name(std::string(spec.placeholder))
                ->trigger_on_parse();
        }
    }

    void add_setting(const SettingSpec& spec, const std::string& value, const std::string& flag) {
        flags_.push_back({std::string(spec.key), value, flag});
    }

    CLI::Option* add_data(CLI::App* command) {
        return command
            ->add_option("--data", line_.arguments.data,
                         "The node's directory, or its three, as serve has them; repeat it")
            ->type_name("DIR")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }

    static void add_http(CLI::App* command, std::string& address, std::string& local_socket) {
        command->add_option("--http", address, "The running node's --http. Default 127.0.0.1:4567")
            ->type_name("HOST:PORT")
            ->check([](const std::string& text) {
                return parse_http_address(text) ? std::string()
                                                : "found '" + text + "'; expected HOST:PORT";
            });
        command
            ->add_option("--local-socket", local_socket,
                         "The running node's --local-socket, if it has one of its own")
            ->type_name("NAME")
            ->check([](const std::string& text) {
                return text.starts_with('/') || text.starts_with('@')
                           ? std::string()
                           : "found '" + text + "'; expected an absolute path or @NAME";
            });
    }

    void add_doctor() {
        doctor_ = app_.add_subcommand(
            "doctor", "Look at this machine and print what to mend; changes nothing");
        add_data(doctor_);
        doctor_
            ->add_option("--port", line_.arguments.ports,
                         "A port the node is to have, as serve has it; repeat it")
            ->type_name("DEVARGS")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
        doctor_
            ->add_option("--lanes", line_.arguments.lanes,
                         "The CPUs its lanes are to have, as serve has them")
            ->type_name("LIST");
        doctor_
            ->add_option("--key-file", line_.arguments.key_file,
                         "The file that seals credentials, as serve has it")
            ->type_name("FILE");
        doctor_
            ->add_option("--keys-file", line_.arguments.keys_file,
                         "The keys of encrypted streams, as serve has them")
            ->type_name("FILE");
        doctor_
            ->add_option("--config", config_path_,
                         "The node's TOML file: its data, ports, lanes and key files, unless said "
                         "here")
            ->type_name("FILE");
        doctor_->footer(
            "Exit codes: 0 no error found (notes and warnings may be), 1 an error found, 2 the "
            "command line or configuration is wrong.");
        doctor_->add_flag("--json", line_.arguments.json, "Print one JSON object");
    }

    void add_inspect() {
        inspect_ = app_.add_subcommand(
            "inspect", "Print or verify what is on disk, of a node that is not running");
        inspect_
            ->add_option("view-and-dirs", inspect_words_,
                         "[verify|superblock|journal|segments|manifest|catalog] DIR...: what to "
                         "print (a summary if not said), then the node's directory or its three. "
                         "'verify' walks all replicas and reports every difference.")
            ->type_name("WORD")
            ->expected(1, -1)
            ->required();
        inspect_->add_flag("--json", line_.inspect.json, "Print one JSON object");
    }

    void add_replica() {
        replica_ = app_.add_subcommand("replica", "Show and mend the replica set");
        replica_->require_subcommand(1);
        status_ = replica_->add_subcommand("status", "Show the three replicas and their state");
        add_data(status_)->required();
        status_->add_flag("--json", line_.arguments.json, "Print one JSON object");
        replace_ = replica_->add_subcommand(
            "replace", "Make a blank directory the new home of one replica; the node fills it");
        add_data(replace_)->required();
        replace_
            ->add_option("DIRECTORY", line_.arguments.directory,
                         "The empty directory, one of the set's places")
            ->type_name("")
            ->required();
        replace_->add_flag("--wait", line_.arguments.wait,
                           "Then show how far the running node has filled it, until it is whole");
        add_http(replace_, line_.arguments.http, line_.arguments.local_socket);
        watch_ = replica_->add_subcommand(
            "watch", "Show how far a running node has refilled its replicas, until all are whole");
        add_http(watch_, line_.arguments.http, line_.arguments.local_socket);
    }

    void add_certificate() {
        certificate_ = app_.add_subcommand("certificate", "Make certificates for TLS");
        certificate_->require_subcommand(1);
        CertificateOptions& wish = line_.certificate;
        make_certificate_ = certificate_->add_subcommand(
            "make",
            "Make a small authority in a directory, once, and a P-256 server certificate "
            "signed by it");
        make_certificate_
            ->add_option("--dir", wish.directory,
                         "Where ca.pem, ca-key.pem, server.pem and server-key.pem are kept")
            ->type_name("DIR")
            ->required();
        make_certificate_
            ->add_option("--name", wish.names,
                         "A host name or IP address that clients will use; repeat it")
            ->type_name("HOST")
            ->expected(1, -1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
            ->check([](const std::string& name) { return check_certificate_name(name); })
            ->required();
        make_certificate_
            ->add_option("--days", wish.days, "How long the server certificate lives. Default 825")
            ->type_name("N")
            ->check(CLI::Range(1, 3650));
    }

    void add_capture() {
        CaptureOptions& wish = line_.capture;
        capture_ = app_.add_subcommand(
            "capture", "Write packets of a running node to a pcapng file, for tshark");
        capture_
            ->add_option("--write", wish.file, "pcapng file; '-', the default, is standard output")
            ->type_name("FILE");
        add_http(capture_, wish.http, wish.local_socket);
        capture_->add_option("--port", wish.port, "Only the node's N-th --port, from 0")
            ->type_name("N")
            ->check(CLI::Range(0, 255));
        capture_
            ->add_option("--door", wish.door,
                         "Only datagrams to this UDP port, or to any of its door's")
            ->type_name("UDP-PORT")
            ->check(CLI::Range(1, 65'535));
        capture_
            ->add_option("--reason", wish.reasons,
                         "Only packets of this fate: 'taken', or a reason of "
                         "penstock_dropped_total; repeat it")
            ->type_name("REASON")
            ->expected(1)
            ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
        capture_->add_option("--count", wish.count, "End after so many packets")->type_name("N");
        capture_->add_option("--seconds", wish.seconds, "End after this time. Default 60")
            ->type_name("S")
            ->check(CLI::Range(1, 3600));
        capture_->add_option("--sample", wish.sample, "Keep one in N. Default 1")
            ->type_name("N")
            ->check(CLI::Range(1, 1'000'000'000));
        capture_->add_option("--snap", wish.snap_bytes, "Keep so much of each. Default 65535")
            ->type_name("BYTES")
            ->check(CLI::Range(14, 65'535));
    }

    void add_top() {
        top_ = app_.add_subcommand(
            "top", "Show lanes, ports, shards and replicas of a running node, live");
        add_http(top_, line_.top.http, line_.top.local_socket);
        top_->add_option("--interval", line_.top.interval_s,
                         "Seconds from one look to the next, 0.1 to 3600; default 1")
            ->type_name("SECONDS")
            ->check(CLI::Range(0.1, 3600.0));
        top_->add_flag("--once", line_.top.once, "Print one plain table over one interval and end");
    }

    CLI::App* add_credentials_action(const char* name, const char* help, CredentialsAction action) {
        CLI::App* command = credentials_->add_subcommand(name, help);
        CredentialsArguments& to = line_.credentials;
        command->callback([&to, action] { to.action = action; });
        add_http(command, to.http, to.local_socket);
        if (action != CredentialsAction::list) {
            command->add_option("NAME", to.name, "The credential's name: letters, digits, _ . -")
                ->type_name("")
                ->required()
                ->check([](const std::string& text) {
                    return !text.empty() && text.find_first_not_of(
                                                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvw"
                                                "xyz0123456789_.-") == std::string::npos
                               ? std::string()
                               : "found '" + text + "'; expected letters, digits, _ . -";
                });
        }
        return command;
    }

    CLI::Option* add_policy(CLI::App* command) {
        CredentialsArguments& to = line_.credentials;
        command
            ->add_option("--streams", to.streams,
                         "The names that read and write are for; * and ? stand for any. Default *")
            ->type_name("PATTERN");
        return command
            ->add_option("--policy", to.policy,
                         "What it may do: admin, read, write, metrics, or a file with a policy")
            ->type_name("POLICY");
    }

    void add_key_output(CLI::App* command) {
        CredentialsArguments& to = line_.credentials;
        auto* env = command->add_flag("--env", to.env, "Print lines for a shell to evaluate");
        command->add_flag("--json", to.json, "Print one JSON object")->excludes(env);
    }

    void add_credentials() {
        CredentialsArguments& to = line_.credentials;
        credentials_ =
            app_.add_subcommand("credentials", "Make, list, rotate and revoke access keys");
        credentials_->require_subcommand(1);
        auto* make = add_credentials_action("make", "Make a credential and print its secret, once",
                                            CredentialsAction::make);
        add_policy(make)->required();
        add_key_output(make);
        auto* list = add_credentials_action("list", "List credentials and their keys",
                                            CredentialsAction::list);
        list->add_flag("--json", to.json, "Print one JSON object");
        add_credentials_action("show", "Print a credential with its policy, as JSON",
                               CredentialsAction::show);
        auto* rotate =
            add_credentials_action("rotate", "Give it a new key; the one before ends after a while",
                                   CredentialsAction::rotate);
        rotate
            ->add_option("--keep-old", to.keep_old_s,
                         "How long the key before stays good; 0 ends it now. Default 86400")
            ->type_name("SECONDS")
            ->check(CLI::Range(0, 30 * 24 * 3600));
        add_key_output(rotate);
        add_credentials_action("revoke", "End a credential, its keys and its sessions, at once",
                               CredentialsAction::revoke);
        auto* policy = add_credentials_action("set-policy", "Give it another policy",
                                              CredentialsAction::policy);
        add_policy(policy)->required();
        auto* session = add_credentials_action(
            "session", "Print a key, secret and token that end by themselves",
            CredentialsAction::session);
        session
            ->add_option("--seconds", to.seconds,
                         "How long they are good, 60 to 129600. Default "
                         "3600")
            ->type_name("SECONDS")
            ->check(CLI::Range(60, 36 * 3600));
        add_policy(session);
        add_key_output(session);
    }

    CLI::App* add_keys_action(const char* name, const char* help, KeysAction action) {
        CLI::App* command = keys_->add_subcommand(name, help);
        KeysArguments& to = line_.keys;
        command->callback([&to, action] { to.action = action; });
        command->add_option("--keys-file", to.file, "The keys file, as serve has it")
            ->type_name("FILE")
            ->required();
        if (action != KeysAction::make && action != KeysAction::list) {
            command->add_option("KEY", to.id, "A key's id or alias")->type_name("")->required();
        }
        return command;
    }

    void add_keys() {
        KeysArguments& to = line_.keys;
        keys_ = app_.add_subcommand("keys", "Make, list and disable keys of encrypted streams");
        keys_->require_subcommand(1);
        auto* make = add_keys_action("make", "Make a key, and the file where there is none",
                                     KeysAction::make);
        make->add_option("--alias", to.aliases,
                         "A name for it, such as alias/orders; repeatable. Default of the first "
                         "key: alias/aws/kinesis")
            ->type_name("ALIAS");
        make->add_flag("--json", to.json, "Print one JSON object");
        auto* list = add_keys_action("list", "List keys, without their secrets", KeysAction::list);
        list->add_flag("--json", to.json, "Print one JSON object");
        add_keys_action("enable", "Let a key be used again", KeysAction::enable);
        add_keys_action("disable", "Let nothing be written or read with a key",
                        KeysAction::disable);
        auto* alias = add_keys_action("alias", "Give a key a name, which another may lose by it",
                                      KeysAction::alias);
        alias->add_option("ALIAS", to.alias, "The name, such as alias/orders")
            ->type_name("")
            ->required();
        add_keys_action("remove", "Forget a disabled key: what it sealed can never be read again",
                        KeysAction::remove);
    }

    void add_port() {
        port_ = app_.add_subcommand("port", "Give ports back");
        port_->require_subcommand(1);
        release_ = port_->add_subcommand(
            "release", "Give back what a crashed node left of its ports: XDP programs, sockets");
        release_
            ->add_option("DEVARGS", line_.arguments.ports,
                         "Ports as --port has them. None: every interface is looked at")
            ->type_name("");
    }

    [[nodiscard]] const CLI::App* innermost() const {
        const CLI::App* app = &app_;
        while (!app->get_subcommands().empty()) {
            app = app->get_subcommands().front();
        }
        return app;
    }

    [[nodiscard]] static std::string command_path(const CLI::App* app) {
        std::string path;
        for (; app->get_parent() != nullptr; app = app->get_parent()) {
            path = path.empty() ? app->get_name() : app->get_name() + " " + path;
        }
        return path.empty() ? "penstock" : "penstock " + path;
    }

    void refuse(const std::string& problem) {
        const std::string command = command_path(innermost());
        line_.kind = CommandKind::none;
        line_.exit_code = 2;
        line_.err = command + ": " + problem + " (see " + command + " --help)\n";
    }

    void finish(std::span<const unsigned> cpus) {
        if (serve_->parsed()) {
            finish_serve(cpus);
        } else if (inspect_->parsed()) {
            finish_inspect();
        } else if (doctor_->parsed()) {
            finish_doctor();
        } else if (replica_->parsed()) {
            line_.kind = replace_->parsed() ? CommandKind::replica_replace
                         : watch_->parsed() ? CommandKind::replica_watch
                                            : CommandKind::replica_status;
            if (!watch_->parsed()) {
                check_directory_count(line_.arguments.data, false);
            }
        } else if (certificate_->parsed()) {
            line_.kind = CommandKind::certificate_make;
        } else if (capture_->parsed()) {
            line_.kind = CommandKind::capture;
        } else if (consume_->parsed()) {
            line_.kind = CommandKind::consume;
            if (const std::string problem = check_consume(line_.consume); !problem.empty()) {
                refuse(problem);
            }
        } else if (top_->parsed()) {
            line_.kind = CommandKind::top;
        } else if (credentials_->parsed()) {
            finish_credentials();
        } else if (keys_->parsed()) {
            line_.kind = CommandKind::keys;
        } else if (port_->parsed()) {
            line_.kind = CommandKind::port_release;
        } else {
            line_.kind = CommandKind::version;
        }
    }

    void finish_serve(std::span<const unsigned> cpus) {
        std::vector<Setting> from_file;
        if (!config_path_.empty()) {
            auto settings = read_config(config_path_);
            if (!settings) {
                refuse(settings.error());
                return;
            }
            from_file = std::move(*settings);
        }
        auto options = resolve_settings(from_file, flags_, cpus);
        if (!options) {
            refuse(options.error());
            return;
        }
        line_.kind = CommandKind::serve;
        line_.serve = std::move(*options);
    }

    // Passed over, the credential would be wider than was asked for.
    void finish_credentials() {
        line_.kind = CommandKind::credentials;
        const CredentialsArguments& found = line_.credentials;
        if (found.streams != "*" && !takes_streams(found.policy)) {
            refuse("--streams: limits --policy read and write, found " +
                   (found.policy.empty() ? std::string("no --policy") : "'" + found.policy + "'") +
                   "; a file with a policy can name streams for anything");
        }
    }

    void finish_doctor() {
        line_.kind = CommandKind::doctor;
        CommandArguments& to = line_.arguments;
        if (!config_path_.empty()) {
            const auto settings = read_config(config_path_);
            if (!settings) {
                refuse(settings.error());
                return;
            }
            // What the command line says goes before; the rest of the file is serve's to judge.
            const bool data = to.data.empty();
            const bool ports = to.ports.empty();
            const bool lanes = to.lanes.empty();
            const bool key_file = to.key_file.empty();
            const bool keys_file = to.keys_file.empty();
            for (const Setting& setting : *settings) {
                if (data && setting.key == "data") {
                    to.data.push_back(setting.value);
                } else if (ports && setting.key == "port") {
                    to.ports.push_back(setting.value);
                } else if (lanes && setting.key == "lanes") {
                    to.lanes = setting.value;
                } else if (key_file && setting.key == "key-file") {
                    to.key_file = setting.value;
                } else if (keys_file && setting.key == "keys-file") {
                    to.keys_file = setting.value;
                }
            }
        }
        check_directory_count(to.data, true);
    }

    void finish_inspect() {
        auto words = std::span<const std::string>(inspect_words_);
        for (const auto& [name, view] : inspect_views) {
            if (words.front() == name) {
                line_.inspect.view = view;
                words = words.subspan(1);
                break;
            }
        }
        line_.kind = CommandKind::inspect;
        line_.inspect.data.assign(words.begin(), words.end());
        if (words.empty()) {
            refuse("DIR: not given; expected the node's directory, or its three");
            return;
        }
        check_directory_count(line_.inspect.data, false);
    }

    void check_directory_count(const std::vector<std::string>& data, bool none_is_fine) {
        if ((data.empty() && none_is_fine) || data.size() == 1 || data.size() == replica_count) {
            return;
        }
        refuse("directories: found " + std::to_string(data.size()) +
               "; expected one, or the three of the set");
    }

    CLI::App app_{"Penstock: a streaming ingest appliance with the Amazon Kinesis API", "penstock"};
    CLI::App* serve_ = nullptr;
    CLI::App* doctor_ = nullptr;
    CLI::App* inspect_ = nullptr;
    CLI::App* replica_ = nullptr;
    CLI::App* status_ = nullptr;
    CLI::App* replace_ = nullptr;
    CLI::App* watch_ = nullptr;
    CLI::App* certificate_ = nullptr;
    CLI::App* make_certificate_ = nullptr;
    CLI::App* capture_ = nullptr;
    CLI::App* consume_ = nullptr;
    CLI::App* top_ = nullptr;
    CLI::App* credentials_ = nullptr;
    CLI::App* keys_ = nullptr;
    CLI::App* port_ = nullptr;
    CLI::App* release_ = nullptr;
    CLI::App* version_ = nullptr;
    std::string config_path_;
    std::vector<std::string> inspect_words_;
    std::vector<Setting> flags_;
    CommandLine line_;
};

}  // namespace

CommandLine parse_command_line(std::span<const std::string> arguments,
                               std::span<const unsigned> cpus) {
    Parser parser;
    return parser.parse(arguments, cpus);
}

std::vector<unsigned> allowed_cpus() {
    cpu_set_t set;
    CPU_ZERO(&set);
    std::vector<unsigned> cpus;
    if (sched_getaffinity(0, sizeof set, &set) == 0) {
        for (unsigned cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
            if (CPU_ISSET(cpu, &set)) {
                cpus.push_back(cpu);
            }
        }
    }
    if (cpus.empty()) {
        cpus.push_back(0);
    }
    return cpus;
}

}  // namespace penstock
