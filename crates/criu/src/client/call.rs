//! A call: what is asked, with which hooks, and how long it may take.

use std::{
    fmt,
    future::{self, Future, IntoFuture},
    pin::{Pin, pin},
    process,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::oneshot,
    time::{self, Instant},
};

use super::{
    Criu,
    ask::{Ask, Needs},
    connection::Connection,
    outcome::{self, Dumped, Finish},
};
use crate::{Error, Notify, Options, Request, error::Left, pages::Tree};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A call that is made when it is awaited.
///
/// # Cancellation
/// A call ends before its time when its deadline passes ([`within`](Self::within)), when the
/// caller says so ([`until`](Self::until)), or when its future is dropped, even with the runtime
/// that it runs in. In each case CRIU is brought to give up in order, so that the processes of a
/// dump run on as before, without a file, a network rule or memory of CRIU's left, and those of a
/// restore are gone. This goes on after a drop: [`Criu::idle`] waits for its end. Only a CRIU that
/// has not ended when the grace is over ([`Criu::grace`]) is killed; the error then says what may
/// be left.
///
/// After the hook post-dump has been acknowledged it is too late: the dump completes, and its
/// result is a success.
#[must_use = "nothing is asked before the call is awaited"]
pub struct Call<'a, T> {
    criu: &'a Criu,
    request: Request,
    /// Or why nothing is asked.
    options: Result<CallOptions<'a>, Error>,
    notify: Option<&'a mut dyn Notify>,
    deadline: Option<Duration>,
    until: Option<BoxFuture<'a, ()>>,
    restored: Option<oneshot::Sender<Tree>>,
    finish: Finish<T>,
}

enum CallOptions<'a> {
    Given(&'a Options),
    /// Options that were made for this call, with a directory that is there as long.
    Own(Box<Options>, Option<TempDir>),
}

impl<'a> Call<'a, ()> {
    pub(super) fn check(criu: &'a Criu) -> Self {
        let request = Request::Check;
        // What is missing CRIU 4.2 tells in a log file only, and 4.1 wants a directory anyway.
        let options = match tempfile::tempdir() {
            Ok(directory) => Ok(CallOptions::Own(
                Box::new(Options::new(directory.path())),
                Some(directory),
            )),
            Err(source) => Err(Error::Prepare {
                request,
                step: "make a directory for its log",
                source,
            }),
        };
        Self::with(criu, request, options, outcome::nothing)
    }
}

impl<'a> Call<'a, Dumped> {
    /// A dump of the calling process.
    pub(super) fn dump_self(criu: &'a Criu, options: &Options) -> Self {
        let options = Box::new(options.clone().pid(process::id()));
        let options = Ok(CallOptions::Own(options, None));
        Self::with(criu, Request::Dump, options, outcome::dumped)
    }
}

impl<'a, T> Call<'a, T> {
    pub(super) fn new(
        criu: &'a Criu,
        request: Request,
        options: &'a Options,
        finish: Finish<T>,
    ) -> Self {
        Self::with(criu, request, Ok(CallOptions::Given(options)), finish)
    }

    fn with(
        criu: &'a Criu,
        request: Request,
        options: Result<CallOptions<'a>, Error>,
        finish: Finish<T>,
    ) -> Self {
        Self {
            criu,
            request,
            options,
            notify: None,
            deadline: None,
            until: None,
            restored: None,
            finish,
        }
    }

    /// A call that is refused before anything is asked.
    pub(super) fn refused(mut self, error: Error) -> Self {
        self.options = Err(error);
        self
    }

