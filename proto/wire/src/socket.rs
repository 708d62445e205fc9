//! Options of the sockets that frames travel on.

use std::{io, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// A silent peer is asked after so long whether it is still there ...
const KEEPALIVE_AFTER: Duration = Duration::from_secs(20);
/// ... and again so often ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// ... and is given up after so many questions without an answer.
const KEEPALIVE_PROBES: u32 = 4;
/// Data that the peer's host does not acknowledge for so long end the connection.
const UNACKNOWLEDGED_MAX: Duration = Duration::from_secs(30);

/// Prepares a fresh connection: no delay, and a vanished host is noticed.
pub(crate) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_AFTER)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED_MAX))
}

/// Ends both directions at once; readers see the end of the stream. Errors mean that it has ended
/// already.
pub(crate) fn shut_down(stream: &TcpStream) {
    let _ = SockRef::from(stream).shutdown(std::net::Shutdown::Both);
}
