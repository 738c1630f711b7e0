//! An HTTP/1 server on bound sockets. Each connection has time limits, and their number is limited: a client that is slow,
//! or that never finishes its request, does not block the others and holds no thread.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Threads that compute answers.
const THREADS: usize = 8;
/// Connections at the same time. More wait until one is closed.
const MAX_CONNECTIONS: usize = 512;
/// For the head of a request, counted from the connection or from the previous answer.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
const MAX_BODY_BYTES: usize = 1 << 20;
/// A client that takes no data for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// After an error of `accept`, for example when there are no free descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub(crate) type Body = BoxBody<Bytes, Infallible>;
pub(crate) type Answer = Response<Body>;
type Handler = Arc<dyn Fn(Request<Bytes>) -> Answer + Send + Sync>;

/// An answer with the status 200.
pub(crate) fn answer(text: impl Into<Bytes>) -> Answer {
    Response::new(Full::new(text.into()).boxed())
}

/// An answer with another status.
pub(crate) fn answer_with(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = answer(text);
    *answer.status_mut() = status;
    answer
}

/// Serves in its own threads. `handler` may block, and may start tasks on tokio.
///
/// # Errors
/// If a thread or descriptor is not available.
pub(crate) fn serve(
    sockets: Vec<Socket>,
    handler: impl Fn(Request<Bytes>) -> Answer + Send + Sync + 'static,
) -> io::Result<()> {
    let handler: Handler = Arc::new(handler);
    let runtime =
        Builder::new_current_thread().enable_all().max_blocking_threads(THREADS).build()?;
    for socket in sockets {
        spawn_acceptor(&runtime, socket, Arc::clone(&handler))?;
    }
    let forever = move || runtime.block_on(std::future::pending::<()>());
    thread::Builder::new().name("http".to_owned()).spawn(forever)?;
    Ok(())
}

fn spawn_acceptor(runtime: &Runtime, socket: Socket, handler: Handler) -> io::Result<()> {
    let _context = runtime.enter();
    let listener = Listener::of(socket)?;
    let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    runtime.spawn(async move {
        while let Ok(permit) = Arc::clone(&connections).acquire_owned().await {
            match listener.accept().await {
                Ok(stream) => {
                    let handler = Arc::clone(&handler);
                    tokio::spawn(async move {
                        connection(stream, handler).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!("the listener cannot accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

/// A [`Socket`] in the event loop.
enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Listener {
    fn of(socket: Socket) -> io::Result<Self> {
        match socket {
            Socket::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            Socket::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                let limit = u32::try_from(SEND_TIMEOUT.as_millis()).unwrap_or(u32::MAX);
                set_tcp_user_timeout(&stream, limit)?;
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
        }
    }
}

async fn connection(stream: Box<dyn Stream>, handler: Handler) {
    let service = service_fn(move |request| {
        let handler = Arc::clone(&handler);
        async move { Ok::<_, Infallible>(respond(request, handler).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .title_case_headers(true)
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!("a connection ended: {error}");
    }
}

async fn respond(request: Request<Incoming>, handler: Handler) -> Answer {
    let (head, body) = request.into_parts();
    let body = match timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            return answer_with(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the body is incomplete or too long\n",
            );
        }
        Err(_) => {
            return answer_with(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time\n");
        }
    };
    let request = Request::from_parts(head, body);
    let answered = tokio::task::spawn_blocking(move || handler(request)).await;
    answered.unwrap_or_else(|_| answer_with(StatusCode::INTERNAL_SERVER_ERROR, "internal error\n"))
}
