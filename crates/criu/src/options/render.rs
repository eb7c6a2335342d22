//! Options as the message of a request, with the descriptors that its numbers mean.
//!
//! CRIU opens `images_dir_fd`, `work_dir_fd`, `status_fd` and `pidfd_store_sk` by way of the
//! client: they are numbers of this process. `inherit_fd` and `ps.fd` are numbers of the process
//! that `criu swrk` runs in; a child inherits them under the numbers that they have here, so that
//! no number has to be free in it.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Options,
    dir::{Descriptor, Dir},
    error::OptionError,
    log,
    table::{By, table},
};
use crate::{
    request::Request,
    rpc::{self, CriuOpts},
};

/// A request's options, and what their numbers mean.
#[derive(Debug, Default)]
pub struct Rendered {
    /// The message.
    pub opts: CriuOpts,
    /// The descriptors of this process that the message names: to be kept open until the reply.
    pub ours: Vec<Arc<OwnedFd>>,
    /// The descriptors that `criu swrk` has to inherit, under the numbers that they have here.
    pub inherited: Vec<Arc<OwnedFd>>,
    /// The images directory, unless CRIU is to open it by its name.
    pub images: Option<Arc<OwnedFd>>,
    /// The work directory, if there is one.
    pub work: Option<Arc<OwnedFd>>,
}

impl Options {
    /// The options as a request's message. They are taken to have passed [`Options::check`].
    ///
    /// # Errors
    ///
    /// A directory that cannot be opened.
    pub fn rendered(&self, request: Request) -> Result<Rendered, OptionError> {
        let mut opts = CriuOpts {
            images_dir_fd: -1,
            ..CriuOpts::default()
        };
        for row in table() {
            if let By::Setter { put, given } = row.by
                && given(self) != super::table::Given::No
            {
                put(self, &mut opts);
            }
        }
        log::put_defaults(self, request, &mut opts);
        // Without it a pre-dump aborts CRIU half way.
        if matches!(request, Request::PreDump | Request::SinglePreDump) {
            opts.track_mem = Some(true);
        }

        let mut ours = Vec::new();
        let mut keep = |fd: Arc<OwnedFd>| {
            let number = fd.as_raw_fd();
            ours.push(fd);
            number
        };
        let images = open("images_dir_fd", &self.images.dir)?;
        if let Some(fd) = &images {
            opts.images_dir_fd = keep(fd.clone());
        }
        let work = match &self.images.work {
            Some(work) => open("work_dir_fd", work)?,
            None => None,
        };
        opts.work_dir_fd = work.clone().map(&mut keep);
        let status = self.pages.status.as_ref().map(Descriptor::shared);
        opts.status_fd = status.map(&mut keep);
        let store = self.tasks.pidfd_store.as_ref().map(Descriptor::shared);
        opts.pidfd_store_sk = store.map(&mut keep);

        let mut inherited = Vec::new();
        let mut pass_on = |fd: &Descriptor| {
            inherited.push(fd.shared());
            fd.number()
        };
        for file in &self.files.inherited {
            opts.inherit_fd.push(rpc::InheritFd {
                key: file.key.clone(),
                fd: pass_on(&file.fd),
            });
        }
        opts.ps = self.pages.server.as_ref().map(|to| to.wire(&mut pass_on));

        Ok(Rendered {
            opts,
            ours,
            inherited,
            images,
            work,
        })
    }
}

fn open(option: &'static str, dir: &Dir) -> Result<Option<Arc<OwnedFd>>, OptionError> {
    dir.open().map_err(|source: io::Error| OptionError::Path {
        option,
        path: PathBuf::from(dir.to_string()),
        source,
    })
}
