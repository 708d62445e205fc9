//! The receiving side of a connection: bytes of a socket become frames.
//!
//! Headers and short bodies pass through a small buffer, which takes many of them in one system
//! call. A long body is received straight into a buffer of exactly its size, unzeroed, so that
//! whoever keeps it keeps no byte more.

use std::{io, sync::Arc};

use bytes::{BufMut, Bytes, BytesMut};
use pocket_proto::{FrameError, HEADER_BYTES, Header, Operation};
use thiserror::Error;
use tokio::{io::AsyncReadExt, net::tcp::OwnedReadHalf};

use crate::{HEAD_BYTES_MAX, watchdog::Progress};

/// The small buffer: some hundred small requests, and little to copy of a body that follows.
const BUFFER_BYTES: usize = 16 << 10;
/// A body's rest from this length is received without passing through the buffer.
const DIRECT_BYTES_MIN: usize = 4 << 10;

/// Why no further frame comes.
#[derive(Debug, Error)]
pub(crate) enum ReadError {
    #[error("receiving failed: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("body of {body_bytes} bytes, {body_bytes_max} is the most taken here")]
    TooLong {
        body_bytes: u32,
        body_bytes_max: u32,
    },
    #[error("the stream ended within a frame")]
    Truncated,
}

/// How many bytes at the front of an operation's body come apart.
pub(crate) type HeadBytes<'a> = &'a (dyn Fn(Operation) -> usize + Sync);

/// For receivers that take bodies whole.
pub(crate) const WHOLE: HeadBytes<'static> = &|_| 0;

/// A frame as received.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) header: Header,
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    pub(crate) body: Bytes,
}

impl Incoming {
    /// The front of the body, where it came apart.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.head_bytes]
    }
}

/// Reads frames from a socket.
pub(crate) struct FrameReader {
    socket: OwnedReadHalf,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    body_bytes_max: u32,
    progress: Arc<Progress>,
}

impl FrameReader {
    pub(crate) fn new(socket: OwnedReadHalf, body_bytes_max: u32, progress: Arc<Progress>) -> Self {
        FrameReader {
            socket,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
            body_bytes_max,
            progress,
        }
    }

    /// Changes the longest body that is taken from now on.
    pub(crate) fn limit_bodies(&mut self, body_bytes_max: u32) {
        self.body_bytes_max = body_bytes_max;
    }

    /// The next frame, if all of it has been received already.
    pub(crate) fn next_received(
        &mut self,
        head_bytes: HeadBytes<'_>,
    ) -> Result<Option<Incoming>, ReadError> {
        let Some(header) = self.peek_header()? else {
            return Ok(None);
        };
        let body_bytes = header.body_bytes as usize;
        if self.buffered().len() < HEADER_BYTES + body_bytes {
            return Ok(None);
        }
        self.start += HEADER_BYTES;
        let (head, head_bytes) = self.take_head(head_bytes(header.operation).min(body_bytes));
        let body = Bytes::copy_from_slice(&self.buffered()[..body_bytes - head_bytes]);
        self.start += body.len();
        Ok(Some(Incoming {
            header,
            head,
            head_bytes,
            body,
        }))
    }

    /// Waits for the next frame. None: the stream ended behind a frame.
    pub(crate) async fn next(
        &mut self,
        head_bytes: HeadBytes<'_>,
    ) -> Result<Option<Incoming>, ReadError> {
        let header = loop {
            if let Some(frame) = self.next_received(head_bytes)? {
                return Ok(Some(frame));
            }
            if let Some(header) = self.peek_header()?
                && header.body_bytes as usize > BUFFER_BYTES / 2
            {
                break header;
            }
            if self.fill().await? == 0 {
                return match self.buffered() {
                    [] => Ok(None),
                    _ => Err(ReadError::Truncated),
                };
            }
        };
        self.start += HEADER_BYTES;
        let head_bytes = head_bytes(header.operation).min(HEAD_BYTES_MAX);
        while self.buffered().len() < head_bytes {
            self.fill_more().await?;
        }
        let (head, head_bytes) = self.take_head(head_bytes);
        let body = self
            .long_body(header.body_bytes as usize - head_bytes)
            .await?;
        Ok(Some(Incoming {
            header,
            head,
            head_bytes,
            body,
        }))
    }

