//! A page server that CRIU has made, and that can be waited for.

use std::{process::ExitStatus, time::Duration};

use rustix::process::{Pid, Signal};
use stasis_linux::Pidfd;

use super::{
    call::Call,
    connection::Connection,
    criu::Criu,
    outcome::{self, PageServerStarted},
};
use crate::{Error, Options, Request, link::ProtocolError, unknown::MalformedMessage};

/// How long a killed page server may take to end.
const DEATH: Duration = Duration::from_secs(2);

/// A page server that can be waited for, from [`Criu::start_page_server_child`]. It ends when its
/// dump has ended, or when this is dropped.
#[derive(Debug)]
pub struct PageServerChild {
    connection: Option<Connection>,
    /// It goes on when its CRIU has ended, unless it is ended too.
    held: Pidfd,
    /// Its process.
    pub pid: Pid,
    /// The port on which it listens; 0 where it was given a socket.
    pub port: u16,
}

impl PageServerChild {
    pub(super) async fn start(criu: &Criu, options: &Options) -> Result<Self, Error> {
        let request = Request::PageServerChild;
        let mut call = Call::new(criu, request, options, outcome::page_server).keeping_open();
        call.prepare()?;
        let mut connection = Connection::open(criu, call.endpoint(), request).await?;
        let started = connection.ask(call).await;
        match started.and_then(held) {
            Ok((held, port)) => Ok(Self {
                connection: Some(connection),
                pid: held.pid(),
                held,
                port,
            }),
            Err(error) => {
                connection.cleanup().await;
                Err(error)
            }
        }
    }

    /// Waits until it has served its dump. Its exit status says whether it got all of it.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Options};
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let options = Options::new("/var/lib/images");
    /// let server = Criu::new().start_page_server_child(&options).await?;
    /// println!("waiting for a dump on port {}", server.port);
    /// assert!(server.wait().await?.success());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn wait(mut self) -> Result<ExitStatus, Error> {
        let Some(mut connection) = self.connection.take() else {
            let request = Request::WaitPid;
            return Err(Error::Closed { request });
        };
        let status = connection.wait_pid(self.pid).await;
        connection.cleanup().await;
        status
    }
}

impl Drop for PageServerChild {
    fn drop(&mut self) {
        self.held.send(Signal::KILL);
        // It writes no more when this is gone. A process that is killed ends, and soon.
        let _ = self.held.ends_within(DEATH);
    }
}

/// Its process, which its CRIU has not reaped yet.
fn held(started: PageServerStarted) -> Result<(Pidfd, u16), Error> {
    let request = Request::PageServerChild;
    let missing = MalformedMessage::Missing {
        message: "criu.criu_page_server_info",
        field: "pid",
    };
    let pid = started.pid.ok_or_else(|| Error::Protocol {
        request,
        source: ProtocolError::Malformed(missing),
        left: Vec::new().into(),
    })?;
    let cannot = Error::prepare(request, "open a pidfd");
    let held = Pidfd::take(pid).map_err(|errno| cannot(errno.into()))?;
    Ok((held, started.port))
}
