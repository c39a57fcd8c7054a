//! The argument forms that scripts rely on, and the one line that wrong input gets.

use clap::error::ErrorKind;
use clap::{Command, CommandFactory as _, Parser};

use super::Arguments;
use super::usage::line;

fn parse(text: &str) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(text.split(' '))
}

#[test]
fn the_promised_forms_are_accepted() {
    for text in [
        "pinnace serve",
        "pinnace serve --data d --manifests m --listen 127.0.0.1:1 --http 127.0.0.1:2 --admin 127.0.0.1:3 --shards 2",
        "pinnace serve --shard-ids 3,4 --broker-id 1 --cluster c --advertise broker-0:8081 --log-format json",
        "pinnace serve --tls-certificate c.pem --tls-key k.pem",
        "pinnace topic create orders --type FIFO --queues 4 --admin 127.0.0.1:9 -o json",
        "pinnace topic create orders --type lite",
        "pinnace topic list -o yaml",
        "pinnace topic describe %DLQ%billing",
        "pinnace topic delete orders",
        "pinnace group create billing --order fifo --model broadcasting --max-attempts 3 --lite-topic chat",
        "pinnace group list",
        "pinnace group describe billing",
        "pinnace group delete billing",
        "pinnace group create billing --dead-letter discard",
        "pinnace group reset billing --to earliest",
        "pinnace group reset billing --topic orders --topic refunds --to -100 --id again -o yaml",
        "pinnace group reset billing --to +100",
        "pinnace group reset billing --to 2026-01-31T08:00:00Z",
        "pinnace group reset billing --to 1769846400000",
        "pinnace group pause billing",
        "pinnace group resume billing -o json",
        "pinnace dead-letter list",
        "pinnace dead-letter redrive billing",
        "pinnace dead-letter redrive billing --topic orders --max 5 --rate 10 --dry-run -o json",
        "pinnace topic create chat --type lite --lite-expiry 12h",
        "pinnace send orders --body hello --tag paid --key k1 --property a=b --property c=d --group g --count 3",
        "pinnace send orders --file - --endpoint 127.0.0.1:1",
        "pinnace send orders --message-group g",
        "pinnace send reminders --deliver-at +10m",
        "pinnace send reminders --deliver-at 2026-01-31T08:00:00Z",
        "pinnace send alarms --priority 3",
        "pinnace send chat --lite-topic room-1",
        "pinnace receive orders --group billing --filter amount>10 --sql",
        "pinnace receive orders --group billing --count 5 --timeout 3 -o json",
        "pinnace message find orders --id 01AABB",
        "pinnace message find orders --key k1 --from 2h --to 2026-01-31T12:00:00Z --max 5 -o yaml",
        "pinnace message trace orders --id 01AABB -o json",
        "pinnace inspect",
        "pinnace inspect records --data d --shard 1 --from 64 --to 4096 --bodies -o json",
        "pinnace inspect frames -o yaml",
        "pinnace repair --data d --shard 0 --dry-run",
        "pinnace repair --data d --shard 0 --yes -o json",
        "pinnace lag",
        "pinnace lag billing --output yaml",
        "pinnace bench --endpoint 127.0.0.1:1 --size 128 --producers 2 --inflight 8 --batch 32 --duration 3 --no-receive",
        "pinnace demo --manifests examples/orders",
    ] {
        if let Err(error) = parse(text) {
            panic!("{text}: {error}");
        }
    }
}

#[test]
fn wrong_input_gets_one_line_with_a_hint() {
    for (text, what) in [
        ("pinnace", "pinnace --help"),
        ("pinnace launch", "unrecognized subcommand 'launch'"),
        ("pinnace topic", "pinnace topic --help"),
        ("pinnace topic create", "required arguments were not provided"),
        ("pinnace topic create a.b", "illegal character '.'"),
        ("pinnace topic create %DLQ%x", "reserved"),
        ("pinnace topic create orders --type FAST", "FAST"),
        ("pinnace topic create orders --queues 0", "0 is not in 1..=1024"),
        ("pinnace topic create orders --queus 1", "--queues"),
        ("pinnace group create CID_RMQ_SYS_x", "reserved"),
        ("pinnace group reset billing", "--to"),
        ("pinnace group reset billing --to now", "earliest, latest, a time"),
        ("pinnace group reset billing --to -x", "like -100"),
        ("pinnace dead-letter redrive", "<GROUP>"),
        ("pinnace dead-letter redrive billing --rate 0", "0 is not in 1..=1000000"),
        ("pinnace topic create chat --type lite --lite-expiry 3d", "no duration"),
        ("pinnace send orders --property novalue", "NAME=VALUE"),
        ("pinnace send reminders --deliver-at tomorrow", "RFC 3339"),
        ("pinnace send alarms --priority -1", "-1"),
        ("pinnace send alarms --priority 1 --lite-topic l", "cannot be used with"),
        ("pinnace send orders --body a --file b", "cannot be used with"),
        ("pinnace receive orders", "--group"),
        ("pinnace message find orders --id a --key b", "cannot be used with"),
        ("pinnace message find orders --from yesterday", "not a time"),
        ("pinnace message trace orders", "--id"),
        ("pinnace serve --listen here", "--listen"),
        ("pinnace serve --advertise here", "HOST:PORT"),
        ("pinnace serve --shards 0", "1..="),
        ("pinnace serve --tls-key k.pem", "--tls-certificate"),
    ] {
        let error = parse(text).expect_err(text);
        let line = line(&error);
        assert!(line.starts_with("error: "), "{text}: {line}");
        assert!(!line.contains('\n'), "{text}: {line}");
        assert!(line.contains(what), "{text}: {line}");
        assert!(line.ends_with("--help'"), "{text}: {line}");
    }
}

#[test]
fn help_and_version_are_no_errors() {
    for text in ["pinnace --help", "pinnace topic create --help", "pinnace --version"] {
        let kind = parse(text).expect_err(text).kind();
        assert!(matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion), "{text}");
    }
}

#[test]
fn every_flag_of_a_broker_has_its_environment_variable() {
    let command = Arguments::command();
    let serve = command.find_subcommand("serve").expect("a verb");
    for argument in serve.get_arguments().filter(|argument| !argument.is_positional()) {
        let Some(long) = argument.get_long().filter(|l| !matches!(*l, "help" | "version")) else {
            continue;
        };
        let wanted = format!("PINNACE_{}", long.to_uppercase().replace('-', "_"));
        let variable = argument.get_env().map(|variable| variable.to_string_lossy().into_owned());
        assert_eq!(variable, Some(wanted), "--{long}");
    }
}

/// A name that means one thing for one verb and another for the next would change what a script does unseen.
#[test]
fn the_environment_says_where_and_how_and_not_what() {
    fn check(command: &Command) {
        let variables = command.get_arguments().filter_map(|argument| argument.get_env());
        for variable in variables.filter(|_| command.get_name() != "serve") {
            let known = ["PINNACE_ADMIN", "PINNACE_ENDPOINT", "PINNACE_OUTPUT", "PINNACE_DATA"];
            let variable = variable.to_str().unwrap();
            assert!(known.contains(&variable), "{}: {variable}", command.get_name());
        }
        command.get_subcommands().for_each(check);
    }
    check(&Arguments::command());
}
