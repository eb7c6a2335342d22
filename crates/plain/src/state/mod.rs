//! The process state: what was known of a tree when it was dumped, beside its images.
//!
//! It is the file `process_state.json` that Cedana writes, so that a state of either is read by
//! the other: Go's JSON with two blanks of indent, names as below, what is empty left out. Two
//! things are ours: `Choices`, what the dump was told, which the restore must be told as well, and
//! that members which are not known here are kept.
//!
//! Filling it is in `fill`, what it says of the machine in `host`, the file in `file`.

mod file;
mod fill;
mod host;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

pub use file::FILE_NAME;

/// What a state says of something: in Go's words, and what is empty is left out.
macro_rules! states {
    ($(
        $(#[$of_type:meta])*
        pub struct $name:ident {
            $($(#[$of_field:meta])* pub $field:ident: $type:ty,)*
        }
    )*) => {
        $(
            $(#[$of_type])*
            #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "PascalCase", default)]
            pub struct $name {
                $(
                    $(#[$of_field])*
                    #[serde(skip_serializing_if = "is_empty")]
                    pub $field: $type,
                )*
            }
        )*
    };
}

states! {
    /// A process of a dumped tree, with all that descend from it.
    pub struct ProcessState {
        /// Its number.
        #[serde(rename = "PID")]
        pub pid: u32,
        /// Its command line, the words separated by spaces.
        pub cmdline: String,
        /// When it started, in milliseconds since 1970.
        pub start_time: u64,
        /// What it had open.
        #[serde(deserialize_with = "null_is_empty")]
        pub open_files: Vec<FileState>,
        /// Its sockets.
        #[serde(deserialize_with = "null_is_empty")]
        pub open_connections: Vec<ConnectionState>,
        /// The mounts that it saw. Ours are left out where they are those of its parent.
        #[serde(deserialize_with = "null_is_empty")]
        pub mounts: Vec<MountState>,
        /// Where it worked.
        pub working_dir: String,
        /// What it did, in one word.
        pub status: String,
        /// Had it not ended?
        pub is_running: bool,
        /// The machine. Only the root of a tree has it.
        pub host: Option<Host>,
        /// The users that it ran as: real, effective, saved, file system's.
        #[serde(rename = "UIDs", deserialize_with = "null_is_empty")]
        pub uids: Vec<u32>,
        /// The groups that it ran as.
        #[serde(rename = "GIDs", deserialize_with = "null_is_empty")]
        pub gids: Vec<u32>,
        /// Its supplementary groups.
        #[serde(deserialize_with = "null_is_empty")]
        pub groups: Vec<u32>,
        /// Its session.
        #[serde(rename = "SID")]
        pub sid: u32,
        /// Did it use a GPU through Cedana's interception? Never set here.
        #[serde(rename = "GPUEnabled")]
        pub gpu_enabled: bool,
        /// The name of that GPU controller. Never set here.
        #[serde(rename = "GPUID")]
        pub gpu_id: String,
        /// What the dump was told. Only the root of a tree has it, and no state of Cedana's.
        pub choices: Option<Choices>,
        /// Its children.
        #[serde(deserialize_with = "null_is_empty")]
        pub children: Vec<ProcessState>,
        /// What else the file says of it.
        #[serde(flatten)]
        pub others: Map<String, Value>,
    }

    /// An open file.
    pub struct FileState {
        /// What the kernel calls it.
        pub path: String,
        /// Its descriptor.
        pub fd: u64,
        /// Its access mode and status flags in octal, as an fdinfo has them.
        #[serde(deserialize_with = "any_text")]
        pub mode: String,
        /// The mount that it was opened over.
        #[serde(rename = "MountID")]
        pub mount_id: u64,
        /// Its inode.
        pub inode: u64,
        /// Is it a terminal?
        #[serde(rename = "IsTTY")]
        pub is_tty: bool,
        /// The device of its file system.
        pub dev: u64,
        /// The device that it is.
        pub rdev: u64,
    }

    /// A socket.
    pub struct ConnectionState {
        /// Its descriptor.
        pub fd: u32,
        /// Its family, as Linux numbers them: 1, 2 or 10.
        pub family: u32,
        /// Its type, as Linux numbers them: 1, 2 or 5.
        #[serde(rename = "Type")]
        pub kind: u32,
        /// Its own address, or the name of a Unix socket.
        #[serde(rename = "Laddr")]
        pub local: Option<Address>,
        /// The other side's.
        #[serde(rename = "Raddr")]
        pub remote: Option<Address>,
        /// Its state, as netstat names them.
        pub status: String,
        /// The users of its process.
        #[serde(rename = "UIDs", deserialize_with = "null_is_empty")]
        pub uids: Vec<u32>,
        /// Its process.
        #[serde(rename = "PID")]
        pub pid: u32,
    }

    /// An address of a socket.
    pub struct Address {
        /// The host, or the name of a Unix socket.
        #[serde(rename = "IP")]
        pub ip: String,
        /// The port.
        pub port: u32,
    }

    /// A mount.
    pub struct MountState {
        /// Its number.
        #[serde(rename = "ID")]
        pub id: u64,
        /// The number of the mount that it is on.
        pub parent: u64,
        /// The device, first half.
        pub major: u32,
        /// The device, second half.
        pub minor: u32,
        /// What of the file system is mounted.
        pub root: String,
        /// Where.
        pub mount_point: String,
        /// Its options.
        #[serde(deserialize_with = "any_text")]
        pub options: String,
        /// The type of its file system.
        #[serde(rename = "FSType")]
        pub fs_type: String,
        /// What is mounted.
        pub source: String,
    }

    /// A machine.
    pub struct Host {
        /// Which machine: its product's UUID, or its machine ID.
        #[serde(rename = "ID")]
        pub id: String,
        /// The hardware address of its first network device that has one.
        #[serde(rename = "MAC")]
        pub mac: String,
        /// Its name.
        pub hostname: String,
        /// Its operating system: `linux`.
        #[serde(rename = "OS")]
        pub os: String,
        /// Its distribution.
        pub platform: String,
        /// The release of its kernel.
        pub kernel_version: String,
        /// What its kernel was built for.
        pub kernel_arch: String,
        /// What it is a virtual machine of. Never set here.
        pub virtualization_system: String,
        /// `guest`, if it is a virtual machine.
        pub virtualization_role: String,
        /// Its processors.
        #[serde(rename = "CPU")]
        pub cpu: Option<Cpu>,
        /// Its memory.
        pub memory: Option<Memory>,
    }

    /// The processors of a machine.
    pub struct Cpu {
        /// How many there are.
        pub count: u32,
        /// The number of the first.
        #[serde(rename = "CPU")]
        pub cpu: u32,
        /// Who made it.
        #[serde(rename = "VendorID")]
        pub vendor_id: String,
        /// Its family.
        pub family: String,
        /// Its socket.
        #[serde(rename = "PhysicalID")]
        pub physical_id: String,
    }

    /// The memory of a machine, in bytes.
    pub struct Memory {
        /// All of it.
        pub total: u64,
        /// What programs could have.
        pub available: u64,
        /// What is not free, nor buffers or caches.
        pub used: u64,
    }

    /// What a dump was told because of what the tree was like, and its restore must be told.
    pub struct Choices {
        /// `shell_job`.
        pub shell_job: bool,
        /// A terminal comes back as CRIU's standard input, with `shell_job`.
        pub job_terminal: bool,
        /// `orphan_pts_master`.
        pub orphan_pts_master: bool,
        /// `tcp_established`.
        pub tcp_established: bool,
        /// `ext_unix_sk`.
        pub ext_unix_sk: bool,
        /// `file_locks`.
        pub file_locks: bool,
        /// Mounts of a namespace of the tree's own, `mnt[]`.
        pub external_mounts: bool,
        /// What was named as external: `file[..]`, `tty[..]`, `unix[..]`.
        pub external: Vec<String>,
    }
}

impl FileState {
    /// Its access mode and status flags, if the state has them as an fdinfo does.
    #[must_use]
    pub fn flags(&self) -> Option<u32> {
        u32::from_str_radix(&self.mode, 8).ok()
    }
}

impl ProcessState {
    /// This process and all that descend from it, parents before their children.
    pub fn processes(&self) -> impl Iterator<Item = &Self> {
        let mut waiting = std::collections::VecDeque::from([self]);
        std::iter::from_fn(move || {
            let process = waiting.pop_front()?;
            waiting.extend(&process.children);
            Some(process)
        })
    }
}

/// What Go leaves out of its JSON.
fn is_empty<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Go writes `null` for a list that was never made.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

/// A text that some write as a number, and some as a list of words.
fn any_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => text,
        Value::Null => String::new(),
        Value::Array(words) => {
            let words: Vec<_> = words.iter().filter_map(Value::as_str).collect();
            words.join(",")
        }
        other => other.to_string(),
    })
}
