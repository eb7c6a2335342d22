//! The client: what is asked of CRIU, and what it answers.

mod call;
mod connection;
mod criu;
mod internet_sockets;
mod job;
mod judge;
mod outcome;
mod page_server;
mod run;

pub use call::Call;
pub use connection::Connection;
pub use criu::{Criu, GRACE};
pub use internet_sockets::UndumpableSocket;
pub use outcome::{Dumped, Features, IgnoredHook, PageServerStarted, PreDumped, Restored};
pub use page_server::PageServerChild;

use crate::{Error, Options, Request, Version, link::Endpoint};

/// What is asked of it.
impl Criu {
    /// CRIU's version. It is asked for once.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let version = stasis_criu::Criu::new().version().await?;
    /// println!("{version}, which is {}", version.as_integer());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn version(&self) -> Result<Version, Error> {
        if let Some(version) = self.known_version() {
            return Ok(version.clone());
        }
        let mut connection = self.prepare().await?;
        let version = connection.version().await;
        connection.cleanup().await;
        version
    }

    /// Whether it is CRIU `major.minor` or a later one.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// // Single pre-dumps are there since 3.17.
    /// assert!(stasis_criu::Criu::new().is_at_least(3, 17).await?);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn is_at_least(&self, major: u32, minor: u32) -> Result<bool, Error> {
        Ok(self.version().await?.is_at_least(major, minor))
    }

    /// What the kernel offers to CRIU.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let features = stasis_criu::Criu::new().features().await?;
    /// if !features.mem_track {
    ///     println!("no pre-dumps: the kernel does not track which memory changes");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn features(&self) -> Result<Features, Error> {
        let mut connection = self.prepare().await?;
        let features = connection.features().await;
        connection.cleanup().await;
        features
    }

    /// Checks that CRIU can work on this machine, as `criu check` does. What is missing is in the
    /// error.
    ///
    /// ```no_run
    /// # async fn example() {
    /// if let Err(error) = stasis_criu::Criu::new().check().await {
    ///     eprintln!("no checkpoints here: {error}");
    /// }
    /// # }
    /// ```
    pub fn check(&self) -> Call<'_, ()> {
        Call::check(self)
    }

    /// Dumps the tree of processes that `options` names. They are ended unless the options say
    /// otherwise.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let options = Options::new("/var/lib/images").pid(4711).leave_running(true);
    /// let dumped = Criu::new().dump(&options).within(Duration::from_secs(30)).await?;
    /// if let Some(stats) = dumped.stats {
    ///     println!("frozen for {:?}", stats.frozen);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn dump<'a>(&'a self, options: &'a Options) -> Call<'a, Dumped> {
        Call::new(self, Request::Dump, options, outcome::dumped)
    }

    /// Dumps the calling process itself, over a service: with `criu swrk` CRIU would be part of
    /// the tree that it dumps. With [`Options::leave_running`] it returns twice, once after the
    /// dump and once in the restored process, with [`Dumped::restored`]; otherwise in the restored
    /// process only.
    ///
    /// A hook finds the process frozen that is to answer it. So there are none, and the dump cannot
    /// be cancelled.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = Criu::over_service("/run/criu.socket");
    /// let options = Options::new("/var/lib/images").leave_running(true);
    /// if criu.dump_self(&options).await?.restored {
    ///     println!("here again");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn dump_self<'a>(&'a self, options: &Options) -> Call<'a, Dumped> {
        let call = Call::dump_self(self, options);
        match self.endpoint {
            Endpoint::Service(_) => call,
            Endpoint::Swrk(_) => call.refused(Error::Unavailable {
                request: Request::Dump,
                how: "of the calling process itself with a CRIU that is its child",
                instead: "start `criu service` and use Criu::over_service",
            }),
        }
    }

    /// Dumps memory ahead of a dump: the processes are frozen only until their memory is mapped
    /// out, and the next dump, with these images as its parent, writes what has changed since.
    /// Needs a kernel with soft-dirty tracking ([`Features::mem_track`]), which is asked for first.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = Criu::new();
    /// criu.pre_dump(&Options::new("/var/lib/images/1").pid(4711)).await?;
    /// let last = Options::new("/var/lib/images/2").pid(4711).parent_img("../1").track_mem(true);
    /// criu.dump(&last).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn pre_dump<'a>(&'a self, options: &'a Options) -> Call<'a, PreDumped> {
        Call::new(self, Request::SinglePreDump, options, outcome::pre_dumped)
    }

    /// Brings a dumped tree back.
    ///
    /// With the option to make it a sibling of CRIU, which is set unless this is a service, the
    /// root process becomes a child of the calling process, which has to wait for it. The other
    /// processes of a failed restore end as zombies of whoever reaps orphans: a caller that
    /// restores often is a subreaper (`PR_SET_CHILD_SUBREAPER`) or has one above it.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let restored = Criu::new().restore(&Options::new("/var/lib/images")).await?;
    /// println!("process {} goes on", restored.pid.as_raw_pid());
    /// # Ok(())
    /// # }
    /// ```
    pub fn restore<'a>(&'a self, options: &'a Options) -> Call<'a, Restored> {
        Call::new(self, Request::Restore, options, outcome::restored)
    }

    /// Starts a page server that outlives the connection and serves one dump. Nobody waits for it:
    /// [`start_page_server_child`](Self::start_page_server_child) tells how it ends.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let server = Criu::new().start_page_server(&Options::new("/var/lib/images")).await?;
    /// println!("it listens on port {}", server.port);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_page_server<'a>(&'a self, options: &'a Options) -> Call<'a, PageServerStarted> {
        Call::new(self, Request::PageServer, options, outcome::page_server)
    }

    /// Starts a page server that serves one dump and can be waited for.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let server = Criu::new().start_page_server_child(&Options::new("/var/lib/images")).await?;
    /// println!("process {} listens on port {}", server.pid.as_raw_pid(), server.port);
    /// assert!(server.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_page_server_child(
        &self,
        options: &Options,
    ) -> Result<PageServerChild, Error> {
        PageServerChild::start(self, options).await
    }

    /// Writes down, into the images directory, what this machine's processors can do.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// Criu::new().cpuinfo_dump(&Options::new("/var/lib/images")).await
    /// # }
    /// ```
    pub fn cpuinfo_dump<'a>(&'a self, options: &'a Options) -> Call<'a, ()> {
        Call::new(self, Request::CpuinfoDump, options, outcome::nothing)
    }

    /// Compares this machine's processors with those that the images directory tells of.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// Criu::new().cpuinfo_check(&Options::new("/var/lib/images")).await
    /// # }
    /// ```
    pub fn cpuinfo_check<'a>(&'a self, options: &'a Options) -> Call<'a, ()> {
        Call::new(self, Request::CpuinfoCheck, options, outcome::nothing)
    }

    /// Opens a connection for several calls, where CRIU allows it.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let criu = stasis_criu::Criu::new();
    /// let mut connection = criu.prepare().await?;
    /// println!("CRIU {}", connection.version().await?);
    /// println!("{:?}", connection.features().await?);
    /// connection.cleanup().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn prepare(&self) -> Result<Connection, Error> {
        Connection::open(self, self.endpoint.clone(), Request::Version).await
    }
}
