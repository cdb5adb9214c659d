//! An HTTP listener: bounded in connections, in how long a client may take, and stopped in order.
//!
//! Not responsible for what is answered (`tracking`, `api`). To add a bound: a field of `Bounds`, used in `serve`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::lifecycle::Shutdown;
use crate::problem::{InputErrors, Problem};

/// How long a client may take to say what it wants.
const HEADER_LIMIT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEADER_BYTES: usize = 16 << 10;

/// What a listener puts up with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Most connections at once; others wait to be accepted.
    pub(crate) connections: usize,
    /// How long a connection may live; its last request is answered within as long again.
    pub(crate) life: Duration,
    /// How long open requests may take when we stop.
    pub(crate) grace: Duration,
}

/// Binds; `what` names it in the log, `variable` is where the address came from.
///
/// # Errors
/// Where the address is taken or not ours.
pub(crate) async fn bind(address: SocketAddr, variable: &str, what: &str) -> Result<TcpListener, InputErrors> {
    let refused = |e: std::io::Error| {
        Problem::new(format!("failed to listen on `{address}`: {e}"))
            .field(variable)
            .hint(format!("{variable} names another address or port"))
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    tracing::info!(address = %listener.local_addr().map_err(refused)?, "{what} listens");
    Ok(listener)
}

/// Serves until stopping is asked for, then finishes open requests. `service` makes one for each client.
pub(crate) async fn serve<S, B>(
    listener: TcpListener,
    bounds: Bounds,
    shutdown: &Shutdown,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let room = Arc::new(Semaphore::new(bounds.connections));
    while let Some(Ok(permit)) = shutdown.unless_stopping(Arc::clone(&room).acquire_owned()).await {
        let Some(accepted) = shutdown.unless_stopping(listener.accept()).await else { break };
        match accepted {
            Ok((stream, peer)) => {
                let (service, shutdown) = (service(peer), shutdown.clone());
                tokio::spawn(async move {
                    converse(stream, service, bounds.life, &shutdown).await;
                    drop(permit);
                });
            }
            Err(e) => {
                // Out of file descriptors: accepting at once again would spin.
                tracing::warn!(error = %e, "a connection cannot be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
    drop(listener);
    let all = u32::try_from(bounds.connections).unwrap_or(u32::MAX);
    if tokio::time::timeout(bounds.grace, room.acquire_many(all)).await.is_err() {
        tracing::warn!("requests were still open when the listener stopped");
    }
}

/// One client's connection.
async fn converse<S, B>(stream: TcpStream, service: S, life: Duration, shutdown: &Shutdown)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send> + Send + 'static,
    B: Body<Data: Send, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let _best_effort = stream.set_nodelay(true);
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_LIMIT)
        .max_buf_size(HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = tokio::time::sleep(life) => {
            // What it asks for now is still answered, within as long again.
            connection.as_mut().graceful_shutdown();
            tokio::time::timeout(life, connection).await.unwrap_or(Ok(()))
        }
        () = shutdown.stopping() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(e) = ended {
        tracing::debug!(error = %e, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use hyper::body::{Bytes, Frame};
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;

    /// An answer of so many pieces.
    struct Pieces(usize);

    const LIFE: Duration = Duration::from_secs(60);
    const PIECE: &[u8] = &[b'x'; 4096];

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;
        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let Some(rest) = self.0.checked_sub(1) else { return Poll::Ready(None) };
            self.0 = rest;
            Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(PIECE)))))
        }
    }

    /// Serves such answers with the clock paused: limits cost no time.
    async fn serving(life: Duration, pieces: usize) -> (TcpStream, Shutdown) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = Shutdown::new();
        let until = shutdown.clone();
        tokio::spawn(async move {
            let bounds = Bounds { connections: 4, life, grace: Duration::from_secs(1) };
            let service = |_| service_fn(move |_| async move { Ok::<_, Infallible>(Response::new(Pieces(pieces))) });
            serve(listener, bounds, &until, service).await;
        });
        (TcpStream::connect(address).await.unwrap(), shutdown)
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_say_what_it_wants_is_cut() {
        let (mut client, _shutdown) = serving(LIFE, 1).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: ").await.unwrap();
        let began = Instant::now();
        let _answer_or_reset = client.read_to_end(&mut Vec::new()).await;
        assert_eq!(began.elapsed().as_secs(), HEADER_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_its_answer_is_cut() {
        let (mut client, _shutdown) = serving(LIFE, usize::MAX).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
        tokio::time::sleep(3 * LIFE).await;
        let (mut piece, mut read) = ([0; PIECE.len()], 0);
        // Its own buffers are all that it gets.
        while let Ok(n @ 1..) = client.read(&mut piece).await {
            read += n;
            assert!(read < 1 << 30, "it is served for ever");
        }
        assert!(read > 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_connection_does_not_hold_up_the_stop() {
        let (mut client, shutdown) = serving(LIFE, 1).await;
        client.write_all(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n").await.unwrap();
        let mut answer = [0; 12];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        shutdown.stop();
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.ends_with(b"x\r\n0\r\n\r\n"), "whole");
    }
}
