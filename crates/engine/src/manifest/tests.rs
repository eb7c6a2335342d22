//! Images that are whole, and all the ways in which they are not.

use std::{fs, os::unix::fs::symlink, path::Path, time::Duration};

use tempfile::TempDir;

use super::{
    format::{ASIDE, CAP},
    *,
};
use crate::{
    identity::{Kind, RuntimeVersion},
    options::CheckpointOptions,
};

/// `printf core | sha256sum`
const CORE_SHA256: &str = "0d45f5fd462b8c70bffb10021ac1bcff3f58f29b1faf7568595095427d42812c";

fn image(files: &[(&str, &[u8])]) -> TempDir {
    let image = tempfile::tempdir().expect("a directory");
    for (name, content) in files {
        fs::write(image.path().join(name), content).expect("written");
    }
    image
}

fn criu_image() -> TempDir {
    image(&[
        ("inventory.img", b"inventory"),
        ("descriptors.json", b"[]"),
        ("pages-1.img", b"pages"),
        ("core-1.img", b"core"),
    ])
}

fn parts(engine: &str) -> Parts {
    Parts {
        engine: engine.to_owned(),
        engine_version: "1.3.6".to_owned(),
        engine_build_id: Some("abc".to_owned()),
        criu_version: Some("4.2.1".to_owned()),
        options: CheckpointOptions {
            tcp_established: true,
            ..CheckpointOptions::default()
        },
        phases: vec![Phase {
            name: "dump",
            took: Duration::from_micros(1500),
        }],
    }
}

fn sealed(engine: &str) -> TempDir {
    let image = criu_image();
    seal(image.path(), parts(engine), false).expect("is sealed");
    image
}

fn check(
    image: &Path,
    kind: Kind,
    version: &str,
    build: Option<&str>,
) -> Result<Option<Manifest>, Error> {
    verify(image, kind, &RuntimeVersion::new(version), build)
}

/// The message of the refusal, which names the image.
fn refused(image: &Path, kind: Kind) -> String {
    let error = check(image, kind, "1.3.6", Some("abc"))
        .expect_err("is refused")
        .to_string();
    assert!(error.contains(&image.display().to_string()), "{error}");
    error
}

#[test]
fn what_was_sealed_is_read_back() {
    for durable in [false, true] {
        let image = criu_image();
        let written = seal(image.path(), parts("runc"), durable).expect("is sealed");
        let read = check(image.path(), Kind::Runc, "1.3.6", Some("abc")).expect("is whole");
        assert_eq!(read.as_ref(), Some(&written));
        assert!(written.options.tcp_established);
        assert_eq!(written.files.len(), 4);
        assert_eq!(
            written.files["pages-1.img"],
            File {
                size: 5,
                sha256: None
            }
        );
        assert_eq!(
            written.files["core-1.img"].sha256.as_deref(),
            Some(CORE_SHA256)
        );
        let phases: f64 = written
            .phases
            .values()
            .filter_map(serde_json::Value::as_f64)
            .sum();
        assert!(
            (phases - written.total).abs() < 1e-6,
            "{phases} {}",
            written.total
        );
        assert_eq!(written.phases.contains_key("sync"), durable);
        let entries = fs::read_dir(image.path()).expect("listed").count();
        assert_eq!(entries, 5, "nothing but the image and its seal");
    }
}

#[test]
fn reserved_room_becomes_the_seal() {
    let image = image(&[]);
    reserve_room(image.path()).expect("is reserved");
    fs::write(image.path().join("checkpoint.img"), "gVisorSF").expect("written");
    seal(image.path(), parts("runc"), false).expect("is sealed");
    let names: Vec<_> = fs::read_dir(image.path())
        .expect("listed")
        .flatten()
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    let text = fs::read(image.path().join(NAME)).expect("read");
    serde_json::from_slice::<Manifest>(&text).expect("is not longer than its text");
}

/// An image whose manifest takes more than a kilobyte for each of so many files: JSON has six
/// characters for one of their names.
fn image_of_many(files: usize) -> TempDir {
    let image = criu_image();
    let name = "\u{1}".repeat(200);
    for number in 0..files {
        let name = format!("pages-{name}{number}.img");
        fs::write(image.path().join(name), "").expect("written");
    }
    image
}

#[test]
fn a_seal_of_thousands_of_files_is_read_back() {
    let image = image_of_many(3000);
    let written = seal(image.path(), parts("runc"), false).expect("is sealed");
    let length = fs::metadata(image.path().join(NAME)).expect("there").len();
    assert!(length > 3 << 20, "{length}");
    let read = check(image.path(), Kind::Runc, "1.3.6", Some("abc")).expect("is whole");
    assert_eq!(read, Some(written));
}

#[test]
fn no_seal_is_written_that_would_not_be_read() {
    let image = image_of_many(14_000);
    reserve_room(image.path()).expect("is reserved");
    let error = seal(image.path(), parts("runc"), false).expect_err("is refused");
    assert!(error.to_string().contains("has 14004 files"), "{error}");
    for left in [NAME, ASIDE] {
        assert!(!image.path().join(left).exists(), "{left}");
    }
}

#[test]
fn there_is_room_reserved_for_the_longest_seal() {
    let image = image(&[]);
    reserve_room(image.path()).expect("is reserved");
    let reserved = fs::metadata(image.path().join(ASIDE)).expect("there");
    assert_eq!(reserved.len(), CAP);
    assert!(std::os::unix::fs::MetadataExt::blocks(&reserved) * 512 >= CAP);
}

