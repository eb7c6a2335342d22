//! What is wrong with options before CRIU gets to see them: for the request, for the release, with
//! a value, with a path that is not there.

use std::{
    ffi::OsStr,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use super::{
    Options, cgroups,
    dir::Dir,
    error::OptionError,
    external, files, log, mounts, namespaces, pages, security,
    table::{Given, Release, Row, table},
    tasks, tcp,
};
use crate::{chain, request::Request, version::Version};

/// Where the options are going.
#[derive(Debug, Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) request: Request,
    pub(super) version: Option<&'a Version>,
    pub(super) in_a_file: bool,
}

impl Context<'_> {
    /// Refuses what the CRIU that runs does not have yet.
    pub(super) fn since(self, option: &str, since: Release) -> Result<(), OptionError> {
        match self.version {
            Some(version) if !since.is_in(version) => Err(OptionError::TooNew {
                option: option.to_owned(),
                since,
                running: version.clone(),
            }),
            _ => Ok(()),
        }
    }
}

impl Options {
    /// Whether CRIU will do what these options say, as far as that can be told before it is asked.
    ///
    /// # Errors
    ///
    /// An option that is not for the request, newer than the version if one is given, without
    /// meaning, at odds with another, or about a file that is not there.
    pub fn check(&self, request: Request, version: Option<&Version>) -> Result<(), OptionError> {
        let context = Context {
            request,
            version,
            in_a_file: false,
        };
        for (row, _) in self.given() {
            if !row.requests.contains(&request) {
                // A field of two meanings has two rows.
                return Err(OptionError::WrongRequest {
                    option: row.name,
                    request,
                    takes: row.requests,
                });
            }
            context.since(row.name, row.since)?;
        }
        self.check_values(context)?;
        self.check_directories(request)?;
        tasks::check_request(self, request)?;
        pages::check(self, context)
    }

    /// What holds for a message and for a configuration file alike.
    pub(super) fn check_values(&self, context: Context<'_>) -> Result<(), OptionError> {
        self.check_texts()?;
        tasks::check(self)?;
        files::check(self)?;
        external::check(self, context)?;
        tcp::check(self)?;
        tcp::check_version(self, context)?;
        cgroups::check(self)?;
        mounts::check(self)?;
        namespaces::check(self)?;
        namespaces::check_version(self, context)?;
        pages::check_tls(self)?;
        security::check(self)?;
        log::check(self)
    }

    /// The rows of the options that are set.
    pub(super) fn given(&self) -> impl Iterator<Item = (&'static Row, Given)> {
        table()
            .map(|row| (row, row.given(self)))
            .filter(|(_, given)| *given != Given::No)
    }

    fn check_texts(&self) -> Result<(), OptionError> {
        for (row, given) in self.given() {
            let Given::Values(values) = given else {
                continue;
            };
            for value in &values {
                text(row.name, value)?;
            }
        }
        Ok(())
    }

    fn check_directories(&self, request: Request) -> Result<(), OptionError> {
        if let Some(images) = self.images.dir.here() {
            is_directory("images_dir_fd", &images)?;
            if let Some(parent) = &self.images.parent {
                self.check_parent(request, &images, parent)?;
            }
        }
        if let Some(Dir::Named(path)) = &self.images.work {
            let reason = "only the images directory can be opened by CRIU; give a path";
            return Err(OptionError::value("work_dir_fd", path.display(), reason));
        }
        if let Some(work) = self.images.work.as_ref().and_then(Dir::here) {
            is_directory("work_dir_fd", &work)?;
        }
        if let Some(file) = &self.images.config {
            absolute("config_file", file)?;
            // CRIU goes on without a file that it cannot open.
            fs::File::open(file).map_err(|source| failed("config_file", file, source))?;
        }
        Ok(())
    }

    /// CRIU dumps everything, and says so to nobody, where the parent is missing.
    fn check_parent(
        &self,
        request: Request,
        images: &Path,
        parent: &Path,
    ) -> Result<(), OptionError> {
        let refuse = |reason| Err(OptionError::value("parent_img", parent.display(), reason));
        let at = images.join(parent);
        is_directory("parent_img", &at)?;
        let same = |one: &Path, other: &Path| -> io::Result<bool> {
            let (one, other) = (fs::metadata(one)?, fs::metadata(other)?);
            Ok((one.dev(), one.ino()) == (other.dev(), other.ino()))
        };
        if same(images, &at).map_err(|source| failed("parent_img", &at, source))? {
            return refuse("an image cannot be its own parent");
        }
        // CRIU keeps a link that is there, wherever it leads.
        let link = images.join("parent");
        match fs::read_link(&link) {
            Ok(target) if target != parent => {
                return refuse("the images directory has a link `parent` that leads elsewhere");
            }
            Ok(_) => {}
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(failed("parent_img", &link, source)),
        }
        // With a page server the memory is at the other end.
        let dumps_here = self.pages.server.is_none() || !super::table::DUMPS.contains(&request);
        if dumps_here && !has_memory(&at).map_err(|source| failed("parent_img", &at, source))? {
            return refuse("there is no memory in it: no file `pagemap-*.img`");
        }
        if chain::has_ended(&at) {
            return refuse(
                "a dump with it as its parent failed, and what changed before is in no image; make \
                 one without a parent",
            );
        }
        Ok(())
    }
}

/// Whether a directory has an image of some memory.
fn has_memory(directory: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(directory)? {
        if entry?
            .file_name()
            .as_encoded_bytes()
            .starts_with(b"pagemap-")
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What a text of a message can hold: UTF-8, and no NUL, where CRIU would take it to end.
fn text(option: &'static str, value: &OsStr) -> Result<(), OptionError> {
    let shown = || value.to_string_lossy().into_owned();
    match value.to_str() {
        None => Err(OptionError::NotUtf8 {
            option,
            value: shown(),
        }),
        Some("") => Err(OptionError::value(option, "", "it is empty")),
        Some(text) if text.contains('\0') => Err(OptionError::value(option, text, "a NUL ends it")),
        Some(_) => Ok(()),
    }
}

pub(super) fn absolute(option: &'static str, path: &Path) -> Result<(), OptionError> {
    if path.is_absolute() {
        return Ok(());
    }
    let reason = "it begins with a slash, since CRIU works in a directory of its own";
    Err(OptionError::value(option, path.display(), reason))
}

/// An absolute path to something.
pub(super) fn there(option: &'static str, path: &Path) -> Result<(), OptionError> {
    absolute(option, path)?;
    match fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(source) => Err(failed(option, path, source)),
    }
}

/// An absolute path to a directory.
pub(super) fn directory(option: &'static str, path: &Path) -> Result<(), OptionError> {
    absolute(option, path)?;
    is_directory(option, path)
}

fn is_directory(option: &'static str, path: &Path) -> Result<(), OptionError> {
    let source = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => return Ok(()),
        Ok(_) => io::ErrorKind::NotADirectory.into(),
        Err(source) => source,
    };
    Err(failed(option, path, source))
}

fn failed(option: &'static str, path: &Path, source: io::Error) -> OptionError {
    OptionError::Path {
        option,
        path: PathBuf::from(path),
        source,
    }
}
