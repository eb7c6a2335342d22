//! What is told of recorded failures, and of evidence that is poor.

use std::{fs, os::fd::AsFd as _};

use super::*;

use KnownCause::*;
use Request::{Check, CpuinfoCheck, Dump, PreDump, Restore};

/// What CRIU wrote (`tests/logs/README.md`), at which request, and the cause.
const RECORDED: &[(&str, Request, Option<KnownCause>)] = &[
    ("dump-no-such-process-4.2.1.log", Dump, Some(NoSuchProcess)),
    (
        "dump-rpc-no-such-process-4.2.1.log",
        Dump,
        Some(NoSuchProcess),
    ),
    ("dump-traced-4.2.1.log", Dump, Some(NotSeizable)),
    ("dump-zombie-4.2.1.log", Dump, Some(NotSeizable)),
    ("dump-self-in-tree-4.2.1.log", Dump, Some(SelfInTree)),
    ("dump-vfork-4.2.1.log", Dump, Some(TimedOut)),
    ("dump-freeze-cgroup-4.2.1.log", Dump, Some(FreezerMissing)),
    (
        "dump-session-outside-4.2.1.log",
        Dump,
        Some(SessionLeaderOutside),
    ),
    (
        "dump-not-session-leader-4.2.1.log",
        Dump,
        Some(SessionLeaderOutside),
    ),
    (
        "dump-nested-pid-namespace-4.2.1.log",
        Dump,
        Some(NestedPidNamespace),
    ),
    ("dump-track-mem-4.2.1.log", Dump, Some(SoftDirtyMissing)),
    (
        "pre-dump-track-mem-4.2.1.log",
        PreDump,
        Some(SoftDirtyMissing),
    ),
    (
        "pre-dump-without-track-mem-4.2.1.log",
        PreDump,
        Some(SoftDirtyMissing),
    ),
    ("dump-sysv-shm-4.2.1.log", Dump, Some(SysvSharedMemory)),
    ("dump-memfd-secret-4.2.1.log", Dump, Some(SecretMemory)),
    ("dump-io-uring-mapped-4.2.1.log", Dump, Some(IoUring)),
    ("dump-io-uring-4.2.1.log", Dump, Some(IoUring)),
    ("dump-perf-event-4.2.1.log", Dump, Some(UnsupportedFile)),
    ("dump-userfaultfd-4.2.1.log", Dump, Some(UnsupportedFile)),
    ("dump-bpf-program-4.2.1.log", Dump, Some(UnsupportedFile)),
    ("dump-dev-fuse-4.2.1.log", Dump, Some(UnsupportedFile)),
    ("dump-ghost-limit-4.2.1.log", Dump, Some(GhostTooLarge)),
    ("dump-link-remap-4.2.1.log", Dump, Some(LinkRemapNeeded)),
    ("dump-flock-4.2.1.log", Dump, Some(FileLocksHeld)),
    ("dump-posix-lock-4.2.1.log", Dump, Some(FileLocksHeld)),
    ("dump-mount-gone-4.2.1.log", Dump, Some(MountUnknown)),
    ("dump-overmounted-4.2.1.log", Dump, Some(Overmounted)),
    ("dump-external-mount-4.2.1.log", Dump, Some(ExternalMount)),
    (
        "dump-chroot-in-namespace-4.2.1.log",
        Dump,
        Some(ChrootInNamespace),
    ),
    ("dump-tun-4.2.1.log", Dump, Some(TunOutside)),
    ("dump-terminal-4.2.1.log", Dump, Some(ForeignTerminal)),
    ("dump-terminal-4.1.1.log", Dump, Some(ForeignTerminal)),
    ("dump-tcp-established-4.2.1.log", Dump, Some(EstablishedTcp)),
    ("dump-tcp-in-flight-4.2.1.log", Dump, Some(TcpInFlight)),
    ("dump-mptcp-4.2.1.log", Dump, Some(UnsupportedProtocol)),
    ("dump-mptcp-4.1.1.log", Dump, Some(UnsupportedProtocol)),
    ("dump-vsock-4.2.1.log", Dump, Some(UnsupportedSocket)),
    ("dump-udp-cork-4.2.1.log", Dump, Some(CorkedUdp)),
    (
        "dump-tcp-listener-4.1.1.log",
        Dump,
        Some(SocketOptionRefused),
    ),
    (
        "dump-unix-datagram-4.2.1.log",
        Dump,
        Some(ExternalUnixSocket),
    ),
    (
        "dump-unix-pair-half-4.2.1.log",
        Dump,
        Some(ExternalUnixSocket),
    ),
    (
        "dump-unix-other-network-4.2.1.log",
        Dump,
        Some(UnixPeerElsewhere),
    ),
    (
        "dump-unix-stream-half-4.2.1.log",
        Dump,
        Some(HalfUnixStream),
    ),
    ("dump-no-iptables-4.2.1.log", Dump, Some(NetworkLockFailed)),
    (
        "dump-page-server-refused-4.2.1.log",
        Dump,
        Some(PageServerUnreachable),
    ),
    (
        "dump-page-server-killed-4.2.1.log",
        Dump,
        Some(PageServerLost),
    ),
    ("dump-clear-to-tls-4.2.1.log", Dump, Some(PageServerLost)),
    ("dump-tls-to-clear-4.2.1.log", Dump, Some(TlsFailed)),
    ("dump-tls-other-authority-4.2.1.log", Dump, Some(TlsFailed)),
    (
        "dump-parent-at-page-server-4.2.1.log",
        Dump,
        Some(ParentAtPageServer),
    ),
    ("dump-parent-unusable-4.2.1.log", Dump, Some(ParentUnusable)),
    ("dump-disk-full-4.2.1.log", Dump, Some(NoSpace)),
    ("dump-disk-full-4.1.1.log", Dump, Some(NoSpace)),
    ("dump-script-pre-4.2.1.log", Dump, Some(HookFailed)),
    ("dump-script-post-4.2.1.log", Dump, Some(HookFailed)),
    ("dump-rpc-refused-pre-4.2.1.log", Dump, Some(HookFailed)),
    ("dump-rpc-refused-post-4.2.1.log", Dump, Some(HookFailed)),
    ("dump-read-only-4.2.1.stderr", Dump, Some(LogNotWritable)),
    (
        "dump-parent-missing-4.2.1.stderr",
        Dump,
        Some(ParentMissing),
    ),
    (
        "dump-without-capabilities-4.2.1.stderr",
        Dump,
        Some(MissingCapability),
    ),
    ("dump-unknown-option-4.2.1.stderr", Dump, Some(BadArgument)),
    (
        "cpuinfo-other-version-4.2.1.log",
        CpuinfoCheck,
        Some(OtherProcessor),
    ),
    (
        "cpuinfo-damaged-4.2.1.log",
        CpuinfoCheck,
        Some(ImageDamaged),
    ),
    (
        "cpuinfo-instructions-4.2.1.log",
        CpuinfoCheck,
        Some(OtherProcessor),
    ),
    (
        "cpuinfo-xfeatures-4.2.1.log",
        CpuinfoCheck,
        Some(OtherProcessor),
    ),
    (
        "cpuinfo-vendor-4.2.1.log",
        CpuinfoCheck,
        Some(OtherProcessor),
    ),
    (
        "cpuinfo-xsave-4.2.1.log",
        CpuinfoCheck,
        Some(OtherProcessor),
    ),
    ("restore-pid-taken-4.2.1.log", Restore, Some(PidTaken)),
    ("restore-file-size-4.2.1.log", Restore, Some(FileChanged)),
    ("restore-file-mode-4.2.1.log", Restore, Some(FileChanged)),
    ("restore-program-size-4.2.1.log", Restore, Some(FileChanged)),
    ("restore-program-size-4.1.1.log", Restore, Some(FileChanged)),
    ("restore-file-missing-4.2.1.log", Restore, Some(FileMissing)),
    (
        "restore-program-missing-4.2.1.log",
        Restore,
        Some(FileMissing),
    ),
    (
        "restore-directory-missing-4.2.1.log",
        Restore,
        Some(FileMissing),
    ),
    (
        "restore-directory-missing-4.1.1.log",
        Restore,
        Some(FileMissing),
    ),
    (
        "restore-link-remap-missing-4.2.1.log",
        Restore,
        Some(LinkRemapMissing),
    ),
    (
        "restore-link-remap-missing-4.1.1.log",
        Restore,
        Some(LinkRemapMissing),
    ),
    ("restore-port-taken-4.2.1.log", Restore, Some(AddressTaken)),
    (
        "restore-address-missing-4.2.1.log",
        Restore,
        Some(AddressMissing),
    ),
    (
        "restore-tcp-established-4.2.1.log",
        Restore,
        Some(EstablishedTcpInImage),
    ),
    ("restore-tcp-close-4.2.1.log", Restore, Some(TcpCloseNeeded)),
    ("restore-spent-4.2.1.log", Restore, Some(SpentImage)),
    ("restore-spent-4.1.1.log", Restore, Some(SpentImage)),
    (
        "restore-empty-directory-4.2.1.log",
        Restore,
        Some(ImageMissing),
    ),
    (
        "restore-core-missing-4.2.1.log",
        Restore,
        Some(ImageMissing),
    ),
    ("restore-bad-magic-4.2.1.log", Restore, Some(ImageDamaged)),
    ("restore-cut-image-4.2.1.log", Restore, Some(ImageDamaged)),
    (
        "restore-pages-missing-4.2.1.log",
        Restore,
        Some(PagesMissing),
    ),
    (
        "restore-pages-missing-4.1.1.log",
        Restore,
        Some(PagesMissing),
    ),
    ("restore-cut-pages-4.2.1.log", Restore, Some(PagesMissing)),
    (
        "restore-unix-peer-missing-4.2.1.log",
        Restore,
        Some(UnixPeerMissing),
    ),
    (
        "restore-unix-peer-missing-4.1.1.log",
        Restore,
        Some(UnixPeerMissing),
    ),
    ("restore-terminal-4.2.1.log", Restore, Some(ForeignTerminal)),
    (
        "restore-no-terminal-4.2.1.log",
        Restore,
        Some(TerminalMissing),
    ),
    (
        "restore-terminal-taken-4.2.1.log",
        Restore,
        Some(TerminalTaken),
    ),
    (
        "restore-terminal-not-handed-over-4.2.1.log",
        Restore,
        Some(TerminalNotHandedOver),
    ),
    (
        "restore-terminal-not-handed-over-4.1.1.log",
        Restore,
        Some(TerminalNotHandedOver),
    ),
    (
        "restore-no-lazy-daemon-4.2.1.log",
        Restore,
        Some(LazyDaemonMissing),
    ),
    ("restore-no-root-4.2.1.log", Restore, Some(RootMissing)),
    (
        "restore-mount-mapping-missing-4.2.1.log",
        Restore,
        Some(MountMappingMissing),
    ),
    (
        "restore-mount-source-missing-4.2.1.log",
        Restore,
        Some(MountSourceMissing),
    ),
    (
        "restore-mount-source-missing-4.1.1.log",
        Restore,
        Some(MountSourceMissing),
    ),
    ("restore-link-taken-4.2.1.log", Restore, Some(LinkTaken)),
    ("restore-script-pre-4.2.1.log", Restore, Some(HookFailed)),
    ("restore-script-post-4.2.1.log", Restore, Some(HookFailed)),
    (
        "restore-without-capabilities-4.2.1.stderr",
        Restore,
        Some(MissingCapability),
    ),
    ("success-dump-4.2.1.log", Dump, None),
    ("success-dump-network-namespace-4.2.1.log", Dump, None),
    ("success-dump-terminal-4.2.1.log", Dump, None),
    ("success-dump-established-4.2.1.log", Dump, None),
    ("success-restore-4.2.1.log", Restore, None),
    ("success-restore-network-namespace-4.2.1.log", Restore, None),
    ("success-restore-container-4.2.1.log", Restore, None),
    ("success-restore-link-remap-4.2.1.log", Restore, None),
    ("success-restore-established-4.2.1.log", Restore, None),
    ("success-check-4.2.1.log", Check, None),
    ("success-cpuinfo-check-4.2.1.log", CpuinfoCheck, None),
];

