//! Requests in, answers out: paths, verbs, Status objects, watches.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{
    Method, Response, StatusCode,
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle, time::Instant};

use super::{
    cluster::{Answer, Cluster},
    objects::{Fault, Kind, Request, Verb, name_of},
};

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Between two bookmarks of a watch that has nothing to tell.
const BOOKMARK_INTERVAL: Duration = Duration::from_millis(200);

/// A server on a port of this machine. Dropping it refuses connections; those that are open end.
pub struct ApiServer {
    url: String,
    task: JoinHandle<()>,
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ApiServer {
    pub async fn start(cluster: Arc<Cluster>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let cluster = Arc::clone(&cluster);
                let service = service_fn(move |request| {
                    let cluster = Arc::clone(&cluster);
                    async move { Ok::<_, Infallible>(answer(cluster, request).await) }
                });
                connections.spawn(async move {
                    // A client that goes away is none of our business.
                    let _ = http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        ApiServer { url, task }
    }

    pub fn url(&self) -> &str {
        &self.url
    }
}

async fn answer(cluster: Arc<Cluster>, http: hyper::Request<Incoming>) -> Response<Body> {
    let query = parse_query(http.uri().query().unwrap_or_default());
    let path = http.uri().path().to_owned();
    let method = http.method().clone();
    let content = http.headers().get("content-type").cloned();
    let body = http.into_body().collect().await.unwrap().to_bytes();
    let body = match body.is_empty() {
        true => Value::Null,
        false => serde_json::from_slice(&body).unwrap(),
    };
    let Some(request) = understand(&method, &path, &query, body) else {
        return status(404, "NotFound", &format!("no such path: {path}"));
    };
    if request.verb == Verb::Patch {
        assert_eq!(content.unwrap(), "application/merge-patch+json");
    }
    cluster.note(&request);
    if !cluster.allows(&request) {
        let (group, resource) = request.kind.names();
        let what = format!(
            "cannot {} resource {resource} in API group \"{group}\"",
            request.verb.name()
        );
        return status(403, "Forbidden", &what);
    }
    let fault = cluster.next_fault(request.verb, request.kind);
    match fault {
        None | Some(Fault::AnswerLost) => {}
        Some(Fault::Throttled(seconds)) => {
            let text = "Too many requests, please try again later.\n";
            let mut response = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response.headers_mut().insert("retry-after", seconds.into());
            return response;
        }
        Some(Fault::Fails(410)) => return status(410, "Expired", "too old resource version"),
        Some(Fault::Fails(code)) => return status(code, "InternalError", "it is scripted to fail"),
        Some(Fault::Silent) => return std::future::pending().await,
        Some(Fault::Overtaken) => cluster.touch(request.kind),
    }
    if request.verb == Verb::Watch {
        return watch(cluster, request.kind, &query);
    }
    let answer = cluster.answer(&request);
    if matches!(fault, Some(Fault::AnswerLost)) {
        return std::future::pending().await;
    }
    match answer {
        Answer::Object(object) => reply(200, &object),
        Answer::Created(object) => reply(201, &object),
        Answer::List(kind, items, version) => {
            let (api_version, name) = kind.head();
            // Items of lists do not say what they are.
            let bare = |mut item: Value| {
                let fields = item.as_object_mut().unwrap();
                fields.remove("kind");
                fields.remove("apiVersion");
                item
            };
            let selected = items.into_iter().filter(|item| is_selected(item, &query));
            let items: Vec<_> = selected.map(bare).collect();
            let list = json!({
                "kind": format!("{name}List"),
                "apiVersion": api_version,
                "metadata": {"resourceVersion": version.to_string()},
                "items": items,
            });
            reply(200, &list)
        }
        Answer::Refused(code, reason, message) => status(code, reason, &message),
    }
}

fn understand(
    method: &Method,
    path: &str,
    query: &HashMap<String, String>,
    body: Value,
) -> Option<Request> {
    let parts: Vec<_> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match &parts[..] {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return None,
    };
    let ["namespaces", super::NAMESPACE, resource, rest @ ..] = rest else {
        return None;
    };
    let kinds = [Kind::Pod, Kind::StatefulSet, Kind::Lease];
    let kind = kinds
        .into_iter()
        .find(|kind| kind.names() == (group, *resource))?;
    let name = rest.first().map(|name| (*name).to_owned());
    let watches = query
        .get("watch")
        .is_some_and(|watch| watch == "true" || watch == "1");
    let verb = match (method, &name) {
        (&Method::GET, Some(_)) => Verb::Get,
        (&Method::GET, None) if watches => Verb::Watch,
        (&Method::GET, None) => Verb::List,
        (&Method::POST, None) => Verb::Create,
        (&Method::PUT, Some(_)) => Verb::Update,
        (&Method::PATCH, Some(_)) => Verb::Patch,
        (&Method::DELETE, Some(_)) => Verb::Delete,
        _ => return None,
    };
    let selected = query
        .get("fieldSelector")
        .and_then(|fields| fields.strip_prefix("metadata.name="));
    Some(Request {
        verb,
        kind,
        subresource: rest.get(1).map(|subresource| (*subresource).to_owned()),
        name: name.or_else(|| selected.map(str::to_owned)),
        body,
    })
}

fn parse_query(query: &str) -> HashMap<String, String> {
    let decoded = |text: &str| {
        text.replace("%3D", "=")
            .replace("%2C", ",")
            .replace("%2F", "/")
    };
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), decoded(value)))
        .collect()
}

