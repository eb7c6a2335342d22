//! The processes: which, what becomes of them, and what they were to the shell that began them.

use std::time::Duration;

use super::{
    Options,
    dir::Descriptor,
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_RESTORE, Given, Key, RESTORE, Release, Row, flag},
};
use crate::{request::Request, rpc::CriuOpts, setters::setters};

const CPU_CAP_FOR: &[Request] = &[
    Request::Dump,
    Request::PreDump,
    Request::SinglePreDump,
    Request::Restore,
    Request::CpuinfoDump,
    Request::CpuinfoCheck,
];

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 2,
        name: "pid",
        since: Release::new(0, 8, 0),
        requests: DUMPS,
        key: Key::None("the request names the process"),
        by: By::Setter {
            given: |o| Given::one(o.tasks.pid.map(|pid| pid.to_string())),
            put: |o, rpc| {
                rpc.pid = o
                    .tasks
                    .pid
                    .map(|pid| i32::try_from(pid).unwrap_or(i32::MAX))
            },
        },
    },
    flag!(
        3,
        leave_running,
        Key::Named("leave-running"),
        Release::new(0, 8, 0),
        DUMPS,
        tasks.leave_running
    ),
    flag!(
        69,
        leave_stopped,
        Key::Named("leave-stopped"),
        Release::new(3, 19, 0),
        &[Request::Dump, Request::Restore],
        tasks.leave_stopped
    ),
    flag!(
        7,
        shell_job,
        Key::Named("shell-job"),
        Release::new(0, 8, 0),
        DUMPS_AND_RESTORE,
        tasks.shell_job
    ),
    flag!(
        50,
        orphan_pts_master,
        Key::None("there is no such key, and only the RPC can hand over the terminal"),
        Release::new(2, 12, 0),
        DUMPS_AND_RESTORE,
        tasks.orphan_pts_master
    ),
    flag!(
        26,
        rst_sibling,
        Key::Exclusive {
            key: "restore-sibling",
            harm: "CRIU refuses whatever is no restore",
        },
        Release::new(1, 3, 1),
        RESTORE,
        tasks.rst_sibling
    ),
    Row {
        number: 22,
        name: "exec_cmd",
        since: Release::new(1, 3, 0),
        requests: RESTORE,
        key: Key::None("a file's key has no place for the command"),
        by: By::Setter {
            given: |o| Given::all(&o.tasks.exec_cmd),
            put: |o, rpc| rpc.exec_cmd.clone_from(&o.tasks.exec_cmd),
        },
    },
    Row {
        number: 45,
        name: "timeout",
        since: Release::new(2, 4, 0),
        requests: DUMPS,
        key: Key::Named("timeout"),
        by: By::Setter {
            given: |o| Given::one(o.tasks.timeout.map(|after| after.as_secs().to_string())),
            put: put_timeout,
        },
    },
    Row {
        number: 62,
        name: "pidfd_store_sk",
        since: Release::new(3, 16, 0),
        requests: DUMPS,
        key: Key::None("it is a descriptor of the client"),
        by: By::Descriptor {
            given: |o| Given::descriptor(o.tasks.pidfd_store.is_some()),
        },
    },
    Row {
        number: 20,
        name: "cpu_cap",
        since: Release::new(1, 3, 0),
        requests: CPU_CAP_FOR,
        key: Key::Named("cpu-cap"),
        by: By::Setter {
            given: |o| Given::one(o.tasks.cpu_cap.map(CpuCapabilities::key)),
            put: |o, rpc| rpc.cpu_cap = o.tasks.cpu_cap.map(|of| of.0),
        },
    },
];

/// CRIU counts the time in milliseconds in 32 bits.
const LONGEST_TIMEOUT: u32 = u32::MAX / 1000;

fn put_timeout(options: &Options, rpc: &mut CriuOpts) {
    rpc.timeout = options
        .tasks
        .timeout
        .map(|after| u32::try_from(after.as_secs()).unwrap_or(LONGEST_TIMEOUT));
}

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tasks {
    pub(super) pid: Option<u32>,
    pub(super) leave_running: bool,
    pub(super) leave_stopped: bool,
    pub(super) shell_job: bool,
    pub(super) orphan_pts_master: bool,
    pub(super) rst_sibling: bool,
    pub(super) exec_cmd: Vec<String>,
    pub(super) timeout: Option<Duration>,
    pub(super) pidfd_store: Option<Descriptor>,
    pub(super) cpu_cap: Option<CpuCapabilities>,
}

