//! Serving pages: HTTP/1.1, GET and HEAD of a few paths, nothing else.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, sync::DropGuard, task::TaskTracker};
use tracing::{debug, warn};

/// Connections at a time: a collector or two, and whoever is curious.
const CONNECTIONS_MAX: usize = 32;
/// A request must have come by then.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever is going on.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);
/// Pause after the system refuses to accept connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is at a path.
#[derive(Clone, Debug)]
pub struct Content {
    /// "text/html; charset=utf-8".
    pub content_type: &'static str,
    /// Further header fields.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Bytes,
}

/// Serves what is at a path, until dropped.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl HttpServer {
    /// Listens on `listen` ("host:port", port 0 for any free one) and has every request answered by
    /// `find`, which is given the path and must not block. `hint` is told to who asks for a path
    /// that is not there. Must be called within a tokio runtime.
    pub async fn start(
        listen: &str,
        hint: &'static str,
        find: impl Fn(&str) -> Option<Content> + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let site = Site {
            find: Box::new(find),
            hint,
        };
        let serving = serve(listener, Arc::new(site), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(HttpServer {
            address,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

type Find = dyn Fn(&str) -> Option<Content> + Send + Sync;

struct Site {
    find: Box<Find>,
    hint: &'static str,
}

async fn serve(listener: TcpListener, site: Arc<Site>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "accepting a connection for a page failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let site = Arc::clone(&site);
        let service = service_fn(move |request| {
            let answer = site.answer(&request);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_DEADLINE)
            .serve_connection(TokioIo::new(stream), service);
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            match timeout(CONNECTION_DEADLINE, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!(%error, "a connection for a page ended"),
            }
            drop(place);
        }));
    }
}

impl Site {
    fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return refused(StatusCode::METHOD_NOT_ALLOWED, "use GET\n");
        }
        match (self.find)(request.uri().path()) {
            Some(content) => shown(content),
            None => refused(StatusCode::NOT_FOUND, self.hint),
        }
    }
}

fn shown(content: Content) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(content.body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content.content_type));
    for (name, value) in content.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

fn refused(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = shown(Content {
        content_type: "text/plain; charset=utf-8",
        headers: Vec::new(),
        body: Bytes::from_static(text.as_bytes()),
    });
    *response.status_mut() = status;
    response
}