#[test]
fn what_is_no_regular_file_cannot_be_sealed() {
    let image = criu_image();
    fs::create_dir(image.path().join("directory")).expect("made");
    let error = seal(image.path(), parts("runc"), false).expect_err("is refused");
    assert!(
        error
            .to_string()
            .contains("directory in the checkpoint image"),
        "{error}"
    );
    assert!(!image.path().join(NAME).exists());
    let empty = tempfile::tempdir().expect("a directory");
    let error = seal(empty.path(), parts("runc"), false).expect_err("is refused");
    assert!(matches!(error, Error::Empty { .. }), "{error:?}");
}

#[test]
fn a_broken_image_is_refused_with_file_and_value() {
    let image = sealed("runc");
    let path = |name: &str| image.path().join(name);
    fs::write(path("pages-1.img"), "page").expect("written");
    let error = refused(image.path(), Kind::Runc);
    assert!(
        error.contains("pages-1.img has 4 bytes instead of 5"),
        "{error}"
    );
    fs::write(path("pages-1.img"), "other").expect("written");
    fs::write(path("core-1.img"), "kore").expect("written");
    let error = refused(image.path(), Kind::Runc);
    assert!(error.contains("core-1.img was changed"), "{error}");
    fs::remove_file(path("core-1.img")).expect("removed");
    let error = refused(image.path(), Kind::Runc);
    assert!(error.contains("core-1.img is missing"), "{error}");
    symlink("inventory.img", path("core-1.img")).expect("linked");
    let error = refused(image.path(), Kind::Runc);
    assert!(
        error.contains("core-1.img in the checkpoint image"),
        "{error}"
    );
}

#[test]
fn an_image_of_another_engine_or_build_is_refused() {
    let image = sealed("runc");
    let error = refused(image.path(), Kind::Crun);
    assert!(error.contains("made by runc 1.3.6 (build abc)"), "{error}");
    assert!(error.contains("by crun 1.3.6"), "{error}");
    check(image.path(), Kind::Runc, "1.4.0", None).expect("CRIU decides that");

    let image = sealed("runsc");
    check(image.path(), Kind::Runsc, "1.3.6", Some("abc")).expect("is of this build");
    for (version, build) in [
        ("1.3.6", Some("def")),
        ("1.3.6", None),
        ("1.3.7", Some("abc")),
    ] {
        let error = check(image.path(), Kind::Runsc, version, build).expect_err("is of another");
        assert!(matches!(error, Error::Foreign { .. }), "{error:?}");
    }
}

#[test]
fn an_image_without_a_seal_has_what_its_engine_needs() {
    let criu = criu_image();
    assert_eq!(
        check(criu.path(), Kind::Crun, "1", None).expect("an image"),
        None
    );
    assert!(refused(criu.path(), Kind::Runsc).contains("checkpoint.img"));
    fs::remove_file(criu.path().join("descriptors.json")).expect("removed");
    assert!(refused(criu.path(), Kind::Runc).contains("has no descriptors.json"));
    let gvisor = image(&[("checkpoint.img", b"gVisorSF and more")]);
    assert_eq!(
        check(gvisor.path(), Kind::Runsc, "1", None).expect("an image"),
        None
    );
    assert!(refused(gvisor.path(), Kind::Runc).contains("inventory.img"));
    fs::write(gvisor.path().join("checkpoint.img"), "gVisor").expect("written");
    assert!(refused(gvisor.path(), Kind::Runsc).contains("gVisorSF"));
    let empty = image(&[]);
    assert!(refused(empty.path(), Kind::Runc).contains("is empty"));
    let error = check(Path::new("/no/such/image"), Kind::Runc, "1", None).expect_err("is none");
    assert!(error.to_string().contains("/no/such/image"), "{error}");
}

#[test]
fn no_seal_leads_out_of_its_directory() {
    for name in ["../secret", "/etc/passwd", "a/b", "..", ".", "", "a/"] {
        let image = sealed("runc");
        let seal = image.path().join(NAME);
        let mut document: serde_json::Value =
            serde_json::from_slice(&fs::read(&seal).expect("read")).expect("parses");
        document["files"] = serde_json::json!({name: {"size": 1}});
        fs::write(&seal, document.to_string()).expect("written");
        let error = refused(image.path(), Kind::Runc);
        assert!(error.contains("no plain name"), "{name:?}: {error}");
    }
}

#[test]
fn a_seal_that_cannot_be_read_or_trusted_is_refused() {
    let image = criu_image();
    let seal = image.path().join(NAME);
    let endless = format!(
        "{{\"format_version\": 1, \"x\": \"{}\"}}",
        "x".repeat(usize::try_from(CAP).expect("fits"))
    );
    for text in ["", "{}", "{\"format_version\": 1}", "[1", endless.as_str()] {
        fs::write(&seal, text).expect("written");
        let error = refused(image.path(), Kind::Runc);
        assert!(error.contains("stasis.json"), "{error}");
    }
    let error = check(image.path(), Kind::Runc, "1.3.6", None).expect_err("is endless");
    let source = std::error::Error::source(&error).expect("a cause");
    assert!(source.to_string().contains("longer than"), "{source}");
    fs::write(&seal, "{\"format_version\": 9, \"of\": \"the future\"}").expect("written");
    assert!(refused(image.path(), Kind::Runc).contains("format version 9"));
    fs::remove_file(&seal).expect("removed");
    symlink("/dev/zero", &seal).expect("linked");
    assert!(refused(image.path(), Kind::Runc).contains("stasis.json"));
    fs::remove_file(&seal).expect("removed");
    nix::unistd::mkfifo(&seal, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    assert!(
        refused(image.path(), Kind::Runc).contains("stasis.json"),
        "and does not wait for a writer"
    );
}
