//! One connection, for one call or several.

use std::{
    os::{
        fd::{AsFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    pin::pin,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use rustix::process::Pid;
use stasis_linux::file::Directory;
use tokio::sync::{Notify as Signal, mpsc, oneshot};

use super::{
    Criu,
    ask::{Ask, Needs, Prepared},
    outcome::{self, Answer, Dumped, Features, Finish, IgnoredHook, PageServerStarted, PreDumped},
};
use crate::{
    Error, NoHooks, Notify, Options, Request, Version,
    diagnosis::{self, Evidence, KnownCause, Log, Stamp},
    link::{CancelledBy, End, Farewell, Job, Link, Outcome, ProtocolError},
    stats::{DumpStats, RestoreStats},
    swrk::pid,
    undo::Leftover,
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
    takes: Takes,
    /// What CRIU has counted over this connection.
    counted: Option<DumpStats>,
}

/// What a connection's CRIU can be asked next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Takes {
    Anything,
    /// After a pre-dump. CRIU does not know any other request for one then, not even for features.
    Dumps,
    Nothing,
}

impl Connection {
    pub(super) async fn open(criu: &Criu) -> Result<Self, Error> {
        let needs = Needs {
            request: Request::Version,
            inherited: Vec::new(),
            callers_group: false,
        };
        Self::with(criu, needs).await
    }

    pub(super) async fn with(criu: &Criu, needs: Needs) -> Result<Self, Error> {
        let Needs {
            request,
            inherited,
            callers_group,
        } = needs;
        Ok(Self {
            link: criu.link(inherited, callers_group, request).await?,
            criu: criu.clone(),
            takes: Takes::Anything,
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
        let ask = Ask::new(Request::Version).keeping_open();
        let version = self.ask_plain(ask, outcome::version).await?;
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
        let ask = Ask::new(Request::Features).keeping_open();
        self.ask_plain(ask, outcome::features).await
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
        let ask = self.ask_with(Request::CpuinfoDump, options)?.keeping_open();
        self.ask(ask, outcome::nothing).await
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
        let ask = self
            .ask_with(Request::CpuinfoCheck, options)?
            .keeping_open();
        self.ask(ask, outcome::nothing).await
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
        let ask = self
            .ask_with(Request::PageServerChild, options)?
            .keeping_open();
        self.ask(ask, outcome::page_server).await
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
        let mut ask = Ask::new(Request::WaitPid);
        ask.pid = Some(pid);
        let status = self.ask(ask, outcome::status).await?;
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
        let mut ask = self.ask_with(Request::PreDump, options)?.keeping_open();
        ask.notify = Some(notify);
        self.ask(ask, outcome::pre_dumped).await
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
        let mut ask = self.ask_with(Request::Dump, options)?;
        ask.notify = Some(notify);
        self.ask(ask, outcome::dumped).await
    }

    /// What is asked over a connection whose CRIU has been started already.
    fn ask_with<'a>(&self, request: Request, options: &'a Options) -> Result<Ask<'a>, Error> {
        let ask = Ask::with(request, options)?;
        if !ask.needs(&self.criu)?.inherited.is_empty() {
            return Err(Error::Unavailable {
                request,
                how: "with descriptors to inherit over a connection that is open already",
                instead: "use the call of the same name of Criu",
            });
        }
        Ok(ask)
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

    /// Asks what depends on no version.
    async fn ask_plain<T>(&mut self, ask: Ask<'_>, finish: Finish<T>) -> Result<T, Error> {
        let prepared = Prepared::plain(&ask);
        self.exchange(ask, prepared, finish).await
    }

    /// Asks, after it has been seen that this CRIU knows what is asked.
    pub(super) async fn ask<T>(&mut self, mut ask: Ask<'_>, finish: Finish<T>) -> Result<T, Error> {
        let version = ask.in_time(self.version()).await?;
        if let Some((options, _)) = &ask.options {
            options.check(ask.request, Some(&version))?;
        }
        if ask.request == Request::Dump {
            ask.refuse_sockets(&version)?;
        }
        if matches!(ask.request, Request::PreDump | Request::SinglePreDump)
            && self.takes == Takes::Anything
            && !ask.in_time(self.features()).await?.mem_track
        {
            return Err(Error::Unavailable {
                request: ask.request,
                how: "on this kernel, which does not track which memory changes (soft-dirty)",
                instead: "make a plain dump",
            });
        }
        let prepared = Prepared::new(&mut ask, self.criu.is_service())?;
        self.exchange(ask, prepared, finish).await
    }

    async fn exchange<T>(
        &mut self,
        ask: Ask<'_>,
        prepared: Prepared,
        finish: Finish<T>,
    ) -> Result<T, Error> {
        let Ask {
            request,
            options,
            notify,
            deadline,
            ends,
            mut until,
            keeps_open,
            restored,
            ..
        } = ask;
        match self.takes {
            Takes::Anything => {}
            Takes::Dumps if matches!(request, Request::PreDump | Request::Dump) => {}
            Takes::Dumps => {
                return Err(Error::Unavailable {
                    request,
                    how: "over a connection whose pre-dumps have begun",
                    instead: "use another connection",
                });
            }
            Takes::Nothing => return Err(Error::Closed { request }),
        }
        // Until the reply says otherwise: a dropped future leaves it so.
        self.takes = Takes::Nothing;
        let (questions, mut hooks) = mpsc::channel(1);
        let (sender, mut result) = oneshot::channel();
        let cancel = Arc::new(Signal::new());
        let job = Job {
            request,
            message: prepared.message,
            keep: prepared.keep,
            pages: prepared.pages,
            keeps_open,
            becomes_command: prepared.becomes_command,
            deadline: ends,
            hooks: questions,
            cancel: Arc::clone(&cancel),
            undo: prepared.undo,
            restored,
            outcome: sender,
        };
        let mut judge = Judge {
            request,
            deadline: deadline.unwrap_or_default(),
            logs: prepared.logs,
            log: options.and_then(|(options, _)| options.log_name(request)),
            log_before: None,
        };
        judge.log_before = judge.log().and_then(Log::stamp);
        let closed = || Error::Closed { request };
        self.link.call(job).await.ok_or_else(closed)?;

        let mut none = NoHooks;
        let notify = notify.unwrap_or(&mut none);
        let mut cancelled = false;
        let answering = async {
            while let Some(question) = hooks.recv().await {
                question.put_to(notify).await;
            }
        };
        let mut answering = pin!(answering);
        let mut answered = false;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut result => break outcome.map_err(|_| closed())?,
                () = &mut until, if !cancelled => {
                    cancelled = true;
                    cancel.notify_one();
                }
                () = &mut answering, if !answered => answered = true,
            }
        };
        let goes_on = matches!(&outcome.end, End::Reply(reply, _) if keeps_open && reply.success);
        self.takes = match request {
            _ if !goes_on => Takes::Nothing,
            Request::PreDump => Takes::Dumps,
            _ => Takes::Anything,
        };
        let root = outcome.root;
        let mut answer = judge.judge(outcome)?;
        self.count(&mut answer);
        finish(answer).map_err(|field| Error::Protocol {
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

/// Makes of a call that is over its answer or its error.
struct Judge<'a> {
    request: Request,
    deadline: Duration,
    logs: Option<Arc<OwnedFd>>,
    log: Option<&'a str>,
    /// The log that was there before it, of an earlier call.
    log_before: Option<Stamp>,
}

impl Judge<'_> {
    fn judge(&self, outcome: Outcome) -> Result<Answer, Error> {
        let request = self.request;
        let Outcome {
            end,
            cancelled,
            ignored,
            farewell,
            mut left,
            command,
            root,
        } = outcome;
        if let (Some(CancelledBy::Protocol(_)), End::Reply(reply, _)) = (&cancelled, &end)
            && reply.success
        {
            // A success after all, of which nothing was undone.
            let told = reply.restore.as_ref();
            left.extend(there(request, told.and_then(|told| pid(told.pid)).or(root)));
        }
        let left = left.into();
        if let Some(CancelledBy::Protocol(source)) = cancelled {
            return Err(Error::Protocol {
                request,
                source,
                left,
            });
        }
        match (end, cancelled) {
            // It was too late to cancel it, if it was to be cancelled at all.
            (End::Reply(reply, unknown), _) if reply.success => Ok(Answer {
                reply: *reply,
                unknown,
                ignored: ignored
                    .into_iter()
                    .map(|(hook, error)| IgnoredHook { hook, error })
                    .collect(),
                command,
                dump_stats: self
                    .logs()
                    .filter(|_| request.freezes())
                    .and_then(|logs| DumpStats::read(logs).ok()),
                restore_stats: self
                    .logs()
                    .filter(|_| request == Request::Restore)
                    .and_then(|logs| RestoreStats::read(logs).ok()),
            }),
            (_, Some(CancelledBy::Hook(hook, source))) => Err(Error::Hook {
                request,
                hook,
                source,
                left,
            }),
            (_, Some(CancelledBy::Deadline)) => Err(Error::Deadline {
                request,
                deadline: self.deadline,
                left,
            }),
            (_, Some(_)) => Err(Error::Cancelled { request, left }),
            (End::Reply(reply, _), None) => {
                let diagnosis = diagnosis::diagnose(&Evidence {
                    cr_errno: reply.cr_errno,
                    cr_errmsg: reply.cr_errmsg.as_deref(),
                    ..self.evidence(&farewell)
                });
                match ignored.into_iter().next_back() {
                    // It did not pass over the hook after all, as over `orphan-pts-master` where
                    // its own standard input is no terminal.
                    Some((hook, source)) if diagnosis.known == Some(KnownCause::HookFailed) => {
                        Err(Error::Hook {
                            request,
                            hook,
                            source,
                            left,
                        })
                    }
                    _ => Err(Error::Failed {
                        request,
                        diagnosis: Box::new(diagnosis),
                        left,
                    }),
                }
            }
            (End::Silence | End::GivenUp, None) => Err(Error::NoReply {
                request,
                diagnosis: Box::new(diagnosis::diagnose(&Evidence {
                    exit: farewell.exit,
                    ..self.evidence(&farewell)
                })),
                left,
            }),
        }
    }

    fn evidence<'a>(&'a self, farewell: &'a Farewell) -> Evidence<'a> {
        // Where CRIU fails before it opens its log, that of an earlier call is still there.
        let log = self.log().filter(|log| log.stamp() != self.log_before);
        Evidence {
            stderr: &farewell.stderr,
            log,
            disk_full: farewell.disk_full,
            ..Evidence::of(self.request)
        }
    }

    fn log(&self) -> Option<Log<'_>> {
        let (logs, name) = self.logs.as_ref().zip(self.log)?;
        Some(Log::In(logs.as_fd(), name))
    }

    fn logs(&self) -> Option<Directory<'_>> {
        self.logs
            .as_ref()
            .map(|logs| Directory::Descriptor(logs.as_fd()))
    }
}

/// What a restore has left that may have succeeded.
fn there(request: Request, root: Option<Pid>) -> Vec<Leftover> {
    let root = root.filter(|_| request == Request::Restore);
    root.map(|pid| Leftover::Process { pid })
        .into_iter()
        .collect()
}