/// The processes.
///
/// ```
/// use std::time::Duration;
/// use stasis_criu::{Options, options::CpuCapabilities};
///
/// let options = Options::new("/var/lib/images")
///     .pid(4711)
///     .leave_running(true)
///     .shell_job(true)
///     .timeout(Duration::from_secs(30))
///     .cpu_cap(CpuCapabilities::FPU | CpuCapabilities::INS);
/// ```
impl Options {
    setters! {
        /// The root of the tree to dump, `pid`.
        pub fn pid(mut self, pid: u32) { self.tasks.pid = Some(pid); }

        /// Lets the processes run on after the dump, `leave_running`; without it they are killed.
        pub fn leave_running(mut self, set: bool) { self.tasks.leave_running = set; }

        /// Leaves the processes stopped after the dump or the restore, `leave_stopped`.
        pub fn leave_stopped(mut self, set: bool) { self.tasks.leave_stopped = set; }

        /// The tree is a job of a shell, `shell_job`: its session or terminal lies outside of it. A
        /// restore needs a terminal as its own standard input.
        pub fn shell_job(mut self, set: bool) { self.tasks.shell_job = set; }

        /// Hands the master of a new terminal to the client on restore, `orphan_pts_master`.
        pub fn orphan_pts_master(mut self, set: bool) { self.tasks.orphan_pts_master = set; }

        /// Makes the restored root a child of the client, not of CRIU, `rst_sibling`.
        pub fn rst_sibling(mut self, set: bool) { self.tasks.rst_sibling = set; }

        /// How long the processes may take to be frozen, `timeout`, in whole seconds; 0 is for
        /// ever, and CRIU takes 10 seconds if it is not set.
        pub fn timeout(mut self, after: Duration) { self.tasks.timeout = Some(after); }

        /// The datagram socket in which CRIU keeps pidfds between a pre-dump and the next,
        /// `pidfd_store_sk`, to notice when a PID has come to be another process.
        pub fn pidfd_store(mut self, socket: impl Into<Descriptor>) {
            self.tasks.pidfd_store = Some(socket.into());
        }

        /// What a processor must be able to do for a restore, `cpu_cap`.
        pub fn cpu_cap(mut self, capabilities: CpuCapabilities) {
            self.tasks.cpu_cap = Some(capabilities);
        }
    }

    /// Whether `shell_job` is set.
    pub fn is_shell_job(&self) -> bool {
        self.tasks.shell_job
    }

    /// What CRIU becomes once the restore has succeeded, `exec_cmd`: a program and its arguments.
    #[must_use]
    pub fn exec_cmd<T: Into<String>>(mut self, command: impl IntoIterator<Item = T>) -> Self {
        self.tasks.exec_cmd = command.into_iter().map(Into::into).collect();
        self
    }
}

/// What CRIU asks of the processor that an image is restored on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuCapabilities(u32);

impl CpuCapabilities {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The same floating point unit.
    pub const FPU: Self = Self(1);
    /// Exactly the same features.
    pub const CPU: Self = Self(2);
    /// At least the same features.
    pub const INS: Self = Self(4);
    /// All of these.
    pub const ALL: Self = Self(7);

    /// As a file has it. CRIU adds what it reads to its default, so that is cleared first.
    fn key(self) -> String {
        let mut words = String::from("none");
        for (one, word) in [(Self::FPU, "fpu"), (Self::CPU, "cpu"), (Self::INS, "ins")] {
            if self.0 & one.0 != 0 {
                words.push(',');
                words.push_str(word);
            }
        }
        words
    }
}

impl std::ops::BitOr for CpuCapabilities {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    let tasks = &options.tasks;
    if let Some(pid) = tasks
        .pid
        .filter(|pid| i32::try_from(*pid).is_err() || *pid == 0)
    {
        return Err(OptionError::value("pid", pid, "it is no process ID"));
    }
    if tasks.leave_running && tasks.leave_stopped {
        return Err(OptionError::Conflict {
            option: "leave_running",
            other: "leave_stopped",
            reason: "processes are left either running or stopped",
        });
    }
    if let Some(after) = tasks.timeout {
        if after.subsec_nanos() != 0 {
            let reason = "CRIU counts whole seconds";
            return Err(OptionError::value("timeout", format!("{after:?}"), reason));
        }
        if after.as_secs() > LONGEST_TIMEOUT.into() {
            let reason = "CRIU counts milliseconds in 32 bits; 0 is for ever";
            return Err(OptionError::value("timeout", format!("{after:?}"), reason));
        }
    }
    if tasks.exec_cmd.first().is_some_and(String::is_empty) {
        let reason = "it begins with the program to run";
        return Err(OptionError::value("exec_cmd", "", reason));
    }
    Ok(())
}

/// CRIU takes a dump of nobody for one of whoever asks, and kills that in the end.
pub(super) fn check_request(options: &Options, request: Request) -> Result<(), OptionError> {
    if DUMPS.contains(&request) && options.tasks.pid.is_none() {
        return Err(OptionError::Incomplete {
            what: request.to_string(),
            option: "pid",
            reason: "without it CRIU dumps the process that asks, as Criu::dump_self does",
        });
    }
    Ok(())
}

/// A configuration file's `none` also leaves out the image of the processor, which the RPC's
/// keeps.
pub(super) fn check_for_file(options: &Options) -> Result<(), OptionError> {
    if options.tasks.cpu_cap == Some(CpuCapabilities::NONE) {
        return Err(OptionError::Unwritable {
            option: "cpu_cap",
            value: String::from("none"),
            reason: "it would leave out the image of the processor too; set it in the request",
        });
    }
    Ok(())
}