/// Those that could not be provoked.
const NOT_RECORDED: &[KnownCause] = &[NoParentMount];

fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/logs")
}

fn of_recorded(name: &str, request: Request) -> Diagnosis {
    let path = recorded().join(name);
    let bytes = fs::read(&path).unwrap();
    let mut evidence = Evidence::of(request);
    // As it is in the reply to every request that was recorded, failed or not.
    evidence.cr_errmsg =
        Some("Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self");
    if name.ends_with(".stderr") {
        evidence.stderr = &bytes;
    } else {
        evidence.log = Some(Log::Path(&path));
    }
    diagnose(&evidence)
}

#[test]
fn every_recorded_failure_is_known_and_nothing_is_found_in_a_success() {
    for (name, request, expected) in RECORDED {
        let diagnosis = of_recorded(name, *request);
        assert_eq!(diagnosis.known, *expected, "{name}: {diagnosis}");
        assert_eq!(
            diagnosis.cause.is_some(),
            expected.is_some(),
            "{name}: {diagnosis}"
        );
        assert_eq!(diagnosis.log.is_some(), name.ends_with(".log"), "{name}");
    }
}

#[test]
fn every_cause_and_every_log_is_in_the_table() {
    for cause in KnownCause::ALL {
        let told = RECORDED.iter().any(|(_, _, known)| *known == Some(*cause));
        assert_ne!(told, NOT_RECORDED.contains(cause), "{cause:?}");
    }
    for entry in fs::read_dir(recorded()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_log = name.ends_with(".log") || name.ends_with(".stderr");
        let listed = RECORDED.iter().any(|(listed, ..)| *listed == name);
        assert_eq!(is_log, listed, "{name}");
    }
}

