//! What is found in a tree, and what becomes of it in a plan.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::net::{UnixDatagram, UnixListener, UnixStream},
    },
    path::Path,
};

use stasis_criu::{
    Options,
    options::{External, InheritedFd},
};
use stasis_plain::{
    Attached, DumpPlan, FileKind, Managed, ProcessError, ProcessState, RestorePlan, RestoreStdio,
    Run, Size, Stdio, Tree,
    adapters::{Sockets, Terminals, close_common_files, external_files, refuse_io_uring},
};

use crate::{Ended, finish, pipes, ready};

#[test]
fn a_tree_has_all_descendants_parents_first() {
    let child = ready("sleep 600 & sh -c 'sleep 600 & wait' & sleep 600 & ", &[]);
    // The inner shell's sleep may not have been forked when the outer one says that it is ready.
    let tree = loop {
        let tree = Tree::read(child.id()).unwrap();
        if tree.processes().len() == 5 {
            break tree;
        }
        std::thread::yield_now();
    };
    assert_eq!(tree.root().pid, child.id());
    assert_eq!(tree.children_of(child.id()).count(), 3);
    for (place, process) in tree.processes().iter().enumerate().skip(1) {
        let parent = tree
            .processes()
            .iter()
            .position(|other| other.pid == process.parent);
        assert!(parent.unwrap() < place);
    }
    let state = ProcessState::fill(&tree).unwrap();
    assert_eq!(state.processes().count(), 5);
    assert!(
        state
            .children
            .iter()
            .all(|child| child.mounts.is_empty() && child.host.is_none())
    );
    for process in tree.processes().iter().skip(1) {
        let pid = rustix::process::Pid::from_raw(process.pid.cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    finish(child);
}

#[test]
fn only_connections_of_the_tree_count_as_established() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let listening = OwnedFd::from(listener);
    let child = ready("", &[&listening]);
    let found = Sockets::detect(&Tree::read(child.id()).unwrap());
    assert_eq!(found, Sockets::default());
    finish(child);
    let theirs = OwnedFd::from(theirs);
    let child = ready("", &[&theirs]);
    let tree = Tree::read(child.id()).unwrap();
    assert!(Sockets::detect(&tree).tcp_established);
    let state = ProcessState::fill(&tree).unwrap();
    let connection = &state.open_connections[0];
    assert_eq!((connection.family, connection.kind), (2, 1));
    assert_eq!(connection.status, "ESTABLISHED");
    let remote = connection.remote.as_ref().unwrap();
    assert_eq!(remote.port, u32::from(ours.local_addr().unwrap().port()));
    finish(child);
}

#[test]
fn unix_sockets_are_outside_only_if_their_peer_is() {
    let (one, other) = UnixStream::pair().unwrap();
    let (one, other) = (OwnedFd::from(one), OwnedFd::from(other));
    let child = ready("", &[&one, &other]);
    let found = Sockets::detect(&Tree::read(child.id()).unwrap());
    assert_eq!(found, Sockets::default());
    finish(child);
    let child = ready("", &[&one]);
    let found = Sockets::detect(&Tree::read(child.id()).unwrap());
    let inode = rustix::fs::fstat(&one).unwrap().st_ino;
    assert!(found.ext_unix_sk);
    assert_eq!(
        found
            .halves
            .iter()
            .copied()
            .map(u64::from)
            .collect::<Vec<_>>(),
        [inode]
    );
    finish(child);
}

#[test]
fn a_datagram_socket_is_no_half() {
    let (one, _other) = UnixDatagram::pair().unwrap();
    let one = OwnedFd::from(one);
    let child = ready("", &[&one]);
    let found = Sockets::detect(&Tree::read(child.id()).unwrap());
    assert!(found.ext_unix_sk && found.halves.is_empty());
    finish(child);
}

/// The external files of a shell that is given none.
fn inherited() -> Vec<External> {
    let child = ready("", &[]);
    let files = external_files(&Tree::read(child.id()).unwrap());
    finish(child);
    files
}

#[test]
fn only_a_file_over_a_strange_mount_is_external() {
    let directory = tempfile::tempdir().unwrap();
    let inside = fs::File::create(directory.path().join("inside")).unwrap();
    let child = ready("", &[&OwnedFd::from(inside)]);
    let tree = Tree::read(child.id()).unwrap();
    // Whoever started the tests may have left them files over strange mounts.
    assert_eq!(external_files(&tree), inherited());
    refuse_io_uring(&tree).unwrap();
    finish(child);
}

#[test]
fn files_of_the_tree_are_closed_here_and_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| OwnedFd::from(fs::File::create(directory.path().join(name)).unwrap());
    let (common, other) = (open("x.pid"), open("y.pid"));
    let child = ready("", &[&common]);
    let tree = Tree::read(child.id()).unwrap();
    let number = other.as_raw_fd();
    let left = close_common_files(vec![common, other], &tree);
    assert_eq!(
        left.iter().map(AsRawFd::as_raw_fd).collect::<Vec<_>>(),
        [number]
    );
    finish(child);
}

