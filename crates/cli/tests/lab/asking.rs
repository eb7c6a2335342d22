//! What `stasis criu` says.

use std::env;

use crate::command::done;

/// The release of the lab's CRIU begins so.
fn release() -> &'static str {
    match env::var("STASIS_LAB_SUITE").unwrap().as_str() {
        "forky" => "4.2",
        "trixie" => "4.1",
        other => panic!("which CRIU has {other}?"),
    }
}

#[test]
#[ignore = "needs the lab"]
fn the_version_is_that_of_the_binary() {
    let said = done("criu version").success();
    assert!(said.starts_with(release()), "{said}");
    let object = done("criu version --json").object();
    assert_eq!(object["version"], said.trim());
    let release = format!("{}.{}", object["major"], object["minor"]);
    assert!(said.starts_with(&release), "{object}");
    let number = object["number"].as_u64().unwrap();
    let of = |part: &str| object[part].as_u64().unwrap();
    assert_eq!(
        number,
        of("major") * 10_000 + of("minor") * 100 + of("sublevel")
    );
}

#[test]
#[ignore = "needs the lab"]
fn a_check_finds_that_criu_works() {
    let said = done("criu check").success();
    assert_eq!(said, "CRIU works on this machine\n");
    assert_eq!(done("criu check --quiet").success(), "");
    assert_eq!(
        done("criu check --json --quiet").success(),
        "{\"works\":true}\n"
    );
}

#[test]
#[ignore = "needs the lab"]
fn features_are_those_of_the_kernel() {
    // Where memory is tracked the kernel takes this.
    let tracked = std::fs::write("/proc/self/clear_refs", "4").is_ok();
    let object = done("criu features --json").object();
    assert_eq!(object["pidfd_store"], true);
    let said = done("criu features").success();
    let answers: Vec<_> = said.lines().map(|line| line.ends_with(" yes")).collect();
    let of = |feature: &str| object[feature].as_bool().unwrap();
    assert_eq!(
        answers,
        [of("mem_track"), of("lazy_pages"), of("pidfd_store")]
    );
    assert!(tracked || !of("mem_track"));
}

#[test]
#[ignore = "needs the lab"]
fn a_binary_that_is_not_there_is_named() {
    let (kind, error) = done("criu version --json --criu /no/criu").failure_object();
    assert_eq!(kind, "start");
    assert!(error.contains("cannot start /no/criu"), "{error}");
}
