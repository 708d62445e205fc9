//! A peer of the frame protocol that owes the wire crate nothing: it writes the bytes that the
//! schema and the header describe, right ones and wrong ones.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

use pocket_proto::{
    BODY_BYTES_MAX, Credential, HEADER_BYTES, Header, JobId, Operation, PROTOCOL_VERSION, Status,
    session::{Hello, Reply, Request, Welcome, reply, request},
};
use prost::Message;

/// No answer takes longer; a server that is silent for so long hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// A connection to a metadata or storage server.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    job: JobId,
    requests: u64,
}

/// A reply: its status, and its body (a sentence where it failed).
#[derive(Debug)]
pub struct Answer {
    /// What came of the request.
    pub status: Status,
    /// The body as it came.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body of a failure, for people.
    pub fn sentence(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Peer {
    /// Connects and says nothing.
    pub fn connect(endpoint: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(endpoint)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.set_nodelay(true)?;
        Ok(Peer {
            stream,
            job: JobId(0),
            requests: 0,
        })
    }

    /// Connects and says hello with a credential, for `job`.
    pub fn hello(endpoint: &str, job: JobId, credential: &[u8]) -> io::Result<(Self, Answer)> {
        let mut peer = Self::connect(endpoint)?;
        peer.job = job;
        let answer = peer.say_hello(PROTOCOL_VERSION, credential)?;
        Ok((peer, answer))
    }

    /// A hello of any version with any credential.
    pub fn say_hello(&mut self, version: u32, credential: &[u8]) -> io::Result<Answer> {
        let hello = Hello {
            protocol_version: version,
            credential: credential.to_vec().into(),
            host: "test kit".to_owned(),
            ..Hello::default()
        };
        self.call(Operation::Hello, &hello.encode_to_vec())
    }

    /// Connects as one of the cluster's own servers would.
    pub fn cluster(endpoint: &str, credential: &Credential) -> io::Result<Self> {
        let (peer, answer) = Self::hello(endpoint, JobId(0), credential.as_bytes())?;
        assert_eq!(answer.status, Status::Ok, "{}", answer.sentence());
        Ok(peer)
    }

    /// Speaks of another job from now on.
    pub fn set_job(&mut self, job: JobId) {
        self.job = job;
    }

    /// Sends a request and reads its reply. Pushes in between are passed over.
    pub fn call(&mut self, operation: Operation, body: &[u8]) -> io::Result<Answer> {
        self.requests += 1;
        let length = body.len() as u32;
        let header = Header::request(operation, self.requests, self.job, length);
        self.send(&[&header.encode()[..], body].concat())?;
        loop {
            let (header, body) = self.receive()?;
            if header.id == self.requests {
                let status = header.status;
                return Ok(Answer { status, body });
            }
        }
    }

    /// A metadata request.
    pub fn ask(
        &mut self,
        operation: request::Operation,
    ) -> io::Result<(Status, Option<reply::Result>)> {
        let request = Request {
            operation: Some(operation),
            sequence: self.requests + 1,
            told: 0,
        };
        let answer = self.call(Operation::Metadata, &request.encode_to_vec())?;
        if answer.status != Status::Ok {
            return Ok((answer.status, None));
        }
        let reply = Reply::decode(answer.body.as_slice())?;
        Ok((Status::Ok, reply.result))
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Reads one frame.
    pub fn receive(&mut self) -> io::Result<(Header, Vec<u8>)> {
        let mut header = [0; HEADER_BYTES];
        self.stream.read_exact(&mut header)?;
        let header = Header::decode(&header).map_err(io::Error::other)?;
        assert!(header.body_bytes <= BODY_BYTES_MAX);
        let mut body = vec![0; header.body_bytes as usize];
        self.stream.read_exact(&mut body)?;
        Ok((header, body))
    }

    /// Whether the other side has closed the connection, or does so before the deadline. Replies
    /// that come first are passed over.
    pub fn is_closed(&mut self) -> bool {
        let mut passed = [0; 4096];
        loop {
            match self.stream.read(&mut passed) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == io::ErrorKind::ConnectionReset,
            }
        }
    }
}

/// The welcome in the answer to a hello.
pub fn welcome(answer: &Answer) -> Welcome {
    assert_eq!(answer.status, Status::Ok, "{}", answer.sentence());
    Welcome::decode(answer.body.as_slice()).expect("a welcome is a message")
}
