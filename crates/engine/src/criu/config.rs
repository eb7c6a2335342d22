//! The CRIU configuration file of a container, for what its runtime has no flag for.
//!
//! The annotation `org.criu.config` of a spec names a file that runc (1.0 and later) and crun
//! (1.28, not 1.21) have CRIU read after their own settings, so that what it says wins. Without
//! the annotation they take their default files. We have them read a file of ours in the bundle,
//! which is written anew before each call: what the user's file says, then our lines.
//!
//! The former value of the annotation is kept in an annotation of ours, since an engine keeps no
//! state and the user may change the file after the container was made.
//!
//! `NAME=VALUE` is the form that is in force: with a blank instead, `manage-cgroups` was not
//! (CRIU 4.1.1).

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};
use stasis_criu::{Options, Request};
use stasis_linux::file;

use crate::{
    error::{Error, Result},
    identity::Kind,
};

/// The annotation by which runc and crun are told the file.
const ANNOTATION: &str = "org.criu.config";
/// Ours, with what the user had in the other.
const FORMER: &str = "dev.stasis.criu-config";
/// Our file, in the bundle.
const FILE: &str = "criu.conf";

/// No configuration needs more; a larger file is another one.
const CAP: u64 = 64 << 10;
/// `config.json` is as large as containerd makes it, which caps a spec at 4 MiB.
const SPEC_CAP: u64 = 16 << 20;

/// Points the annotation at our file. Gives whether the spec was changed.
///
/// # Errors
/// If the file that the user named cannot be read.
pub fn adopt(bundle: &Path, spec: &mut Value) -> Result<bool> {
    let ours = bundle.join(FILE).to_string_lossy().into_owned();
    let Some(spec) = spec.as_object_mut() else {
        return Ok(false);
    };
    let annotations = spec
        .entry("annotations")
        .or_insert_with(|| Value::Object(Map::new()));
    if annotations.is_null() {
        *annotations = Value::Object(Map::new());
    }
    let Some(annotations) = annotations.as_object_mut() else {
        return Ok(false);
    };
    let former = annotations.get(ANNOTATION).cloned();
    if former.as_ref().and_then(Value::as_str) == Some(ours.as_str()) {
        return Ok(false);
    }
    if let Some(file) = former
        .as_ref()
        .and_then(Value::as_str)
        .filter(|file| !file.is_empty())
    {
        read(Path::new(file))?;
    }
    match former {
        Some(former) => annotations.insert(FORMER.to_owned(), former),
        None => annotations.remove(FORMER),
    };
    annotations.insert(ANNOTATION.to_owned(), Value::String(ours));
    Ok(true)
}

/// Writes our file for the next call: the user's settings and then `ours`, what `request` is to be
/// told.
///
/// # Errors
/// If the spec or the user's file cannot be read, or ours cannot be written.
pub fn write(bundle: &Path, kind: Kind, request: Request, ours: &Options) -> Result<()> {
    let path = bundle.join(FILE);
    let writing = || Error::io("write CRIU's configuration to", &path);
    let ours = ours
        .to_config(&[request], None)
        .map_err(|error| writing()(io::Error::other(error)))?;
    let mut content = match users_file(bundle, kind)? {
        Some(file) => read(&file)?,
        None => String::new(),
    };
    if !content.is_empty() && !content.ends_with('\n') {
        content.push('\n');
    }
    content.push_str(&ours);
    fs::write(&path, content).map_err(writing())
}

/// The spec of a bundle.
///
/// # Errors
/// If it cannot be read, or is no JSON.
pub(crate) fn spec(bundle: &Path) -> Result<Value> {
    let path = bundle.join("config.json");
    let spec = whole(&path, SPEC_CAP).map_err(Error::io("read the spec", &path))?;
    serde_json::from_slice(&spec).map_err(|error| Error::io("parse the spec", &path)(error.into()))
}

/// The file that the runtime would have had CRIU read, had we not changed the annotation.
fn users_file(bundle: &Path, kind: Kind) -> Result<Option<PathBuf>> {
    let spec = spec(bundle)?;
    let annotation = |name| spec.get("annotations")?.get(name)?.as_str();
    let ours = bundle.join(FILE);
    // Not ours where the container was made by somebody else.
    let given = annotation(ANNOTATION).filter(|&file| Path::new(file) != ours);
    Ok(match given.or_else(|| annotation(FORMER)) {
        Some("") => None,
        Some(file) => Some(PathBuf::from(file)),
        None => defaults(kind)
            .iter()
            .map(PathBuf::from)
            .find(|file| file.exists()),
    })
}

/// Where a runtime looks when there is no annotation: the names are in both binaries.
fn defaults(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Runsc => &[],
        Kind::Runc => &["/etc/criu/runc.conf"],
        Kind::Crun => &["/etc/criu/crun.conf", "/etc/criu/runc.conf"],
    }
}