#[test]
fn a_known_cause_reads_as_one_sentence_with_the_way_out() {
    let mut diagnosis = of_recorded("dump-tcp-established-4.2.1.log", Dump);
    diagnosis.log = Some(PathBuf::from("/work/dump.log"));
    assert_eq!(
        diagnosis.to_string(),
        "a process has established TCP connections: set `tcp_established` to keep them, or \
         `tcp_close` to drop them (CRIU says: inet: Connected TCP socket, consider using \
         --tcp-established option.), its log is /work/dump.log"
    );
}

#[test]
fn a_missing_image_is_named() {
    let cause = |name| of_recorded(name, Restore).cause.unwrap();
    assert_eq!(
        cause("restore-empty-directory-4.2.1.log"),
        "No inventory.img image"
    );
    let core = cause("restore-core-missing-4.2.1.log");
    assert!(core.starts_with("No core-"), "{core}");
}

#[test]
fn the_log_is_found_in_an_open_directory_and_not_over_a_link() {
    let scratch = tempfile::tempdir().unwrap();
    let text = "(00.1) Error (criu/x.c:1): something new\n";
    fs::write(scratch.path().join("dump.log"), text).unwrap();
    std::os::unix::fs::symlink("dump.log", scratch.path().join("link.log")).unwrap();
    let directory = fs::File::open(scratch.path()).unwrap();
    let look = |name| {
        diagnose(&Evidence {
            log: Some(Log::In(directory.as_fd(), name)),
            ..Evidence::of(Dump)
        })
    };
    let diagnosis = look("dump.log");
    assert_eq!(diagnosis.cause.as_deref(), Some("something new"));
    let path = scratch.path().canonicalize().unwrap().join("dump.log");
    assert_eq!(diagnosis.log, Some(path));
    assert_eq!(look("link.log").log, None);
}

