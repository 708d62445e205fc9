//! Sessions over the wire: frames in, answers and recalls out.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use pocket_proto::session::{Hello, Recall, Request, Welcome};
use pocket_proto::{
    ClusterKey, Credential, Failure, Header, Incarnation, JobId, Operation, PROTOCOL_VERSION,
    Scope, ServerId, SessionId, SessionScope, Status,
};
use pocket_wire::{Answer, Handled, Pusher, Service, authenticate, authorize};
use prost::Message;

use crate::job::{Caller, Executed, Job};
use crate::jobs::Jobs;
use crate::metrics::{Counts, Kind};
use crate::now::Now;
use crate::session::{self, RecallSink};

/// A host's name is for people; a longer one is cut.
const HOST_CHARS_MAX: usize = 255;

/// The service on the port for mounts.
pub(crate) struct MetaService {
    jobs: Arc<Jobs>,
    cluster_key: ClusterKey,
    server: ServerId,
    incarnation: Incarnation,
    counts: Arc<Counts>,
}

/// A mount's connection.
pub(crate) struct Peer {
    job: Arc<Job>,
    caller: Caller,
}

impl MetaService {
    pub(crate) fn new(
        jobs: Arc<Jobs>,
        cluster_key: ClusterKey,
        server: ServerId,
        incarnation: Incarnation,
        counts: Arc<Counts>,
    ) -> Self {
        MetaService {
            jobs,
            cluster_key,
            server,
            incarnation,
            counts,
        }
    }

    fn greet(&self, hello: Hello, pusher: Pusher) -> Result<(Peer, Welcome), Failure> {
        let id = match authenticate(&self.cluster_key, &hello)? {
            Scope::Job(job) => job,
            Scope::Session(SessionScope { job, session, .. }) => {
                return Err(Failure::new(
                    Status::Denied,
                    format!(
                        "the credential of session {session} is for storage servers: a session is \
                         opened, and resumed, with that of job {job}"
                    ),
                ));
            }
            Scope::Cluster => {
                let what = "a session needs a job's credential, not the cluster's";
                return Err(Failure::new(Status::Denied, what));
            }
        };
        let job = self.jobs.get(id)?;
        let sink = Box::new(WireSink { job: id, pusher });
        let now = Now::take();
        let (caller, mut session) = match hello.session {
            0 => {
                let host = hello.host.chars().take(HOST_CHARS_MAX).collect();
                job.open_session(host, sink, now)?
            }
            session => job.resume_session(SessionId(session), sink, now)?,
        };
        let scope = Scope::Session(SessionScope {
            job: id,
            session: caller.session,
            issuer: self.incarnation,
        });
        let credential = Credential::issue(&self.cluster_key, scope);
        session.storage_credential = Bytes::copy_from_slice(credential.as_bytes());
        let welcome = Welcome {
            protocol_version: PROTOCOL_VERSION,
            server: self.server.0,
            incarnation: self.incarnation.0,
            session: Some(session),
        };
        Ok((Peer { job, caller }, welcome))
    }

    fn request(
        &self,
        peer: &Peer,
        header: &Header,
        body: Bytes,
    ) -> Result<(Option<Kind>, Executed), Failure> {
        authorize(Scope::Job(peer.job.id), header.job)?;
        if header.operation != Operation::Metadata {
            let what = format!("a metadata server does not do {:?}", header.operation);
            return Err(Failure::new(Status::Unsupported, what));
        }
        let request = Request::decode(body).map_err(|error| {
            let what = format!("the request cannot be read: {error}");
            Failure::new(Status::Malformed, what)
        })?;
        let kind = request.operation.as_ref().map(Kind::of);
        let one_way = header.id == 0;
        let executed = peer.job.execute(peer.caller, request, one_way, Now::take());
        Ok((kind, executed))
    }
}

impl Service for MetaService {
    type Peer = Peer;

    async fn hello(&self, hello: Hello, pusher: Pusher) -> Result<(Peer, Welcome), Failure> {
        self.greet(hello, pusher)
    }

    fn handle(&self, peer: &Arc<Peer>, header: Header, body: Bytes) -> Handled {
        let asked = Instant::now();
        let (kind, executed) = match self.request(peer, &header, body) {
            Ok(taken) => taken,
            Err(failure) => (None, Executed::Now(Err(failure))),
        };
        match executed {
            Executed::Now(answer) => Handled::Now(counted(&self.counts, (kind, asked), answer)),
            Executed::Later(answer) => {
                let counts = Arc::clone(&self.counts);
                Handled::later(async move {
                    let stopping = || Err(Failure::new(Status::Unavailable, "the server stops"));
                    let answer: session::Answer = answer.await.unwrap_or_else(|_| stopping());
                    counted(&counts, (kind, asked), answer)
                })
            }
        }
    }

    fn disconnected(&self, peer: &Arc<Peer>) {
        peer.job.disconnected(peer.caller);
    }
}

/// The answer to a request of a kind that came at some time, counted.
fn counted(counts: &Counts, asked: (Option<Kind>, Instant), answer: session::Answer) -> Answer {
    if let (Some(kind), since) = asked {
        counts.answered(kind, since.elapsed());
    }
    if let Err(failure) = &answer {
        counts.failed(failure.status);
    }
    answer.into()
}

/// Pushes recalls over a connection.
struct WireSink {
    job: JobId,
    pusher: Pusher,
}

impl RecallSink for WireSink {
    fn push(&self, recall: &Recall) {
        // If the connection has ended, the recall is pushed again on the next.
        self.pusher
            .push(Operation::Recall, self.job, recall.encode_to_vec().into());
    }

    fn close(&self) {
        self.pusher.close();
    }
}
