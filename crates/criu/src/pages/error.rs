//! Why pages cannot go where they are to go.

use std::{io, net::SocketAddr, time::Duration};

use thiserror::Error;

use crate::{Left, diagnosis::Diagnosis};

/// Why pages cannot go where they are to go.
///
/// ```no_run
/// use stasis_criu::{Criu, Error, Options, PagesError};
///
/// # async fn example(lazy_dump: &Options) {
/// match Criu::new().dump(lazy_dump).await {
///     Err(Error::Pages { source: PagesError::Exposed, .. }) => println!("not without TLS"),
///     other => drop(other),
/// }
/// # }
/// ```
#[derive(Debug, Error)]
pub enum PagesError {
    /// There is no page server, or it cannot be reached.
    #[error("cannot connect to the page server at {host}:{port}")]
    Connect {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// Nobody at its address said anything, not even no.
    #[error("the page server at {host}:{port} did not answer within {within:?}")]
    NoAnswer {
        /// Its name or address.
        host: String,
        /// Its port.
        port: u16,
        /// How long it had.
        within: Duration,
    },
    /// There cannot be a page server at this address.
    #[error("cannot {step} for a page server at {address}")]
    Listen {
        /// What was tried.
        step: &'static str,
        /// Where.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// No dump came.
    #[error("no dump came to the page server at {address} within {within:?}")]
    NoDump {
        /// Where it listened.
        address: SocketAddr,
        /// How long.
        within: Duration,
    },
    /// A dump came, and sent no more.
    #[error("the dump at {from} sent nothing to its page server for {silence:?}")]
    Silent {
        /// Where it is.
        from: SocketAddr,
        /// How long it was silent.
        silence: Duration,
    },
    /// Anyone could have the memory, or end the processes by connecting.
    #[error(
        "a lazy dump listens at all addresses, and whoever connects has the memory or, by closing, \
         ends the processes; set TLS, or make it in a network namespace of its own"
    )]
    Exposed,
    /// CRIU could not serve a single page.
    #[error(
        "a lazy dump needs pipes of 4 MiB; give CRIU CAP_SYS_RESOURCE, or set fs.pipe-max-size"
    )]
    SmallPipes {
        /// What the kernel said to one.
        source: io::Error,
    },
    /// The port of a lazy dump would not be known to anyone.
    #[error(
        "a lazy dump needs a port (PageServer::listening), since CRIU tells nobody which it took"
    )]
    NoPort,
    /// The daemon ended before all memory was where it belongs.
    #[error("the daemon of lazy pages ended before its time: {diagnosis}{left}")]
    Daemon {
        /// Why, and where more is to be read.
        diagnosis: Box<Diagnosis>,
        /// What could not be undone. The processes that were being restored have been ended.
        left: Left,
    },
    /// The daemon does not come up.
    #[error("the daemon of lazy pages did not listen within {within:?}")]
    NotReady {
        /// How long it had.
        within: Duration,
    },
}