#[test]
fn the_end_of_a_log_without_end_is_read() {
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("restore.log");
    let log = fs::File::create(&path).unwrap();
    // A hole reads as zeros, which are a line of their own.
    log.set_len(5 * MAX_LOG).unwrap();
    let mut bytes = b"\n\xff\xfe\n(00.1) Error (criu/x.c:1): the \xff end\n".to_vec();
    std::os::unix::fs::FileExt::write_all_at(&log, &bytes, 5 * MAX_LOG).unwrap();
    let evidence = Evidence {
        log: Some(Log::Path(&path)),
        ..Evidence::of(Restore)
    };
    let diagnosis = diagnose(&evidence);
    assert_eq!(diagnosis.cause.as_deref(), Some("the \u{fffd} end"));

    bytes = b"(00.1) Error (criu/x.c:1): ".to_vec();
    bytes.resize(bytes.len() + 2 * MAX_CAUSE, 0xff);
    fs::write(&path, &bytes).unwrap();
    let cause = diagnose(&evidence).cause.unwrap();
    assert!(cause.len() <= MAX_CAUSE + '…'.len_utf8(), "{}", cause.len());
}

#[test]
fn without_a_log_stderr_tells_and_without_stderr_the_reply() {
    let evidence = Evidence {
        cr_errmsg: Some("Error (criu/x.c:1): from the reply\n"),
        ..Evidence::of(Dump)
    };
    let cause = |evidence| diagnose(evidence).cause.unwrap();
    assert_eq!(cause(&evidence), "from the reply");
    let with_stderr = Evidence {
        stderr: b"criu: error while loading shared libraries: libnet.so.9\n",
        log: Some(Log::Path(Path::new("/no/such/log"))),
        ..evidence
    };
    assert_eq!(
        cause(&with_stderr),
        "criu: error while loading shared libraries: libnet.so.9"
    );
}

