//! The dashboard: a page that shows pools over time, servers, jobs and decisions as they are.
//!
//! One page and two JSON documents that it asks for every second; nothing comes from elsewhere, and
//! a policy for the browser's eyes says so. It tells names of jobs and addresses of servers to whoever
//! reaches it, and changes nothing.

mod ring;
mod state;

use std::{io, sync::Arc, time::Duration};

use parking_lot::Mutex;
use pocket_metrics::{Content, HttpServer};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    ring::{Ring, Sample},
    state::State,
};
use crate::acting::Acting;

const PAGE: &str = include_str!("dashboard/page.html");
/// Stands in the page where the number used once goes that lets its script and style through.
const NONCE: &str = "{{nonce}}";
/// Between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);

/// Serves the dashboard on `listen` ("host:port", port 0 for any free one) until what is returned
/// is dropped. Must be called within a runtime.
pub(crate) async fn serve(
    listen: &str,
    acting: &Arc<Acting>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> io::Result<HttpServer> {
    let site = Site {
        acting: Arc::clone(acting),
        ring: Arc::default(),
    };
    let sampling = sample(Arc::clone(acting), Arc::clone(&site.ring), stop);
    let server = HttpServer::start(listen, "the dashboard is at /\n", move |path| {
        site.find(path)
    });
    let server = server.await?;
    tasks.spawn(sampling);
    Ok(server)
}

async fn sample(acting: Arc<Acting>, ring: Arc<Mutex<Ring>>, stop: CancellationToken) {
    let started = Instant::now();
    let mut ticks = interval(SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            now = ticks.tick() => {
                let sample = Sample::new((now - started).as_secs(), acting.tiers(), &acting.list_jobs(""));
                ring.lock().push(sample);
            }
            () = stop.cancelled() => return,
        }
    }
}

struct Site {
    acting: Arc<Acting>,
    ring: Arc<Mutex<Ring>>,
}

impl Site {
    fn find(&self, path: &str) -> Option<Content> {
        match path {
            "/" => Some(page()),
            "/api/state" => Some(json(&State::new(
                self.acting.list_servers(),
                self.acting.list_jobs(""),
            ))),
            _ => {
                // Samples behind one that the page has.
                let after = path.strip_prefix("/api/history/")?.parse().ok()?;
                Some(json(&self.ring.lock().after(after)))
            }
        }
    }
}

fn page() -> Content {
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    let mut headers = common_headers();
    headers.push(("content-security-policy", policy));
    Content {
        content_type: "text/html; charset=utf-8",
        headers,
        body: PAGE.replace(NONCE, &nonce).into(),
    }
}

fn json(value: &impl Serialize) -> Content {
    Content {
        content_type: "application/json",
        headers: common_headers(),
        // Maps have text for keys: this does not fail.
        body: serde_json::to_vec(value).unwrap_or_default().into(),
    }
}

fn common_headers() -> Vec<(&'static str, String)> {
    vec![
        ("cache-control", "no-store".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("referrer-policy", "no-referrer".to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_comes_from_nowhere_else_and_is_let_through_once() {
        for word in [
            "http:",
            "https:",
            "//cdn",
            "@import",
            "url(",
            "innerHTML",
            "eval(",
        ] {
            let harmless = PAGE.replace("http://www.w3.org/2000/svg", "");
            assert!(!harmless.contains(word), "{word}");
        }
        // No handlers and no styles in attributes: the policy would stop them.
        assert!(!PAGE.contains(" style=") && !PAGE.contains(" onclick="));
        assert_eq!(PAGE.matches(NONCE).count(), 2);
        let (one, other) = (page(), page());
        assert_ne!(one.body, other.body, "the number is used once");
        let policy = &one
            .headers
            .iter()
            .find(|(name, _)| name.contains("policy-") || name.contains("security"));
        let (_, policy) = policy.expect("there is a policy");
        let body = String::from_utf8(one.body.to_vec()).unwrap();
        let nonce = policy
            .split("'nonce-")
            .nth(1)
            .unwrap()
            .split('\'')
            .next()
            .unwrap();
        assert_eq!(body.matches(&format!("nonce=\"{nonce}\"")).count(), 2);
        assert!(policy.starts_with("default-src 'none';") && !policy.contains("unsafe"));
    }
}
