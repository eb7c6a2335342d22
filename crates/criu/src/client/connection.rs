//! One connection, for one call or several.

use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

use rustix::process::Pid;

use super::{
    call::Call,
    criu::Criu,
    internet_sockets,
    judge::{Judge, there},
    outcome::{self, Answer, Dumped, Features, Finish, PageServerStarted, PreDumped},
};
use crate::{
    Error, NoHooks, Notify, Options, Request, Version,
    link::{End, Endpoint, Link, ProtocolError},
    stats::DumpStats,
    swrk::pid,
    unknown::MalformedMessage,
};

/// A connection to CRIU for several calls, from [`Criu::prepare`].
///
/// CRIU lets some requests be followed by others: version, features, cpuinfo, page servers, and a
/// pre-dump by another one or by the dump. After any other the connection has ended, and a further
/// call is refused.
///
/// A call whose future is dropped is cancelled, and the connection ends with it.
#[derive(Debug)]
pub struct Connection {
    criu: Criu,
    link: Link,
    next: Next,
    /// What CRIU has counted over this connection.
    counted: Option<DumpStats>,
}

/// What a connection's CRIU can be asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Anything,
    /// After a pre-dump. CRIU does not know any other request for one then, not even for features.
    Dumps,
    Nothing,
}

impl Next {
    fn permits(self, request: Request) -> Result<(), Error> {
        match self {
            Self::Anything => Ok(()),
            Self::Dumps if matches!(request, Request::PreDump | Request::Dump) => Ok(()),
            Self::Dumps => Err(Error::Unavailable {
                request,
                how: "over a connection whose pre-dumps have begun",
                instead: "use another connection",
            }),
            Self::Nothing => Err(Error::Closed { request }),
        }
    }
}

impl Connection {
    /// Reaches the CRIU at `endpoint`, for this request and those that may follow.
    pub(super) async fn open(
        criu: &Criu,
        endpoint: Endpoint,
        request: Request,
    ) -> Result<Self, Error> {
        let link = Link::open(endpoint, criu.grace, criu.open.clone()).await;
        Ok(Self {
            link: link.map_err(|source| Error::Start { request, source })?,
            criu: criu.clone(),
            next: Next::Anything,
            counted: None,
        })
    }

