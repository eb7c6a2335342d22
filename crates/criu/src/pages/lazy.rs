//! A restore whose memory comes later: the daemon that brings it, and the processes that need it.

use std::{ffi::OsString, net::IpAddr};

use tokio::sync::oneshot;

use super::{
    PagesError,
    daemon::{Daemon, End, Order, Program},
};
use crate::{Call, Criu, Error, KnownCause, OptionError, Options, Request, Restored, options::Tls};

/// A daemon of lazy pages to be started.
///
/// It reads the images of a restore and brings each page where the restored processes need it, and
/// the others meanwhile: out of the images directory, or from a machine that dumps lazily.
///
/// ```no_run
/// use stasis_criu::{Criu, Options, pages::LazyPages};
///
/// # async fn example() -> Result<(), stasis_criu::Error> {
/// let criu = Criu::new();
/// let options = Options::new("/var/lib/images").work_dir("/run/work").lazy_pages(true);
/// let daemon = LazyPages::of(&options).start(&criu).await?;
/// let restored = daemon.restore(criu.restore(&options)).await?;
/// println!("process {} runs", restored.restored.pid.as_raw_pid());
/// restored.filled().await?;
/// println!("and has all its memory");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct LazyPages<'a> {
    options: &'a Options,
    from: Option<(IpAddr, u16)>,
    tls: Option<Tls>,
}

impl<'a> LazyPages<'a> {
    /// For a restore with these options: images and work directory are theirs.
    ///
    /// ```
    /// use stasis_criu::{Options, pages::LazyPages};
    ///
    /// let options = Options::new("/var/lib/images").lazy_pages(true);
    /// let daemon = LazyPages::of(&options);
    /// ```
    #[must_use]
    pub fn of(options: &'a Options) -> Self {
        Self {
            options,
            from: None,
            tls: None,
        }
    }

    /// Takes pages that are not in the images directory from a lazy dump at this address. The
    /// daemon connects once the restore has begun; from then on the processes of the dump end,
    /// whatever becomes of the restore.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options, options::Tls, pages::LazyPages};
    ///
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// let options = Options::new("/var/lib/images").lazy_pages(true);
    /// let daemon = LazyPages::of(&options)
    ///     .from("192.0.2.7".parse()?, 27)
    ///     .tls(Tls::default())
    ///     .start(&Criu::new())
    ///     .await?;
    /// # drop(daemon);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn from(mut self, address: IpAddr, port: u16) -> Self {
        self.from = Some((address, port));
        self
    }

    /// Takes them over TLS, as the lazy dump has to send them then.
    ///
    /// ```
    /// use stasis_criu::{Options, options::Tls, pages::LazyPages};
    ///
    /// let options = Options::new("/var/lib/images").lazy_pages(true);
    /// let daemon = LazyPages::of(&options)
    ///     .from([192, 0, 2, 7].into(), 27)
    ///     .tls(Tls::default().cacert("/etc/criu/ca.pem"));
    /// ```
    #[must_use]
    pub fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Starts it, and waits until it listens.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options, pages::LazyPages};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let options = Options::new("/var/lib/images").lazy_pages(true);
    /// let daemon = LazyPages::of(&options).start(&Criu::new()).await?;
    /// # drop(daemon);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If there is no CRIU of ours, the options are not for a lazy restore, or it does not come
    /// up.
    pub async fn start(&self, criu: &Criu) -> Result<LazyDaemon, Error> {
        let request = Request::Restore;
        self.options.check(request, None)?;
        if !self.options.is_lazy() {
            return Err(Error::Options(OptionError::Incomplete {
                what: String::from("a daemon of lazy pages"),
                option: "lazy_pages",
                reason: "the restore would not ask it for anything",
            }));
        }
        let Some((binary, environment)) = criu.program() else {
            return Err(Error::Unavailable {
                request,
                how: "with a daemon of lazy pages over a service",
                instead: "use a CRIU of your own (Criu::new)",
            });
        };
        let rendered = self.options.rendered(request)?;
        let Some(images) = rendered.images else {
            return Err(Error::Unavailable {
                request,
                how: "with a daemon of lazy pages from a directory that only CRIU opens",
                instead: "give the directory as Dir::Path or Dir::Descriptor",
            });
        };
        let daemon = Daemon::start(Program {
            binary: binary.to_owned(),
            environment: environment.to_owned(),
            arguments: self.arguments(),
            work: rendered.work.unwrap_or_else(|| images.clone()),
            images,
        });
        Ok(LazyDaemon(daemon.await?))
    }

    fn arguments(&self) -> Vec<OsString> {
        let mut arguments = Vec::new();
        if let Some((address, port)) = self.from {
            let address = address.to_string();
            let port = port.to_string();
            arguments.extend(
                ["--page-server", "--address", &address, "--port", &port].map(OsString::from),
            );
        }
        if let Some(tls) = &self.tls {
            arguments.extend(tls.arguments());
        }
        arguments
    }
}

