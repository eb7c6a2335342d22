//! What belongs to the processes but not to the image, and comes from outside on restore.
//!
//! The forms are those that `criu/*.c` of 4.2 looks up. CRIU takes any other in silence, so a
//! letter left out is a resource that is dumped after all, or a restore that fails.

use std::{fmt, str::FromStr};

use super::{
    Options,
    check::Context,
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_RESTORE, Given, Key, Release, Row},
};

pub(super) const ROWS: &[Row] = &[
    Row {
        number: 37,
        name: "external",
        since: Release::new(2, 0, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::Named("external"),
        by: By::Setter {
            given: |o| Given::all(o.external.iter().map(ToString::to_string)),
            put: |o, rpc| rpc.external = o.external.iter().map(ToString::to_string).collect(),
        },
    },
    Row {
        number: 19,
        name: "veths",
        since: Release::new(1, 2, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::None("`external=veth[IN]:OUT` is the same"),
        by: By::Successor(37),
    },
    Row {
        number: 23,
        name: "ext_mnt",
        since: Release::new(1, 3, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::None("`external=mnt[KEY]:VALUE` is the same"),
        by: By::Successor(37),
    },
    Row {
        number: 33,
        name: "unix_sk_ino",
        since: Release::new(1, 7, 0),
        requests: DUMPS_AND_RESTORE,
        key: Key::None("`external=unix[INODE]` is the same"),
        by: By::Successor(37),
    },
];

/// The longest name of a network device, `IFNAMSIZ` without the NUL.
const LONGEST_DEVICE: usize = 15;

/// Resources from outside.
///
/// ```
/// use stasis_criu::{Options, options::{External, VethPair}};
///
/// let dump = Options::new("/var/lib/images")
///     .external(External::mount("/etc/resolv.conf", "resolv.conf"))
///     .external("net[4026532281]:extRootNetNS".parse()?);
/// let restore = Options::new("/var/lib/images")
///     .external(External::mount("resolv.conf", "/run/bundle/resolv.conf"))
///     .veth_pair(VethPair::new("eth0", "veth4711").bridge("br0"));
/// # Ok::<(), stasis_criu::options::OptionError>(())
/// ```
impl Options {
    /// A resource from outside, `external`.
    #[must_use]
    pub fn external(mut self, resource: External) -> Self {
        self.external.push(resource);
        self
    }

    /// As [`external`](Self::external), unless the same is named already: that stays as it was named.
    #[must_use]
    pub fn external_unless_named(self, resource: External) -> Self {
        let id = resource.id();
        match self.external.iter().any(|named| named.id() == id) {
            true => self,
            false => self.external(resource),
        }
    }

    /// A pair of virtual network devices, one of them outside: `external veth[..]`, once `veths`.
    #[must_use]
    pub fn veth_pair(self, pair: VethPair) -> Self {
        self.external(External::Veth(pair))
    }
}

/// A resource from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum External {
    /// `mnt[KEY]:VALUE`, once `ext_mnt`. On a dump the key is the mount point and the value a name
    /// for the image; on a restore the key is that name and the value what to mount.
    Mount {
        /// Mount point, or name.
        key: String,
        /// Name, or what to mount.
        value: String,
    },
    /// `mnt[]`: CRIU finds the mounts by itself.
    AutoMounts(AutoMounts),
    /// `dev[MAJOR/MINOR]:NAME` on a dump, `dev[NAME]:DEVICE` on a restore: a block device that is
    /// mounted.
    Device {
        /// Numbers, or name.
        key: String,
        /// Name, or device file.
        value: String,
    },
    /// `file[MOUNT:INODE]`: an open file on a mount of outside.
    File {
        /// The mount's ID.
        mount: u32,
        /// The inode's number.
        inode: u64,
    },
    /// `tty[RDEV:DEV]`: a terminal.
    Terminal {
        /// The terminal's device number.
        rdev: u64,
        /// The device number of the file system that its file is on.
        dev: u64,
    },
    /// `unix[INODE]`, once `unix_sk_ino`: a Unix socket of the processes.
    UnixSocket {
        /// The socket's inode number.
        inode: u32,
    },
    /// `veth[INSIDE]:OUTSIDE@BRIDGE`: a pair of virtual network devices.
    Veth(VethPair),
    /// `macvlan[DEVICE]:PARENT`: the device that a macvlan is made on.
    Macvlan {
        /// The macvlan's name.
        device: String,
        /// The name of the device outside.
        parent: String,
    },
    /// `netdev[INSIDE]:OUTSIDE`: a device that is there already and is moved in. From CRIU 3.16
    /// on.
    NetworkDevice {
        /// Its name inside.
        inside: String,
        /// Its name outside.
        outside: String,
    },
    /// `net[INODE]:KEY`: a network namespace, which a restore gets under the key by `inherit_fd`.
    /// From CRIU 3.11 on.
    NetworkNamespace {
        /// The namespace's inode number.
        inode: u32,
        /// The key; runc's is `extRootNetNS`.
        key: String,
    },
    /// `pid[INODE]:KEY`: a PID namespace, likewise. From CRIU 3.15 on.
    PidNamespace {
        /// The namespace's inode number.
        inode: u32,
        /// The key; runc's is `extRootPidNS`.
        key: String,
    },
}

/// Which mounts CRIU takes for external by itself. CRIU reads only one letter: who wants both
/// kinds names both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AutoMounts {
    /// Those that neither share nor follow.
    Private,
    /// Those that follow a master outside too, `:m`.
    Masters,
    /// Those that are shared with outside too, `:s`.
    Sharing,
}

/// A pair of virtual network devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethPair {
    inside: String,
    outside: String,
    bridge: Option<String>,
}

