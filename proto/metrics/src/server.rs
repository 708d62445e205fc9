//! Serving metrics at /metrics.

use std::{io, net::SocketAddr};

use crate::{Content, HttpServer, Page, process};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves metrics until dropped.
#[derive(Debug)]
pub struct MetricsServer {
    server: HttpServer,
}

impl MetricsServer {
    /// Listens on `listen` ("host:port", port 0 for any free one) and has every request answered by
    /// `page`, which must not block, and by what the process tells of itself. Must be called within
    /// a tokio runtime.
    pub async fn start(
        listen: &str,
        page: impl Fn() -> Page + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let find = move |path: &str| {
            (path == "/metrics").then(|| {
                let mut page = page();
                process::add_to(&mut page);
                Content {
                    content_type: TEXT,
                    headers: Vec::new(),
                    body: page.into_text().into(),
                }
            })
        };
        let server = HttpServer::start(listen, "metrics are at /metrics\n", find).await?;
        Ok(MetricsServer { server })
    }

    /// Where it listens, with the real port.
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
        time::timeout,
    };

    use super::*;
    use crate::Metric;

    const UP: Metric = Metric::gauge("pocket_up", "", &[], "1");

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
        assert!(found.contains("\npocket_up 1\n"), "{found}");
        assert!(found.contains("\nprocess_threads "), "{found}");
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
