//! The log: lines into the `log` FIFO of the bundle, which containerd copies into its own log.
//!
//! Contract: logging never blocks, fails or ends the shim, whether the reader is missing, stuck
//! or has gone. The FIFO is opened for reading and writing at once and without blocking: so
//! the opening does not wait for a reader, a reader that goes away causes neither SIGPIPE nor
//! EPIPE, and what is written while containerd restarts is there when it is back. When the pipe
//! is full, lines are lost.
//!
//! The lines are made by containerd-shim's `FifoLogger`, which knows the format that containerd
//! wants, and no messages. The rest of the shim logs with
//! `tracing`, whose `log` feature hands its events to the logger set up here.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{OnceLock, PoisonError, RwLock},
};

use containerd_shim::logger::FifoLogger;
use log::{Level, LevelFilter, Log, Metadata, Record};
use nix::fcntl::OFlag;

use crate::config::Config;

/// The FIFO in the bundle, made by containerd.
const FIFO: &str = "log";

/// Passes the log level from `start` to the server, since `-debug` knows only one.
pub const LEVEL: &str = "STASIS_LOG_LEVEL";

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Logs to the FIFO of `bundle` from now on, to nothing if there is none.
pub fn init(bundle: &Path, level: LevelFilter) {
    let fifo = open_fifo(&bundle.join(FIFO))
        .ok()
        .map(FifoLogger::with_file);
    let logger = LOGGER.get_or_init(|| Logger {
        fifo,
        copy: RwLock::new(None),
    });
    // It fails only if a logger is set already, which is then the same one.
    if log::set_logger(logger).is_ok() {
        log::set_max_level(level);
    }
}

/// Applies what the configuration of a container says of the log. A level that was not set, and
/// a copy that exists already, stay as they are; a copy that cannot be opened is logged.
pub fn configure(config: &Config, id: &str) {
    if let Some(level) = config.log_level {
        log::set_max_level(level);
    }
    let (Some(path), Some(logger)) = (&config.log_path, LOGGER.get()) else {
        return;
    };
    let path = copy_path(path, id);
    let mut copy = logger.copy.write().unwrap_or_else(PoisonError::into_inner);
    if copy.is_none() {
        match File::create(&path) {
            Ok(file) => *copy = Some(FifoLogger::with_file(file)),
            Err(error) => {
                // Not while the lock is held, which logging takes too.
                drop(copy);
                log::warn!("cannot copy the log to {}: {error}", path.display());
            }
        }
    }
}

/// The level that `start` passed to this server, or the one that `-debug` stands for.
#[must_use]
pub fn level_of_server(debug: bool) -> LevelFilter {
    let passed = std::env::var(LEVEL)
        .ok()
        .and_then(|level| level.parse().ok());
    passed.unwrap_or(if debug {
        LevelFilter::Debug
    } else {
        LevelFilter::Info
    })
}

/// gVisor's rule: a path that ends in a slash is a directory, and the file is named by the id.
fn copy_path(path: &Path, id: &str) -> PathBuf {
    if path.as_os_str().as_encoded_bytes().ends_with(b"/") {
        path.join(format!("runsc-shim-{id}.log"))
    } else {
        path.to_owned()
    }
}

fn open_fifo(path: &Path) -> io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(flags.bits())
        .open(path)?;
    if file.metadata()?.file_type().is_fifo() {
        Ok(file)
    } else {
        Err(io::Error::other("not a FIFO"))
    }
}

struct Logger {
    fifo: Option<FifoLogger>,
    copy: RwLock<Option<FifoLogger>>,
}

impl Log for Logger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // ttrpc traces whole messages, and with them the environment of every process.
        let limit = if metadata.target().starts_with("ttrpc") {
            Level::Info
        } else {
            Level::Trace
        };
        metadata.level() <= limit
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if let Some(fifo) = &self.fifo {
            fifo.log(record);
        }
        if let Some(copy) = &*self.copy.read().unwrap_or_else(PoisonError::into_inner) {
            copy.log(record);
        }
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use nix::{sys::stat::Mode, unistd::mkfifo};

    use super::*;

    fn fifo() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FIFO);
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        (dir, path)
    }

    fn logger(path: &Path) -> Logger {
        Logger {
            fifo: Some(FifoLogger::with_file(open_fifo(path).unwrap())),
            copy: RwLock::new(None),
        }
    }

    fn write(logger: &Logger, text: &str) {
        log::set_max_level(LevelFilter::Trace);
        logger.log(
            &Record::builder()
                .args(format_args!("{text}"))
                .level(Level::Info)
                .build(),
        );
    }

    fn reader(path: &Path) -> File {
        let nonblocking = OFlag::O_NONBLOCK.bits();
        OpenOptions::new()
            .read(true)
            .custom_flags(nonblocking)
            .open(path)
            .unwrap()
    }

    fn read(reader: &mut File) -> String {
        let mut buffer = vec![0; 1 << 20];
        let length = reader.read(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn lines_written_without_a_reader_are_there_for_the_next_one() {
        let (_dir, path) = fifo();
        let logger = logger(&path);

        write(&logger, "before");
        drop(reader(&path));
        write(&logger, "after the reader has gone");

        let text = read(&mut reader(&path));
        assert!(
            text.contains("before") && text.contains("after the reader has gone"),
            "{text}"
        );
    }

    #[test]
    fn a_reader_that_never_reads_does_not_block() {
        let (_dir, path) = fifo();
        let logger = logger(&path);
        let mut reader = reader(&path);

        for _ in 0..10_000 {
            write(
                &logger,
                "a line that will not fit into the pipe so many times",
            );
        }

        assert!(read(&mut reader).len() < 1 << 20);
        write(&logger, "room again");
        assert!(read(&mut reader).contains("room again"));
    }

    #[test]
    fn only_a_fifo_is_opened() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("file"), dir.path().join("link"));
        File::create(&file).unwrap();
        let (_fifo_dir, fifo) = fifo();
        std::os::unix::fs::symlink(fifo, &link).unwrap();

        open_fifo(&file).unwrap_err();
        open_fifo(&link).unwrap_err();
        open_fifo(&dir.path().join("missing")).unwrap_err();
    }

    #[test]
    fn a_copy_in_a_directory_is_named_by_the_id() {
        assert_eq!(
            copy_path(Path::new("/var/log/"), "c"),
            Path::new("/var/log/runsc-shim-c.log")
        );
        assert_eq!(
            copy_path(Path::new("/var/log/x"), "c"),
            Path::new("/var/log/x")
        );
    }

    #[test]
    fn messages_of_ttrpc_are_never_traced() {
        let logger = Logger {
            fifo: None,
            copy: RwLock::new(None),
        };
        let metadata = |target, level| Metadata::builder().target(target).level(level).build();

        assert!(!logger.enabled(&metadata("ttrpc::asynchronous", Level::Trace)));
        assert!(logger.enabled(&metadata("ttrpc::asynchronous", Level::Error)));
        assert!(logger.enabled(&metadata("stasis", Level::Trace)));
    }
}
