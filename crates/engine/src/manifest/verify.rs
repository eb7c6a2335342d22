//! Checks an image before it is restored.

use std::path::{Component, Path};

use stasis_linux::file;

use super::{
    document::Manifest,
    error::Error,
    files::Directory,
    format::{CAP, FORMAT_VERSION, NAME},
};
use crate::identity::{Kind, RuntimeVersion};

/// How `checkpoint.img` begins.
const GVISOR: &[u8] = b"gVisorSF";

/// Checks that the image in `image` is whole and that a runtime of this kind, version and build
/// can restore it. `None` for an image without a manifest, made by somebody else: it has at
/// least the files that the runtime looks for first. It blocks for as long as hashing takes.
///
/// # Errors
/// If it is not.
pub fn verify(
    image: &Path,
    kind: Kind,
    version: &RuntimeVersion,
    build_id: Option<&str>,
) -> Result<Option<Manifest>, Error> {
    let directory = Directory::open(image)?;
    let Some(manifest) = read(&directory)? else {
        return foreign_image(&directory, kind).map(|()| None);
    };
    check_origin(image, &manifest, kind, version, build_id)?;
    for (name, sealed) in &manifest.files {
        if !is_plain(name) {
            return Err(Error::Name {
                image: image.to_owned(),
                file: name.clone(),
            });
        }
        let missing = || Error::Missing {
            image: image.to_owned(),
            file: name.clone(),
        };
        // The size first: it costs nothing, and a longer file is not hashed in vain.
        let size = directory.size(name)?.ok_or_else(missing)?;
        if size != sealed.size {
            let (sealed, found) = (sealed.size, size);
            return Err(Error::Size {
                image: image.to_owned(),
                file: name.clone(),
                sealed,
                found,
            });
        }
        let found = directory.measure(name)?.ok_or_else(missing)?;
        if let (Some(sealed), Some(found)) = (&sealed.sha256, found.sha256)
            && *sealed != found
        {
            let (image, file, sealed) = (image.to_owned(), name.clone(), sealed.clone());
            return Err(Error::Content {
                image,
                file,
                sealed,
                found,
            });
        }
    }
    Ok(Some(manifest))
}

fn read(directory: &Directory) -> Result<Option<Manifest>, Error> {
    let Some(file) = directory.file(NAME)? else {
        return Ok(None);
    };
    let reading = Error::io("read", directory.path.join(NAME));
    let text = file::head(file, CAP).map_err(reading)?;
    let broken = |source| Error::Document {
        image: directory.path.clone(),
        source,
    };
    if text.len() as u64 > CAP {
        let longer = format!("it is longer than {CAP} bytes");
        return Err(broken(serde::de::Error::custom(longer)));
    }
    // The version first: a later format need not parse as this one.
    let format: Format = serde_json::from_slice(&text).map_err(broken)?;
    if format.format_version != FORMAT_VERSION {
        return Err(Error::Format {
            image: directory.path.clone(),
            found: format.format_version,
            known: FORMAT_VERSION,
        });
    }
    serde_json::from_slice(&text).map(Some).map_err(broken)
}

#[derive(serde::Deserialize)]
struct Format {
    format_version: u32,
}

/// runc and crun restore each other's images no better than another release's; CRIU itself checks
/// what it can. runsc restores only what the same build wrote, and a version does not tell builds
/// apart.
fn check_origin(
    image: &Path,
    manifest: &Manifest,
    kind: Kind,
    version: &RuntimeVersion,
    build_id: Option<&str>,
) -> Result<(), Error> {
    let same_build = || {
        manifest.engine_version == version.as_str()
            && manifest.engine_build_id.as_deref() == build_id
    };
    if manifest.engine == kind.name() && (kind != Kind::Runsc || same_build()) {
        return Ok(());
    }
    let described = |engine: &str, version: &str, build: Option<&str>| match build {
        Some(build) => format!("{engine} {version} (build {build})"),
        None => format!("{engine} {version}"),
    };
    Err(Error::Foreign {
        image: image.to_owned(),
        made_by: described(
            &manifest.engine,
            &manifest.engine_version,
            manifest.engine_build_id.as_deref(),
        ),
        engine: described(kind.name(), version.as_str(), build_id),
    })
}

/// An image without a manifest: from the runc shim, podman, CRI, or the runtime itself.
fn foreign_image(directory: &Directory, kind: Kind) -> Result<(), Error> {
    if directory.is_empty()? {
        return Err(Error::Empty {
            image: directory.path.clone(),
        });
    }
    let needed: &[&str] = match kind {
        Kind::Runsc => &["checkpoint.img"],
        Kind::Runc | Kind::Crun => &["inventory.img", "descriptors.json"],
    };
    let no_image = |missing| Error::NoImage {
        image: directory.path.clone(),
        engine: kind.name(),
        missing,
    };
    for name in needed.iter().copied() {
        let file = directory.file(name)?.ok_or_else(|| no_image(name))?;
        if kind == Kind::Runsc {
            let reading = Error::io("read", directory.path.join(name));
            let beginning = file::head(file, GVISOR.len() as u64).map_err(reading)?;
            if !beginning.starts_with(GVISOR) {
                return Err(no_image("checkpoint.img that begins with \"gVisorSF\""));
            }
        }
    }
    Ok(())
}

/// Whether a name is of a file in the directory itself.
fn is_plain(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    // The second test refuses `a/`, which has one component as well.
    matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    ) && !name.contains('/')
}
