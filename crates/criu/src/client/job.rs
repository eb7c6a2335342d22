//! What becomes of a call's options: they are checked and made a message, and the job is made of
//! them that the connection's thread does, with what there is to be undone.

use std::{
    mem::take,
    os::fd::{AsRawFd, OwnedFd},
    process,
    sync::Arc,
};

use prost::Message as _;

use super::call::Call;
use crate::{
    Error, Options, Request,
    chain::Chain,
    link::{Endpoint, Job, PageSocket},
    pages::{self, CONNECT, PageServerClient},
    rpc::{CriuFeatures, CriuOpts, CriuPageServerInfo, CriuReq},
    swrk::pid,
    undo::{CreatedFiles, DumpRecovery, FreezerRecovery, RestoreRecovery, Undo},
};

impl<T> Call<'_, T> {
    /// Makes a message of the options, which are seen to make sense first, whatever the CRIU.
    pub(super) fn prepare(&mut self) -> Result<(), Error> {
        let request = self.request;
        let Some(options) = &self.options else {
            return Ok(());
        };
        options.check(request, None)?;
        self.rendered = options.rendered(request)?;
        let service = self.criu.is_service();
        if service && !self.rendered.inherited.is_empty() {
            return Err(Error::Unavailable {
                request,
                how: "with descriptors to inherit over a service",
                instead: "use a CRIU of your own (Criu::new)",
            });
        }
        if request == Request::Dump && options.is_lazy() {
            pages::check_lazy_dump(options, service)
                .map_err(|source| Error::Pages { request, source })?;
        }
        Ok(())
    }

    /// Connects to the page server, if it is named by its address, so that the socket is ours.
    ///
    /// A service inherits none, and CRIU 4.2 sends in the clear over one that it inherits: with
    /// TLS it connects itself.
    pub(super) async fn connect_pages(&mut self) -> Result<(), Error> {
        let request = self.request;
        let Some(options) = &self.options else {
            return Ok(());
        };
        let Some(server) = options.page_server_of(request) else {
            return Ok(());
        };
        if self.criu.is_service() || options.has_tls() {
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
        self.rendered.opts.ps = Some(CriuPageServerInfo {
            fd: Some(socket.as_raw_fd()),
            ..CriuPageServerInfo::default()
        });
        self.rendered.inherited.push(Arc::new(socket));
        Ok(())
    }

    /// The CRIU that is asked, with what it inherits for this call.
    pub(super) fn endpoint(&self) -> Endpoint {
        let mut endpoint = self.criu.endpoint.clone();
        if let Endpoint::Swrk(program) = &mut endpoint {
            program.inherited.clone_from(&self.rendered.inherited);
            let shell_job = self.rendered.opts.shell_job();
            program.callers_group = shell_job && self.request == Request::Restore;
        }
        endpoint
    }

    /// The job that it is for the connection's thread.
    pub(super) fn job(&mut self) -> Result<Job, Error> {
        let request = self.request;
        let mut opts = None;
        let mut undo = Undo::default();
        if let Some(options) = &self.options {
            let opts = opts.insert(take(&mut self.rendered.opts));
            // Where there is no hook there is none to refuse, and cancelling needs one. But a
            // process that is frozen for its own dump answers none.
            let itself = opts.pid == Some(process::id().cast_signed());
            let hooks = (request.freezes() && !itself) || request == Request::Restore;
            opts.notify_scripts = hooks.then_some(true);
            if request == Request::Restore && !self.criu.is_service() {
                opts.rst_sibling.get_or_insert(true);
            }
            undo = self.undo(options, opts)?;
        }
        Ok(Job {
            request,
            pages: opts.as_ref().and_then(|opts| self.page_socket(opts)),
            becomes_command: opts.as_ref().is_some_and(|opts| !opts.exec_cmd.is_empty()),
            message: self.message(opts),
            keep: take(&mut self.rendered.ours),
            keeps_open: self.keeps_open,
            deadline: self.ends,
            undo,
            restored: self.restored.take(),
        })
    }

    /// What there is now, so that what the call adds can be taken away.
    fn undo(&self, options: &Options, opts: &CriuOpts) -> Result<Undo, Error> {
        let (request, rendered) = (self.request, &self.rendered);
        let cannot = |step| Error::prepare(request, step);
        let mut undo = Undo::default();
        let hooks = opts.notify_scripts();
        if hooks {
            let directories = rendered.images.iter().chain(&rendered.work);
            let directories: Vec<_> = directories.cloned().collect();
            let log = options.log_name(request).unwrap_or_default();
            let created = CreatedFiles::look(&directories, log);
            undo.created = Some(created.map_err(cannot("list what is in its directories"))?);
        }
        if request.freezes() && hooks {
            undo.freezer = opts
                .freeze_cgroup
                .as_ref()
                .and_then(|directory| FreezerRecovery::of(directory.as_ref()));
            let tree = opts.pid.and_then(pid).map(DumpRecovery::of).transpose();
            undo.dumped = tree.map_err(cannot("look at the processes"))?;
            // A pre-dump always does.
            if opts.track_mem() || request != Request::Dump {
                let parent = options.parent_here();
                let chain = Chain::goes_on(rendered.images.clone(), parent.as_deref());
                undo.chain = Some(chain.map_err(cannot("open the images of its parent"))?);
            }
            undo.lazy = opts.lazy_pages() && !opts.leave_running();
        }
        if let (Request::Restore, false, Some(images)) =
            (request, self.criu.is_service(), &rendered.images)
        {
            undo.restored = Some(RestoreRecovery::of(images, opts.rst_sibling()));
        }
        Ok(undo)
    }

    /// The socket that its pages go over.
    fn page_socket(&self, opts: &CriuOpts) -> Option<PageSocket> {
        let options = self.options.as_ref()?;
        let server = opts.ps.as_ref().and_then(|server| server.fd);
        let of_server = |fd: &&Arc<OwnedFd>| Some(fd.as_raw_fd()) == server;
        let ours = self.rendered.inherited.iter().find(of_server);
        match (ours, options.page_server_of(self.request)) {
            (Some(socket), _) => Some(PageSocket::Ours(Arc::clone(socket))),
            (None, Some(server)) => Some(PageSocket::ToServer(server)),
            (None, None) if options.is_lazy() => options.pages_port().map(PageSocket::Listening),
            (None, None) => None,
        }
    }

    fn message(&self, opts: Option<CriuOpts>) -> Vec<u8> {
        let all = CriuFeatures {
            mem_track: Some(true),
            lazy_pages: Some(true),
            pidfd_store: Some(true),
        };
        let request = CriuReq {
            r#type: self.request.wire(),
            opts,
            notify_success: None,
            // Any other request that asks for it is dropped without a reply.
            keep_open: (self.keeps_open && self.request.may_keep_open()).then_some(true),
            features: (self.request == Request::Features).then_some(all),
            pid: self.pid.map(|pid| pid.as_raw_pid().unsigned_abs()),
        };
        request.encode_to_vec()
    }
}
