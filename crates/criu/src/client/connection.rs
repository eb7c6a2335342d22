//! One connection, for one call or several.

use std::{
    future::Future,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::ExitStatusExt,
    },
    pin::Pin,
    process::ExitStatus,
    sync::Arc,
    time::Duration,
};

use rustix::process::Pid;
use tokio::{
    sync::{Notify as Signal, mpsc, oneshot},
    time::Instant,
};

use super::{
    Criu,
    outcome::{self, Answer, Dumped, Features, Finish, IgnoredHook, PageServerStarted, PreDumped},
};
use crate::{
    Error, NoHooks, Notify, Options, Request, Version,
    diagnosis::{self, Evidence, Log},
    files::Directory,
    link::{CancelledBy, End, Job, Link, Outcome, PageSocket, ProtocolError, Question},
    options::Rendered,
    pages::{self, CONNECT, PageServerClient},
    rpc::{CriuFeatures, CriuOpts, CriuPageServerInfo, CriuReq},
    stats::{DumpStats, RestoreStats},
    swrk::pid,
    undo::{Restored as RestoredTree, Undo, Written},
    unknown::{self, MalformedMessage, UnknownFields},
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
    ended: bool,
}

/// What is asked of CRIU.
pub(super) struct Ask<'a> {
    request: Request,
    options: Option<(&'a Options, Rendered)>,
    pub notify: Option<&'a mut dyn Notify>,
    pub deadline: Option<Duration>,
    pub until: Option<Pin<Box<dyn Future<Output = ()> + Send + 'a>>>,
    keeps_open: bool,
    pid: Option<Pid>,
}

/// What a CRIU has to be started with.
pub(super) struct Needs {
    request: Request,
    inherited: Vec<Arc<OwnedFd>>,
    callers_group: bool,
}

impl<'a> Ask<'a> {
    pub fn new(request: Request) -> Self {
        Self {
            request,
            options: None,
            notify: None,
            deadline: None,
            until: None,
            keeps_open: false,
            pid: None,
        }
    }

    /// With options that have been seen to make sense, whatever the CRIU.
    pub fn with(request: Request, options: &'a Options) -> Result<Self, Error> {
        options.check(request, None)?;
        let rendered = options.rendered(request)?;
        Ok(Self {
            options: Some((options, rendered)),
            ..Self::new(request)
        })
    }

    /// Connects to the page server, if it is named by its address, so that the socket is ours.
    ///
    /// A service inherits none, and CRIU 4.2 sends in the clear over one that it inherits: with
    /// TLS it connects itself.
    pub async fn connect_pages(&mut self, criu: &Criu) -> Result<(), Error> {
        let request = self.request;
        let Some((options, rendered)) = &mut self.options else {
            return Ok(());
        };
        let Some(server) = options.page_server_of(request) else {
            return Ok(());
        };
        if criu.is_service() || options.has_tls() {
            return Ok(());
        }
        let within = self
            .deadline
            .map_or(CONNECT, |deadline| deadline.min(CONNECT));
        let client = PageServerClient::new(server.ip().to_string(), server.port()).within(within);
        let cancelled = async {
            match &mut self.until {
                Some(until) => until.await,
                None => std::future::pending().await,
            }
        };
        let socket = tokio::select! {
            biased;
            () = cancelled => {
                let left = Vec::new().into();
                return Err(Error::Cancelled { request, left });
            }
            socket = client.socket() => socket.map_err(|source| Error::Pages { request, source })?,
        };
        rendered.opts.ps = Some(CriuPageServerInfo {
            fd: Some(socket.as_raw_fd()),
            ..CriuPageServerInfo::default()
        });
        rendered.inherited.push(Arc::new(socket));
        Ok(())
    }

    /// What the CRIU has to be like that is asked.
    pub fn needs(&self, criu: &Criu) -> Result<Needs, Error> {
        let request = self.request;
        let rendered = self.options.as_ref().map(|(_, rendered)| rendered);
        let inherited = rendered.map_or_else(Vec::new, |rendered| rendered.inherited.clone());
        if criu.is_service() && !inherited.is_empty() {
            return Err(Error::Unavailable {
                request,
                how: "with descriptors to inherit over a service",
                instead: "use a CRIU of your own (Criu::new)",
            });
        }
        if let Some((options, _)) = &self.options
            && request == Request::Dump
            && options.is_lazy()
        {
            let elsewhere = criu.is_service();
            pages::check_lazy_dump(options, elsewhere)
                .map_err(|source| Error::Pages { request, source })?;
        }
        let shell_job = rendered.is_some_and(|rendered| rendered.opts.shell_job());
        Ok(Needs {
            request,
            inherited,
            callers_group: shell_job && request == Request::Restore,
        })
    }

    fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }
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
            ended: false,
        })
    }

    /// CRIU's version.
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
    pub async fn features(&mut self) -> Result<Features, Error> {
        let ask = Ask::new(Request::Features).keeping_open();
        self.ask_plain(ask, outcome::features).await
    }

    /// Writes down, into the images directory, what this machine's processors can do.
    pub async fn cpuinfo_dump(&mut self, options: &Options) -> Result<(), Error> {
        let ask = self.ask_with(Request::CpuinfoDump, options)?.keeping_open();
        self.ask(ask, outcome::nothing).await
    }

    /// Compares this machine's processors with those that the images directory tells of.
    pub async fn cpuinfo_check(&mut self, options: &Options) -> Result<(), Error> {
        let ask = self
            .ask_with(Request::CpuinfoCheck, options)?
            .keeping_open();
        self.ask(ask, outcome::nothing).await
    }

    /// Starts a page server that is a child of this connection's CRIU: it ends with the
    /// connection's CRIU, and [`wait_pid`](Self::wait_pid) tells how.
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
    pub async fn wait_pid(&mut self, pid: Pid) -> Result<ExitStatus, Error> {
        let mut ask = Ask::new(Request::WaitPid);
        ask.pid = Some(pid);
        let status = self.ask(ask, outcome::status).await?;
        Ok(ExitStatus::from_raw(status))
    }

    /// Dumps memory ahead of a dump; another pre-dump, or the dump, may follow.
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
        let version = self.version().await?;
        if let Some((options, _)) = &ask.options {
            options.check(ask.request, Some(&version))?;
        }
        if matches!(ask.request, Request::PreDump | Request::SinglePreDump)
            && !self.features().await?.mem_track
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
            until,
            keeps_open,
            ..
        } = ask;
        if self.ended {
            return Err(Error::Closed { request });
        }
        // Until the reply says otherwise: a dropped future leaves it so.
        self.ended = true;
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
            deadline: deadline.map(|deadline| Instant::now() + deadline),
            hooks: questions,
            cancel: Arc::clone(&cancel),
            undo: prepared.undo,
            outcome: sender,
        };
        let closed = || Error::Closed { request };
        self.link.call(job).await.ok_or_else(closed)?;

        let mut none = NoHooks;
        let notify = notify.unwrap_or(&mut none);
        let mut until = until.unwrap_or_else(|| Box::pin(std::future::pending()));
        let mut cancelled = false;
        let outcome = loop {
            tokio::select! {
                biased;
                outcome = &mut result => break outcome.map_err(|_| closed())?,
                () = &mut until, if !cancelled => {
                    cancelled = true;
                    cancel.notify_one();
                }
                Some(Question { call, answer }) = hooks.recv() => tokio::select! {
                    biased;
                    outcome = &mut result => break outcome.map_err(|_| closed())?,
                    () = &mut until, if !cancelled => {
                        cancelled = true;
                        cancel.notify_one();
                    }
                    // The call may have been given up meanwhile.
                    said = call.run(notify) => drop(answer.send(said)),
                },
            }
        };
        let goes_on = matches!(&outcome.end, End::Reply(reply, _) if keeps_open && reply.success);
        self.ended = !goes_on;
        let judge = Judge {
            request,
            deadline: deadline.unwrap_or_default(),
            logs: prepared.logs,
            log: options.and_then(|(options, _)| options.log_name(request)),
        };
        let answer = judge.judge(outcome)?;
        finish(answer).map_err(|field| Error::Protocol {
            request,
            source: ProtocolError::Malformed(MalformedMessage::Missing {
                message: "criu.criu_resp",
                field,
            }),
            left: Vec::new().into(),
        })
    }
}

/// A page server that can be waited for, from [`Criu::start_page_server_child`]. It ends when its
/// dump has ended, or when this is dropped.
#[derive(Debug)]
pub struct PageServerChild {
    connection: Connection,
    /// Its process.
    pub pid: Pid,
    /// The port on which it listens; 0 where it was given a socket.
    pub port: u16,
}

impl PageServerChild {
    pub(super) async fn start(criu: &Criu, options: &Options) -> Result<Self, Error> {
        let request = Request::PageServerChild;
        let ask = Ask::with(request, options)?.keeping_open();
        let needs = ask.needs(criu)?;
        let mut connection = Connection::with(criu, needs).await?;
        let started = connection.ask(ask, outcome::page_server).await;
        match started {
            Ok(PageServerStarted {
                pid: Some(pid),
                port,
            }) => Ok(Self {
                connection,
                pid,
                port,
            }),
            Ok(PageServerStarted { pid: None, .. }) => {
                connection.cleanup().await;
                Err(Error::Protocol {
                    request,
                    source: ProtocolError::Malformed(MalformedMessage::Missing {
                        message: "criu.criu_page_server_info",
                        field: "pid",
                    }),
                    left: Vec::new().into(),
                })
            }
            Err(error) => {
                connection.cleanup().await;
                Err(error)
            }
        }
    }

    /// Waits until it has served its dump. Its exit status says whether it got all of it.
    pub async fn wait(mut self) -> Result<ExitStatus, Error> {
        let status = self.connection.wait_pid(self.pid).await;
        self.connection.cleanup().await;
        status
    }
}

