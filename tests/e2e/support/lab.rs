//! The lab that the tests run in, as its environment describes it (`lab/README.md`), and the
//! names and directories that each test has for itself.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
};

/// The lab. To have one is to be in it.
#[derive(Debug, Clone, Copy)]
pub struct Lab;

/// The containerd releases that the tests know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Release {
    /// 1.7: its ctr sends a checkpoint's options to runc's shim only.
    V1_7,
    /// 2.1: the first that is run with the full number of repetitions.
    V2_1,
    /// 2.4: the first here that speaks BootstrapParams.
    V2_4,
}

/// The lab, or a panic that says how to get into it.
pub fn lab() -> Lab {
    assert!(
        env::var_os("STASIS_LAB").is_some(),
        "this test needs containerd, the engines and CRIU as the lab has them: run `make test`, \
         or `tests/run` for the end-to-end tests alone"
    );
    Lab
}

impl Lab {
    /// The containerd on the PATH.
    pub fn release(self) -> Release {
        match variable("STASIS_LAB_CONTAINERD").as_str() {
            "1.7" => Release::V1_7,
            "2.1" => Release::V2_1,
            "2.4" => Release::V2_4,
            other => panic!("the tests do not know containerd {other}"),
        }
    }

    /// The archive of the image to import.
    pub fn image_archive(self) -> String {
        variable("STASIS_LAB_IMAGE")
    }

    /// The name of that image.
    pub fn image(self) -> String {
        variable("STASIS_LAB_IMAGE_REF")
    }

    /// The shim under test: the one that `tests/run` names, else the one that cargo built.
    pub fn shim(self) -> PathBuf {
        env::var_os("STASIS_SHIM").map_or_else(
            || PathBuf::from(env!("CARGO_BIN_EXE_containerd-shim-stasis-v1")),
            PathBuf::from,
        )
    }

    /// A name that nothing else in this lab has: a containerd namespace, part of every path and
    /// command line of the test, and so how what it leaves behind is found. The letter keeps it out
    /// of the hexadecimal digits with which cargo ends the name of this very program.
    pub fn unique_name(self) -> String {
        static TAKEN: AtomicUsize = AtomicUsize::new(0);
        format!("e2e-t{:04}", TAKEN.fetch_add(1, Ordering::Relaxed))
    }

    /// A new directory on a disk, for the test of that name.
    pub fn scratch(self, name: &str) -> PathBuf {
        let directory = Path::new(&variable("STASIS_LAB_SCRATCH")).join(name);
        fs::create_dir_all(&directory).expect("the lab's scratch directory is writable");
        directory
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("the lab sets {name}; see lab/README.md"))
}
