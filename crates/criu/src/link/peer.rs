//! The other end of a connection: a `criu swrk` of ours, or a service's worker.

use std::{path::PathBuf, process::ExitStatus, time::Duration};

use tokio::{sync::mpsc, time};

use crate::{
    child::{Child, SpawnError},
    swrk::Program,
    transport::{MessageSocket, Packet, TransportError},
};

/// Where CRIU is.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// A process of ours, started for the connection.
    Swrk(Program),
    /// A service (`criu service`) that listens at this path.
    Service(PathBuf),
}

/// CRIU at the other end.
#[derive(Debug)]
pub(crate) struct Peer {
    /// The socket.
    pub socket: MessageSocket,
    /// The process, if it is ours.
    pub swrk: Option<Child>,
}

impl Peer {
    pub fn open(endpoint: &Endpoint) -> Result<Self, SpawnError> {
        match endpoint {
            Endpoint::Swrk(program) => {
                let (swrk, socket) = program.spawn()?;
                Ok(Self {
                    socket,
                    swrk: Some(swrk),
                })
            }
            Endpoint::Service(path) => Ok(Self {
                socket: MessageSocket::to(path)?,
                swrk: None,
            }),
        }
    }

    /// The next packet. `None` if CRIU has closed its end, or has ended: what it was restoring may
    /// have that end too, and live. What CRIU says on stderr is read meanwhile.
    pub async fn receive(&mut self) -> Result<Option<Packet>, TransportError> {
        tokio::select! {
            biased;
            packet = self.socket.receive() => return packet,
            () = ended(&mut self.swrk) => {}
        }
        // Its last word may have come in between.
        match self.socket.has_packet() {
            true => self.socket.receive().await,
            false => Ok(None),
        }
    }

    /// The next that there is to do. What CRIU says on stderr is read meanwhile.
    pub async fn next<T>(&mut self, todo: &mut mpsc::Receiver<T>) -> Option<T> {
        tokio::select! {
            biased;
            next = todo.recv() => next,
            () = listen(&mut self.swrk) => std::future::pending().await,
        }
    }

    /// Closes the connection and waits for CRIU's end, for `grace`; then kills it.
    pub async fn end(self, grace: Duration) -> SwrkEnd {
        let Self { socket, swrk } = self;
        drop(socket);
        end(swrk, grace).await
    }

    /// Waits for the end of a CRIU that has sent its last reply, and looks whether it was the
    /// last.
    pub async fn finish(self, grace: Duration) -> (SwrkEnd, bool) {
        let Self { socket, swrk } = self;
        let end = end(swrk, grace).await;
        (end, socket.has_packet())
    }
}

async fn end(swrk: Option<Child>, grace: Duration) -> SwrkEnd {
    let Some(mut swrk) = swrk else {
        return SwrkEnd::default();
    };
    let exit = match time::timeout(grace, swrk.ended()).await {
        Ok(exit) => exit,
        Err(_) => {
            swrk.kill();
            swrk.ended().await
        }
    };
    SwrkEnd {
        exit: exit.ok(),
        stderr: swrk.said(),
        disk_full: false,
    }
}

/// What a `criu swrk` left when it ended.
#[derive(Debug, Default)]
pub(crate) struct SwrkEnd {
    /// What became of it.
    pub exit: Option<ExitStatus>,
    /// The end of what it said on stderr.
    pub stderr: Vec<u8>,
    /// Whether there was no room left for what it wrote.
    pub disk_full: bool,
}

/// Resolves when the process has ended, if it is ours. What it says meanwhile is read.
pub(super) async fn ended(swrk: &mut Option<Child>) {
    let Some(swrk) = swrk else {
        return std::future::pending().await;
    };
    if swrk.listen_to_its_end().await.is_err() {
        // Its socket tells, mostly.
        std::future::pending().await
    }
}

pub(super) async fn listen(swrk: &mut Option<Child>) {
    match swrk {
        Some(swrk) => swrk.listen().await,
        None => std::future::pending().await,
    }
}