/// A daemon of lazy pages that listens, from [`LazyPages::start`]. Dropping it ends it.
#[derive(Debug)]
pub struct LazyDaemon(Daemon);

impl LazyDaemon {
    /// Its process.
    ///
    /// ```no_run
    /// # fn example(daemon: stasis_criu::pages::LazyDaemon) {
    /// println!("process {} listens", daemon.pid().as_raw_pid());
    /// # }
    /// ```
    #[must_use]
    pub fn pid(&self) -> rustix::process::Pid {
        self.0.pid
    }

    /// Makes the restore, which ends with the daemon if that dies. The restore's options are those
    /// that the daemon was made of. A daemon that hangs is waited for: give the call a deadline.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Error, Options, pages::{LazyDaemon, LazyRestored}};
    ///
    /// # async fn example(daemon: LazyDaemon, options: &Options) -> Result<LazyRestored, Error> {
    /// let criu = Criu::new();
    /// daemon.restore(criu.restore(options).within(Duration::from_secs(30))).await
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the restore fails; then the daemon has ended too. If the daemon dies, whatever was
    /// restored has been ended.
    pub async fn restore(self, call: Call<'_, Restored>) -> Result<LazyRestored, Error> {
        let daemon = self.0;
        let in_vain = |source| Error::Pages {
            request: Request::Restore,
            source,
        };
        let (tell, told) = oneshot::channel();
        let lost = daemon.lost();
        let call = call.also_until(async move {
            lost.await;
            // It is told for later, when this future is gone.
            let _ = tell.send(());
        });
        // As they are before they run: a root that has read zeros since may be dead, and its
        // children not to be found; and this future may be gone.
        let (hand_over, handed_over) = oneshot::channel();
        let guarded = daemon.guard(handed_over);
        let error = match call.hand_over(hand_over).await {
            Ok(restored) => {
                guarded.await.map_err(in_vain)?;
                return Ok(LazyRestored { restored, daemon });
            }
            Err(error) => error,
        };
        let lost = told.await.is_ok() || is_for_want_of_daemon(&error);
        match daemon.end().await {
            // One that was killed may take a while to be dead, and its restore fails first.
            (end @ End::Early { killed, .. }, before) if lost || (killed && before) => {
                let ended: Result<(), PagesError> = end.into();
                Err(ended.map_or_else(in_vain, |()| error))
            }
            _ => Err(error),
        }
    }
}

fn is_for_want_of_daemon(error: &Error) -> bool {
    matches!(error, Error::Failed { diagnosis, .. }
        if diagnosis.known == Some(KnownCause::LazyDaemonMissing))
}

/// Processes that run, and whose memory is still coming.
///
/// Dropping it lets it come: the daemon is looked after by a thread of its own, which ends the
/// processes if the daemon dies, since the kernel would give them zeros for what has not come. A
/// daemon that hangs holds up whoever needs a page: see [`give_up`](Self::give_up).
#[derive(Debug)]
pub struct LazyRestored {
    /// What the restore said.
    pub restored: Restored,
    daemon: Daemon,
}

impl LazyRestored {
    /// Waits until all memory is where it belongs.
    ///
    /// ```no_run
    /// # async fn example(restored: &stasis_criu::pages::LazyRestored) {
    /// match restored.filled().await {
    ///     Ok(()) => println!("all is here"),
    ///     Err(error) => println!("it has ended: {error}"),
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the daemon dies before. The processes have been ended then.
    pub async fn filled(&self) -> Result<(), Error> {
        let request = Request::Restore;
        let ended = self.daemon.ended().await;
        ended.map_err(|source| Error::Pages { request, source })
    }

    /// Ends the daemon and the processes, as where the memory does not come in time. Returns when
    /// they have ended.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Error, pages::LazyRestored};
    ///
    /// # async fn example(restored: LazyRestored) -> Result<(), Error> {
    /// match tokio::time::timeout(Duration::from_secs(60), restored.filled()).await {
    ///     Ok(filled) => filled,
    ///     Err(_) => {
    ///         restored.give_up().await;
    ///         Ok(())
    ///     }
    /// }
    /// # }
    /// ```
    pub async fn give_up(self) {
        self.daemon.order(Order::GiveUp);
        // That it ended before its time is what was asked for.
        let _: Result<(), PagesError> = self.daemon.ended().await;
    }
}