/// A request, ready to be sent.
#[derive(Default)]
struct Prepared {
    message: Vec<u8>,
    keep: Vec<Arc<OwnedFd>>,
    pages: Option<PageSocket>,
    becomes_command: bool,
    undo: Undo,
    /// Where CRIU leaves its log and its statistics.
    logs: Option<Arc<OwnedFd>>,
}

impl Prepared {
    fn plain(ask: &Ask<'_>) -> Self {
        Self {
            message: message(ask, None),
            ..Self::default()
        }
    }

    fn new(ask: &mut Ask<'_>, service: bool) -> Result<Self, Error> {
        let request = ask.request;
        let Some((options, rendered)) = &mut ask.options else {
            return Ok(Self::plain(ask));
        };
        let mut opts = std::mem::take(&mut rendered.opts);
        let directories: Vec<_> = rendered
            .images
            .iter()
            .chain(&rendered.work)
            .cloned()
            .collect();
        // Where there is no hook there is none to refuse, and cancelling needs one.
        let hooks = request.freezes() || request == Request::Restore;
        opts.notify_scripts = hooks.then_some(true);
        if request == Request::Restore && !service {
            opts.rst_sibling.get_or_insert(true);
        }
        let mut undo = Undo::default();
        if hooks {
            let log = options.log_name(request).unwrap_or_default();
            undo.written = Some(Written::look(&directories, log).map_err(|source| {
                let step = "list what is in its directories";
                Error::Prepare {
                    request,
                    step,
                    source,
                }
            })?);
        }
        if request.freezes() {
            undo.dumped = opts.pid.and_then(pid);
        }
        if let (Request::Restore, false, Some(images)) = (request, service, &rendered.images) {
            undo.restored = Some(RestoredTree::of(images, opts.rst_sibling()));
        }
        let server = opts.ps.as_ref().and_then(|server| server.fd);
        let of_server = |fd: &&Arc<OwnedFd>| Some(fd.as_raw_fd()) == server;
        let ours = rendered.inherited.iter().find(of_server);
        let pages = match (ours, options.page_server_of(request)) {
            (Some(socket), _) => Some(PageSocket::Ours(Arc::clone(socket))),
            (None, Some(server)) => Some(PageSocket::ToServer(server)),
            (None, None) if options.is_lazy() => options.pages_port().map(PageSocket::Listening),
            (None, None) => None,
        };
        Ok(Self {
            keep: rendered.ours.clone(),
            pages,
            becomes_command: !opts.exec_cmd.is_empty(),
            undo,
            logs: rendered.work.as_ref().or(rendered.images.as_ref()).cloned(),
            message: message(ask, Some(opts)),
        })
    }
}

fn message(ask: &Ask<'_>, opts: Option<CriuOpts>) -> Vec<u8> {
    let all = CriuFeatures {
        mem_track: Some(true),
        lazy_pages: Some(true),
        pidfd_store: Some(true),
    };
    let request = CriuReq {
        r#type: ask.request.wire() as i32,
        opts,
        notify_success: None,
        // Any other request that asks for it is dropped without a reply.
        keep_open: (ask.keeps_open && ask.request.may_keep_open()).then_some(true),
        features: (ask.request == Request::Features).then_some(all),
        pid: ask.pid.map(|pid| pid.as_raw_pid().unsigned_abs()),
    };
    unknown::encode(&request, &UnknownFields::default())
}

/// Makes of a call that is over its answer or its error.
struct Judge<'a> {
    request: Request,
    deadline: Duration,
    logs: Option<Arc<OwnedFd>>,
    log: Option<&'a str>,
}

impl Judge<'_> {
    fn judge(&self, outcome: Outcome) -> Result<Answer, Error> {
        let request = self.request;
        let Outcome {
            end,
            cancelled,
            ignored,
            farewell,
            left,
            command,
        } = outcome;
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
            (End::Reply(reply, _), None) => Err(Error::Failed {
                request,
                diagnosis: Box::new(diagnosis::diagnose(&Evidence {
                    cr_errno: reply.cr_errno,
                    cr_errmsg: reply.cr_errmsg.as_deref(),
                    ..self.evidence(&farewell.stderr)
                })),
            }),
            (End::Silence | End::GivenUp, None) => Err(Error::NoReply {
                request,
                diagnosis: Box::new(diagnosis::diagnose(&Evidence {
                    exit: farewell.exit,
                    ..self.evidence(&farewell.stderr)
                })),
            }),
        }
    }

    fn evidence<'a>(&'a self, stderr: &'a [u8]) -> Evidence<'a> {
        let log = self.log.zip(self.logs.as_ref());
        Evidence {
            request: self.request,
            cr_errno: None,
            cr_errmsg: None,
            stderr,
            log: log.map(|(name, logs)| Log::In(logs.as_fd(), name)),
            exit: None,
        }
    }

    fn logs(&self) -> Option<Directory<'_>> {
        self.logs
            .as_ref()
            .map(|logs| Directory::Descriptor(logs.as_fd()))
    }
}
