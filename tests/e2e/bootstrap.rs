//! The shim's actions by hand: `start` as every containerd calls it, and `delete`.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use containerd_shim_protos::{api::DeleteResponse, protobuf::Message};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::support::{
    bundle::Bundle,
    command::Run,
    counter::Counter,
    engine::Engine,
    host::{Host, bootstrap_result},
    lab::lab,
    leftovers,
    options::inline,
    shim::Shim,
    wait::{self, SOON, until},
};

#[test]
#[ignore = "needs the lab: make test"]
fn start_answers_bootstrap_params_with_a_result_of_version_3_and_nothing_else() {
    let host = Host::new();
    let bundle = host.counter("c");
    let started = host
        .start_command(&bundle)
        .stdin(host.bootstrap_params(&bundle, None))
        .run();
    started.ok();
    assert_eq!(started.stderr, "");
    let result = bootstrap_result(&started);
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    serves(&host, &bundle, &result.address);
}

#[test]
#[ignore = "needs the lab: make test"]
fn start_answers_bootstrap_params_that_carry_options() {
    let host = Host::new();
    let bundle = host.counter("c");
    let options = inline(&Engine::Runc.config(""));
    let params = host.bootstrap_params(&bundle, Some(options));
    let started = host.start_command(&bundle).stdin(params).run();
    serves(&host, &bundle, &bootstrap_result(&started).address);
}

