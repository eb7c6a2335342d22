//! Options as the message of a request, with the descriptors that its numbers mean.
//!
//! CRIU opens `images_dir_fd`, `work_dir_fd`, `status_fd` and `pidfd_store_sk` by way of the
//! client: they are numbers of this process. `inherit_fd` and `ps.fd` are numbers of the process
//! that `criu swrk` runs in.

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

/// The first number that a child is free to give to a descriptor.
pub const FIRST_INHERITED: i32 = 3;

/// A request's options, and what their numbers mean.
#[derive(Debug)]
pub struct Rendered {
    /// The message.
    pub opts: CriuOpts,
    /// The descriptors of this process that the message names: to be kept open until the reply.
    pub ours: Vec<Arc<OwnedFd>>,
    /// The descriptors that `criu swrk` has to have, under these numbers.
    pub inherited: Vec<(i32, Arc<OwnedFd>)>,
}

impl Options {
    /// The options as a request's message. They are taken to have passed [`Options::check`].
    ///
    /// `first_inherited` is the number that the first descriptor gets in the child, and the next
    /// ones get the next numbers: [`FIRST_INHERITED`], or more if the child has others already.
    ///
    /// # Errors
    ///
    /// A directory that cannot be opened.
    pub fn rendered(
        &self,
        request: Request,
        first_inherited: i32,
    ) -> Result<Rendered, OptionError> {
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
        if let Some(fd) = open("images_dir_fd", &self.images.dir)? {
            opts.images_dir_fd = keep(fd);
        }
        if let Some(work) = &self.images.work {
            opts.work_dir_fd = open("work_dir_fd", work)?.map(&mut keep);
        }
        let status = self.pages.status.as_ref().map(Descriptor::shared);
        opts.status_fd = status.map(&mut keep);
        let store = self.tasks.pidfd_store.as_ref().map(Descriptor::shared);
        opts.pidfd_store_sk = store.map(&mut keep);

        let mut inherited = Vec::new();
        let mut pass_on = |fd: &Descriptor| {
            let before = i32::try_from(inherited.len()).unwrap_or(i32::MAX);
            let number = first_inherited.saturating_add(before);
            inherited.push((number, fd.shared()));
            number
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
