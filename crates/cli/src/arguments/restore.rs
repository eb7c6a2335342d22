//! What a restore is told.

use std::path::PathBuf;

use clap::Args;
use stasis_criu::{
    Options,
    options::{JoinNamespace, Joinable},
};

use super::{
    Images, Streams,
    shared::{Both, FILES, PROCESSES},
};

/// `stasis restore`.
#[derive(Debug, Args)]
pub struct Restore {
    #[command(flatten)]
    pub images: Images,

    #[command(flatten)]
    pub streams: Streams,

    /// Leave the processes stopped
    #[arg(short = 's', long, help_heading = PROCESSES)]
    pub leave_stopped: bool,

    /// Take out of the images what has been restored: there is no second restore
    #[arg(long, help_heading = "Images and log")]
    pub auto_dedup: bool,

    /// Take files for the right ones though their mode has changed
    #[arg(long, help_heading = FILES)]
    pub skip_file_rwx_check: bool,

    /// A namespace to restore into, such as net:/run/netns/blue or uts:4711
    #[arg(long, help_heading = FILES, value_name = "KIND:FILE|PID", value_parser = namespace)]
    pub join_ns: Vec<JoinNamespace>,

    /// Pass over sysctls that this kernel does not have
    #[arg(long, help_heading = FILES)]
    pub weak_sysctls: bool,

    /// Restore mounts as CRIU did before 3.17
    #[arg(long, help_heading = FILES)]
    pub mntns_compat_mode: bool,

    /// The SELinux context of mounts, instead of the one in the images
    #[arg(long, help_heading = FILES, value_name = "CONTEXT")]
    pub lsm_mount_context: Option<String>,

    /// A file system that CRIU does not know and that was taken along
    #[arg(long, help_heading = FILES, value_name = "NAME")]
    pub enable_fs: Vec<String>,

    #[command(flatten)]
    pub both: Both,
}

impl Restore {
    /// The options that it has.
    pub fn options(&self) -> anyhow::Result<Options> {
        let options = self
            .images
            .options()?
            .leave_stopped(self.leave_stopped)
            .spend_image_on_restore(self.auto_dedup)
            .skip_file_rwx_check(self.skip_file_rwx_check)
            .weak_sysctls(self.weak_sysctls)
            .mntns_compat_mode(self.mntns_compat_mode);
        let options = self.join_ns.iter().cloned().fold(options, Options::join_ns);
        let options = self.enable_fs.iter().fold(options, Options::enable_fs);
        let context = self.lsm_mount_context.iter();
        let options = context.fold(options, Options::lsm_mount_context);
        Ok(self.both.apply(options))
    }
}

fn from_here(file: &str) -> Result<PathBuf, String> {
    std::path::absolute(file).map_err(|error| error.to_string())
}

/// `KIND:FILE` or `KIND:PID`, as CRIU has it.
fn namespace(text: &str) -> Result<JoinNamespace, String> {
    let (kind, place) = text
        .split_once(':')
        .filter(|(_, place)| !place.is_empty())
        .ok_or_else(|| String::from("it is a kind, a colon, and a file or a process"))?;
    let kind = match kind {
        "net" => Joinable::Network,
        "uts" => Joinable::Uts,
        "time" => Joinable::Time,
        "ipc" => Joinable::Ipc,
        "mnt" => Joinable::Mount,
        "user" => Joinable::User,
        _ => {
            let kinds = "the kinds are net, uts, time, ipc, mnt and user";
            return Err(String::from(kinds));
        }
    };
    if let Ok(pid) = place.parse() {
        return Ok(JoinNamespace::of_process(kind, pid));
    }
    if let (Joinable::User, Some((file, ids))) = (kind, place.split_once(',')) {
        let ids = ids
            .split_once(',')
            .and_then(|(uid, gid)| Some((uid.parse().ok()?, gid.parse().ok()?)));
        let (uid, gid) = ids.ok_or_else(|| String::from("it ends in ,UID,GID"))?;
        return Ok(JoinNamespace::user(from_here(file)?, uid, gid));
    }
    Ok(JoinNamespace::new(kind, from_here(place)?))
}
