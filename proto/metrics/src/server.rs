//! Serving a page: HTTP/1.1, GET and HEAD of /metrics, nothing else.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::CONTENT_TYPE,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore, time::timeout};
use tokio_util::{sync::CancellationToken, sync::DropGuard, task::TaskTracker};
use tracing::{debug, warn};

use crate::Page;

/// Connections at a time: a collector or two, and whoever is curious.
const CONNECTIONS_MAX: usize = 32;
/// A request must have come by then.
const REQUEST_DEADLINE: Duration = Duration::from_secs(10);
/// A connection is closed after this, whatever is going on.
const CONNECTION_DEADLINE: Duration = Duration::from_secs(300);
/// Pause after the system refuses to accept connections.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves metrics until dropped.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    _stop: DropGuard,
}

impl MetricsServer {
    /// Listens on `listen` ("host:port", port 0 for any free one) and has every request answered by
    /// `page`, which must not block. Must be called within a tokio runtime.
    pub async fn start(
        listen: &str,
        page: impl Fn() -> Page + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let serving = serve(listener, Arc::new(page), stop.clone());
        tokio::spawn(stop.clone().run_until_cancelled_owned(serving));
        Ok(MetricsServer {
            address,
            _stop: stop.drop_guard(),
        })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

type PageOf = dyn Fn() -> Page + Send + Sync;

async fn serve(listener: TcpListener, page: Arc<PageOf>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let tasks = TaskTracker::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "accepting a connection for metrics failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // One too many is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let page = Arc::clone(&page);
        let service = service_fn(move |request| {
            let answer = answer(&request, &*page);
            async { Ok::<_, Infallible>(answer) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(REQUEST_DEADLINE)
            .serve_connection(TokioIo::new(stream), service);
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            match timeout(CONNECTION_DEADLINE, connection).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => debug!(%error, "a connection for metrics ended"),
            }
            drop(place);
        }));
    }
}

fn answer(request: &Request<Incoming>, page: &PageOf) -> Response<Full<Bytes>> {
    let (status, text) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page().into_text()),
        (_, "/metrics") => (StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_owned()),
        _ => (
            StatusCode::NOT_FOUND,
            "metrics are at /metrics\n".to_owned(),
        ),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let text = hyper::header::HeaderValue::from_static(TEXT);
    response.headers_mut().insert(CONTENT_TYPE, text);
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;
    use crate::{Kind, Metric};

    const UP: Metric = Metric {
        name: "pocket_up",
        kind: Kind::Gauge,
        unit: "",
        labels: &[],
        help: "1",
    };

    async fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let whole = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(whole.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        stream
            .read_to_string(&mut answer)
            .await
            .expect("it answers");
        answer
    }

    #[tokio::test]
    async fn a_page_is_served_until_the_server_is_dropped() {
        let page = || {
            let mut page = Page::new();
            page.add(&UP, &[], 1.0);
            page
        };
        let server = MetricsServer::start("127.0.0.1:0", page)
            .await
            .expect("a free port");
        let address = server.address();
        let found = ask(address, "GET /metrics").await;
        assert!(found.starts_with("HTTP/1.1 200"), "{found}");
        assert!(found.contains("version=0.0.4"), "{found}");
        assert!(found.ends_with("\npocket_up 1\n"), "{found}");
        let head = ask(address, "HEAD /metrics").await;
        assert!(
            head.starts_with("HTTP/1.1 200") && head.ends_with("\r\n\r\n"),
            "{head}"
        );
        assert!(ask(address, "GET /").await.contains("are at /metrics"));
        assert!(ask(address, "POST /metrics").await.contains(" 405 "));
        assert!(ask(address, "nonsense").await.contains(" 400 "));
        drop(server);
        let gone = async {
            while TcpStream::connect(address).await.is_ok() {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), gone)
            .await
            .expect("it stops listening");
    }
}