    async fn long_body(&mut self, body_bytes: usize) -> Result<Bytes, ReadError> {
        let mut body = BytesMut::with_capacity(body_bytes);
        loop {
            let now = self.buffered().len().min(body_bytes - body.len());
            body.extend_from_slice(&self.buffered()[..now]);
            self.start += now;
            match body_bytes - body.len() {
                0 => return Ok(body.freeze()),
                rest if rest >= DIRECT_BYTES_MIN => {
                    let mut space = (&mut body).limit(rest);
                    match self.socket.read_buf(&mut space).await? {
                        0 => return Err(ReadError::Truncated),
                        received => self.progress.note(received),
                    }
                }
                _ => self.fill_more().await?,
            }
        }
    }

    fn buffered(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn peek_header(&self) -> Result<Option<Header>, ReadError> {
        let Some(bytes) = self.buffered().first_chunk() else {
            return Ok(None);
        };
        let header = Header::decode(bytes)?;
        if header.body_bytes > self.body_bytes_max {
            return Err(ReadError::TooLong {
                body_bytes: header.body_bytes,
                body_bytes_max: self.body_bytes_max,
            });
        }
        Ok(Some(header))
    }

    fn take_head(&mut self, head_bytes: usize) -> ([u8; HEAD_BYTES_MAX], usize) {
        let head_bytes = head_bytes.min(HEAD_BYTES_MAX);
        let mut head = [0; HEAD_BYTES_MAX];
        head[..head_bytes].copy_from_slice(&self.buffered()[..head_bytes]);
        self.start += head_bytes;
        (head, head_bytes)
    }

    async fn fill_more(&mut self) -> Result<(), ReadError> {
        match self.fill().await? {
            0 => Err(ReadError::Truncated),
            _ => Ok(()),
        }
    }

    /// Receives what there is into the buffer's free end; 0 at the end of the stream.
    async fn fill(&mut self) -> Result<usize, ReadError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        debug_assert!(self.end < BUFFER_BYTES, "a short frame fits the buffer");
        let received = self.socket.read(&mut self.buffer[self.end..]).await?;
        self.end += received;
        self.progress.note(received);
        Ok(received)
    }
}

#[cfg(test)]
mod tests {
    use pocket_proto::JobId;
    use proptest::{collection::vec, prelude::*};
    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    async fn socket_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap());
        let (near, far) = tokio::join!(near, listener.accept());
        (near.unwrap(), far.unwrap().0)
    }

    fn length() -> impl Strategy<Value = usize> {
        let limits = prop::sample::select(vec![BUFFER_BYTES / 2, BUFFER_BYTES, DIRECT_BYTES_MIN]);
        prop_oneof![
            0..100_usize,
            0..70_000_usize,
            (limits, 0..80_usize).prop_map(|(limit, off)| limit + off - 40),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn frames_are_read_as_sent_however_they_are_cut(
            lengths in vec(length(), 1..12),
            pieces in vec(1..30_000_usize, 1..8),
            head_bytes in prop_oneof![Just(0_usize), Just(24), Just(HEAD_BYTES_MAX)],
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let bodies: Vec<Vec<u8>> = lengths
                .iter()
                .enumerate()
                .map(|(seed, length)| (0..*length).map(|at| (at * 7 + seed) as u8).collect())
                .collect();
            let mut stream = Vec::new();
            for (id, body) in bodies.iter().enumerate() {
                let length = body.len() as u32;
                let header = Header::request(Operation::WriteBlock, id as u64, JobId(1), length);
                stream.extend_from_slice(&header.encode());
                stream.extend_from_slice(body);
            }
            let received = runtime.block_on(async {
                let (mut near, far) = socket_pair().await;
                let sending = tokio::spawn(async move {
                    let mut rest = &stream[..];
                    for piece in pieces.iter().cycle() {
                        if rest.is_empty() {
                            break;
                        }
                        let (now, later) = rest.split_at(rest.len().min(*piece));
                        near.write_all(now).await.unwrap();
                        tokio::task::yield_now().await;
                        rest = later;
                    }
                });
                let (far, _write_half) = far.into_split();
                let mut reader = FrameReader::new(far, u32::MAX, Arc::default());
                let mut received = Vec::new();
                while let Some(frame) = reader.next(&|_| head_bytes).await.unwrap() {
                    received.push(frame);
                }
                sending.await.unwrap();
                received
            });
            prop_assert_eq!(received.len(), bodies.len());
            for (id, (frame, body)) in received.iter().zip(&bodies).enumerate() {
                prop_assert_eq!(frame.header.id, id as u64);
                prop_assert_eq!(frame.head(), &body[..head_bytes.min(body.len())]);
                prop_assert_eq!(&frame.body[..], &body[frame.head().len()..]);
            }
        }
    }
}
