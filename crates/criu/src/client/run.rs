//! Making a call: over a connection of its own, which is opened for it and closed after it.

use std::{future::IntoFuture, pin::pin};

use tokio::time::Instant;

use super::{
    call::{BoxFuture, Call},
    connection::Connection,
};
use crate::Error;

impl<T> Call<'_, T> {
    async fn run(mut self) -> Result<T, Error> {
        // One beyond the end of time is none.
        self.ends = self
            .deadline
            .and_then(|deadline| Instant::now().checked_add(deadline));
        if let Some(error) = self.refused.take() {
            return Err(error);
        }
        self.prepare()?;
        self.connect_pages().await?;
        let directory = self.directory.take();
        let mut connection = self.connect().await?;
        let mut result = connection.ask(self).await;
        connection.cleanup().await;
        if let Some(directory) = directory {
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

    /// A connection to ask over, unless the call is to end before there is one.
    async fn connect(&mut self) -> Result<Connection, Error> {
        let (criu, request) = (self.criu.clone(), self.request);
        let mut opening = pin!(Connection::open(&criu, self.endpoint(), request));
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
}

impl<'a, T: Send + 'a> IntoFuture for Call<'a, T> {
    type Output = Result<T, Error>;
    type IntoFuture = BoxFuture<'a, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}
