//! The containers of one shim, by id, and when the shim ends.
//!
//! An id is taken from the moment its Create begins, so that a second Create, or a request from
//! a client that gave up waiting for the first, meets the truth.

mod shutdown;

use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;

pub use self::shutdown::Shutdown;
use crate::container::{
    self, Container, CreateRequest, Error, ProcessEnd, Result, Shared, ShimContext,
};

/// The containers of one shim.
#[derive(Debug)]
pub struct Pod {
    context: ShimContext,
    shutdown: Shutdown,
    slots: Mutex<HashMap<String, Slot>>,
}

/// What an id stands for.
#[derive(Debug, Clone)]
enum Slot {
    /// A Create is under way; the channel closes when it has ended, whatever came of it.
    Creating(watch::Receiver<()>),
    /// The container is there.
    Ready(Container),
}

impl Pod {
    /// A pod without containers, whose containers share `context`.
    pub fn new(context: ShimContext, shutdown: Shutdown) -> Arc<Self> {
        Arc::new(Self {
            context,
            shutdown,
            slots: Mutex::default(),
        })
    }

    /// Makes a container. Once begun it goes on to its end, whether or not the returned future
    /// is still waited for.
    ///
    /// # Errors
    /// If the id is taken, or the container cannot be made; nothing of it is then left.
    pub async fn create(self: &Arc<Self>, request: CreateRequest) -> Result<Container> {
        let id = request.id.clone();
        let (under_way, ended) = watch::channel(());
        match self.slots().entry(id.clone()) {
            Entry::Occupied(_) => return Err(Error::Exists { what: "task", id }),
            Entry::Vacant(slot) => slot.insert(Slot::Creating(ended)),
        };
        let pod = Arc::clone(self);
        let work = tokio::spawn(async move {
            let id = request.id.clone();
            let made = container::create(&pod.context, request).await;
            match &made {
                Ok(container) => drop(pod.slots().insert(id, Slot::Ready(container.clone()))),
                Err(_) => drop(pod.slots().remove(&id)),
            }
            drop(under_way);
            made
        });
        work.await.map_err(|fault| {
            tracing::error!("creating container {id} failed: {fault}");
            self.slots().remove(&id);
            Error::Gone(id)
        })?
    }

    /// The container with that id.
    ///
    /// # Errors
    /// If there is none, or it is still being created.
    pub fn get(&self, id: &str) -> Result<Container> {
        match self.slots().get(id) {
            Some(Slot::Ready(container)) => Ok(container.clone()),
            Some(Slot::Creating(_)) => Err(Error::Creating(id.to_owned())),
            None => Err(Error::UnknownTask(id.to_owned())),
        }
    }

    /// The container with that id, after its creation has ended.
    ///
    /// # Errors
    /// If there is none, or its creation fails.
    pub async fn created(&self, id: &str) -> Result<Container> {
        let creating = match self.slots().get(id) {
            Some(Slot::Creating(ended)) => Some(ended.clone()),
            _ => None,
        };
        if let Some(mut ended) = creating {
            // An error says that the sender is gone, which is what is waited for.
            while ended.changed().await.is_ok() {}
        }
        self.get(id)
    }

    /// Runs a verb of a container in its turn, which is after its creation.
    ///
    /// # Errors
    /// Those of the verb, or of [`Pod::created`].
    pub async fn ask<T, F, Fut>(&self, id: &str, verb: F) -> Result<T>
    where
        F: FnOnce(Arc<Shared>) -> Fut,
        Fut: Future<Output = Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        self.created(id).await?.ask(verb).await
    }

    /// Deletes a container and forgets it, also where the client gives up waiting.
    ///
    /// # Errors
    /// If it still runs or cannot be removed; it is then still there.
    pub async fn delete(self: &Arc<Self>, id: &str) -> Result<ProcessEnd> {
        let pod = Arc::clone(self);
        self.ask(id, move |container| async move {
            let ended = container.delete().await?;
            pod.slots().remove(container.id());
            Ok(ended)
        })
        .await
    }

    /// Deletes an exec of a container, also where the client gives up waiting. Only its turn is
    /// waited for in the mailbox: its output may take long to be read, and the container has
    /// other things to do.
    ///
    /// # Errors
    /// If it still runs, or is being deleted already.
    pub async fn delete_exec(&self, id: &str, exec: String) -> Result<ProcessEnd> {
        let delete = |container: Arc<Shared>| async move {
            Ok(tokio::spawn(
                async move { container.delete_exec(&exec).await },
            ))
        };
        let deleted = self.ask(id, delete).await?.await;
        deleted.map_err(|fault| {
            tracing::error!("deleting an exec of container {id} failed: {fault}");
            Error::Gone(id.to_owned())
        })?
    }

    /// Ends the shim, unless it still has containers: containerd calls this after each one.
    pub fn shutdown(&self) {
        let containers = self.slots().len();
        if containers == 0 {
            self.shutdown.trigger();
        } else {
            tracing::debug!("not shutting down: {containers} containers are left");
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<String, Slot>> {
        // Held for a look or one insertion only: a panic between cannot leave it half changed.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
