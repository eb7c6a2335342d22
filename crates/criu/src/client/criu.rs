//! The client: which CRIU, and how it is started.

use std::{
    ffi::OsString,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::sync::watch;

use crate::{Version, link::Endpoint, swrk::Program};

/// How long CRIU has for bringing a cancelled call to an orderly end, until it is killed.
pub const GRACE: Duration = Duration::from_secs(10);
/// The binary that is looked for in `PATH`.
const BINARY: &str = "criu";

/// A client of CRIU.
///
/// Each call has a `criu swrk` of its own, which is started for it and reaped when it is over, or
/// a connection to a service. A call whose future is dropped is cancelled: see
/// [`Call`](crate::Call).
///
/// ```no_run
/// use stasis_criu::{Criu, Options};
///
/// # async fn example() -> Result<(), stasis_criu::Error> {
/// let criu = Criu::new();
/// println!("CRIU {}", criu.version().await?);
/// criu.dump(&Options::new("/var/lib/images").pid(4711)).await?;
/// let restored = criu.restore(&Options::new("/var/lib/images")).await?;
/// println!("process {} goes on", restored.pid.as_raw_pid());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Criu {
    pub(super) endpoint: Endpoint,
    pub(super) grace: Duration,
    version: Arc<OnceLock<Version>>,
    /// How many connections there are, those included that a dropped call is still ending.
    pub(super) open: watch::Sender<usize>,
}

impl Default for Criu {
    fn default() -> Self {
        Self::new()
    }
}

impl Criu {
    /// The CRIU that `PATH` has.
    #[must_use]
    pub fn new() -> Self {
        Self::with_binary(BINARY)
    }

    /// The CRIU at `binary`: a path, or a name to be found in `PATH`.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = stasis_criu::Criu::with_binary("/opt/criu/sbin/criu");
    /// criu.check().await
    /// # }
    /// ```
    #[must_use]
    pub fn with_binary(binary: impl Into<PathBuf>) -> Self {
        Self::at(Endpoint::Swrk(Program {
            binary: binary.into(),
            environment: Vec::new(),
            inherited: Vec::new(),
            stdin: None,
            callers_group: false,
        }))
    }

    /// The service (`criu service`) that listens at `socket`.
    ///
    /// A call over a service cannot be cancelled but at a hook, since the process that serves it
    /// is not known: the error says so. It can have no inherited descriptors, its restored
    /// processes are not the caller's children, and only the caller's own process can be dumped
    /// by a caller without privileges.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = stasis_criu::Criu::over_service("/run/criu.socket");
    /// println!("CRIU {}", criu.version().await?);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn over_service(socket: impl Into<PathBuf>) -> Self {
        Self::at(Endpoint::Service(socket.into()))
    }

    fn at(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            grace: GRACE,
            version: Arc::new(OnceLock::new()),
            open: watch::Sender::new(0),
        }
    }

    /// Sets `name` to `value` in CRIU's environment, besides what it inherits.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// // Where CRIU looks for its plugins.
    /// let criu = stasis_criu::Criu::new().environment("CRIU_LIBS_DIR", "/opt/criu/lib/criu");
    /// criu.check().await
    /// # }
    /// ```
    #[must_use]
    pub fn environment(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        if let Endpoint::Swrk(program) = &mut self.endpoint {
            program.environment.push((name.into(), value.into()));
        }
        self
    }

    /// Gives CRIU `stdin` as its standard input, which is `/dev/null` otherwise. A shell job is
    /// restored only where it is the terminal that the job is to have.
    ///
    /// ```no_run
    /// use std::{fs::File, os::fd::OwnedFd};
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let terminal = OwnedFd::from(File::options().read(true).write(true).open("/dev/tty")?);
    /// let options = Options::new("/var/lib/images").shell_job(true);
    /// Criu::new().stdin(terminal).restore(&options).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stdin(mut self, stdin: OwnedFd) -> Self {
        if let Endpoint::Swrk(program) = &mut self.endpoint {
            program.stdin = Some(Arc::new(stdin));
        }
        self
    }

    /// Sets how long CRIU has for bringing a cancelled call to an orderly end, until it is killed:
    /// [`GRACE`] otherwise. A cancelled restore has it twice. The hook
    /// [`network_unlock`](crate::Notify::network_unlock) has as long for itself, and so has CRIU for
    /// its exit after its reply.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = Criu::new().grace(Duration::from_secs(2));
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// // Cancelled after five seconds; a CRIU that has not given up two seconds later is killed.
    /// criu.dump(&options).within(Duration::from_secs(5)).await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Waits until no call of this client, or of a clone of it, is under way: also those whose
    /// futures were dropped, which are being cancelled.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() {
    /// let criu = Criu::new();
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// let _ = tokio::time::timeout(Duration::from_secs(1), criu.dump(&options).into_future()).await;
    /// criu.idle().await;
    /// // Dumped, or running as before.
    /// # }
    /// ```
    pub async fn idle(&self) {
        // This client has a sender, so that the channel is open.
        let _ = self.open.subscribe().wait_for(|open| *open == 0).await;
    }

    /// Its binary and its environment, unless it is a service.
    pub(crate) fn program(&self) -> Option<(&Path, &[(OsString, OsString)])> {
        match &self.endpoint {
            Endpoint::Swrk(program) => Some((&program.binary, &program.environment)),
            Endpoint::Service(_) => None,
        }
    }

    pub(super) fn is_service(&self) -> bool {
        matches!(self.endpoint, Endpoint::Service(_))
    }

    /// The version, if it is known already.
    pub(super) fn known_version(&self) -> Option<&Version> {
        self.version.get()
    }

    pub(super) fn learn(&self, version: &Version) {
        // Whoever was first learnt the same.
        let _ = self.version.set(version.clone());
    }
}