    /// CRIU's version.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = stasis_criu::Criu::new().prepare().await?;
    /// assert!(connection.version().await?.is_at_least(3, 17));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn version(&mut self) -> Result<Version, Error> {
        if let Some(version) = self.criu.known_version() {
            return Ok(version.clone());
        }
        let call = Call::plain(&self.criu, Request::Version, outcome::version);
        let version = self.exchange(call.keeping_open()).await?;
        self.criu.learn(&version);
        Ok(version)
    }

    /// What the kernel offers to CRIU.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = stasis_criu::Criu::new().prepare().await?;
    /// if connection.features().await?.lazy_pages {
    ///     println!("a restore need not wait for its memory");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn features(&mut self) -> Result<Features, Error> {
        let call = Call::plain(&self.criu, Request::Features, outcome::features);
        self.exchange(call.keeping_open()).await
    }

    /// Writes down, into the images directory, what this machine's processors can do.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// connection.cpuinfo_dump(&Options::new("/var/lib/images")).await
    /// # }
    /// ```
    pub async fn cpuinfo_dump(&mut self, options: &Options) -> Result<(), Error> {
        let call = self.call(Request::CpuinfoDump, options, outcome::nothing)?;
        self.ask(call.keeping_open()).await
    }

    /// Compares this machine's processors with those that the images directory tells of.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// connection.cpuinfo_check(&Options::new("/var/lib/images")).await
    /// # }
    /// ```
    pub async fn cpuinfo_check(&mut self, options: &Options) -> Result<(), Error> {
        let call = self.call(Request::CpuinfoCheck, options, outcome::nothing)?;
        self.ask(call.keeping_open()).await
    }

    /// Starts a page server that is a child of this connection's CRIU: it ends with the
    /// connection's CRIU, and [`wait_pid`](Self::wait_pid) tells how.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// let server = connection.start_page_server_child(&Options::new("/var/lib/images")).await?;
    /// println!("it listens on port {}", server.port);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn start_page_server_child(
        &mut self,
        options: &Options,
    ) -> Result<PageServerStarted, Error> {
        let call = self.call(Request::PageServerChild, options, outcome::page_server)?;
        self.ask(call.keeping_open()).await
    }

    /// Waits for a child of this connection's CRIU, such as a page server, and so ends the
    /// connection.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// let server = connection.start_page_server_child(&Options::new("/var/lib/images")).await?;
    /// if let Some(pid) = server.pid {
    ///     assert!(connection.wait_pid(pid).await?.success());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait_pid(&mut self, pid: Pid) -> Result<ExitStatus, Error> {
        let mut call = Call::plain(&self.criu, Request::WaitPid, outcome::status);
        call.pid = Some(pid);
        let status = self.ask(call).await?;
        Ok(ExitStatus::from_raw(status))
    }

    /// Dumps memory ahead of a dump; another pre-dump, or the dump, may follow.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, NoHooks, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// let first = Options::new("/var/lib/images/1").pid(4711);
    /// let second = Options::new("/var/lib/images/2").pid(4711).parent_img("../1");
    /// connection.pre_dump(&first, &mut NoHooks).await?;
    /// connection.pre_dump(&second, &mut NoHooks).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn pre_dump(
        &mut self,
        options: &Options,
        notify: &mut dyn Notify,
    ) -> Result<PreDumped, Error> {
        let call = self.call(Request::PreDump, options, outcome::pre_dumped)?;
        self.ask(call.keeping_open().notify(notify)).await
    }

    /// Dumps the tree of processes that `options` names, and so ends the connection.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, NoHooks, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let mut connection = Criu::new().prepare().await?;
    /// let first = Options::new("/var/lib/images/1").pid(4711);
    /// let last = Options::new("/var/lib/images/2").pid(4711).parent_img("../1").track_mem(true);
    /// connection.pre_dump(&first, &mut NoHooks).await?;
    /// connection.dump(&last, &mut NoHooks).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dump(
        &mut self,
        options: &Options,
        notify: &mut dyn Notify,
    ) -> Result<Dumped, Error> {
        let call = self.call(Request::Dump, options, outcome::dumped)?;
        self.ask(call.notify(notify)).await
    }

    /// What is asked over a connection whose CRIU has been started already.
    fn call<'a, T>(
        &self,
        request: Request,
        options: &'a Options,
        finish: Finish<T>,
    ) -> Result<Call<'a, T>, Error> {
        let mut call = Call::new(&self.criu, request, options, finish);
        call.prepare()?;
        if !call.rendered.inherited.is_empty() {
            return Err(Error::Unavailable {
                request,
                how: "with descriptors to inherit over a connection that is open already",
                instead: "use the call of the same name of Criu",
            });
        }
        Ok(call)
    }

    /// Closes the connection, and waits until its CRIU has ended.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let connection = stasis_criu::Criu::new().prepare().await?;
    /// connection.cleanup().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn cleanup(self) {
        self.link.close().await;
    }

    /// Asks, after it has been seen that this CRIU knows what is asked.
    pub(super) async fn ask<T>(&mut self, mut call: Call<'_, T>) -> Result<T, Error> {
        let request = call.request;
        let version = call.in_time(self.version()).await?;
        if let Some(options) = &call.options {
            options.check(request, Some(&version))?;
        }
        if request == Request::Dump {
            // CRIU would find out when the processes are frozen.
            let root = call.rendered.opts.pid.and_then(pid);
            internet_sockets::refuse(root, &version)
                .map_err(|source| Error::Processes { request, source })?;
        }
        if matches!(request, Request::PreDump | Request::SinglePreDump)
            && self.next == Next::Anything
            && !call.in_time(self.features()).await?.mem_track
        {
            return Err(Error::Unavailable {
                request,
                how: "on this kernel, which does not track which memory changes (soft-dirty)",
                instead: "make a plain dump",
            });
        }
        self.exchange(call).await
    }

    async fn exchange<T>(&mut self, mut call: Call<'_, T>) -> Result<T, Error> {
        let request = call.request;
        self.next.permits(request)?;
        let judge = Judge::of(&call);
        let job = call.job()?;
        // Until the reply says otherwise: a dropped future leaves it so.
        self.next = Next::Nothing;
        let mut none = NoHooks;
        let notify = call.notify.unwrap_or(&mut none);
        let outcome = self.link.call(job, notify, call.until).await;
        let outcome = outcome.ok_or(Error::Closed { request })?;
        let replied = matches!(&outcome.end, End::Reply(reply, _) if reply.success);
        self.next = match request {
            _ if !(replied && call.keeps_open) => Next::Nothing,
            Request::PreDump => Next::Dumps,
            _ => Next::Anything,
        };
        let root = outcome.root;
        let mut answer = judge.judge(outcome)?;
        self.count(&mut answer);
        (call.finish)(answer).map_err(|field| Error::Protocol {
            request,
            source: ProtocolError::Malformed(MalformedMessage::Missing {
                message: "criu.criu_resp",
                field,
            }),
            left: there(request, root).into(),
        })
    }

    /// Leaves an answer what was counted for it alone. CRIU 4.2.1 counts on from one pre-dump of a
    /// connection to the next and to the dump, 4.1.1 does not.
    fn count(&mut self, answer: &mut Answer) {
        let known = self.criu.known_version();
        let counts_on = known.is_some_and(|version| version.is_at_least(4, 2));
        if let Some(stats) = answer.dump_stats
            && let Some(earlier) = self.counted.replace(stats)
            && counts_on
        {
            // A later release may have left that off.
            answer.dump_stats = Some(stats.since(&earlier).unwrap_or(stats));
        }
    }
}
