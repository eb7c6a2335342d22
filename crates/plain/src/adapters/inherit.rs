//! Descriptors that a restored tree gets from us: standard streams, terminals, external files.
//!
//! CRIU asks for a descriptor by what it calls the file (`inherit_fd`): `pipe:[INODE]`, `socket:
//! [INODE]`, `tty[RDEV:DEV]`, `file[MOUNT:INODE]`, and for a file with a path that path without
//! its first slash. It opens pipes and external files again through the descriptor, with the flags
//! of the dump; terminals and files with a path become the descriptor itself. And it goes by the
//! file, not by the number: who replaces `/dev/null` in a tree replaces all of them.

mod externals;
#[cfg(test)]
mod tests;

use std::{
    io::{self, PipeReader, PipeWriter, pipe},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, OFlags, fstat, open},
    io::Errno,
};

use externals::{Externals, external_file, terminal};

use stasis_criu::{
    Options,
    options::{Descriptor, InheritedFd},
};

use crate::{
    Attached, FileState, ProcessError, ProcessState, RestoreStdio, Size,
    stdio::{open_log, open_terminal},
};

/// The descriptors that a restored tree gets from us.
///
/// Cedana opens external files for reading whatever they were opened for, which holds the restore
/// of a FIFO up, and takes whatever is at the path here, where the path is one of another mount;
/// it gives the numbers of its own descriptors to terminals; warns of a file that
/// is missing and lets CRIU fail; and where several of a tree's descriptors are of one file, gives
/// all of them the first. Here a file is opened without being read (`O_PATH`), what is missing is
/// told before CRIU is asked, and a replacement that would replace more than what was meant is
/// refused.
///
/// ```
/// use stasis_criu::Options;
/// use stasis_plain::{Choices, FileState, ProcessState, RestoreStdio};
/// use stasis_plain::adapters::Inheritance;
///
/// let output = FileState { path: "/var/log/old".into(), fd: 1, ..FileState::default() };
/// let state = ProcessState {
///     open_files: vec![output],
///     choices: Some(Choices::default()),
///     ..ProcessState::default()
/// };
///
/// # let directory = tempfile::tempdir().unwrap();
/// # let log = directory.path().join("new");
/// let inheritance = Inheritance::new(&state, RestoreStdio::Log(log))?;
/// assert_eq!(inheritance.keys().collect::<Vec<_>>(), ["var/log/old"]);
/// let options = inheritance.apply(Options::new("/var/lib/images/1"));
/// # Ok::<(), stasis_plain::ProcessError>(())
/// ```
#[derive(Debug, Default)]
pub struct Inheritance {
    given: Vec<(String, Descriptor)>,
    missing: Vec<Missing>,
    attached: Option<Attached>,
}

/// What a tree had open, and for which there is nothing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// What CRIU calls it, to be inherited as.
    pub key: String,
    /// What it was: the path of an external file, `socket:[INODE]` of a socket.
    pub was: PathBuf,
}

impl Inheritance {
    /// Opens and makes what the tree of a state is to get.
    ///
    /// # Errors
    /// If a stream cannot be what was asked for, a terminal is needed and none comes with the
    /// streams that were chosen, or something cannot be opened for another reason than that it is
    /// missing.
    pub fn new(state: &ProcessState, stdio: RestoreStdio) -> Result<Self, ProcessError> {
        let externals = Externals::of(state);
        let mut inheritance = Self::default();
        let mut streams = Vec::new();
        for fd in 0..=2 {
            let file = state.open_files.iter().find(|file| file.fd == fd);
            streams.extend(file.and_then(|file| Stream::of(state, &externals, file)));
        }
        match stdio {
            RestoreStdio::Keep => inheritance.keep(&streams)?,
            RestoreStdio::Log(log) => inheritance.log(state, &streams, &log)?,
            RestoreStdio::Attach => inheritance.attach(state, &streams)?,
            RestoreStdio::Given(given) => inheritance.hand_over(state, &streams, &given)?,
        }
        inheritance.terminals(&externals)?;
        inheritance.files(&externals)?;
        inheritance.sockets(state, &externals);
        Ok(inheritance)
    }

    /// External files that are not there any more, or have another file in their place; and connected Unix sockets whose other end was
    /// outside and has no name to connect to again. CRIU cannot restore a tree that had them open,
    /// and of such a socket it dies itself (4.2.1): [give](Self::inherit) a descriptor for each.
    pub fn missing(&self) -> impl Iterator<Item = &Missing> {
        self.missing
            .iter()
            .filter(|missing| !self.has(&missing.key))
    }

    /// Gives the tree a descriptor for what CRIU calls so, in place of what was chosen for it.
    pub fn inherit(&mut self, key: impl Into<String>, descriptor: impl Into<Descriptor>) {
        let key = key.into();
        self.given.retain(|(given, _)| *given != key);
        self.given.push((key, descriptor.into()));
    }

