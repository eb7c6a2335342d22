//! What the shim tells of itself: `-v` and `-info`.

use std::os::unix::fs::symlink;

use containerd_shim_protos::{protobuf::Message, types::introspection::RuntimeInfo};

use crate::support::{command::Run, engine::Engine, lab::lab, options::inline};

#[test]
#[ignore = "needs the lab: make test"]
fn the_version_is_told_under_each_name() {
    let scratch = tempfile::tempdir().expect("a directory");
    for name in [
        "containerd-shim-stasis-v1",
        "containerd-shim-runsc-v1",
        "containerd-shim-runc-v2",
    ] {
        let link = scratch.path().join(name);
        symlink(lab().shim(), &link).expect("a new link");
        let printed = Run::new(&format!("{} -v", link.display())).ok();
        assert!(printed.contains(env!("CARGO_PKG_VERSION")), "{printed}");
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn info_tells_the_features_of_the_engine_that_the_options_choose() {
    for (engine, mark) in [
        (Engine::Runc, "org.opencontainers.runc"),
        (Engine::Crun, "run.oci.crun"),
    ] {
        let options = inline(&engine.config(""))
            .write_to_bytes()
            .expect("complete");
        let info = info(options);
        let features = String::from_utf8_lossy(&info.features.value).into_owned();
        assert!(features.contains(mark), "{features}");
        assert!(features.contains("\"rro\""), "{features}");
    }
}

#[test]
#[ignore = "needs the lab: make test"]
fn info_of_a_runtime_that_is_missing_still_tells_name_and_version() {
    let options = inline("binary_name = \"no-such-runtime\"")
        .write_to_bytes()
        .expect("complete");
    let info = info(options);
    assert!(!info.name.is_empty());
    assert!(!info.version.version.is_empty());
}

fn info(options: Vec<u8>) -> RuntimeInfo {
    let told = Run::new(&format!("{} -info", lab().shim().display()))
        .stdin(options)
        .run();
    told.ok();
    RuntimeInfo::parse_from_bytes(&told.stdout)
        .unwrap_or_else(|error| panic!("not a RuntimeInfo ({error}): {told}"))
}
