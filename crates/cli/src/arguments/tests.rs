//! What is understood, and that all of it is taken by the request that it is for.

use std::time::Duration;

use stasis_criu::{Options, Request};

use super::*;

fn parse(line: &str) -> Result<Arguments, clap::Error> {
    let words = std::iter::once("stasis").chain(line.split_whitespace());
    Arguments::understand(words)
}

fn command(line: &str) -> Command {
    parse(line).unwrap().command
}

/// A line with everything that a command can be told together, where `DIR` is a directory and
/// `PID` a process.
fn check(line: &str, request: Request, options: fn(&Command) -> anyhow::Result<Options>) {
    let scratch = tempfile::tempdir().unwrap();
    let parent = scratch.path().join("last");
    std::fs::create_dir(&parent).unwrap();
    std::fs::write(parent.join("pagemap-1.img"), "").unwrap();
    let line = line
        .replace("DIR", scratch.path().to_str().unwrap())
        .replace("PID", &std::process::id().to_string());
    let options = options(&command(&line)).unwrap();
    options.check(request, None).unwrap();
}

#[test]
fn the_arguments_make_sense_to_clap() {
    Arguments::command().debug_assert();
}

#[test]
fn a_dump_takes_all_that_it_can_be_told() {
    check(
        "dump -t 7 -D DIR -W DIR -o x.log -v2 --deadline 1.5 -R --timeout 3 --freeze-cgroup DIR \
         --parent last --track-mem --auto-dedup --page-server --address 192.0.2.1 --port 9 \
         --tls --tls-no-cn-verify --ghost-limit 8388608 --link-remap --evasive-devices \
         --force-irmap --irmap-scan-path DIR --skip-in-flight --network-lock nftables \
         --skip-mnt /x --enable-fs all --tcp-established --ext-unix-sk -j -l \
         --external file[2a:99] --external mnt[/a]:b --manage-cgroups soft --empty-ns net \
         --root DIR --lsm-profile apparmor:x --unprivileged",
        Request::Dump,
        |command| match command {
            Command::Dump(dump) => dump.options(),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn a_pre_dump_takes_all_that_it_can_be_told() {
    check(
        "pre-dump --tree 7 --images-dir DIR --pre-dump-mode read --prev-images-dir last \
         --track-mem --timeout 3 --tcp-close -l",
        Request::SinglePreDump,
        |command| match command {
            Command::PreDump(dump) => dump.options(),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn a_restore_takes_all_that_it_can_be_told() {
    check(
        "restore -D DIR -d --pid-file x --log y -s --auto-dedup --skip-file-rwx-check \
         --join-ns net:/proc/self/ns/net --join-ns uts:PID --weak-sysctls --mntns-compat-mode \
         --lsm-mount-context x --enable-fs all --tcp-established --file-locks --shell-job \
         --external mnt[b]:DIR --external veth[eth0]:host0@br0",
        Request::Restore,
        |command| match command {
            Command::Restore(restore) => restore.options(),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn a_path_may_begin_where_the_command_was_started() {
    let line = "dump -t 7 -D images --config c --root r --freeze-cgroup f --irmap-scan-path i \
                --tls --tls-cacert a --tls-cacrl l --tls-cert t --tls-key k";
    let Command::Dump(dump) = command(line) else {
        panic!("it was dump");
    };
    let tls = &dump.memory.tls;
    let paths = [
        (&dump.images.config, "c"),
        (&dump.both.root, "r"),
        (&dump.target.freeze_cgroup, "f"),
        (&dump.files.irmap_scan_path.first().cloned(), "i"),
        (&tls.tls_cacert, "a"),
        (&tls.tls_cacrl, "l"),
        (&tls.tls_cert, "t"),
        (&tls.tls_key, "k"),
    ];
    let here = std::env::current_dir().unwrap();
    for (path, name) in paths {
        assert_eq!(path.as_deref(), Some(here.join(name).as_path()));
    }
}

#[test]
fn a_page_server_takes_all_that_it_can_be_told() {
    check(
        "page-server -D DIR --address 127.0.0.1 --port 0 --parent last --auto-dedup --tls",
        Request::PageServerChild,
        |command| match command {
            Command::PageServer(server) => server.options(),
            other => panic!("{other:?}"),
        },
    );
}

#[test]
fn what_follows_a_program_is_the_programs() {
    let Command::Run(run) = command("run -d --pid-file p sleep -x --json --attach") else {
        panic!("it was run");
    };
    assert!(run.streams.detach && !run.streams.attach);
    assert_eq!(run.program, PathBuf::from("sleep"));
    assert_eq!(run.arguments, ["-x", "--json", "--attach"]);
    let arguments = parse("run -d -- sleep --json").unwrap();
    assert!(!arguments.json);
}

#[test]
fn what_is_for_every_command_may_stand_anywhere() {
    for line in [
        "--json -q --criu x criu check",
        "criu check --json -q --criu x",
    ] {
        let arguments = parse(line).unwrap();
        assert!(arguments.json && arguments.quiet, "{line}");
        assert_eq!(arguments.criu, PathBuf::from("x"), "{line}");
    }
}

#[test]
fn what_excludes_each_other_is_refused() {
    for line in [
        "run -a -d true",
        "run -a --log x true",
        "run -a --json true",
        "restore -D x --json --attach",
        "dump -t 7 -D x -R -s",
        "dump -t 7 -D x --tcp-established --tcp-close",
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ArgumentConflict, "{line}");
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "dump -D x",
        "dump -t 7",
        "dump -t 0 -D x",
        "dump -t -7 -D x",
        "dump -t 7 -D x -v5",
        "dump -t 7 -D x --deadline 0",
        "dump -t 7 -D x --deadline -1",
        "dump -t 7 -D x --deadline nan",
        "dump -t 7 -D x --page-server",
        "dump -t 7 -D x --page-server --address 192.0.2.1 --port 0",
        "dump -t 7 -D x --tls-key y",
        "dump -t 7 -D x --auto-dedup",
        "dump -t 7 -D x --external what",
        "restore -D x --join-ns pid:1",
        "restore -D x --join-ns net:",
        "restore -D x --join-ns user:/f,1",
        "restore",
        "",
    ] {
        parse(line).unwrap_err();
    }
}

#[test]
fn a_deadline_may_have_a_fraction() {
    let Command::Restore(restore) = command("restore -D x --deadline 0.25") else {
        panic!("it was restore");
    };
    assert_eq!(restore.images.deadline, Some(Duration::from_millis(250)));
}
