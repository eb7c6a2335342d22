//! The page server's end: a socket of ours that listens, and CRIU behind it once a dump has come.
//!
//! A page server of CRIU's own waits for its dump without end, and goes on when the CRIU that
//! started it is gone. Here no CRIU runs before the dump has come, the wait has an end, and so has
//! silence; and whoever drops the future takes the connection away from the page server, which
//! ends then.

use std::{
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    time::Duration,
};

use stasis_linux::{file, sys};
use tokio::{net::TcpListener, time};

use super::{PagesError, client::for_criu};
use crate::{
    Criu, Error, OptionError, Options, Request,
    diagnosis::{self, Evidence, Log},
    options::{PageServer, Rendered},
    setters::setters,
    undo::CreatedFiles,
};

/// How long a dump may take to come, and then to send something: before the first pages there is
/// all that comes before the freeze.
pub const COMING: Duration = Duration::from_secs(600);

/// A page server for one dump.
///
/// ```no_run
/// use std::time::Duration;
/// use stasis_criu::{Criu, Error, Options, pages::PageReceiver};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let receiver = PageReceiver::bind("192.0.2.7:0".parse()?).await?;
/// println!("send the pages to {}", receiver.address());
/// let from = receiver
///     .within(Duration::from_secs(30))
///     .receive(&Criu::new(), &Options::new("/var/lib/images"))
///     .await?;
/// println!("all pages of {from} are here");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct PageReceiver {
    listener: TcpListener,
    address: SocketAddr,
    within: Duration,
    silence: Duration,
}

impl PageReceiver {
    /// Listens at `address`, at a free port of it if that is 0. It takes the first that connects
    /// for its dump, and what that sends for pages: it belongs on a network in which no stranger
    /// is.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let receiver = stasis_criu::pages::PageReceiver::bind("192.0.2.7:27".parse()?).await?;
    /// # drop(receiver);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no such address here, or the port is taken.
    pub async fn bind(address: SocketAddr) -> Result<Self, PagesError> {
        let failed = |step| {
            move |source| PagesError::Listen {
                step,
                address,
                source,
            }
        };
        let listener = TcpListener::bind(address).await.map_err(failed("listen"))?;
        Ok(Self {
            address: listener.local_addr().map_err(failed("learn the port"))?,
            listener,
            within: COMING,
            silence: COMING,
        })
    }

    /// Where it listens, with the port that it has.
    ///
    /// ```no_run
    /// use stasis_criu::{Options, options::PageServer, pages::PageReceiver};
    ///
    /// # fn example(receiver: PageReceiver) {
    /// let at = receiver.address();
    /// let dump = Options::new("/var/lib/images").page_server(PageServer::at(at.ip(), at.port()));
    /// # }
    /// ```
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    setters! {
        /// Sets how long it waits for the dump to come: [`COMING`] otherwise.
        ///
        /// ```no_run
        /// # fn example(receiver: stasis_criu::pages::PageReceiver) {
        /// let receiver = receiver.within(std::time::Duration::from_secs(30));
        /// # }
        /// ```
        pub fn within(mut self, within: Duration) { self.within = within; }

        /// Sets how long the dump may be silent: [`COMING`] otherwise. It is silent until its
        /// processes are frozen, and between one process's memory and the next's.
        ///
        /// ```no_run
        /// # fn example(receiver: stasis_criu::pages::PageReceiver) {
        /// let receiver = receiver.silence(std::time::Duration::from_secs(60));
        /// # }
        /// ```
        pub fn silence(mut self, silence: Duration) { self.silence = silence; }
    }

