//! The network between one machine and the controller: connections in memory that can be cut, refused, slow, or
//! silent in one direction. Knows bytes only.

use longshore_agent::link::grpc;
use longshore_common::tasks;
use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split},
    sync::{mpsc, watch},
    time::sleep,
};
use tonic::transport::Channel;

const BUFFER: usize = 64 << 10;

/// Where connections arrive while a controller is up.
pub(crate) type Door = Arc<Mutex<Option<mpsc::Sender<io::Result<DuplexStream>>>>>;

#[derive(Debug)]
pub(crate) struct Wire {
    door: Door,
    line: watch::Sender<Line>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Line {
    /// Connections from before the last cut are dead.
    cuts: u64,
    silent: Silent,
    latency: Duration,
}

/// In which direction bytes are held back; what is held back comes when the wire speaks again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) up: bool,
    pub(crate) down: bool,
}

impl Wire {
    pub(crate) fn new(door: Door) -> Arc<Self> {
        Arc::new(Self { door, line: watch::Sender::new(Line::default()) })
    }

    /// Ends every connection.
    pub(crate) fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    pub(crate) fn silence(&self, silent: Silent) {
        self.line.send_modify(|line| line.silent = silent);
    }

    pub(crate) fn slow(&self, latency: Duration) {
        self.line.send_modify(|line| line.latency = latency);
    }

    /// Bytes pass in both directions, at once.
    pub(crate) fn is_fine(&self) -> bool {
        let line = self.line.borrow();
        line.silent == Silent::default() && line.latency.is_zero()
    }

    /// Connects when it is used, and again after a cut.
    pub(crate) fn channel(self: &Arc<Self>) -> Channel {
        let wire = Arc::clone(self);
        let connect = move |_| {
            let wire = Arc::clone(&wire);
            async move { wire.connect().await.map(hyper_util::rt::TokioIo::new) }
        };
        let endpoint = grpc::endpoint("http://controller").expect("an address");
        endpoint.connect_with_connector_lazy(tower::service_fn(connect))
    }

    async fn connect(&self) -> io::Result<DuplexStream> {
        let mut line = self.line.subscribe();
        let begun = line.borrow().cuts;
        let speaks = line.wait_for(|line| line.silent == Silent::default()).await;
        drop(speaks.expect("the sender is in self"));
        let door = self.door.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        let door = door.ok_or_else(refused)?;
        let ((near, client), (far, server)) = (duplex(BUFFER), duplex(BUFFER));
        door.send(Ok(server)).await.map_err(|_| refused())?;
        drop(tasks::spawn("wire", carry_both(near, far, line, begun)));
        Ok(client)
    }
}

async fn carry_both(near: DuplexStream, far: DuplexStream, line: watch::Receiver<Line>, begun: u64) {
    let ((near_read, near_write), (far_read, far_write)) = (split(near), split(far));
    let mut cut = line.clone();
    tokio::select! {
        _ = cut.wait_for(|line| line.cuts != begun) => {}
        _ = carry(near_read, far_write, line.clone(), |silent| silent.up) => {}
        _ = carry(far_read, near_write, line, |silent| silent.down) => {}
    }
}

async fn carry(
    mut from: ReadHalf<DuplexStream>,
    mut to: WriteHalf<DuplexStream>,
    mut line: watch::Receiver<Line>,
    silent: fn(Silent) -> bool,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        let latency = line.borrow().latency;
        if !latency.is_zero() {
            sleep(latency).await;
        }
        if line.wait_for(|line| !silent(line.silent)).await.is_err() {
            return Ok(());
        }
        to.write_all(&buffer[..length]).await?;
    }
}