    /// Has `notify` do what is to be done at CRIU's hooks.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, HookResult, Notify, Options};
    ///
    /// /// Sends the images away while the processes are frozen.
    /// struct Upload;
    ///
    /// #[async_trait::async_trait]
    /// impl Notify for Upload {
    ///     async fn post_dump(&mut self) -> HookResult {
    ///         // An error lets the processes run on.
    ///         let status = tokio::process::Command::new("upload").arg("/var/lib/images").status().await?;
    ///         if status.success() { Ok(()) } else { Err("cannot upload".into()) }
    ///     }
    /// }
    ///
    /// # async fn example() -> Result<(), stasis_criu::Error> {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// Criu::new().dump(&options).notify(&mut Upload).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn notify(mut self, notify: &'a mut dyn Notify) -> Self {
        self.notify = Some(notify);
        self
    }

    /// Gives the call `deadline`, from when it is awaited; then it is cancelled.
    ///
    /// ```no_run
    /// use std::time::Duration;
    /// use stasis_criu::{Criu, Error, Options};
    ///
    /// # async fn example() {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// match Criu::new().dump(&options).within(Duration::from_secs(30)).await {
    ///     Ok(_) => println!("dumped"),
    ///     Err(Error::Deadline { left, .. }) => println!("it runs on as before{left}"),
    ///     Err(error) => println!("{error}"),
    /// }
    /// # }
    /// ```
    pub fn within(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Cancels the call when `cancelled` resolves, and waits for it to have ended in order.
    ///
    /// ```no_run
    /// use stasis_criu::{Criu, Error, Options};
    ///
    /// # async fn example(stop: tokio::sync::oneshot::Receiver<()>) -> Result<(), Error> {
    /// let options = Options::new("/var/lib/images").pid(4711);
    /// let stop = async move { drop(stop.await) };
    /// match Criu::new().dump(&options).until(stop).await {
    ///     Err(Error::Cancelled { left, .. }) => println!("it runs on as before{left}"),
    ///     other => drop(other?),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn until(mut self, cancelled: impl Future<Output = ()> + Send + 'a) -> Self {
        self.until = Some(Box::pin(cancelled));
        self
    }

    /// Cancels the call when `cancelled` resolves, besides what [`until`](Self::until) says.
    pub(crate) fn also_until(mut self, cancelled: impl Future<Output = ()> + Send + 'a) -> Self {
        let until = self.until.take();
        self.until(async move {
            match until {
                Some(until) => tokio::select! {
                    () = until => {}
                    () = cancelled => {}
                },
                None => cancelled.await,
            }
        })
    }

    /// Hands over the processes of a restore before any of them runs.
    pub(crate) fn hand_over(mut self, restored: oneshot::Sender<Tree>) -> Self {
        self.restored = Some(restored);
        self
    }

    async fn run(self) -> Result<T, Error> {
        let begun = Instant::now();
        let Self {
            criu,
            request,
            options,
            notify,
            deadline,
            until,
            restored,
            finish,
        } = self;
        let call_options = options?;
        let options = match &call_options {
            CallOptions::Given(options) => *options,
            CallOptions::Own(options, _) => options,
        };
        let mut ask = Ask::with(request, options)?;
        // The hooks' and the caller's lifetimes are longer than that of options of our own.
        ask.notify = notify.map(|notify| notify as &mut dyn Notify);
        ask.deadline = deadline;
        // One beyond the end of time is none.
        ask.ends = deadline.and_then(|deadline| begun.checked_add(deadline));
        if let Some(until) = until {
            ask.until = until;
        }
        ask.restored = restored;
        ask.connect_pages(criu).await?;
        let needs = ask.needs(criu)?;
        let mut connection = ask.connect(criu, needs).await?;
        let mut result = connection.ask(ask, finish).await;
        connection.cleanup().await;
        if let CallOptions::Own(_, Some(directory)) = call_options {
            if let Err(Error::Failed { diagnosis, .. } | Error::NoReply { diagnosis, .. }) =
                &mut result
            {
                diagnosis.log = None;
            }
            // What is left of it is in nobody's way.
            let _ = directory.close();
        }
        result
    }
}

impl Ask<'_> {
    /// Does `work`, which comes before what is asked, for as long as the call may take.
    pub(super) async fn in_time<T>(
        &mut self,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        tokio::select! {
            biased;
            why = self.interrupted() => Err(why),
            done = work => done,
        }
    }

    /// A connection to ask over, unless the call is to end before there is one.
    async fn connect(&mut self, criu: &Criu, needs: Needs) -> Result<Connection, Error> {
        let mut opening = pin!(Connection::with(criu, needs));
        let why = tokio::select! {
            biased;
            why = self.interrupted() => why,
            opened = &mut opening => return opened,
        };
        // A CRIU that is just being started is nobody's to wait for; a service may never answer.
        if !criu.is_service()
            && let Ok(connection) = opening.await
        {
            connection.cleanup().await;
        }
        Err(why)
    }

    /// Resolves when the call is to end before its time, with the reason.
    async fn interrupted(&mut self) -> Error {
        let (request, left) = (self.request, Left::default());
        let ends = self.ends;
        let over = async {
            match ends {
                Some(ends) => time::sleep_until(ends).await,
                None => future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = &mut self.until => Error::Cancelled { request, left },
            () = over => Error::Deadline {
                request,
                deadline: self.deadline.unwrap_or_default(),
                left,
            },
        }
    }
}

impl<'a, T: Send + 'a> IntoFuture for Call<'a, T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<T> fmt::Debug for Call<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("criu", self.criu)
            .field("request", &self.request)
            .field("deadline", &self.deadline)
            .finish_non_exhaustive()
    }
}