    /// Waits for the dump to come, and takes its pages into the images directory. Returns where
    /// they came from, once all are there.
    ///
    /// The connection is the page server of `options`, which names none itself. A transfer that
    /// fails leaves no images, only the log; one whose future is dropped fails, on both sides. The
    /// limits are the other end's: a page server that hangs here, as on a disk that does, is waited
    /// for.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Error, Options, PagesError, pages::PageReceiver};
    ///
    /// # async fn example(receiver: PageReceiver) {
    /// match receiver.receive(&Criu::new(), &Options::new("/var/lib/images")).await {
    ///     Ok(from) => println!("all pages of {from} are here"),
    ///     Err(Error::Pages { source: PagesError::Silent { from, .. }, .. }) => {
    ///         println!("{from} says nothing any more");
    ///     }
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// If no dump comes, or its pages do not arrive whole.
    pub async fn receive(self, criu: &Criu, options: &Options) -> Result<SocketAddr, Error> {
        let request = Request::PageServerChild;
        if options.has_page_server() {
            return Err(Error::Options(OptionError::Conflict {
                option: "ps",
                other: "a receiver of pages",
                reason: "it has the socket; leave the option out",
            }));
        }
        // What is wrong with them is told before anyone waits for a dump.
        options.check(request, None)?;
        let rendered = options.rendered(request)?;
        let in_vain = |source| Error::Pages { request, source };
        let silence = self.silence;
        let (socket, from) = self.accepted().await.map_err(in_vain)?;

        let prepare = |step| Error::prepare(request, step);
        let ours = socket.try_clone().map_err(prepare("share a socket"))?;
        let mut directories = Vec::from_iter(rendered.images.clone());
        directories.extend(rendered.work.clone());
        let log = options.log_name(request).unwrap_or_default();
        let written = CreatedFiles::look(&directories, log)
            .map_err(prepare("list what is in its directories"))?;
        let mut transfer = Transfer {
            socket: ours,
            written: Some(written),
        };

        let options = options.clone().page_server(PageServer::connected(socket));
        let ended = async { criu.start_page_server_child(&options).await?.wait().await };
        tokio::pin!(ended);
        let ended = tokio::select! {
            biased;
            ended = &mut ended => ended,
            () = transfer.silent(silence) => {
                transfer.shut();
                ended.await
            }
        };
        match ended {
            Ok(exit) if exit.success() => {
                transfer.written = None;
                Ok(from)
            }
            _ if transfer.has_been_silent() >= silence => {
                Err(in_vain(PagesError::Silent { from, silence }))
            }
            Ok(exit) => Err(failed(&rendered, log, exit)),
            Err(error) => Err(error),
        }
    }

    async fn accepted(self) -> Result<(OwnedFd, SocketAddr), PagesError> {
        let (address, within) = (self.address, self.within);
        let failed = |source| PagesError::Listen {
            step: "accept a connection",
            address,
            source,
        };
        let (stream, from) = time::timeout(within, self.listener.accept())
            .await
            .map_err(|_| PagesError::NoDump { address, within })?
            .map_err(failed)?;
        let socket = for_criu(stream, self.silence).map_err(failed)?;
        Ok((socket, from))
    }
}

/// The page server ended without all pages.
fn failed(rendered: &Rendered, log: &str, exit: std::process::ExitStatus) -> Error {
    let request = Request::PageServerChild;
    let directory: Option<&Arc<OwnedFd>> = rendered.work.as_ref().or(rendered.images.as_ref());
    Error::Failed {
        request,
        diagnosis: Box::new(diagnosis::diagnose(&Evidence {
            log: directory.map(|directory| Log::In(directory.as_fd(), log)),
            disk_full: directory.is_some_and(file::is_full),
            exit: Some(exit),
            ..Evidence::of(request)
        })),
        left: Vec::new().into(),
    }
}

/// Pages that come. What has come by then is removed when this is dropped, after the page server
/// of its future: it is not all, until `written` is taken away.
struct Transfer {
    socket: OwnedFd,
    written: Option<CreatedFiles>,
}

impl Transfer {
    /// Resolves when nothing has come for `silence`.
    ///
    /// In the middle of a process's memory CRIU waits by poll(2), for which a socket's own limit
    /// does not count.
    async fn silent(&self, silence: Duration) {
        loop {
            let left = silence.saturating_sub(self.has_been_silent());
            if left.is_zero() {
                return;
            }
            time::sleep(left).await;
        }
    }

    /// For how long nothing has come. While something is there to be read, it is the page server
    /// that is late.
    fn has_been_silent(&self) -> Duration {
        match rustix::io::ioctl_fionread(&self.socket) {
            Ok(1..) => Duration::ZERO,
            // A TCP connection tells.
            _ => sys::since_received(self.socket.as_fd()).unwrap_or_default(),
        }
    }

    fn shut(&self) {
        // One that is over is shut already.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.shut();
        if let Some(written) = self.written.take() {
            written.remove(true);
        }
    }
}

#[cfg(test)]
mod tests;
