//! Processes that are run or taken over, dumped and restored as the plans say, with their files as
//! they were and not.

use std::{
    env, fs,
    io::{Read as _, Write as _, pipe},
    os::{fd::OwnedFd, unix::net::UnixDatagram},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use rustix::{
    fs::{CWD, Mode, OFlags, mkfifoat, open},
    mount::{MountFlags, UnmountFlags, mount, unmount},
    process::Signal,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
};
use stasis_criu::{Criu, Error, HookResult, KnownCause, Notify};
use stasis_plain::{
    Attached, DumpPlan, Exit, Managed, ProcessError, ProcessState, RestorePlan, RestoreStdio, Run,
    Size, Stdio,
};
use tempfile::TempDir;

use crate::{
    conversation::{Bound, Conversation},
    victim::{self, PATIENCE},
};

/// Has `file` open and repeats each line, but for those that tell it to do something; it returns 7
/// when that is to exit. It listens on its standard input, or on the FIFO that it is given.
const SCRIPT: &str = r#"
    exec 3<>file
    [ "$1" ] && exec <>"$1"
    : >ready
    while read -r line; do
        case $line in
        open\ *) exec 4>"${line#open }" ;;
        write\ *) echo "${line#write }" >&4 ;;
        exit) exit 7 ;;
        *) echo "$line" ;;
        esac
    done
"#;
const CODE: i32 = 7;

/// That program, and what belongs to it.
struct Subject {
    directory: TempDir,
    process: Bound,
    plan: DumpPlan,
    attached: Option<Attached>,
}

/// Says what is external when all is frozen, and writes the state down then.
struct Hooks<'a> {
    plan: &'a mut DumpPlan,
    images: &'a Path,
}

#[async_trait]
impl Notify for Hooks<'_> {
    async fn query_external_files(&mut self) -> HookResult<Vec<String>> {
        let external = self.plan.externals()?;
        self.plan.state().save(self.images)?;
        Ok(external)
    }
}

impl Subject {
    /// Runs it with these streams.
    fn run(stdio: impl FnOnce(&Path) -> Stdio) -> Self {
        let directory = directory();
        let stdio = stdio(directory.path());
        let mut run = Run::new("sh").args(["-c", SCRIPT, "sh"]);
        if !matches!(stdio, Stdio::Pipes | Stdio::Terminal { .. }) {
            run = run.arg("requests");
        }
        let process = run.current_dir(directory.path()).stdio(stdio).start();
        Self::ready(directory, process.unwrap())
    }

    /// One that was not started to be dumped, but by whoever it was, with such streams.
    #[expect(clippy::zombie_processes, reason = "it is managed, and that reaps it")]
    fn of_others(shell: &str, arguments: &[&str], stream: impl Fn() -> OwnedFd) -> Self {
        let directory = directory();
        let mut words = shell.split(' ');
        let child = Command::new(words.next().unwrap())
            .args(words)
            .args(["-c", SCRIPT, "sh"])
            .args(arguments)
            .current_dir(&directory)
            .stdin(stream())
            .stdout(stream())
            .stderr(stream())
            .spawn()
            .unwrap();
        Self::ready(directory, Managed::take_over(child.id()).unwrap())
    }

