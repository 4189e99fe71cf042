//! Connections: how many there are at a time, and how long one may take to say what it wants.
//!
//! `axum::serve` has neither limit: a handful of clients that send one byte a minute, or nothing at all, would keep everyone
//! else out once the process has no file descriptors left.

use std::io::ErrorKind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// How long to wait when the system has no connection to give.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Answers until `stopped`, and then what has been asked by then.
///
/// A connection on which no whole request head arrives for [`Limits::idle`] is closed, whether it has sent a part of one or
/// is kept open between two requests.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    limits: &Limits,
    stopped: impl Future<Output = ()>,
) {
    let places = Arc::new(Semaphore::new(limits.connections));
    let open = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.idle);
    let mut stopped = pin!(stopped);
    loop {
        let (stream, place) = tokio::select! {
            next = next(&listener, &places) => next,
            () = &mut stopped => break,
        };
        // Events of a few bytes are to be seen at once; a socket without this only shows them later.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone());
        let answers = open.watch(http.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // An error means that the client has gone, or has not said what it wants.
            let _ = answers.await;
            drop(place);
        });
    }
    drop(listener);
    open.shutdown().await;
}

/// The next connection, once there is a place for it; others wait in the system's queue.
async fn next(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> (TcpStream, Option<OwnedSemaphorePermit>) {
    // An error means that the places are closed, which nobody does.
    let place = Arc::clone(places).acquire_owned().await.ok();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) if of_client(error.kind()) => {}
            // Most likely there are too many open files, of which some will be closed.
            Err(_) => tokio::time::sleep(AFTER_FAILURE).await,
        }
    }
}

/// True if a client went away before it was let in.
const fn of_client(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::ConnectionRefused | ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset
    )
}
