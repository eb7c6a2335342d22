//! What the manifest says.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::options::CheckpointOptions;

/// `stasis.json`. Fields that this release does not know are passed over, since only a higher
/// [`FORMAT_VERSION`](super::FORMAT_VERSION) may change what the known ones mean.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of this document.
    pub format_version: u32,
    /// The runtime that made the image: `runsc`, `runc` or `crun`.
    pub engine: String,
    /// Its version, as it says it.
    pub engine_version: String,
    /// The build id of its binary, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub engine_build_id: Option<String>,
    /// The version of CRIU, where CRIU made the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub criu_version: Option<String>,
    /// The kernel's release.
    pub kernel: String,
    /// The CPU's feature flags, sorted.
    pub cpu_features: Vec<String>,
    /// When the image was sealed, as in RFC 3339, in UTC.
    pub created: String,
    /// The options that the container was dumped with, which a restore needs again.
    pub options: CheckpointOptions,
    /// How long each phase took, in milliseconds, in order.
    pub phases: Map<String, Value>,
    /// The phases together, in milliseconds.
    pub total: f64,
    /// Every file of the image but this one, by name.
    pub files: BTreeMap<String, File>,
}

/// One file of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Its length in bytes.
    pub size: u64,
    /// The SHA-256 of its content in hexadecimal; page files have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// One phase of a checkpoint and how long it took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phase {
    /// What was done, in one word.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
}
