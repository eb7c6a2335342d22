//! The causes that are known: what CRIU says, what it means, and what to do about it.
//!
//! Each row was provoked with CRIU 4.2.1 or 4.1.1, most with both, and what they wrote is in
//! `tests/logs/`; a row with a comment that names a line of CRIU's source was not. A way out has
//! options in backticks, by their names in CRIU's RPC; its reader gets them in words of his own.
//!
//! In a pattern `*` stands for anything. A row is for causes only, never for what follows from
//! one: it wins over an error that stands before it and is not known.

#[cfg(test)]
mod tests;

use crate::request::Request;

use Occasion::{Always, Dump, Restore};

/// At which requests CRIU says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    /// At dumps and pre-dumps.
    Dump,
    /// At restores.
    Restore,
    /// At these and others.
    Always,
}

impl Occasion {
    fn covers(self, request: Request) -> bool {
        let dumps = matches!(
            request,
            Request::Dump | Request::PreDump | Request::SinglePreDump
        );
        match self {
            Dump => dumps,
            Restore => request == Request::Restore,
            Always => true,
        }
    }
}

struct Row {
    cause: KnownCause,
    occasion: Occasion,
    says: &'static [&'static str],
    means: &'static str,
    remedy: &'static str,
}

macro_rules! known_causes {
    ($($(#[$note:meta])* $name:ident($occasion:ident) $says:expr, $means:literal, $remedy:literal;)*) => {
        /// A cause of a failure that is known.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum KnownCause {
            $(#[doc = $means] $name,)*
        }

        /// In the order of `KnownCause`.
        static ROWS: &[Row] = &[$(Row {
            cause: KnownCause::$name,
            occasion: $occasion,
            says: &$says,
            means: $means,
            remedy: $remedy,
        },)*];

        impl KnownCause {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];
        }
    };
}

known_causes! {
    // Of the machine and of the call.
    NoSpace(Always) ["No space left on device", "Disk quota exceeded"],
        "the disk is full",
        "free space, or use a directory elsewhere";
    LogNotWritable(Always) ["Can't create log file"],
        "CRIU cannot write to its work directory",
        "use a work directory that can be written to";
    MissingCapability(Always) ["Effective capability * missing"],
        "CRIU does not have the privileges that it needs",
        "run it as root, or with CAP_CHECKPOINT_RESTORE and the option `unprivileged`";
    BadArgument(Always) ["unrecognized option", "invalid argument for"],
        "this CRIU does not know an option, or not this value of it",
        "leave the option out, or use a CRIU that has it";
    HookFailed(Always) [
            "RPC client reported script error", "Script * exited with",
            "One of more action scripts failed",
        ],
        "a hook failed, and with it the request",
        "see to what the hook reports";
    ImageMissing(Always) [
            "Unexpected EOF on (empty-image)", "Can't open * core data for", "No cpuinfo image",
        ],
        "an image is missing or empty",
        "use the directory of a complete dump; of an incremental one the parents are needed too";
    ImageDamaged(Always) [
            "agic doesn't match for", "Read * bytes while * expected from",
            "Image carries * words while",
        ],
        "an image is damaged",
        "use another copy of it";
    OtherProcessor(Always) [
            "CPU instruction capabilities do not match", "CPU xfeatures has unsupported bits",
            "CPU xsave * mismatch", "Unknown cpu vendor", "Image carries unknown capability version",
        ],
        "this machine's processor is not as that of the dump",
        "restore on a machine whose processor has all features of the other, or set `cpu_cap`";

    // Of processes.
    NoSuchProcess(Dump) ["Unable to interrupt task: * (No such process)"],
        "there is no process of that number",
        "look whether it has ended, and whether the number is that of CRIU's PID namespace";
    NotSeizable(Dump) ["Unable to interrupt task: * (Operation not permitted)"],
        "a process is traced by another, such as a debugger, or is dead and not reaped yet",
        "end the debugger, or have the parent reap it";
    SelfInTree(Dump) ["The criu itself is within dumped tree"],
        "CRIU is itself among the processes to dump",
        "start it outside of their tree";
    TimedOut(Dump) ["Timeout reached. Try to interrupt"],
        "the processes did not stop in time; one waits in the kernel, for a disk or in vfork",
        "try again, or set a longer `timeout`";
    FreezerMissing(Dump) ["Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze)"],
        "`freeze_cgroup` is no cgroup that can be frozen",
        "give one of a version 1 freezer hierarchy, or of version 2";
    SessionLeaderOutside(Dump) [
            "A session leader of * is outside of its pid namespace",
            "The root process * is not a session leader",
        ],
        "a process belongs to a session whose leader is not dumped with it",
        "dump the leader, start the process with setsid, or set `shell_job`";
    NestedPidNamespace(Dump) ["Can't dump nested pid namespace"],
        "a process has a PID namespace inside of the one that is dumped",
        "CRIU cannot dump it; dump the inner tree by itself";
    SoftDirtyMissing(Dump) ["Tracking memory is not available", "BUG at criu/mem.c:4"],
        "the kernel does not track changed memory (CONFIG_MEM_SOFT_DIRTY)",
        "dump without pre-dumps and without `track_mem`";
    SysvSharedMemory(Dump) ["with SysVIPC shmem map * doesn't live in IPC ns"],
        "a process has System V shared memory of the host's IPC namespace",
        "run it in an IPC namespace of its own";
    SecretMemory(Dump) ["Unknown shit * (/secretmem"],
        "a process has memory of memfd_secret",
        "CRIU cannot dump it; have the process do without";

    // Of files.
    IoUring(Dump) ["anon_inode:[io_uring]", "Message reply from daemon is trimmed (12/0)"],
        "a process uses io_uring",
        "CRIU cannot dump it; have the process do without, or set kernel.io_uring_disabled";
    UnsupportedFile(Dump) ["Can't dump file * of that type"],
        "a process has a file open of a kind that CRIU cannot dump",
        "have the process close it, or name a device as `external`";
    GhostTooLarge(Dump) ["Can't dump ghost file * increase limit"],
        "a deleted file that is still open is larger than CRIU saves",
        "raise `ghost_limit`";
    LinkRemapNeeded(Dump) ["Can't create link remap for * Use link-remap option"],
        "an open file was deleted, but has other names",
        "set `link_remap`, which makes a link next to it until the restore";
    FileLocksHeld(Dump) ["Some file locks are hold by dumping tasks"],
        "a process holds file locks",
        "set `file_locks`, if nobody else waits for them";
    MountUnknown(Dump) ["Can't lookup mount="],
        "a process has a file open on a mount that it does not see, such as one taken away",
        "have the process close it, or name it as `external` and hand it back at the restore";
    Overmounted(Dump) ["Open files on overmounted mounts"],
        "a process has a file open that another mount covers",
        "take the covering mount away";
    ExternalMount(Dump) ["doesn't have a proper root mount"],
        "the mount namespace has a mount that comes from outside of it",
        "name it as `external` (mnt[PATH]:NAME)";
    ChrootInNamespace(Dump) ["The root task has another root than mntns"],
        "a process lives in a chroot inside of its mount namespace",
        "have it use pivot_root, or dump it in the mount namespace of CRIU";
    NoParentMount(Always)
        // criu/mount.c:381 of 4.2.
        ["No parent found for mountpoint"],
        "a mount has no parent in its namespace, as in a namespace entered by chroot",
        "enter it by pivot_root";
    TunOutside(Dump) ["Net namespace is required to dump tun link"],
        "a process has a TUN device of the host's network namespace",
        "run it in a network namespace of its own";
    ForeignTerminal(Always) [
            "Found slave peer index * without correspond master peer", "Found dangling tty with sid",
        ],
        "a process uses a terminal whose other end is not dumped with it",
        "set `shell_job`, or name the terminal as `external` (tty[RDEV:DEV]) and hand it back at \
         the restore";

    // Of sockets and the network.
    EstablishedTcp(Dump) ["Connected TCP socket, consider using"],
        "a process has established TCP connections",
        "set `tcp_established` to keep them, or `tcp_close` to drop them";
    TcpInFlight(Dump) ["In-flight connection (l) for"],
        "a listening socket has connections that were not accepted yet",
        "set `tcp_skip_in_flight` to drop them, or try again";
    UnsupportedProtocol(Dump) ["Unsupported proto * for socket"],
        "a process has a socket of a protocol that CRIU cannot dump, such as MPTCP",
        "have the process use TCP or UDP (Go: GODEBUG=multipathtcp=0)";
    UnsupportedSocket(Dump) ["Unknown socket collected (family"],
        "a process has a socket of a family that CRIU cannot dump, such as vsock",
        "have the process close it";
    CorkedUdp(Dump) ["Can't dump corked dgram socket"],
        "a process has a UDP socket with UDP_CORK set",
        "have the process uncork it";
    SocketOptionRefused(Dump) ["sockets: Can't get 1:* opt: Operation not supported"],
        "this kernel does not answer what this CRIU asks of a network socket",
        "use CRIU 4.2 or later";
    ExternalUnixSocket(Dump) ["External socket is used. Consider using"],
        "a process has a Unix socket that is connected to a process outside",
        "dump both ends, set `ext_unix_sk` for datagrams, or name the inode as `external` \
         (unix[INODE])";
    UnixPeerElsewhere(Dump) ["Unix socket * without peer"],
        "a process has a Unix socket that is connected to a process in another network namespace",
        "no option helps there; have the process close it before, or run it in the network \
         namespace of the other end, where `ext_unix_sk` is for datagrams";
    HalfUnixStream(Dump) ["Can't dump half of stream unix connection"],
        "a process has a Unix stream whose other end is not dumped with it",
        "dump both ends, or name the socket's own inode as `external` (unix[INODE])";
    NetworkLockFailed(Always) ["Iptables configuration failed", "iptables configuration failed"],
        "CRIU could not lock the network, for which it runs iptables",
        "install iptables, or set `network_lock` to NFTABLES or SKIP";
    PageServerUnreachable(Dump) ["Can't connect to server"],
        "there is no page server at that address",
        "start it before the dump, and see to the way there";
    PageServerLost(Dump) ["Can't write pages to socket", "Can't send PSI * to server"],
        "the page server ended the connection",
        "see what its log says, and whether it wants TLS";
    TlsFailed(Always) ["TLS handshake failed", "tls: Invalid certificate"],
        "the two ends did not agree on TLS",
        "have both use TLS, each with a certificate of an authority that the other knows, or \
         neither";

    // Of parents.
    ParentMissing(Dump) ["Invalid parent image directory provided"],
        "the directory of the parent image is not there",
        "give `parent_img` relative to the images directory";
    ParentUnusable(Dump) ["Pid-reuse detection failed: no parent inventory"],
        "the parent image tells nothing by which a process could be known again",
        "make the parent by a pre-dump, or by a dump with `track_mem`";
    // CRIU says the same of both; that there is no parent here tells them apart.
    ParentAtPageServer(Dump) ["Pid-reuse detection failed: no parent inventory"],
        "the page server answered that it has a parent image, and the dump has none",
        "see whether it wants TLS, whose first words are taken for that answer; else give a parent \
         to both or to neither";

    // Of restores.
    PidTaken(Restore) ["Can't fork for *: File exists"],
        "a process of the number that is to be restored is there already",
        "end and reap it, or restore into a PID namespace of its own";
    FileChanged(Restore) [
            "File * has bad size", "File * has bad mode", "File * has bad build-ID",
        ],
        "a file is not as it was at the dump",
        "bring the file's state of then back";
    LinkRemapMissing(Restore) ["Can't link *link_remap."],
        "the link that `link_remap` made at the dump is not there any more",
        "bring back the files as they were after the dump";
    FileMissing(Restore) ["Can't open file * on restore: No such file or directory"],
        "a file that was open at the dump is not there",
        "bring the file back, or set `root` to where it is";
    SpentImage(Restore) ["vdso: Invalid ELF magic", "vdso: ELF header magic mismatch"],
        "pages of the image are empty, as after a restore with `auto_dedup`, which spends it",
        "use another copy of the image, and no `auto_dedup` at restores";
    PagesMissing(Restore) [
            "Can't read pages data", "Can't read mapping page", "`- returned 0",
        ],
        "the image has fewer pages of memory than it should",
        "use another copy of it, with its parents";
    RootMissing(Restore) ["BUG at criu/mount.c:48"],
        "the root of the mount namespace to restore was not given",
        "set `root` to a mount point with the processes' files";
    MountMappingMissing(Restore) ["No mapping for * mountpoint"],
        "a mount that was named `external` at the dump was not given at the restore",
        "name it as `external` (mnt[NAME]:PATH) again";
    MountSourceMissing(Restore) ["Failed to open_tree *: No such file or directory"],
        "what is to be mounted from outside is not there",
        "make it, or give another path for it in `external`";
    LinkTaken(Restore) ["-17 reported by netlink: File exists"],
        "a network device of the name that is to be restored is there already",
        "remove it, or give another name in `external`";
    AddressTaken(Restore) ["Can't bind inet socket*: Address already in use"],
        "somebody else uses a port of the processes",
        "end them, or restore into a network namespace of its own";
    AddressMissing(Restore) ["Cannot assign requested address"],
        "this machine does not have an address of the processes",
        "give it the address, or drop established connections with `tcp_close`";
    EstablishedTcpInImage(Restore) ["Connected TCP socket in image"],
        "the image has established TCP connections",
        "set `tcp_established` to restore them, or `tcp_close` to drop them";
    TcpCloseNeeded(Restore) ["Need to set the --tcp-close option"],
        "the image was made with `tcp_close`, and its connections are not in it",
        "set `tcp_close` at the restore too";
    UnixPeerMissing(Restore) ["unix: Can't connect * socket"],
        "the other end of a Unix socket that was external at the dump is not there",
        "start it, or hand the socket over with `inherit_fd`";
    TerminalMissing(Restore) [
            "Don't have tty to inherit session from", "tty: Failed to set group * on",
        ],
        "the processes were dumped with `shell_job`, and CRIU's standard input is not the terminal \
         of its session",
        "start CRIU on a terminal, or dump the terminal as `external`";
    TerminalTaken(Restore) ["tty: Unable to open * with specified index"],
        "a terminal of the number that is to be restored is there already",
        "close its master, or restore into a mount namespace with a devpts of its own";
    TerminalNotHandedOver(Restore) ["Deprecated functionality (TTY w/o regfile) rejected"],
        "a terminal that was `external` at the dump was not handed over at the restore",
        "hand one over with `inherit_fd`, under the same name";
    LazyDaemonMissing(Restore) [
            "connect to lazy-pages.socket failed", "uffd: PID sending error",
            "uffd: Failed sending restore finished indication",
        ],
        "no `criu lazy-pages` listens in the work directory, or it has ended too early",
        "start it there before the restore, and look into its log";
}

impl KnownCause {
    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.row().means
    }

    /// The way out, with each option in it as its reader calls it: `word` is given its name in
    /// CRIU's RPC, and [`config_key`](crate::options::config_key) has what a configuration file of
    /// CRIU calls it.
    #[must_use]
    pub fn remedy_in(self, word: &dyn Fn(&'static str) -> String) -> String {
        let pieces = self.row().remedy.split('`').enumerate();
        pieces
            .map(|(index, piece)| match index % 2 {
                0 => piece.to_owned(),
                _ => word(piece),
            })
            .collect()
    }

    /// The cause that `text` of a log tells, if it is a known one.
    pub(super) fn told_by(text: &str, request: Request) -> Option<Self> {
        ROWS.iter()
            .filter(|row| row.occasion.covers(request))
            .find(|row| row.says.iter().any(|pattern| matches(pattern, text)))
            .map(|row| row.cause)
    }

    fn row(self) -> &'static Row {
        &ROWS[self as usize]
    }
}

/// Whether the parts of `pattern` between its `*` are in `text`, one after the other.
fn matches(pattern: &str, text: &str) -> bool {
    pattern
        .split('*')
        .try_fold(text, |rest, part| {
            rest.find(part).map(|at| &rest[at + part.len()..])
        })
        .is_some()
}
