//! What CRIU tells of itself, of the kernel and of the processors.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    process::{Command, Output},
};

use stasis_criu::{Criu, Error, KnownCause, Options};

use crate::victim;

/// What CRIU says on its command line.
fn said(arguments: &[&str]) -> Output {
    Command::new("criu").args(arguments).output().unwrap()
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn the_version_is_the_one_that_the_command_prints() {
    let criu = victim::criu();
    let version = criu.version().await.unwrap();
    let printed = String::from_utf8(said(&["--version"]).stdout).unwrap();
    let printed = printed
        .lines()
        .find_map(|line| line.strip_prefix("Version: "));
    let printed = printed.expect("a version");
    assert_eq!(version.to_string(), printed);

    let numbers: Vec<u32> = printed.split('.').map(|n| n.parse().unwrap()).collect();
    let &[major, minor, sublevel] = &numbers[..] else {
        panic!("the lab's CRIU is a maintenance release, and not {printed}");
    };
    assert_eq!(
        version.as_integer(),
        major * 10_000 + minor * 100 + sublevel
    );
    assert!(criu.is_at_least(major, minor).await.unwrap());
    assert!(criu.is_at_least(3, 17).await.unwrap());
    assert!(!criu.is_at_least(major, minor + 1).await.unwrap());
    assert!(!criu.is_at_least(major + 1, 0).await.unwrap());
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn the_features_are_those_that_the_command_finds() {
    let features = victim::criu().features().await.unwrap();
    let found = |feature| said(&["check", "--feature", feature]).status.success();
    assert_eq!(features.mem_track, found("mem_dirty_track"));
    assert_eq!(features.lazy_pages, found("uffd-noncoop"));
    assert_eq!(features.pidfd_store, found("pidfd_store"));
    assert!(features.pidfd_store);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_check_succeeds_and_tells_what_cannot_be_done_without_a_capability() {
    victim::criu().check().await.unwrap();

    let directory = tempfile::tempdir().unwrap();
    let powerless = directory.path().join("criu");
    let script = "#!/bin/sh\nexec setpriv --bounding-set=-net_admin criu \"$@\"\n";
    fs::write(&powerless, script).unwrap();
    fs::set_permissions(&powerless, fs::Permissions::from_mode(0o700)).unwrap();
    let error = Criu::with_binary(&powerless).check().await.unwrap_err();
    let Error::Failed { diagnosis, .. } = &error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("TCP repair mode"), "{error}");
    // It was for this call only.
    assert_eq!(diagnosis.log, None);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn the_processors_are_those_that_were_written_down() {
    let criu = victim::criu();
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path());
    criu.cpuinfo_dump(&options).await.unwrap();
    criu.cpuinfo_check(&options).await.unwrap();

    // All over one connection.
    let mut connection = criu.prepare().await.unwrap();
    connection.version().await.unwrap();
    connection.features().await.unwrap();
    connection.cpuinfo_dump(&options).await.unwrap();
    connection.cpuinfo_check(&options).await.unwrap();
    connection.cleanup().await;

    let image = directory.path().join("cpuinfo.img");
    let whole = fs::read(&image).unwrap();
    fs::write(&image, &whole[..whole.len() / 2]).unwrap();
    let error = criu.cpuinfo_check(&options).await.unwrap_err();
    let Error::Failed { diagnosis, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(diagnosis.known, Some(KnownCause::ImageDamaged), "{error}");

    fs::remove_file(&image).unwrap();
    let error = criu.cpuinfo_check(&options).await.unwrap_err();
    let Error::Failed { diagnosis, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(diagnosis.known, Some(KnownCause::ImageMissing), "{error}");
}
