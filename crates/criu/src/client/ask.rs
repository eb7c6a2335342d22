//! What is asked: options and hooks, what the CRIU has to be like, and the message.

use std::{
    future::Future,
    os::fd::{AsRawFd, OwnedFd},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use rustix::process::Pid;
use tokio::{sync::oneshot, time::Instant};

use super::Criu;
use crate::{
    Error, Notify, Options, Request, Version,
    chain::Chain,
    link::PageSocket,
    options::Rendered,
    pages::{self, CONNECT, PageServerClient},
    process::{Tree, adapters},
    rpc::{CriuFeatures, CriuOpts, CriuPageServerInfo, CriuReq},
    swrk::pid,
    undo::{Dumped as DumpedTree, Freezer, Restored as RestoredTree, Undo, Written},
    unknown::{self, UnknownFields},
};

/// What is asked of CRIU.
pub(super) struct Ask<'a> {
    pub request: Request,
    pub options: Option<(&'a Options, Rendered)>,
    pub notify: Option<&'a mut dyn Notify>,
    pub deadline: Option<Duration>,
    /// When that is, from the beginning of the call on.
    pub ends: Option<Instant>,
    /// Resolves when the caller says that the call is to end.
    pub until: Pin<Box<dyn Future<Output = ()> + Send + 'a>>,
    pub keeps_open: bool,
    pub pid: Option<Pid>,
    /// Where the processes of a restore go before any of them runs.
    pub restored: Option<oneshot::Sender<pages::Tree>>,
}

/// What a CRIU has to be started with.
pub(super) struct Needs {
    pub request: Request,
    pub inherited: Vec<Arc<OwnedFd>>,
    pub callers_group: bool,
}

impl<'a> Ask<'a> {
    pub fn new(request: Request) -> Self {
        Self {
            request,
            options: None,
            notify: None,
            deadline: None,
            ends: None,
            until: Box::pin(std::future::pending()),
            keeps_open: false,
            pid: None,
            restored: None,
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
        let socket = tokio::select! {
            biased;
            () = &mut self.until => {
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

    /// Looks for sockets that CRIU `version` cannot dump, which it would find out when the
    /// processes are frozen.
    pub fn refuse_sockets(&self, version: &Version) -> Result<(), Error> {
        let pid = self
            .options
            .as_ref()
            .and_then(|(_, rendered)| rendered.opts.pid);
        let pid = pid.and_then(|pid| u32::try_from(pid).ok());
        let Some(pid) = pid.filter(|_| !adapters::can_dump_internet_sockets(version)) else {
            return Ok(());
        };
        let request = self.request;
        match Tree::read(pid) {
            Ok(tree) => adapters::refuse_internet_sockets(&tree, version)
                .map_err(|source| Error::Processes { request, source }),
            // CRIU has its own word for it.
            Err(_) => Ok(()),
        }
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

    pub fn keeping_open(mut self) -> Self {
        self.keeps_open = true;
        self
    }
}

/// A request, ready to be sent.
#[derive(Default)]
pub(super) struct Prepared {
    pub message: Vec<u8>,
    pub keep: Vec<Arc<OwnedFd>>,
    pub pages: Option<PageSocket>,
    pub becomes_command: bool,
    pub undo: Undo,
    /// Where CRIU leaves its log and its statistics.
    pub logs: Option<Arc<OwnedFd>>,
}

impl Prepared {
    pub fn plain(ask: &Ask<'_>) -> Self {
        Self {
            message: message(ask, None),
            ..Self::default()
        }
    }

    pub fn new(ask: &mut Ask<'_>, service: bool) -> Result<Self, Error> {
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
        // Where there is no hook there is none to refuse, and cancelling needs one. But a process
        // that is frozen for its own dump answers none.
        let itself = opts.pid == Some(std::process::id().cast_signed());
        let hooks = (request.freezes() && !itself) || request == Request::Restore;
        opts.notify_scripts = hooks.then_some(true);
        if request == Request::Restore && !service {
            opts.rst_sibling.get_or_insert(true);
        }
        let cannot = |step| {
            move |source| Error::Prepare {
                request,
                step,
                source,
            }
        };
        let mut undo = Undo::default();
        if hooks {
            let log = options.log_name(request).unwrap_or_default();
            let written = Written::look(&directories, log);
            undo.written = Some(written.map_err(cannot("list what is in its directories"))?);
        }
        if request.freezes() && hooks {
            undo.freezer = opts
                .freeze_cgroup
                .as_ref()
                .and_then(|directory| Freezer::of(directory.as_ref()));
            let tree = opts.pid.and_then(pid).map(DumpedTree::of).transpose();
            undo.dumped = tree.map_err(cannot("look at the processes"))?;
            // A pre-dump always does.
            if opts.track_mem() || request != Request::Dump {
                let parent = options.parent_here();
                let chain = Chain::goes_on(rendered.images.clone(), parent.as_deref());
                undo.chain = Some(chain.map_err(cannot("open the images of its parent"))?);
            }
            undo.lazy = opts.lazy_pages() && !opts.leave_running();
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