fn is_selected(object: &Value, query: &HashMap<String, String>) -> bool {
    let terms = |selector: &str| -> Vec<(String, String)> {
        let terms = query.get(selector).map(String::as_str).unwrap_or_default();
        let terms = terms.split(',').filter_map(|term| term.split_once('='));
        terms
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    };
    let labelled = terms("labelSelector")
        .iter()
        .all(|(label, value)| object["metadata"]["labels"][label.as_str()] == value.as_str());
    let named = terms("fieldSelector")
        .iter()
        .all(|(_, value)| name_of(object) == *value);
    labelled && named
}

/// Changes from the version that is named, and bookmarks, until the time asked for is over.
fn watch(cluster: Arc<Cluster>, kind: Kind, query: &HashMap<String, String>) -> Response<Body> {
    let query = query.clone();
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let mut version = number("resourceVersion").unwrap();
    let end = Instant::now() + Duration::from_secs(number("timeoutSeconds").unwrap());
    assert_eq!(query["allowWatchBookmarks"], "true");
    let (sender, receiver) = mpsc::channel::<Value>(16);
    tokio::spawn(async move {
        let mut changed = cluster.changes();
        let life = cluster.watch_life();
        loop {
            changed.borrow_and_update();
            let Some(changes) = cluster.changes_after(kind, version) else {
                let message = format!("too old resource version: {version}");
                let gone = status_object(410, "Expired", &message);
                let _ = sender.send(json!({"type": "ERROR", "object": gone})).await;
                return;
            };
            for change in changes {
                version = change.version;
                if is_selected(&change.object, &query) {
                    let event = json!({"type": change.what, "object": change.object});
                    if sender.send(event).await.is_err() {
                        return;
                    }
                }
            }
            let (api_version, name) = kind.head();
            let bookmark = json!({"type": "BOOKMARK", "object": {
                "kind": name, "apiVersion": api_version,
                "metadata": {"resourceVersion": version.to_string(), "creationTimestamp": null}
            }});
            tokio::select! {
                _ = changed.changed() => {}
                () = life.cancelled() => return,
                () = tokio::time::sleep(BOOKMARK_INTERVAL) => {
                    if sender.send(bookmark).await.is_err() || Instant::now() > end {
                        return;
                    }
                }
            }
        }
    });
    let events = stream::unfold(receiver, |mut receiver| async move {
        let event = receiver.recv().await?;
        let line = Bytes::from(format!("{event}\n"));
        Some((Ok::<_, Infallible>(Frame::data(line)), receiver))
    });
    Response::new(StreamBody::new(events).boxed_unsync())
}

fn reply(code: u16, object: &Value) -> Response<Body> {
    let mut response = Response::new(Full::new(Bytes::from(object.to_string())).boxed_unsync());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    let json = hyper::header::HeaderValue::from_static("application/json");
    response.headers_mut().insert("content-type", json);
    response
}

fn status_object(code: u16, reason: &str, message: &str) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code
    })
}

fn status(code: u16, reason: &str, message: &str) -> Response<Body> {
    reply(code, &status_object(code, reason, message))
}
