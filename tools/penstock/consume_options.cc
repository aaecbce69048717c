#include "tools/penstock/consume_options.h"

#include <CLI/CLI.hpp>

#include <map>

namespace penstock {

CLI::App* add_consume_command(CLI::App& app, ConsumeArguments& to) {
    CLI::App* const command =
        app.add_subcommand("consume", "Print the records of a stream, from any Kinesis endpoint");
    command->add_option("STREAM", to.stream, "The stream's name or ARN")->type_name("")->required();
    command
        ->add_option("--endpoint", to.endpoint,
                     "Default: AWS_ENDPOINT_URL or the profile's, else http://127.0.0.1:4567")
        ->type_name("URL")
        ->check([](const std::string& text) {
            return text.starts_with("http://") || text.starts_with("https://")
                       ? std::string()
                       : "found '" + text + "'; expected http://… or https://…";
        });
    command->add_option("--region", to.region, "Default: as the AWS CLI finds it")
        ->type_name("REGION");
    command->add_option("--profile", to.profile, "Of ~/.aws/credentials and ~/.aws/config")
        ->type_name("NAME");
    command->add_option("--ca", to.ca, "The authority of an https endpoint")->type_name("FILE");
    command->add_option("--shard", to.shards, "Only this shard; repeat it. Default: all")
        ->type_name("SHARD-ID")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    command
        ->add_option_function<std::string>(
            "--from",
            [&to](const std::string& text) {
                to.from = consumer::parse_position(text).value_or(consumer::Position{});
                to.from_given = true;
            },
            "trim-horizon (default), latest, time:2026-11-24T02:00:00Z, time:UNIX-SECONDS, "
            "or with one --shard at:SEQUENCE-NUMBER, after:SEQUENCE-NUMBER")
        ->type_name("POSITION")
        ->check([](const std::string& text) {
            return consumer::parse_position(text)
                       ? std::string()
                       : "found '" + text +
                             "'; expected trim-horizon, latest, time:…, at:… or after:…";
        });
    command->add_flag("--follow", to.follow, "Go on with records that come later");
    command->add_option("--limit", to.limit, "End after so many records")
        ->type_name("N")
        ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 62));
    command
        ->add_option("--format", to.format,
                     "json: a line each, with everything (default); lines: the data, a line "
                     "feed behind each; raw: the data")
        ->type_name("FORMAT")
        ->transform(CLI::CheckedTransformer(
            std::map<std::string, ConsumeFormat>{{"json", ConsumeFormat::json},
                                                 {"lines", ConsumeFormat::lines},
                                                 {"raw", ConsumeFormat::raw}}));
    command
        ->add_option("--checkpoint", to.checkpoint,
                     "Go on where an earlier run with this file ended, and note in it how far "
                     "this one came")
        ->type_name("FILE");
    command
        ->add_option("--poll-ms", to.poll_ms,
                     "Until a shard that had nothing new is asked again. Default 200")
        ->type_name("N")
        ->check(CLI::Range(1, 60'000));
    command
        ->add_option("--give-up", to.give_up_s,
                     "Fail when a shard has had no good answer for so long. Default 60")
        ->type_name("SECONDS")
        ->check(CLI::Range(0, 86'400));
    command->add_option("--threads", to.threads, "Shards asked at a time. Default 8")
        ->type_name("N")
        ->check(CLI::Range(1, 256));
    command->footer(
        "Exit codes: 0 everything that was asked for is written (with --follow: until a signal "
        "came), 1 it is not, 2 the command line is wrong, 130 a signal came before.");
    return command;
}

std::string check_consume(const ConsumeArguments& arguments) {
    const bool is_number = arguments.from.kind == consumer::PositionKind::at_sequence ||
                           arguments.from.kind == consumer::PositionKind::after_sequence;
    if (is_number && arguments.shards.size() != 1) {
        return "--from: a sequence number is of one shard, found " +
               std::to_string(arguments.shards.size()) + "; expected one --shard beside it";
    }
    return {};
}

}  // namespace penstock
