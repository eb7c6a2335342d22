//! A runsc with one container: its settings, and what it says of the container. Made from our
//! settings, or from what gVisor's own shim has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use nix::unistd::Pid;
use serde_json::Value;
use stasis_linux::Pidfd;

use super::{deletion, filestore, ids};
use crate::{
    calls::{EngineState, EngineStatus},
    children::Children,
    command::{Invocation, Runtime},
    error::{Error, Result},
    identify::identify,
    identity::{Identity, Kind},
    settings::Settings,
};

/// Where containerd's shim of gVisor keeps runsc's state, if nobody says otherwise.
const DEFAULT_ROOT: &str = "/run/containerd/runsc";
/// The annotation by which the CRI plugin tells where a pod's logs go.
const LOG_DIRECTORY: &str = "io.kubernetes.cri.sandbox-log-directory";
/// The log of a crash of the sandbox there, as gVisor's shim names it.
const PANIC_LOG: &str = "gvisor_panic.log";

/// The engine for runsc.
#[derive(Debug)]
pub struct Runsc {
    pub(super) runtime: Runtime,
    /// Where runsc keeps its state files.
    pub(super) root: PathBuf,
    /// Whether the configuration leaves it to us where the filestore goes.
    pub(super) places_filestore: bool,
}

impl Runsc {
    /// As gVisor's own shim makes it: `root` (if empty, `/run/containerd/runsc`) and `namespace`
    /// give the state directory, `path` is the bundle, `runtime` the binary, and `config` its
    /// flags; `spec` may name the directory of the panic log. Calls are entered in `children`.
    ///
    /// # Errors
    /// If the binary is missing, or is no runsc.
    pub async fn new(
        root: &Path,
        path: &Path,
        namespace: &str,
        runtime: &str,
        mut config: BTreeMap<String, String>,
        spec: &Value,
        children: Children,
    ) -> Result<Arc<Self>> {
        let identity = identify(runtime, &children).await?;
        if identity.kind != Kind::Runsc {
            return Err(Error::Unsupported {
                engine: identity.kind,
                version: identity.version.to_string(),
                what: "a gVisor sandbox".to_owned(),
                advice: format!("name a runsc instead of {}", identity.binary.display()),
            });
        }
        if let Some(directory) = spec["annotations"][LOG_DIRECTORY].as_str() {
            let log = Path::new(directory).join(PANIC_LOG).display().to_string();
            config.entry("panic-log".to_owned()).or_insert(log);
        }
        let root = if root.as_os_str().is_empty() {
            Path::new(DEFAULT_ROOT)
        } else {
            root
        };
        let settings = Settings {
            binary: runtime.to_owned(),
            root: root.join(namespace),
            bundle: path.to_owned(),
            runsc_config: config,
            children,
            ..Settings::default()
        };
        Ok(Arc::new(Self::connected(identity, settings)))
    }

    pub(crate) fn connected(identity: Identity, settings: Settings) -> Self {
        let config = settings.runsc_config;
        let log = settings.bundle.join("log.json");
        let mut globals = vec![
            format!("--root={}", settings.root.display()).into(),
            format!("--log={}", log.display()).into(),
            "--log-format=json".into(),
        ];
        if settings.systemd_cgroup {
            globals.push("--systemd-cgroup=true".into());
        }
        // Last, since of two equal flags the later one wins.
        globals.extend(
            config
                .iter()
                .map(|(key, value)| format!("--{key}={value}").into()),
        );
        Self {
            places_filestore: !config.contains_key("overlay2") && !config.contains_key("overlay"),
            root: config.get("root").map_or(settings.root, PathBuf::from),
            runtime: Runtime {
                identity,
                globals,
                log: config.get("log").map_or(log, PathBuf::from),
                passing: deletion::was_met,
                timeouts: settings.timeouts,
                children: settings.children,
            },
        }
    }

    /// A `create` or `restore`, which both make a sandbox.
    pub(super) fn making<'a>(
        &self,
        call: Invocation<'a>,
        bundle: &Path,
        pid_file: &Path,
    ) -> Invocation<'a> {
        let call = if self.places_filestore {
            call.global(filestore::flag(bundle))
        } else {
            call
        };
        call.option("--bundle", bundle)
            .option("--pid-file", pid_file)
    }

    /// Refuses an id that runsc could take for another's.
    pub(super) fn check_id(&self, id: &str) -> Result<()> {
        let Some(known) = ids::alike(&self.root, id)? else {
            return Ok(());
        };
        let what = format!("container {id} beside {known}: it takes the beginning of an id for it");
        let advice = "use ids of which none begins like another, such as ids of one length";
        Err(self.runtime.unsupported(what, advice))
    }

    pub(super) async fn delete(&self, id: &str, force: bool) -> Result<()> {
        if ids::would_reach_another(&self.root, id)? {
            return Ok(());
        }
        let knows = || ids::knows(&self.root, id);
        self.runtime.delete(id, force, knows).await
    }

    pub(super) async fn state(&self, id: &str) -> Result<EngineState> {
        // runsc asks a created or paused sandbox nothing, and so does not see that it died; and
        // one that nobody has reaped yet it takes for alive.
        self.runtime
            .state(id, || ids::knows(&self.root, id))
            .await
            .map(checked)
    }
}

/// The state, unless the sandbox that it speaks of has ended.
fn checked(state: EngineState) -> EngineState {
    match state.pid {
        Some(pid) if has_ended(pid) => EngineState {
            status: EngineStatus::Stopped,
            pid: None,
        },
        _ => state,
    }
}

/// Whether a process has gone, or is a zombie: runsc takes one for a sandbox that runs.
fn has_ended(pid: Pid) -> bool {
    let Some(pid) = rustix::process::Pid::from_raw(pid.as_raw()) else {
        return true;
    };
    match Pidfd::take(pid) {
        Ok(pidfd) => pidfd.has_ended(),
        Err(errno) => errno == rustix::io::Errno::SRCH,
    }
}