fn whole(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    file::whole(file::open(path)?, cap)
}

fn read(path: &Path) -> Result<String> {
    let bytes = whole(path, CAP).map_err(Error::io("read the CRIU configuration file", path))?;
    String::from_utf8(bytes).map_err(|error| {
        let source = io::Error::new(io::ErrorKind::InvalidData, error);
        Error::io("read the CRIU configuration file", path)(source)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use stasis_criu::options::CgroupMode;

    use super::*;

    fn bundle(spec: &Value) -> tempfile::TempDir {
        let bundle = tempfile::tempdir().expect("a directory");
        fs::write(bundle.path().join("config.json"), spec.to_string()).expect("written");
        bundle
    }

    fn written(bundle: &Path) -> String {
        let ours = Options::new("").manage_cgroups(CgroupMode::Soft);
        write(bundle, Kind::Runc, Request::Dump, &ours).expect("is written");
        fs::read_to_string(bundle.join(FILE)).expect("read")
    }

    #[test]
    fn our_lines_follow_the_users_whose_file_is_read_anew_each_time() {
        let users = tempfile::NamedTempFile::new().expect("a file");
        fs::write(users.path(), "ghost-limit=1").expect("written");
        let mut spec = json!({"annotations": {"org.criu.config": users.path(), "other": "kept"}});
        let bundle = bundle(&spec);
        assert!(adopt(bundle.path(), &mut spec).expect("is adopted"));
        assert_eq!(spec["annotations"]["other"], "kept");
        fs::write(bundle.path().join("config.json"), spec.to_string()).expect("written");
        assert_eq!(
            written(bundle.path()),
            "ghost-limit=1\nmanage-cgroups=soft\n"
        );
        fs::write(users.path(), "ghost-limit=2\n").expect("written");
        assert_eq!(
            written(bundle.path()),
            "ghost-limit=2\nmanage-cgroups=soft\n"
        );
        assert!(
            !adopt(bundle.path(), &mut spec).expect("is adopted"),
            "it is ours already"
        );
        assert_eq!(spec["annotations"][FORMER], json!(users.path()));
    }

    #[test]
    fn a_spec_without_annotations_gets_one_and_an_empty_value_means_no_file() {
        let mut spec = json!({"annotations": null});
        let bundle = bundle(&spec);
        assert!(adopt(bundle.path(), &mut spec).expect("is adopted"));
        let ours = bundle.path().join(FILE);
        assert_eq!(spec, json!({"annotations": {"org.criu.config": ours}}));
        let mut spec = json!({"annotations": {"org.criu.config": ""}});
        assert!(adopt(bundle.path(), &mut spec).expect("is adopted"));
        fs::write(bundle.path().join("config.json"), spec.to_string()).expect("written");
        assert_eq!(written(bundle.path()), "manage-cgroups=soft\n");
    }

    #[test]
    fn a_file_that_the_user_named_and_that_is_not_there_is_an_error_that_names_it() {
        let mut spec = json!({"annotations": {"org.criu.config": "/no/such/criu.conf"}});
        let bundle = bundle(&spec);
        let before = spec.clone();
        let error = adopt(bundle.path(), &mut spec).expect_err("it is missing");
        assert!(error.to_string().contains("/no/such/criu.conf"), "{error}");
        assert_eq!(spec, before);
        let error = write(bundle.path(), Kind::Runc, Request::Dump, &Options::new(""))
            .expect_err("it is missing");
        assert!(error.to_string().contains("/no/such/criu.conf"), "{error}");
    }

    /// Why the file at `path` is not adopted as the user's.
    fn refused(path: &Path) -> String {
        let mut spec = json!({"annotations": {"org.criu.config": path}});
        let error = adopt(bundle(&spec).path(), &mut spec).expect_err("is refused");
        assert!(
            error.to_string().contains(&path.display().to_string()),
            "{error}"
        );
        let source = std::error::Error::source(&error).expect("a cause");
        source.to_string()
    }

    #[test]
    fn no_file_is_read_beyond_its_cap() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        file.as_file().set_len(CAP + 1).expect("is long");
        assert!(refused(file.path()).contains("longer than"));
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
        for path in [fifo.as_path(), directory.path(), Path::new("/dev/zero")] {
            assert!(refused(path).contains("no regular file"), "{path:?}");
        }
        let bundle = bundle(&json!({"annotations": {"org.criu.config": fifo}}));
        let error = write(bundle.path(), Kind::Runc, Request::Dump, &Options::new(""))
            .expect_err("is refused");
        assert!(error.to_string().contains("fifo"), "{error}");
    }
}