    /// What CRIU calls the files that there are descriptors for.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|(key, _)| key.as_str())
    }

    /// Sets them.
    #[must_use]
    pub fn apply(&self, options: Options) -> Options {
        self.given.iter().fold(options, |options, (key, fd)| {
            options.inherit_fd_unless_given(InheritedFd::new(key.clone(), fd.clone()))
        })
    }

    /// Our ends of the streams that were asked to be attached.
    pub fn take_attached(&mut self) -> Option<Attached> {
        self.attached.take()
    }

    fn give(&mut self, key: &str, descriptor: impl Into<Descriptor>) {
        if !self.has(key) {
            self.given.push((key.to_owned(), descriptor.into()));
        }
    }

    fn has(&self, key: &str) -> bool {
        self.keys().any(|given| given == key)
    }

    fn keep(&mut self, streams: &[Stream<'_>]) -> Result<(), ProcessError> {
        for stream in streams {
            if stream.what == What::Pipe {
                self.give(&stream.key, null()?);
            }
        }
        Ok(())
    }

    fn log(
        &mut self,
        state: &ProcessState,
        streams: &[Stream<'_>],
        log: &Path,
    ) -> Result<(), ProcessError> {
        let opened = open_log(log)?;
        for stream in streams {
            match stream.what {
                What::Pipe if stream.file.fd == 0 => self.give(&stream.key, null()?),
                What::Pipe | What::Socket => {
                    return Err(stream.refuse(
                        "only a file becomes a log, since CRIU opens what was none again, from \
                         its beginning; attach it",
                    ));
                }
                What::Path | What::File if stream.file.fd != 0 => {
                    // What goes to this log already is opened again by its path.
                    if Path::new(&stream.file.path) == log {
                        continue;
                    }
                    stream.alone(state)?;
                    let again = opened.try_clone().map_err(|source| failed(log, source))?;
                    self.give(&stream.key, again);
                }
                What::Path | What::File | What::Terminal => {}
            }
        }
        Ok(())
    }

    fn attach(&mut self, state: &ProcessState, streams: &[Stream<'_>]) -> Result<(), ProcessError> {
        let (mut stdin, mut stdout, mut stderr) = (None, None, None);
        for stream in streams {
            if stream.what == What::Socket {
                return Err(stream.refuse("a socket cannot be attached; give a descriptor"));
            }
            if stream.what == What::Terminal || self.has(&stream.key) {
                continue;
            }
            stream.alone(state)?;
            let (reader, writer): (PipeReader, PipeWriter) =
                pipe().map_err(|source| failed(Path::new("a pipe"), source))?;
            if stream.file.fd == 0 {
                self.give(&stream.key, OwnedFd::from(reader));
                stdin = Some(writer);
            } else {
                self.give(&stream.key, OwnedFd::from(writer));
                let ours = if stream.file.fd == 1 {
                    &mut stdout
                } else {
                    &mut stderr
                };
                *ours = Some(reader);
            }
        }
        if let Some(stream) = streams.iter().find(|s| s.what == What::Terminal) {
            let (master, slave) = open_terminal(Size::default())
                .map_err(|source| failed(Path::new("a terminal"), source))?;
            self.give(&stream.key, slave);
            self.attached = Some(Attached::Terminal(master));
        } else if stdin.is_some() || stdout.is_some() || stderr.is_some() {
            self.attached = Some(Attached::Pipes {
                stdin,
                stdout,
                stderr,
            });
        }
        Ok(())
    }

    fn hand_over(
        &mut self,
        state: &ProcessState,
        streams: &[Stream<'_>],
        given: &[Descriptor; 3],
    ) -> Result<(), ProcessError> {
        for stream in streams {
            let Some(descriptor) = usize::try_from(stream.file.fd)
                .ok()
                .and_then(|fd| given.get(fd))
            else {
                continue;
            };
            if stream.what == What::Terminal {
                if !rustix::termios::isatty(descriptor) {
                    return Err(stream.refuse("what is given in its place is no terminal"));
                }
            } else if !self.has(&stream.key) {
                stream.alone(state)?;
            }
            self.give(&stream.key, descriptor.clone());
        }
        Ok(())
    }

    /// An external terminal that no stream brought is one that the tree cannot come back without.
    fn terminals(&self, externals: &Externals<'_>) -> Result<(), ProcessError> {
        match externals.terminals().find(|(key, _)| !self.has(key)) {
            Some((_, file)) => Err(ProcessError::Terminal {
                path: PathBuf::from(&file.path),
                why: "it was dumped as external, and there is none in its place: attach the \
                      streams, or give a terminal as one of them",
            }),
            None => Ok(()),
        }
    }

    fn files(&mut self, externals: &Externals<'_>) -> Result<(), ProcessError> {
        for (key, file) in externals.files() {
            if self.has(key) {
                continue;
            }
            // CRIU opens it again through this, with the flags of the dump. Opened for reading
            // here, a FIFO would hold us up and a device might act.
            let path = Path::new(&file.path);
            let missing = || Missing {
                key: key.to_owned(),
                was: path.to_owned(),
            };
            match open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
                Ok(descriptor) if is_still(&descriptor, file) => self.give(key, descriptor),
                Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => self.missing.push(missing()),
                Err(errno) => {
                    return Err(ProcessError::File {
                        step: "open the external file",
                        path: path.to_owned(),
                        source: errno.into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// `ext_unix_sk` connects again by the name of the other end, where it has one.
    fn sockets(&mut self, state: &ProcessState, externals: &Externals<'_>) {
        for inode in externals.sockets() {
            let key = format!("socket:[{inode}]");
            if !connects_again(state, &key) {
                let was = PathBuf::from(&key);
                self.missing.push(Missing { key, was });
            }
        }
    }
}

/// Is what was opened by its path the file that the tree had open? The path was that of another
/// mount, and may lead to anything here.
fn is_still(opened: &OwnedFd, file: &FileState) -> bool {
    fstat(opened).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == (file.dev, file.inode))
}

/// Had the other end of a connection a name?
fn connects_again(state: &ProcessState, socket: &str) -> bool {
    state.processes().any(|process| {
        let held = process.open_files.iter().filter(|file| file.path == socket);
        let mut connections = held.flat_map(|file| {
            let all = process.open_connections.iter();
            all.filter(|connection| u64::from(connection.fd) == file.fd)
        });
        connections.any(|connection| connection.remote.is_some())
    })
}

/// What a standard stream was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    /// A file with a path that the tree sees.
    Path,
    /// An external file.
    File,
    /// A pipe with its other end outside.
    Pipe,
    /// A socket with its other end outside.
    Socket,
    /// An external terminal.
    Terminal,
}

/// A standard stream that may be replaced.
#[derive(Debug)]
struct Stream<'a> {
    file: &'a FileState,
    what: What,
    key: String,
}

impl<'a> Stream<'a> {
    /// The stream, unless CRIU brings it back by itself: a pipe within the tree, a terminal whose
    /// master is in the tree or handed over otherwise.
    fn of(state: &ProcessState, externals: &Externals<'_>, file: &'a FileState) -> Option<Self> {
        let path = file.path.as_str();
        let (what, key) = if file.is_tty {
            (What::Terminal, externals.key(&terminal(file))?)
        } else if let Some(key) = externals.key(&external_file(file)) {
            (What::File, key)
        } else if path.starts_with("pipe:[") {
            if is_whole(state, path) {
                return None;
            }
            (What::Pipe, path.to_owned())
        } else if let Some(inode) = path
            .strip_prefix("socket:[")
            .and_then(|rest| rest.strip_suffix(']'))
        {
            externals.key(&format!("unix[{inode}]"))?;
            (What::Socket, path.to_owned())
        } else {
            (What::Path, path.strip_prefix('/')?.to_owned())
        };
        Some(Self { file, what, key })
    }

    /// Is everything in the tree that would be replaced with this stream meant? Another stream of
    /// the same direction is, of whichever process.
    fn alone(&self, state: &ProcessState) -> Result<(), ProcessError> {
        if self.what != What::Path {
            return Ok(());
        }
        let reads = self.file.fd == 0;
        let meant = |file: &FileState| match file.fd {
            0 => reads,
            1 | 2 => !reads,
            // 0 is reading only.
            _ => file.flags().is_some_and(|flags| (flags & 3 == 0) == reads),
        };
        let alone = state
            .processes()
            .flat_map(|process| &process.open_files)
            .filter(|file| file.path == self.file.path)
            .all(meant);
        if alone {
            return Ok(());
        }
        Err(self.refuse(
            "the tree has that file open for something else as well, and CRIU would replace it \
             there too; keep it",
        ))
    }

    fn refuse(&self, why: &'static str) -> ProcessError {
        ProcessError::Stdio {
            fd: u32::try_from(self.file.fd).unwrap_or(u32::MAX),
            was: PathBuf::from(&self.file.path),
            why,
        }
    }
}

/// Has the tree both ends of a pipe?
fn is_whole(state: &ProcessState, path: &str) -> bool {
    let ends = |writes: bool| {
        state
            .processes()
            .flat_map(|process| &process.open_files)
            .filter(|file| file.path == path)
            .filter_map(FileState::flags)
            .any(|flags| (flags & 3 != 0) == writes)
    };
    ends(true) && ends(false)
}

fn null() -> Result<OwnedFd, ProcessError> {
    open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| failed(Path::new("/dev/null"), errno.into()))
}

fn failed(what: &Path, source: io::Error) -> ProcessError {
    ProcessError::Stream {
        what: what.display().to_string(),
        source,
    }
}
