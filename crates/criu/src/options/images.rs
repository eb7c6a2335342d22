//! Where images are and come from: images, work and parent directory, configuration file.

use std::path::PathBuf;

use super::{
    Options,
    dir::Dir,
    table::{ALL, By, DUMPS_AND_SERVERS, Given, Key, Release, Row, rendered, text},
};
use crate::setters::setters;

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 1,
        name: "images_dir_fd",
        since: Release::new(0, 8, 0),
        requests: ALL,
        key: Key::None(OF_THE_REQUEST),
        by: By::Descriptor {
            // It is in every request, and no option that one sets.
            given: |_| Given::No,
        },
    },
    Row {
        number: 68,
        name: "images_dir",
        since: Release::new(3, 19, 0),
        requests: ALL,
        key: Key::None(OF_THE_REQUEST),
        by: By::Setter {
            given: |o| match &o.images.dir {
                Dir::Named(path) => Given::one(Some(path)),
                Dir::Path(_) | Dir::Descriptor(_) => Given::No,
            },
            put: |o, rpc| {
                if let Dir::Named(path) = &o.images.dir {
                    rpc.images_dir = Some(rendered(path));
                }
            },
        },
    },
    Row {
        number: 17,
        name: "work_dir_fd",
        since: Release::new(1, 2, 0),
        requests: ALL,
        key: Key::Named("work-dir"),
        by: By::Descriptor {
            given: |o| match &o.images.work {
                None => Given::No,
                Some(Dir::Path(path) | Dir::Named(path)) => Given::one(Some(path)),
                Some(Dir::Descriptor(_)) => Given::Descriptor,
            },
        },
    },
    text!(
        14,
        parent_img,
        Key::Named("prev-images-dir"),
        Release::new(1, 2, 0),
        DUMPS_AND_SERVERS,
        images.parent
    ),
    text!(
        51,
        config_file,
        Key::None("a configuration file names no other"),
        Release::new(3, 11, 0),
        ALL,
        images.config
    ),
];

/// 4.2.1 takes it from a file before the request's; 4.1.1 then fails with errno 56.
const OF_THE_REQUEST: &str = "the request names the images directory";

/// Set by the setters below.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Images {
    pub(super) dir: Dir,
    pub(super) work: Option<Dir>,
    pub(super) parent: Option<PathBuf>,
    pub(super) config: Option<PathBuf>,
}

impl Images {
    pub(super) fn new(dir: Dir) -> Self {
        Self {
            dir,
            work: None,
            parent: None,
            config: None,
        }
    }
}

/// Where images are and come from.
///
/// ```
/// use stasis_criu::Options;
///
/// let options = Options::new("/var/lib/images/2")
///     .work_dir("/run/criu/work")
///     .parent_img("../1");
/// ```
impl Options {
    setters! {
        /// Where CRIU leaves its log and its statistics, `work_dir_fd`: the images directory if
        /// this is not set.
        pub fn work_dir(mut self, dir: impl Into<Dir>) { self.images.work = Some(dir.into()); }

        /// The images directory of the pre-dump or the dump before, `parent_img`, as seen from the
        /// images directory: a relative path survives a move of both.
        pub fn parent_img(mut self, dir: impl Into<PathBuf>) {
            self.images.parent = Some(dir.into());
        }

        /// A configuration file that CRIU reads last, `config_file`: it overrides the request.
        pub fn config_file(mut self, file: impl Into<PathBuf>) {
            self.images.config = Some(file.into());
        }
    }

    /// The directory of the parent's images, if this process finds it.
    pub(crate) fn parent_here(&self) -> Option<PathBuf> {
        let images = self.images.dir.here()?;
        self.images
            .parent
            .as_ref()
            .map(|parent| images.join(parent))
    }
}
