//! TCP connections, and how nothing gets through while the processes are gone.

use super::{
    Options,
    check::Context,
    error::OptionError,
    table::{By, DUMPS, DUMPS_AND_RESTORE, Given, Key, Release, Row, flag},
};
use crate::{rpc::CriuNetworkLockMethod, setters::setters};

pub(super) const ROWS: &[Row] = &[
    flag!(
        5,
        tcp_established,
        Key::Named("tcp-established"),
        Release::new(0, 8, 0),
        DUMPS_AND_RESTORE,
        tcp.established
    ),
    flag!(
        46,
        tcp_skip_in_flight,
        Key::Named("skip-in-flight"),
        Release::new(2, 4, 0),
        DUMPS,
        tcp.skip_in_flight
    ),
    flag!(
        52,
        tcp_close,
        Key::Named("tcp-close"),
        Release::new(3, 12, 0),
        DUMPS_AND_RESTORE,
        tcp.close
    ),
    Row {
        number: 64,
        name: "network_lock",
        since: Release::new(3, 16, 0),
        requests: DUMPS,
        key: Key::Named("network-lock"),
        by: By::Setter {
            given: |o| Given::one(o.tcp.lock.map(NetworkLock::as_str)),
            put: |o, rpc| rpc.network_lock = o.tcp.lock.map(|lock| lock as i32),
        },
    },
];

/// The first release seen to read the key from a request's file: 4.1.1 dies of it, since it looks
/// for a command line that there is not.
const LOCK_IN_A_FILE: Release = Release::new(4, 2, 1);

/// Set by the setters below.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Tcp {
    pub(super) established: bool,
    pub(super) skip_in_flight: bool,
    pub(super) close: bool,
    pub(super) lock: Option<NetworkLock>,
}

/// TCP connections.
///
/// ```
/// use stasis_criu::{Options, options::NetworkLock};
///
/// let options = Options::new("/var/lib/images")
///     .tcp_established(true)
///     .network_lock(NetworkLock::Nftables);
/// ```
impl Options {
    setters! {
        /// Dumps and restores established connections, `tcp_established`.
        pub fn tcp_established(mut self, set: bool) { self.tcp.established = set; }

        /// Leaves out connections that nobody has accepted yet, `tcp_skip_in_flight`.
        pub fn tcp_skip_in_flight(mut self, set: bool) { self.tcp.skip_in_flight = set; }

        /// Dumps connections without what is in them and restores them closed, `tcp_close`. What
        /// has been dumped so is restored only so.
        pub fn tcp_close(mut self, set: bool) { self.tcp.close = set; }

        /// How the network is locked during a dump, `network_lock`. The restore does as its image.
        pub fn network_lock(mut self, method: NetworkLock) { self.tcp.lock = Some(method); }
    }

    /// Whether `tcp_established` is set.
    pub fn takes_tcp_established(&self) -> bool {
        self.tcp.established
    }
}

/// How CRIU keeps packets from connections whose processes are frozen or gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum NetworkLock {
    /// By rules of iptables: CRIU's default.
    Iptables = CriuNetworkLockMethod::Iptables as i32,
    /// By a table of nftables.
    Nftables = CriuNetworkLockMethod::Nftables as i32,
    /// Not at all: whoever asks sees to it. From CRIU 3.19 on.
    Skip = CriuNetworkLockMethod::Skip as i32,
}

impl NetworkLock {
    /// Its name, as CRIU's command line and configuration file have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Skip => "skip",
        }
    }
}

pub(super) fn check(options: &Options) -> Result<(), OptionError> {
    if options.tcp.established && options.tcp.close {
        return Err(OptionError::Conflict {
            option: "tcp_established",
            other: "tcp_close",
            reason: "connections are either kept or closed",
        });
    }
    Ok(())
}

pub(super) fn check_version(options: &Options, context: Context<'_>) -> Result<(), OptionError> {
    if options.tcp.lock == Some(NetworkLock::Skip) {
        context.since("network_lock skip", Release::new(3, 19, 0))?;
    }
    if options.tcp.lock.is_some() && context.in_a_file {
        context.since("network_lock in a configuration file", LOCK_IN_A_FILE)?;
    }
    Ok(())
}