#[tokio::test]
async fn the_terminal_that_we_hold_is_an_orphan_and_one_that_nobody_holds_is_external() {
    let stdio = Stdio::Terminal {
        size: Size::default(),
    };
    let mut process = Ended(Run::new("sleep").arg("600").stdio(stdio).start().unwrap());
    let tree = process.0.tree().unwrap();
    let found = Terminals::detect(&tree).unwrap();
    assert!(found.orphan_pts_master && !found.shell_job && found.external.is_empty());
    // As another program's: the master is held by a child, and not by us.
    let Some(Attached::Terminal(master)) = process.0.take_attached() else {
        panic!("no terminal");
    };
    let holder = ready("", &[&master]);
    drop(master);
    let found = Terminals::detect(&process.0.tree().unwrap()).unwrap();
    assert!(!found.orphan_pts_master && !found.shell_job);
    let file = &tree.root().files[0];
    let expected = format!("tty[{:x}:{:x}]", file.rdev, file.device);
    assert_eq!(found.external[0].to_string(), expected);
    // And from within: whoever has both has nothing outside.
    finish(holder);
}

#[tokio::test]
async fn a_tree_without_its_session_leader_is_a_shell_job() {
    let stdio = Stdio::Terminal {
        size: Size::default(),
    };
    let mut process = Ended(
        Run::new("sh")
            .args(["-c", "sleep 600 & echo $!; wait"])
            .stdio(stdio)
            .start()
            .unwrap(),
    );
    let Some(Attached::Terminal(master)) = process.0.take_attached() else {
        panic!("no terminal");
    };
    let mut line = String::new();
    let mut reader = BufReader::new(fs::File::from(master.try_clone().unwrap()));
    reader.read_line(&mut line).unwrap();
    let job: u32 = line.trim().parse().unwrap();
    let found = Terminals::detect(&Tree::read(job).unwrap()).unwrap();
    assert!(found.shell_job && !found.orphan_pts_master && found.external.is_empty());
    let found = Terminals::detect(&process.0.tree().unwrap()).unwrap();
    assert!(found.orphan_pts_master && !found.shell_job);
    let plan = DumpPlan::detect(job).unwrap();
    assert_eq!(
        plan.apply(Options::new("/i")),
        Options::new("/i").pid(job).shell_job(true)
    );
    let plan = RestorePlan::new(plan.state(), RestoreStdio::Keep).unwrap();
    assert!(plan.needs_terminal() && !plan.awaits_terminal());
}

#[tokio::test]
async fn a_tree_in_another_session_is_a_shell_job_without_its_terminal_too() {
    let child = ready("", &[]);
    let tree = Tree::read(child.id()).unwrap();
    assert_ne!(tree.root().session, tree.root().pid);
    let only_pipes = tree
        .files()
        .all(|(_, file)| file.kind != FileKind::Terminal);
    // Where the tests themselves run in a terminal, the shell has its errors go there.
    if only_pipes {
        let found = Terminals::detect(&tree).unwrap();
        let expected = Terminals {
            shell_job: true,
            ..Terminals::default()
        };
        assert_eq!(found, expected);
        let plan = DumpPlan::detect(child.id()).unwrap();
        let plan = RestorePlan::new(plan.state(), RestoreStdio::Keep).unwrap();
        assert!(!plan.needs_terminal());
    }
    finish(child);
}