#[test]
fn a_log_of_success_has_no_cause() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cause_of = |end: &str| {
        let log = format!(
            "(00.1) Error (criu/x.c:1): it goes on all the same\n\
             (00.2) Warn  (criu/y.c:1): Connected TCP socket, consider using --tcp-established\n\
             (00.3) {end}\n"
        );
        fs::write(file.path(), log).unwrap();
        let evidence = Evidence {
            log: Some(Log::Path(file.path())),
            ..Evidence::of(Dump)
        };
        diagnose(&evidence).cause
    };
    assert_eq!(cause_of("Dumping finished successfully"), None);
    assert!(cause_of("Error (criu/cr-dump.c:1): Dumping FAILED.").is_some());
}

#[test]
fn a_full_disk_explains_what_the_log_had_no_room_for() {
    let told = diagnose(&Evidence {
        disk_full: true,
        ..Evidence::of(Dump)
    });
    assert_eq!(told.known, Some(NoSpace));
    // It does not stand in for a cause that is known.
    let other = diagnose(&Evidence {
        stderr: b"criu: unrecognized option '--x'\n",
        disk_full: true,
        ..Evidence::of(Dump)
    });
    assert_eq!(other.known, Some(KnownCause::BadArgument));
}

#[test]
fn where_nothing_tells_the_number_and_the_end_do() {
    let diagnosis = diagnose(&Evidence {
        cr_errno: Some(56),
        ..Evidence::of(Restore)
    });
    assert_eq!(
        diagnosis.to_string(),
        "CRIU refused the options, or a directory among them, EBADRQC"
    );
    let killed = diagnose(&Evidence {
        exit: Some(ExitStatus::from_raw(6)),
        ..Evidence::of(PreDump)
    });
    assert_eq!(
        killed.to_string(),
        "CRIU gave no reason, CRIU was killed by signal 6"
    );
    let exited = diagnose(&Evidence {
        exit: Some(ExitStatus::from_raw(1 << 8)),
        ..Evidence::of(Check)
    });
    assert_eq!(
        exited.to_string(),
        "CRIU gave no reason, CRIU exited with 1"
    );
}