#[test]
#[ignore = "needs the lab: make test"]
fn start_answers_callers_before_2_3_with_the_bare_address() {
    let options = inline(&Engine::Runc.config(""))
        .write_to_bytes()
        .expect("complete");
    for stdin in [Vec::new(), options] {
        let host = Host::new();
        let bundle = host.counter("c");
        let started = host.start_command(&bundle).stdin(stdin).run();
        let address = started.ok();
        assert_eq!(started.stderr, "");
        assert!(address.starts_with("unix:///"), "{address:?}");
        serves(&host, &bundle, address.trim());
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn start_refuses_what_is_no_request_on_stderr_alone() {
    let host = Host::new();
    let bundle = host.counter("c");
    let started = host
        .start_command(&bundle)
        .stdin("certainly no protobuf")
        .run();
    assert!(started.fails().lines().count() <= 1, "{started}");
    assert_eq!(started.text(), "");
}

#[test]
#[ignore = "needs the lab: make test"]
fn start_leaves_a_server_as_the_contract_wants_it() {
    let host = Host::new();
    let bundle = host.counter("c");
    let shim = host.shim(&bundle);
    let pid = shim.pid();

    let socket = Path::new(shim.address.trim_start_matches("unix://"));
    assert_eq!(mode(socket), 0o600);
    assert_eq!(mode(socket.parent().expect("a directory")), 0o700);
    let address = fs::read_to_string(bundle.directory.join("address")).expect("the address file");
    assert_eq!(address, shim.address);

    let line = leftovers::command_line(pid).expect("the shim is running");
    assert!(
        line.contains(&format!("-namespace {}", host.namespace())),
        "{line}"
    );
    assert!(line.contains("-id c"), "{line}");
    assert_eq!(
        process_group(pid),
        pid,
        "the server is its own process group"
    );
    let directory = fs::read_link(format!("/proc/{pid}/cwd")).expect("the shim is running");
    assert_eq!(directory, bundle.directory);
    for descriptor in 0..=2 {
        let target = fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).expect("open");
        assert_eq!(
            target,
            PathBuf::from("/dev/null"),
            "descriptor {descriptor}"
        );
    }
    shim.ask_to_shut_down();
}

#[test]
#[ignore = "needs the lab: make test"]
fn start_puts_the_socket_where_the_environment_says() {
    let host = Host::new();
    let bundle = host.counter("c");
    let sockets = Path::new("/run").join(host.namespace()).join("s");
    let start = host.start_command(&bundle).env("SHIM_SOCKET_DIR", &sockets);
    let started = start.stdin(host.bootstrap_params(&bundle, None)).run();
    let address = bootstrap_result(&started).address;
    assert!(
        address.starts_with(&format!("unix://{}/", sockets.display())),
        "{address}"
    );
    serves(&host, &bundle, &address);
}

#[test]
#[ignore = "needs the lab: make test"]
fn a_copy_of_the_binary_that_is_started_by_an_absolute_path_works() {
    let host = Host::new();
    let bundle = host.counter("c");
    let copy = host.disk().join("any-name");
    // By a child, as `support::script` writes what is to be executed.
    Run::new(&format!("cp {} {}", lab().shim().display(), copy.display())).ok();
    let start = Run::new(&format!(
        "{} -namespace {} -id c -address {}/containerd.sock start",
        copy.display(),
        host.namespace(),
        host.disk().display()
    ));
    let started = start
        .directory(&bundle.directory)
        .stdin(host.bootstrap_params(&bundle, None))
        .run();
    serves(&host, &bundle, &bootstrap_result(&started).address);
}

for_each_engine! {
    fn delete_after_the_shims_death_cleans_up_and_answers_137(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        kill(shim.pid());
        let deleted = delete(&host, &bundle);
        assert_eq!(deleted.exit_status, 137);
        assert!(deleted.exited_at.is_some());
        until("everything is gone", SOON, || {
            leftovers::of(host.namespace()).is_empty().then_some(())
        });
        // Twice does no harm.
        delete(&host, &bundle);
    }
}

for_each_engine! {
    fn delete_after_the_shims_death_cleans_up_a_paused_container(engine: Engine) {
        let host = Host::new();
        let bundle = host.counter("c");
        let shim = host.shim(&bundle);
        shim.run(engine);
        Counter::of(&bundle).await_progress(3);
        shim.pause().expect("Pause");
        kill(shim.pid());
        delete(&host, &bundle);
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn delete_works_in_a_bundle_that_has_nothing() {
    let host = Host::new();
    let bundle = host.counter("c");
    for file in leftovers::entries_of(&bundle.directory) {
        if file.is_dir() && !file.is_symlink() {
            fs::remove_dir_all(file).expect("ours");
        } else {
            fs::remove_file(file).expect("ours");
        }
    }
    assert_eq!(delete(&host, &bundle).exit_status, 137);
}

#[test]
#[ignore = "needs the lab: make test"]
fn a_start_after_the_shims_death_replaces_the_stale_socket() {
    let host = Host::new();
    let bundle = host.counter("c");
    let shim = host.shim(&bundle);
    kill(shim.pid());
    let shim = host.shim(&bundle);
    shim.run(Engine::Runc);
    shim.end();
}

/// The shim at the address runs the bundle's container.
fn serves(host: &Host, bundle: &Bundle, address: &str) {
    let shim = Shim::connect(host.namespace(), bundle, address);
    shim.run(Engine::Runc);
    Counter::of(bundle).await_progress(3);
    shim.end();
}

fn delete(host: &Host, bundle: &Bundle) -> DeleteResponse {
    let deleted = host.delete_command(bundle).run();
    deleted.ok();
    DeleteResponse::parse_from_bytes(&deleted.stdout)
        .unwrap_or_else(|error| panic!("not a DeleteResponse ({error}): {deleted}"))
}

/// Kills a shim, and waits for the end of all its threads: its first one may be a zombie while
/// another still holds the socket, on which the next `start` would then find somebody alive.
fn kill(pid: u32) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).expect("the shim is running");
    pidfd_send_signal(&pidfd, Signal::KILL).expect("the shim is running");
    wait::for_end(&pidfd, "the shim");
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it exists").permissions().mode() & 0o777
}

fn process_group(pid: u32) -> u32 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the shim is running");
    let fields = stat
        .rsplit_once(") ")
        .expect("the name ends in a bracket")
        .1;
    fields
        .split(' ')
        .nth(2)
        .and_then(|group| group.parse().ok())
        .expect("a number")
}
