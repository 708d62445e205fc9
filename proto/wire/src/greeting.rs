//! The first exchange on a connection, from the client's end: hello and welcome.

use std::{fmt::Display, sync::Arc};

use bytes::Bytes;
use pocket_proto::{
    Failure, Header, JobId, Operation, PROTOCOL_VERSION, Status,
    session::{Hello, Welcome},
};
use prost::Message;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::{
    authenticate::check_version,
    connection::{QUEUED_BYTES_MAX, failure_of},
    outbox::{Outbox, Refused},
    outgoing::Outgoing,
    reader::{FrameReader, WHOLE},
    socket,
    watchdog::Progress,
};

/// A greeting is small, and so is its answer: a job's weight map may come with it.
const WELCOME_BYTES_MAX: u32 = 4 << 20;

/// A connection that has been welcomed, before anything runs on it.
pub(crate) struct Greeted {
    pub(crate) outbox: Arc<Outbox>,
    pub(crate) reader: FrameReader,
    pub(crate) progress: Arc<Progress>,
    pub(crate) welcome: Welcome,
}

/// Connects and greets. Fails with what the server answered, or as `Unavailable`.
pub(crate) async fn greet(endpoint: &str, hello: &Hello) -> Result<Greeted, Failure> {
    let stream = TcpStream::connect(endpoint)
        .await
        .and_then(|stream| socket::prepare(&stream).map(|()| stream))
        .map_err(|error| cannot_reach(endpoint, &error))?;
    let (read_half, write_half) = stream.into_split();
    let progress = Arc::new(Progress::default());
    let mut reader = FrameReader::new(read_half, WELCOME_BYTES_MAX, Arc::clone(&progress));
    let outbox = Outbox::new(
        write_half,
        QUEUED_BYTES_MAX,
        Arc::clone(&progress),
        CancellationToken::new(),
    );
    let hello = hello.encode_to_vec();
    let header = Header::request(Operation::Hello, 1, JobId(0), hello.len() as u32);
    // A fresh socket takes a greeting whole, so that no writer task is needed yet.
    if let Err(Refused::Closed) = outbox.submit(Outgoing::new(&header, &hello, Bytes::new())) {
        let why = outbox.end().map_or_else(String::new, |end| end.message);
        return Err(cannot_reach(endpoint, &why));
    }
    let reply = reader.next(WHOLE).await;
    let reply = reply
        .map_err(|error| cannot_reach(endpoint, &error))?
        .ok_or_else(|| {
            let what = "it ended the connection during the greeting \
                (is it a pocket server of the same version?)";
            cannot_reach(endpoint, &what)
        })?;
    let welcome = read_welcome(&reply.header, reply.body)?;
    Ok(Greeted {
        outbox,
        reader,
        progress,
        welcome,
    })
}

fn read_welcome(header: &Header, body: Bytes) -> Result<Welcome, Failure> {
    if header.status != Status::Ok {
        return Err(failure_of(header, &body));
    }
    if header.operation != Operation::Hello {
        return Err(malformed("the greeting was not answered by a welcome"));
    }
    let welcome = Welcome::decode(body)
        .map_err(|error| malformed(&format!("the welcome cannot be read: {error}")))?;
    check_version(PROTOCOL_VERSION, welcome.protocol_version)?;
    Ok(welcome)
}

fn cannot_reach(endpoint: &str, why: &dyn Display) -> Failure {
    Failure::new(
        Status::Unavailable,
        format!("cannot reach {endpoint}: {why}"),
    )
}

fn malformed(what: &str) -> Failure {
    Failure::new(Status::Malformed, what)
}