impl VethPair {
    /// The names of the device in the processes' network namespace and of the one outside.
    #[must_use]
    pub fn new(inside: impl Into<String>, outside: impl Into<String>) -> Self {
        Self {
            inside: inside.into(),
            outside: outside.into(),
            bridge: None,
        }
    }

    /// Adds the one outside to this bridge on restore.
    #[must_use]
    pub fn bridge(mut self, bridge: impl Into<String>) -> Self {
        self.bridge = Some(bridge.into());
        self
    }
}

impl External {
    /// A mount: of a mount point and its name on a dump, of the name and what to mount on a
    /// restore.
    #[must_use]
    pub fn mount(key: impl Into<String>, value: impl Into<String>) -> Self {
        Self::Mount {
            key: key.into(),
            value: value.into(),
        }
    }

    /// The first release that knows the form.
    fn since(&self) -> Release {
        match self {
            Self::NetworkNamespace { .. } => Release::new(3, 11, 0),
            Self::PidNamespace { .. } => Release::new(3, 15, 0),
            Self::NetworkDevice { .. } => Release::new(3, 16, 0),
            Self::Device { .. } => Release::new(2, 3, 0),
            Self::Macvlan { .. } => Release::new(2, 8, 0),
            Self::Mount { .. }
            | Self::AutoMounts(_)
            | Self::File { .. }
            | Self::Terminal { .. }
            | Self::UnixSocket { .. }
            | Self::Veth(_) => Release::new(2, 0, 0),
        }
    }

    /// What CRIU looks it up by; of two with the same only one counts.
    fn id(&self) -> String {
        let text = self.to_string();
        match self {
            Self::AutoMounts(_) => text,
            _ => text
                .split_inclusive(']')
                .next()
                .unwrap_or_default()
                .to_owned(),
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Self::Mount { key, value } => keyed(key, value),
            Self::Device { key, value } => keyed(key, value),
            Self::AutoMounts(_)
            | Self::File { .. }
            | Self::Terminal { .. }
            | Self::UnixSocket { .. } => Ok(()),
            Self::Veth(pair) => {
                device(&pair.inside)?;
                device(&pair.outside)?;
                pair.bridge.as_deref().map_or(Ok(()), device)
            }
            Self::Macvlan {
                device: inside,
                parent: outside,
            }
            | Self::NetworkDevice { inside, outside } => {
                device(inside)?;
                device(outside)
            }
            Self::NetworkNamespace { key, .. } | Self::PidNamespace { key, .. } => {
                if key.is_empty() {
                    return Err("a key follows the colon");
                }
                Ok(())
            }
        }
    }
}

fn keyed(key: &str, value: &str) -> Result<(), &'static str> {
    if key.is_empty() || key.contains(']') {
        return Err("there is a key in the brackets, without a bracket in it");
    }
    if value.is_empty() {
        return Err("a value follows the colon");
    }
    Ok(())
}

fn device(name: &str) -> Result<(), &'static str> {
    let strange = |byte: u8| byte.is_ascii_whitespace() || b"/:@]\0".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_DEVICE || name == "." || name == ".." {
        return Err("the name of a network device has 1 to 15 characters");
    }
    if name.bytes().any(strange) {
        return Err("the name of a network device has no blank, slash, colon, `@` or bracket");
    }
    Ok(())
}

impl fmt::Display for External {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mount { key, value } => write!(f, "mnt[{key}]:{value}"),
            Self::AutoMounts(AutoMounts::Private) => f.write_str("mnt[]"),
            Self::AutoMounts(AutoMounts::Masters) => f.write_str("mnt[]:m"),
            Self::AutoMounts(AutoMounts::Sharing) => f.write_str("mnt[]:s"),
            Self::Device { key, value } => write!(f, "dev[{key}]:{value}"),
            Self::File { mount, inode } => write!(f, "file[{mount:x}:{inode:x}]"),
            Self::Terminal { rdev, dev } => write!(f, "tty[{rdev:x}:{dev:x}]"),
            Self::UnixSocket { inode } => write!(f, "unix[{inode}]"),
            Self::Veth(VethPair {
                inside,
                outside,
                bridge,
            }) => {
                write!(f, "veth[{inside}]:{outside}")?;
                bridge.iter().try_for_each(|bridge| write!(f, "@{bridge}"))
            }
            Self::Macvlan { device, parent } => write!(f, "macvlan[{device}]:{parent}"),
            Self::NetworkDevice { inside, outside } => write!(f, "netdev[{inside}]:{outside}"),
            Self::NetworkNamespace { inode, key } => write!(f, "net[{inode}]:{key}"),
            Self::PidNamespace { inode, key } => write!(f, "pid[{inode}]:{key}"),
        }
    }
}

