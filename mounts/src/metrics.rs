//! `--metrics`: where a process serves what it counts.

use anyhow::Context;
use pocket_metrics::{MetricsServer, Page};

/// Serves a page where that is asked for.
pub(crate) async fn serve(
    listen: Option<&str>,
    page: impl Fn() -> Page + Send + Sync + 'static,
) -> anyhow::Result<Option<MetricsServer>> {
    let Some(listen) = listen else {
        return Ok(None);
    };
    let server = MetricsServer::start(listen, page).await;
    let server = server.with_context(|| {
        format!("cannot serve metrics on {listen}: give another --metrics address")
    })?;
    Ok(Some(server))
}

/// Where a page is, if there is one: "host:port".
pub(crate) fn endpoint(server: Option<&MetricsServer>) -> Option<String> {
    server.map(|server| server.address().to_string())
}

/// Any free port of the same host, for further processes.
pub(crate) fn beside(listen: &str) -> String {
    match listen.rsplit_once(':') {
        Some((host, _)) => format!("{host}:0"),
        None => listen.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_taken_is_told_with_what_to_do() {
        let first = serve(Some("127.0.0.1:0"), Page::new).await.unwrap();
        let taken = endpoint(first.as_ref()).expect("it listens");
        let error = serve(Some(&taken), Page::new).await.unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.contains("--metrics") && error.contains(&taken),
            "{error}"
        );
        assert!(serve(None, Page::new).await.unwrap().is_none());
    }

    #[test]
    fn others_listen_on_the_same_host() {
        assert_eq!(beside("127.0.0.1:7310"), "127.0.0.1:0");
        assert_eq!(beside("[::1]:7310"), "[::1]:0");
    }
}