#[tokio::test]
async fn a_plan_goes_from_a_dump_by_a_file_to_a_restore() {
    let images = tempfile::tempdir().unwrap();
    let mut process = Ended(
        Run::new("sleep")
            .arg("600")
            .stdio(Stdio::Pipes)
            .start()
            .unwrap(),
    );
    let mut plan = DumpPlan::detect(process.0.pid()).unwrap();
    assert_eq!(plan.externals().unwrap(), Vec::<String>::new());
    plan.state().save(images.path()).unwrap();
    let state = ProcessState::reload(images.path()).unwrap();
    assert_eq!(&state, plan.state());
    let restore = RestorePlan::new(&state, RestoreStdio::Attach).unwrap();
    assert!(restore.missing().next().is_none() && !restore.needs_terminal());
    let options = restore.apply(Options::new(images.path()));
    options.check(stasis_criu::Request::Restore, None).unwrap();
    let expected = Options::new(images.path()).rst_sibling(true);
    assert_ne!(options, expected);
    process.0.take_attached();
}

#[test]
fn what_is_opened_behind_the_plan_is_found_when_it_looks_again() {
    let (one, _other) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(one);
    let child = ready("", &[&socket]);
    let mut plan = DumpPlan::detect(child.id()).unwrap();
    let known = plan.state().choices.clone().unwrap().external;
    assert_eq!(known.len(), inherited().len() + 1);
    // What is known is not named again.
    assert_eq!(plan.externals().unwrap(), Vec::<String>::new());
    assert_eq!(plan.state().choices.clone().unwrap().external, known);
    finish(child);
}

#[test]
fn what_a_caller_named_already_stays_as_it_was_named() {
    let images = tempfile::tempdir().unwrap();
    let (one, _other) = UnixStream::pair().unwrap();
    let socket = OwnedFd::from(one);
    let inode = rustix::fs::fstat(&socket).unwrap().st_ino;
    let child = ready("", &[&socket]);
    let plan = DumpPlan::detect(child.id()).unwrap();
    let inode = inode.try_into().unwrap();
    let named = Options::new(images.path()).external(External::UnixSocket { inode });
    let options = plan.apply(named);
    assert_eq!(options, plan.apply(options.clone()));
    options.check(stasis_criu::Request::Dump, None).unwrap();

    let mut plan = RestorePlan::new(plan.state(), RestoreStdio::Keep).unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    plan.inherit("socket:[1]", OwnedFd::from(ours));
    let given = InheritedFd::new("socket:[1]", OwnedFd::from(theirs));
    let options = plan.apply(Options::new(images.path()).inherit_fd(given));
    assert_eq!(options, plan.apply(options.clone()));
    options.check(stasis_criu::Request::Restore, None).unwrap();
    finish(child);
}

#[tokio::test]
async fn a_plan_tells_when_nothing_is_left_of_a_tree() {
    let mut process = Run::new("sh")
        .args([
            "-c",
            "exec 3<&0; (read word <&3) & echo $!; read word; kill -9 $$",
        ])
        .stdio(Stdio::Pipes)
        .start()
        .unwrap();
    let (mut stdin, mut stdout) = pipes(&mut process);
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let orphan: u32 = line.trim().parse().unwrap();
    let plan = DumpPlan::detect(process.pid()).unwrap();
    stdin.write_all(b"one\ntwo\n").unwrap();
    drop(stdin);
    process.exited().await.unwrap();
    plan.gone().await.unwrap();
    assert!(matches!(
        Managed::take_over(orphan),
        Err(ProcessError::Gone { .. })
    ));
}

#[test]
fn the_name_of_a_peer_outside_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = OwnedFd::from(UnixStream::connect(&path).unwrap());
    let _server = listener.accept().unwrap();
    let child = ready("", &[&client]);
    let inode = rustix::fs::fstat(&client).unwrap().st_ino;
    let tree = Tree::read(child.id()).unwrap();
    assert_eq!(tree.unix_peer_name(inode), Some(path.as_path()));
    let state = ProcessState::fill(&tree).unwrap();
    let remote = state.open_connections[0].remote.as_ref().unwrap();
    assert_eq!(Path::new(&remote.ip), path);
    finish(child);
}
