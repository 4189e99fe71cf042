//! The server as a whole: opened, run, stopped.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, watch};

use crate::config::Config;
use crate::connections::serve;
use crate::engine::Engine;
use crate::error::{Result, ServerError};
use crate::guard::Guard;
use crate::jobs::{Queue, Worker};
use crate::routes::{App, router};
use crate::store::Store;
use crate::workbench::Workbench;

/// A server that listens already and has taken over its data folder.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    store: Arc<Store>,
    queue: Arc<Queue>,
    worker: Worker,
    engine: Arc<dyn Engine>,
    stop: watch::Sender<bool>,
}

/// Stops a running server, from any thread.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Asks the server to stop: no new restorations, the running one goes back to the queue, answers are finished.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How long answers may take to finish once the server stops.
const LAST_ANSWERS: Duration = Duration::from_secs(5);

/// Between two looks for what has expired.
const BETWEEN_SWEEPS: Duration = Duration::from_secs(60);

impl Server {
    /// Checks the settings, takes over the data folder, listens, and starts to work on restorations that were waiting.
    ///
    /// # Errors
    /// [`ServerError`] says what is in the way.
    pub fn open(config: Config, engine: Arc<dyn Engine>) -> Result<Self> {
        config.check()?;
        let (store, waiting) = Store::open(&config.data)?;
        let store = Arc::new(store);
        let asked = SocketAddr::new(config.host, config.port);
        let listen = |error| ServerError::Listen { address: asked, source: error };
        let listener = TcpListener::bind(asked).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;

        let queue = Arc::new(Queue::new(config.limits.queue));
        queue.resume(waiting);
        let worker = Worker::start(
            Arc::clone(&engine),
            Arc::clone(&store),
            Arc::clone(&queue),
            config.limits.clone(),
        )?;
        let stop = watch::Sender::new(false);
        Ok(Self { listener, address, config, store, queue, worker, engine, stop })
    }

    /// Where it listens, with the port that it was given.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What a browser on this machine opens; the token, if there is one, is in the part that browsers do not send.
    #[must_use]
    pub fn url(&self) -> String {
        let mut address = self.address;
        if address.ip().is_unspecified() {
            address.set_ip(if address.is_ipv4() {
                std::net::Ipv4Addr::LOCALHOST.into()
            } else {
                std::net::Ipv6Addr::LOCALHOST.into()
            });
        }
        match &self.config.token {
            Some(token) => format!("http://{address}/#token={token}"),
            None => format!("http://{address}/"),
        }
    }

    /// Where pictures are kept.
    #[must_use]
    pub fn data(&self) -> &Path {
        &self.config.data
    }

    /// What stops it.
    #[must_use]
    pub fn stopper(&self) -> Stop {
        Stop(self.stop.clone())
    }

    /// Removes pictures as if it were `now`, when nobody has used them for as long as they are kept; says how many.
    pub fn expiry(&self) -> impl Fn(SystemTime) -> usize + Send + Sync + 'static {
        let (store, keep) = (Arc::clone(&self.store), self.config.keep);
        move |now| store.expire(now, keep)
    }

    /// Serves until [`Stop::stop`].
    ///
    /// # Errors
    /// [`ServerError::System`] if there are no threads, [`ServerError::Listen`] if the listener cannot be used.
    pub fn run(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("serve")
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| ServerError::System {
            what: "threads to serve with",
            reason: error.to_string(),
        })?;
        let expire = self.expiry();
        let Self { listener, address, config, store, queue, worker, engine, stop } = self;
        let app = Arc::new(App {
            engine,
            store,
            queue,
            bench: Arc::new(Workbench::new(config.limits.waiting, config.limits.pixels)),
            uploads: Semaphore::new(config.limits.waiting),
            limits: config.limits.clone(),
            keep: config.keep,
            stopping: stop.subscribe(),
        });
        let router = router(app, Guard::new(&config));

        let served = runtime.block_on(async move {
            // 1. what has expired goes
            let expire = Arc::new(expire);
            tokio::spawn(async move {
                loop {
                    let expire = Arc::clone(&expire);
                    let _ = tokio::task::spawn_blocking(move || expire(SystemTime::now())).await;
                    tokio::time::sleep(BETWEEN_SWEEPS).await;
                }
            });

            // 2. answers, until the server stops and a little longer
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let stopped = |mut stopping: watch::Receiver<bool>| async move {
                // An error means that nobody can stop it any more.
                let _ = stopping.wait_for(|stopping| *stopping).await;
            };
            let late = stop.subscribe();
            tokio::select! {
                () = serve(listener, router, &config.limits, stopped(stop.subscribe())) => {}
                () = async move {
                    stopped(late).await;
                    tokio::time::sleep(LAST_ANSWERS).await;
                } => {}
            }
            Ok(())
        });

        // 3. the running restoration stops
        worker.stop();
        runtime.shutdown_timeout(LAST_ANSWERS);
        served.map_err(|source| ServerError::Listen { address, source })
    }
}