    fn ready(directory: TempDir, mut process: Managed) -> Self {
        // Its end comes when the program is as far.
        fs::read(directory.path().join("ready")).unwrap();
        Self {
            plan: DumpPlan::detect(process.pid()).unwrap(),
            attached: process.take_attached(),
            process: Bound(process),
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    async fn dump(&mut self, criu: &Criu) {
        let images = self.path("images");
        let options = self.plan.apply(victim::options(&images));
        let mut hooks = Hooks {
            plan: &mut self.plan,
            images: &images,
        };
        criu.dump(&options).notify(&mut hooks).await.unwrap();
        let exit = self.process.0.exited().await.unwrap();
        assert_eq!(exit, Exit::Signal(Signal::KILL.as_raw()));
        self.plan.gone().await.unwrap();
    }

    fn restore_plan(&self, stdio: RestoreStdio) -> Result<RestorePlan, ProcessError> {
        let state = ProcessState::reload(&self.path("images")).unwrap();
        RestorePlan::new(&state, stdio)
    }

    async fn restore(&mut self, criu: &Criu, plan: RestorePlan) -> Result<(), Error> {
        let options = plan.apply(victim::options(self.path("images")));
        let restored = criu.restore(&options).await?;
        let pid = restored.pid.as_raw_pid().cast_unsigned();
        assert_eq!(pid, self.process.0.pid());
        let mut process = plan.take_over(pid).unwrap();
        assert!(process.is_child());
        self.attached = process.take_attached();
        self.process = Bound(process);
        Ok(())
    }

    /// A restore that fails, of which nothing is left.
    async fn fails(&mut self, criu: &Criu, stdio: RestoreStdio) -> KnownCause {
        let plan = self.restore_plan(stdio).unwrap();
        let error = self.restore(criu, plan).await.unwrap_err();
        let Error::Failed { diagnosis, .. } = &error else {
            panic!("{error:?}");
        };
        let pid = self.process.0.pid();
        assert!(!fs::exists(format!("/proc/{pid}")).unwrap(), "{error}");
        diagnosis.known.unwrap_or_else(|| panic!("{error}"))
    }

    /// Tells it something over the FIFO.
    fn tell(&self, line: &str) {
        // For reading too, so as not to wait for somebody who does.
        let mut options = fs::File::options();
        let fifo = options.read(true).write(true).open(self.path("requests"));
        writeln!(fifo.unwrap(), "{line}").unwrap();
    }

    async fn ends_as_told(&self) {
        self.tell("exit");
        self.has_returned().await;
    }

    async fn has_returned(&self) {
        let exit = tokio::time::timeout(PATIENCE, self.process.0.exited());
        assert_eq!(exit.await.unwrap().unwrap(), Exit::Code(CODE));
    }
}

fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "its content\n").unwrap();
    fs::create_dir(directory.path().join("images")).unwrap();
    for fifo in ["ready", "requests"] {
        mkfifoat(CWD, directory.path().join(fifo), Mode::RWXU).unwrap();
    }
    directory
}