impl FromStr for External {
    type Err = OptionError;

    fn from_str(text: &str) -> Result<Self, OptionError> {
        let refuse = |reason| OptionError::value("external", text, reason);
        let resource = parse(text).map_err(refuse)?;
        resource.check().map_err(refuse)?;
        Ok(resource)
    }
}

const KINDS: &str = "it begins with one of mnt[, dev[, file[, tty[, unix[, veth[, macvlan[, \
                     netdev[, net[ and pid[";

fn parse(text: &str) -> Result<External, &'static str> {
    let (kind, rest) = text.split_once('[').ok_or(KINDS)?;
    let (key, rest) = rest.split_once(']').ok_or("its bracket is not closed")?;
    let value = match rest.strip_prefix(':') {
        None if rest.is_empty() => None,
        None => return Err("only a colon follows the bracket"),
        value => value,
    };
    let own = |text: &str| text.to_owned();
    let needed = || {
        value
            .map(own)
            .ok_or("a colon and a value follow the bracket")
    };
    let no_value = |resource| match value {
        None => Ok(resource),
        Some(_) => Err("nothing follows the bracket"),
    };
    match kind {
        "mnt" if key.is_empty() => auto_mounts(value).map(External::AutoMounts),
        "mnt" => Ok(External::mount(key, needed()?)),
        "dev" => Ok(External::Device {
            key: own(key),
            value: needed()?,
        }),
        "file" => {
            let (mount, inode) = hexadecimal(key)?;
            let mount = u32::try_from(mount).map_err(|_| "it is no ID of a mount")?;
            no_value(External::File { mount, inode })
        }
        "tty" => {
            let (rdev, dev) = hexadecimal(key)?;
            no_value(External::Terminal { rdev, dev })
        }
        "unix" => no_value(External::UnixSocket { inode: inode(key)? }),
        "veth" => Ok(External::Veth(veth(key, &needed()?))),
        "macvlan" => Ok(External::Macvlan {
            device: own(key),
            parent: needed()?,
        }),
        "netdev" => Ok(External::NetworkDevice {
            inside: own(key),
            outside: needed()?,
        }),
        "net" => Ok(External::NetworkNamespace {
            inode: inode(key)?,
            key: needed()?,
        }),
        "pid" => Ok(External::PidNamespace {
            inode: inode(key)?,
            key: needed()?,
        }),
        _ => Err(KINDS),
    }
}

fn veth(inside: &str, value: &str) -> VethPair {
    match value.split_once('@') {
        None => VethPair::new(inside, value),
        Some((outside, bridge)) => VethPair::new(inside, outside).bridge(bridge),
    }
}

fn auto_mounts(value: Option<&str>) -> Result<AutoMounts, &'static str> {
    match value {
        None | Some("") => Ok(AutoMounts::Private),
        Some("m") => Ok(AutoMounts::Masters),
        Some("s") => Ok(AutoMounts::Sharing),
        Some("ms" | "sm") => Err("CRIU reads the first letter only; name `mnt[]:m` and `mnt[]:s`"),
        Some(_) => Err("`m` or `s` follows the colon"),
    }
}

/// CRIU compares texts: what is not written as it writes it is not found.
fn inode(text: &str) -> Result<u32, &'static str> {
    match text.parse::<u32>() {
        Ok(inode) if inode.to_string() == text => Ok(inode),
        _ => Err("there is an inode number in the brackets, decimal and without leading zeros"),
    }
}

fn hexadecimal(text: &str) -> Result<(u64, u64), &'static str> {
    let number = |text: &str| {
        let number = u64::from_str_radix(text, 16).ok()?;
        (format!("{number:x}") == text).then_some(number)
    };
    text.split_once(':')
        .and_then(|(one, other)| Some((number(one)?, number(other)?)))
        .ok_or("there are two numbers in the brackets, hexadecimal, small, without leading zeros")
}

pub(super) fn check(options: &Options, context: Context<'_>) -> Result<(), OptionError> {
    let dumps = DUMPS.contains(&context.request);
    for (place, resource) in options.external.iter().enumerate() {
        let refuse = |reason| Err(OptionError::value("external", resource, reason));
        if let Err(reason) = resource.check() {
            return refuse(reason);
        }
        if let External::Device { key, .. } = resource
            && dumps
            && !context.in_a_file
            && !is_device_number(key)
        {
            return refuse("on a dump the device's numbers are in the brackets: MAJOR/MINOR");
        }
        let id = resource.id();
        if options
            .external
            .iter()
            .take(place)
            .any(|other| other.id() == id)
        {
            return refuse("it is there twice, and CRIU takes only one");
        }
        if context.version.is_some() {
            let form = id.split('[').next().unwrap_or_default();
            context.since(&format!("external {form}"), resource.since())?;
        }
    }
    Ok(())
}

fn is_device_number(text: &str) -> bool {
    let number = |text: &str| text.parse::<u32>().is_ok();
    text.split_once('/')
        .is_some_and(|(major, minor)| number(major) && number(minor))
}
