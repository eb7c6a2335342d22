//! The dump's end: a connection to a page server that cannot hold a dump up for ever.

use std::{os::fd::OwnedFd, time::Duration};

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use tokio::{net::TcpStream, time};

use super::PagesError;
use crate::{options::PageServer, setters::setters};

/// How long a page server may take to accept a connection, unless
/// [`PageServerClient::within`] says otherwise.
pub const CONNECT: Duration = Duration::from_secs(10);
/// How long a page server may neither take nor send anything in the course of a dump. Then the
/// dump fails in order, whether it has a deadline or not.
pub const SILENCE: Duration = Duration::from_secs(60);

/// Connects to a page server, for one dump.
///
/// [`Criu::dump`](crate::Criu::dump) does so by itself where its options have an address
/// ([`PageServer::at`]); this is for names, and for other limits than [`CONNECT`] and [`SILENCE`].
/// The limit of silence is the socket's own: it holds also where the caller's process is gone.
///
/// ```no_run
/// use std::time::Duration;
/// use stasis_criu::{Criu, Error, Options, pages::PageServerClient};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let server = PageServerClient::new("pages.example.net", 27)
///     .silence(Duration::from_secs(5))
///     .connect()
///     .await?;
/// let options = Options::new("/var/lib/images").pid(4711).page_server(server);
/// Criu::new().dump(&options).within(Duration::from_secs(60)).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageServerClient {
    host: String,
    port: u16,
    within: Duration,
    silence: Duration,
}

impl PageServerClient {
    /// For the page server at this port of a host, which is a name or an address.
    #[must_use]
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: host.into(),
            port,
            within: CONNECT,
            silence: SILENCE,
        }
    }

    setters! {
        /// Sets how long it may take to accept: [`CONNECT`] otherwise.
        ///
        /// ```
        /// use stasis_criu::pages::{CONNECT, PageServerClient};
        ///
        /// let far_away = PageServerClient::new("pages.example.net", 27).within(2 * CONNECT);
        /// ```
        pub fn within(mut self, within: Duration) { self.within = within; }

        /// Sets how long it may be silent: [`SILENCE`] otherwise. Nothing is too short for a page
        /// server that works; it is silent only while it writes to its disk.
        ///
        /// ```
        /// use stasis_criu::pages::{PageServerClient, SILENCE};
        ///
        /// let slow_disk = PageServerClient::new("pages.example.net", 27).silence(2 * SILENCE);
        /// ```
        pub fn silence(mut self, silence: Duration) { self.silence = silence; }
    }

    /// Connects. The connection is good for one dump.
    ///
    /// ```no_run
    /// use stasis_criu::pages::{PageServerClient, PagesError};
    ///
    /// # async fn example() {
    /// match PageServerClient::new("pages.example.net", 27).connect().await {
    ///     Ok(server) => println!("{server:?} is there"),
    ///     Err(PagesError::NoAnswer { within, .. }) => println!("not even a no in {within:?}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no page server, or it does not answer.
    pub async fn connect(&self) -> Result<PageServer, PagesError> {
        Ok(PageServer::connected(self.socket().await?))
    }

    pub(crate) async fn socket(&self) -> Result<OwnedFd, PagesError> {
        let failed = |source| PagesError::Connect {
            host: self.host.clone(),
            port: self.port,
            source,
        };
        let connecting = TcpStream::connect((self.host.as_str(), self.port));
        let stream = time::timeout(self.within, connecting)
            .await
            .map_err(|_| PagesError::NoAnswer {
                host: self.host.clone(),
                port: self.port,
                within: self.within,
            })?
            .map_err(failed)?;
        for_criu(stream, self.silence).map_err(failed)
    }
}

/// The socket as CRIU wants it: blocking, but not for longer than `silence`.
pub(super) fn for_criu(stream: TcpStream, silence: Duration) -> std::io::Result<OwnedFd> {
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    for direction in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&stream, direction, Some(silence))?;
    }
    Ok(stream.into())
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use rustix::{
        event::{PollFd, PollFlags},
        net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with},
    };

    use super::*;

    /// A socket at a port of its own, which does not listen.
    fn bound() -> (OwnedFd, u16) {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).unwrap();
        bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = SocketAddr::try_from(getsockname(&socket).unwrap()).unwrap();
        (socket, address.port())
    }

    #[tokio::test]
    async fn a_page_server_that_is_not_there_is_named() {
        // Bound, so that nobody else gets the port, and not listening.
        let (_bound, port) = bound();
        let client = PageServerClient::new("127.0.0.1", port);
        let error = client.connect().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("cannot connect to the page server at 127.0.0.1:{port}")
        );
        let PagesError::Connect { source, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(source.kind(), ErrorKind::ConnectionRefused);
    }

    #[tokio::test]
    async fn one_that_does_not_accept_is_given_up() {
        // Its queue takes one more than it says, and the kernel drops what comes then.
        let (listener, port) = bound();
        rustix::net::listen(&listener, 0).unwrap();
        let _first = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let mut queue = [PollFd::new(&listener, PollFlags::IN)];
        rustix::event::poll(&mut queue, None).unwrap();
        let client = PageServerClient::new("127.0.0.1", port).within(Duration::from_millis(50));
        let error = client.connect().await.unwrap_err();
        assert!(matches!(error, PagesError::NoAnswer { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_read_from_one_that_is_silent_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let client = PageServerClient::new("127.0.0.1", port).silence(Duration::from_millis(20));
        let mut stream = TcpStream::from(client.socket().await.unwrap());
        let error = stream.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}
