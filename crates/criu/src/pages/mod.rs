//! Page servers and lazy pages: memory that goes over a socket.
//!
//! CRIU waits for the other end of such a socket without end, with the processes frozen: where its
//! peer says nothing, nothing ends. So the sockets are made here, with limits of their own, and
//! handed to CRIU:
//!
//! ```text
//! dump           client.rs    connects, before anything is frozen      ps.fd ──▶ criu swrk
//! page server    receiver.rs  listens, and waits for the dump to come  ps.fd ──▶ criu swrk
//! lazy dump      lazy_dump.rs CRIU listens itself, at all addresses: refused where anyone could come
//! lazy restore   lazy.rs      what a caller sees of it
//!                daemon.rs    the daemon's thread, which ends what gets no memory (lazy_tree.rs)
//! ```
//!
//! What CRIU makes itself (with TLS, or over a connection that is open already) a cancelled call
//! shuts from outside: `link/sockets.rs`. It has no limits of its own, and neither has a lazy dump,
//! which serves until all is fetched: such a call is given a deadline
//! ([`Call::within`](crate::Call::within)). A lazy dump whose peer has come and is silent has to be
//! killed then, since CRIU takes the end of that connection for success.
//!
//! Facts: `criu/page-xfer.c`, `criu/uffd.c` and `criu/util.c` of criu 4.2, and what 4.1.1 and 4.2.1
//! did when they were tried (`tests/lab/pages.rs`).

mod client;
mod daemon;
mod error;
mod lazy;
mod lazy_dump;
mod lazy_tree;
mod receiver;

pub use client::{CONNECT, PageServerClient, SILENCE};
pub use error::PagesError;
pub use lazy::{LazyDaemon, LazyPages, LazyRestored};
pub(crate) use lazy_dump::check_lazy_dump;
pub(crate) use lazy_tree::LazyTree;
pub use receiver::{COMING, PageReceiver};