/// Waits until a file is as it should be.
fn await_content(path: &Path, expected: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let content = fs::read_to_string(path).unwrap();
        if content == expected {
            return;
        }
        assert!(Instant::now() < deadline, "it is {content:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Restores with the file grown, then gone, then as it was.
async fn with_its_file(subject: &mut Subject, criu: &Criu, stdio: impl Fn() -> RestoreStdio) {
    let file = subject.path("file");
    let content = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{content}and more\n")).unwrap();
    let known = subject.fails(criu, stdio()).await;
    assert_eq!(known, KnownCause::FileChanged);
    fs::remove_file(&file).unwrap();
    let known = subject.fails(criu, stdio()).await;
    assert_eq!(known, KnownCause::FileMissing);
    fs::write(&file, &content).unwrap();
    let plan = subject.restore_plan(stdio()).unwrap();
    assert_eq!(plan.missing().count(), 0);
    subject.restore(criu, plan).await.unwrap();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn an_attached_process_comes_back_with_new_pipes_if_its_file_is_as_it_was() {
    let criu = victim::criu();
    let mut subject = Subject::run(|_| Stdio::Pipes);
    let mut talk = Conversation::over(subject.attached.take());
    talk.goes_on("before");
    subject.dump(&criu).await;
    with_its_file(&mut subject, &criu, || RestoreStdio::Attach).await;
    let mut talk = Conversation::over(subject.attached.take());
    talk.goes_on("after");
    talk.says("exit");
    subject.has_returned().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_logged_process_goes_on_with_its_log_if_its_file_is_as_it_was() {
    let criu = victim::criu();
    let mut subject = Subject::run(|directory| Stdio::Log(directory.join("log")));
    let log = subject.path("log");
    subject.tell("before");
    await_content(&log, "before\n");
    subject.dump(&criu).await;
    with_its_file(&mut subject, &criu, || RestoreStdio::Keep).await;
    subject.tell("after");
    await_content(&log, "before\nafter\n");
    subject.ends_as_told().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_process_without_streams_goes_on_if_its_file_is_as_it_was() {
    let criu = victim::criu();
    let mut subject = Subject::run(|_| Stdio::Null);
    subject.dump(&criu).await;
    with_its_file(&mut subject, &criu, || RestoreStdio::Keep).await;
    subject.ends_as_told().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_log_that_others_wrote_to_goes_on_and_one_that_is_gone_is_replaced() {
    let criu = victim::criu();
    let mut subject = Subject::run(|directory| Stdio::Log(directory.join("log")));
    let (log, other) = (subject.path("log"), subject.path("other"));
    subject.tell("before");
    await_content(&log, "before\n");
    subject.dump(&criu).await;
    // CRIU passes over the size of what is only appended to.
    fs::write(&log, "before\nmeanwhile\n").unwrap();
    let plan = subject.restore_plan(RestoreStdio::Keep).unwrap();
    subject.restore(&criu, plan).await.unwrap();
    subject.tell("after");
    await_content(&log, "before\nmeanwhile\nafter\n");

    fs::remove_dir_all(subject.path("images")).unwrap();
    fs::create_dir(subject.path("images")).unwrap();
    subject.plan = DumpPlan::detect(subject.process.0.pid()).unwrap();
    subject.dump(&criu).await;
    fs::remove_file(&log).unwrap();
    let known = subject.fails(&criu, RestoreStdio::Keep).await;
    assert_eq!(known, KnownCause::FileMissing);
    fs::write(&other, "what there was\n").unwrap();
    let plan = subject.restore_plan(RestoreStdio::Log(other.clone()));
    subject.restore(&criu, plan.unwrap()).await.unwrap();
    subject.tell("again");
    await_content(&other, "what there was\nagain\n");
    subject.ends_as_told().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_process_that_somebody_else_started_is_taken_over_dumped_and_managed() {
    let criu = victim::criu();
    let (ours, theirs) = pipe().unwrap();
    let mut subject = Subject::of_others("setsid sh", &["requests"], || {
        theirs.try_clone().unwrap().into()
    });
    drop((ours, theirs));
    subject.dump(&criu).await;

    let plan = subject.restore_plan(RestoreStdio::Keep).unwrap();
    let options = plan.apply(victim::options(subject.path("images")));
    let restored = criu.restore(&options).await.unwrap();
    let pid = restored.pid.as_raw_pid().cast_unsigned();
    let pid_file = subject.path("pid");
    let process = plan.take_over_with_pid_file(pid, &pid_file).unwrap();
    assert_eq!(fs::read_to_string(pid_file).unwrap(), pid.to_string());
    // It was a pipe to outside.
    let errors = fs::read_link(format!("/proc/{pid}/fd/2")).unwrap();
    assert_eq!(errors, Path::new("/dev/null"));
    subject.process = Bound(process);
    subject.ends_as_told().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_terminal_of_ours_comes_back_with_a_new_master() {
    let criu = victim::criu();
    let size = Size::default();
    let mut subject = Subject::run(|_| Stdio::Terminal { size });
    let mut talk = Conversation::over(subject.attached.take());
    talk.goes_on("before");
    subject.dump(&criu).await;
    drop(talk);
    let mut plan = subject.restore_plan(RestoreStdio::Keep).unwrap();
    assert!(plan.awaits_terminal());
    let mut master = Master(None);
    let options = plan.apply(victim::options(subject.path("images")));
    let restored = criu.restore(&options).notify(&mut master).await.unwrap();
    plan.attach_terminal(master.0.unwrap());
    let pid = restored.pid.as_raw_pid().cast_unsigned();
    let mut process = plan.take_over(pid).unwrap();
    let mut talk = Conversation::over(process.take_attached());
    subject.process = Bound(process);
    talk.goes_on("after");
    talk.says("exit");
    subject.has_returned().await;
}

/// Takes the master of a terminal.
struct Master(Option<OwnedFd>);

#[async_trait]
impl Notify for Master {
    async fn orphan_pts_master(&mut self, master: OwnedFd) -> HookResult {
        self.0 = Some(master);
        Ok(())
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_file_of_a_mount_that_was_taken_away_comes_back_as_what_is_given() {
    let criu = victim::criu();
    let mount = Mount::new();
    let mut subject = Subject::run(|_| Stdio::Pipes);
    let mut talk = Conversation::over(subject.attached.take());
    talk.says(&format!("open {}/lost", mount.0.path().display()));
    talk.goes_on("opened");
    drop(mount);
    subject.plan = DumpPlan::detect(subject.process.0.pid()).unwrap();
    subject.dump(&criu).await;
    let mut plan = subject.restore_plan(RestoreStdio::Attach).unwrap();
    let missing: Vec<_> = plan.missing().cloned().collect();
    let [lost] = &missing[..] else {
        panic!("{missing:?}");
    };
    assert!(lost.was.ends_with("lost"), "{lost:?}");
    let found = subject.path("found");
    plan.inherit(&lost.key, OwnedFd::from(fs::File::create(&found).unwrap()));
    assert_eq!(plan.missing().count(), 0);
    subject.restore(&criu, plan).await.unwrap();
    let mut talk = Conversation::over(subject.attached.take());
    talk.says("write into what was found");
    await_content(&found, "into what was found\n");
    talk.says("exit");
    subject.has_returned().await;
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn datagrams_to_a_socket_outside_go_there_again() {
    let criu = victim::criu();
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("socket");
    let ours = UnixDatagram::bind(&path).unwrap();
    ours.set_read_timeout(Some(PATIENCE)).unwrap();
    let hears = |line: &str| {
        let mut bytes = [0; 64];
        let length = ours.recv(&mut bytes).unwrap();
        assert_eq!(
            str::from_utf8(&bytes[..length]).unwrap(),
            format!("{line}\n")
        );
    };
    let theirs = UnixDatagram::unbound().unwrap();
    theirs.connect(&path).unwrap();
    let mut subject = Subject::of_others("setsid sh", &["requests"], || {
        theirs.try_clone().unwrap().into()
    });
    drop(theirs);
    let sockets = subject.plan.sockets();
    assert!(sockets.ext_unix_sk && sockets.halves.is_empty());
    subject.tell("before");
    hears("before");
    subject.dump(&criu).await;
    let plan = subject.restore_plan(RestoreStdio::Keep).unwrap();
    assert_eq!(plan.missing().count(), 0);
    subject.restore(&criu, plan).await.unwrap();
    subject.tell("after");
    hears("after");
    subject.ends_as_told().await;
}

/// A file system of its own.
struct Mount(TempDir);

impl Mount {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (none, kind) = (c"none", c"tmpfs");
        let flags = MountFlags::empty();
        mount(none, directory.path(), kind, flags, None).unwrap();
        Self(directory)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        unmount(self.0.path(), UnmountFlags::DETACH).unwrap();
    }
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_terminal_that_is_not_ours_comes_back_as_another_and_not_without_one() {
    let criu = victim::criu();
    // It controls nobody, since a leader without a terminal has not opened it.
    let (master, terminal) = terminal();
    let mut subject = Subject::of_others("setsid sh", &[], || terminal.try_clone().unwrap());
    let mut talk = Conversation::on(master);
    talk.goes_on("before");
    assert_eq!(subject.plan.terminals().external.len(), 1);
    subject.dump(&criu).await;

    let error = subject.restore_plan(RestoreStdio::Keep).unwrap_err();
    assert!(matches!(error, ProcessError::Terminal { .. }), "{error}");
    let plan = subject.restore_plan(RestoreStdio::Attach).unwrap();
    subject.restore(&criu, plan).await.unwrap();
    let mut talk = Conversation::over(subject.attached.take());
    talk.goes_on("after");
    talk.says("exit");
    subject.has_returned().await;
}

/// A terminal, master first, that controls no session.
fn terminal() -> (OwnedFd, OwnedFd) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let terminal = open(name, flags, Mode::empty()).unwrap();
    (master, terminal)
}

/// Says to a test that it runs on a terminal.
const ON_A_TERMINAL: &str = "STASIS_LAB_ON_A_TERMINAL";

/// Runs a test of this program as the leader of a session on a terminal, and gives what was to be
/// seen there.
async fn on_a_terminal(test: &str) -> String {
    let size = Size::default();
    let mut process = Run::new(env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", test])
        .env(ON_A_TERMINAL, "1")
        .stdio(Stdio::Terminal { size })
        .start()
        .unwrap();
    let Some(Attached::Terminal(master)) = process.take_attached() else {
        panic!("a terminal");
    };
    let process = Bound(process);
    let seen = tokio::task::spawn_blocking(move || {
        let mut seen = Vec::new();
        // Its end is an error, which comes when nobody has the terminal any more.
        let _ = fs::File::from(master).read_to_end(&mut seen);
        String::from_utf8(seen).unwrap()
    });
    let seen = tokio::time::timeout(PATIENCE, seen).await.unwrap().unwrap();
    let exit = process.0.exited().await.unwrap();
    assert!(exit.is_success() && seen.contains("1 passed"), "{seen}");
    seen
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_job_of_a_session_comes_back_to_the_terminal_of_criu() {
    if env::var_os(ON_A_TERMINAL).is_none() {
        let name = "outcomes::a_job_of_a_session_comes_back_to_the_terminal_of_criu";
        let seen = on_a_terminal(name).await;
        assert!(seen.contains("before the dump\r\n"), "{seen}");
        assert!(seen.contains("after the restore\r\n"), "{seen}");
        return;
    }
    let criu = victim::criu();
    let ours = || rustix::io::dup(rustix::stdio::stdin()).unwrap();
    let mut subject = Subject::of_others("sh", &["requests"], ours);
    assert!(subject.plan.terminals().shell_job);
    subject.tell("before the dump");
    subject.dump(&criu).await;

    let (_master, another) = terminal();
    for criu in [criu.clone(), criu.clone().stdin(another)] {
        let known = subject.fails(&criu, RestoreStdio::Keep).await;
        assert_eq!(known, KnownCause::TerminalMissing);
    }
    let plan = subject.restore_plan(RestoreStdio::Keep).unwrap();
    assert!(plan.needs_terminal());
    let criu = criu.stdin(ours());
    subject.restore(&criu, plan).await.unwrap();
    subject.tell("after the restore");
    subject.ends_as_told().await;
}
