//! What a lazy dump has to have: nobody who could come and should not, and large pipes.
//!
//! CRIU 4.2 passes over the address of a lazy dump and listens at all of them. It serves whoever
//! is first, and takes a connection that is closed for a dump that was fetched: it then ends the
//! processes. So there has to be TLS, with which a stranger gets no further than the handshake, or
//! a network in which there is no stranger.
//!
//! It serves its pages through a pipe that it makes larger than a user's may be without
//! `CAP_SYS_RESOURCE`. Where it cannot, it says nothing, listens, and fails at the first page that it
//! is asked for (`pipe_read_dest_init` in `criu/page-pipe.c`).

use std::{fs, io};

use super::PagesError;
use crate::options::Options;

/// The pipe that CRIU serves pages through, in bytes: `PIPE_MAX_SIZE` of
/// `criu/include/page-pipe.h`, and pages of 4096.
const PIPE: usize = 819 << 12;

/// Refuses a lazy dump that anyone could reach, or that could serve nobody. `elsewhere`: CRIU runs
/// where this process cannot look, as a service does.
pub(crate) fn check_lazy_dump(options: &Options, elsewhere: bool) -> Result<(), PagesError> {
    if options.pages_port().is_none() && !options.has_config_file() {
        return Err(PagesError::NoPort);
    }
    if !options.has_tls() && (elsewhere || !(is_alone() || is_private())) {
        return Err(PagesError::Exposed);
    }
    if elsewhere {
        return Ok(());
    }
    large_pipe().map_err(|source| PagesError::SmallPipes { source })
}

/// Makes a pipe as CRIU, which has the rights of this process, will need one.
fn large_pipe() -> io::Result<()> {
    let (_reader, writer) = io::pipe()?;
    rustix::pipe::fcntl_setpipe_size(&writer, PIPE)?;
    Ok(())
}

/// Whether the network namespace of this thread, which CRIU inherits, is another than that of the
/// first process: the machine's, or in a container the container's. What cannot be told is no.
///
/// It is the caller who made it, and knows what else is in it.
fn is_private() -> bool {
    let ours = fs::read_link("/proc/thread-self/ns/net");
    let first = fs::read_link("/proc/1/ns/net");
    matches!((ours, first), (Ok(ours), Ok(first)) if ours != first)
}

/// Whether it has no network device but the loopback, so that nobody comes but who is here too.
fn is_alone() -> bool {
    fs::read_to_string("/proc/thread-self/net/dev").is_ok_and(|devices| only_loopback(&devices))
}

/// Whether `/proc/net/dev` names no device but the loopback.
fn only_loopback(devices: &str) -> bool {
    devices
        .lines()
        .filter_map(|line| line.split_once(':'))
        .all(|(name, _)| name.trim() == "lo")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{PageServer, Tls};

    #[test]
    fn a_device_besides_the_loopback_is_seen() {
        let head = "Inter-|   Receive     |  Transmit\n face |bytes    packets|bytes packets\n";
        assert!(only_loopback(&format!("{head}    lo:  1 2 3\n")));
        assert!(!only_loopback(&format!("{head}    lo: 1 2\n  eth0: 1 2\n")));
    }

    #[test]
    fn a_lazy_dump_in_a_service_needs_tls() {
        let lazy = Options::new("/").lazy_pages(true);
        let error = check_lazy_dump(&lazy, true).unwrap_err();
        assert!(matches!(error, PagesError::NoPort), "{error}");
        let lazy = lazy.page_server(PageServer::listening(27));
        let error = check_lazy_dump(&lazy, true).unwrap_err();
        assert!(matches!(error, PagesError::Exposed), "{error}");
        check_lazy_dump(&lazy.tls(Tls::default()), true).unwrap();
    }
}
