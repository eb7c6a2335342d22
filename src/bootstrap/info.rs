//! The `-info` and `-v` actions: what this shim is, and what its runtime can do.
//!
//! containerd asks for the features before it creates containers, to know whether the runtime has
//! id-mapped and recursively read-only mounts. A runtime that cannot be asked leaves them out,
//! with a warning on the standard error: the name is worth an answer all the same.

use std::{
    io::{self, Write},
    time::Duration,
};

use containerd_shim::protos::{
    protobuf::{Message, well_known_types::any::Any},
    types::introspection::{RuntimeInfo, RuntimeVersion},
};
use stasis_engine::Children;
use stasis_linux::chain;
use tokio::{runtime, time::timeout};

use super::stdin;
use crate::{
    config::{self, Config},
    invoked_as::InvokedAs,
    service::options,
};

/// The type of a features document, which travels as JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// How long the runtime may take to answer.
const RUNTIME: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What containerd sent cannot be used.
    #[error(transparent)]
    Stdin(#[from] stdin::Error),
    /// The runtime options cannot be used.
    #[error(transparent)]
    Options(#[from] options::Error),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The answer cannot be given.
    #[error("cannot write the answer")]
    Reply(#[source] io::Error),
}

/// Writes a `RuntimeInfo` to the standard output.
///
/// # Errors
/// If the options on the standard input cannot be understood, or nobody reads the answer.
pub fn info(invoked_as: &InvokedAs) -> Result<(), Error> {
    let options = stdin::options(&stdin::read()?)?;
    let config = Config::resolve(invoked_as, options::runtime(options.as_ref())?)?;
    let info = RuntimeInfo {
        name: invoked_as.runtime_name(),
        version: Some(RuntimeVersion {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            revision: revision().unwrap_or_default().to_owned(),
            ..RuntimeVersion::default()
        })
        .into(),
        options: options.into(),
        features: features(&config).into(),
        ..RuntimeInfo::default()
    };
    let bytes = info
        .write_to_bytes()
        .map_err(|error| Error::Reply(error.into()))?;
    write(&bytes)
}

/// Writes the version for people.
///
/// # Errors
/// If nobody reads it.
pub fn version(invoked_as: &InvokedAs) -> Result<(), Error> {
    let mut text = format!(
        "{}:\n  Version:  {}\n",
        invoked_as.runtime_name(),
        env!("CARGO_PKG_VERSION")
    );
    if let Some(revision) = revision() {
        text += &format!("  Revision: {revision}\n");
    }
    write(text.as_bytes())
}

/// The commit that was built, if whoever built it said so.
fn revision() -> Option<&'static str> {
    option_env!("STASIS_REVISION")
}

/// The runtime's features document, if it has one.
fn features(config: &Config) -> Option<Any> {
    match ask(config) {
        Ok(features) => features,
        Err(error) => {
            eprintln!(
                "the features of {} are not known: {}",
                config.binary_name,
                chain(&*error)
            );
            None
        }
    }
}

fn ask(config: &Config) -> Result<Option<Any>, Box<dyn std::error::Error>> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // A bundle without a container: the runtime leaves a log in it, and the working directory is
    // containerd's own.
    let bundle = tempfile::tempdir()?;
    let features = runtime.block_on(async {
        let asked = async {
            let engine = config
                .connect("", bundle.path(), Children::default())
                .await?;
            engine.features().await
        };
        timeout(RUNTIME, asked).await
    });
    let Some(features) = features?? else {
        return Ok(None);
    };
    let value = serde_json::to_vec(&features)?;
    Ok(Some(Any {
        type_url: FEATURES.to_owned(),
        value,
        ..Any::default()
    }))
}

fn write(bytes: &[u8]) -> Result<(), Error> {
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(Error::Reply)
}
