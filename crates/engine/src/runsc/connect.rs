//! Makes the engine, from our settings or from what gVisor's own shim has.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::Value;

use super::{Runsc, deletion};
use crate::{
    children::Children,
    command::Runtime,
    connect::{Settings, Timeouts},
    error::{Error, Result},
    identify::identify,
    identity::{Identity, Kind},
};

/// Where containerd's shim of gVisor keeps runsc's state, if nobody says otherwise.
const DEFAULT_ROOT: &str = "/run/containerd/runsc";
/// The annotation by which the CRI plugin tells where a pod's logs go.
const LOG_DIRECTORY: &str = "io.kubernetes.cri.sandbox-log-directory";
/// The log of a crash of the sandbox there, as gVisor's shim names it.
const PANIC_LOG: &str = "gvisor_panic.log";

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
            systemd_cgroup: false,
            runsc_config: config,
            no_pivot_root: false,
            no_new_keyring: false,
            timeouts: Timeouts::default(),
            children,
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
}
