//! A network of a mount's own, which can be cut: both ways, or one way only.
//!
//! The mount runs in a network namespace with nothing but a loopback interface of its own. There the
//! servers' addresses are those of relays, which go on to the servers outside. Relays that are cut
//! keep silent and close nothing; when they are mended they pass on what was under way, as a network
//! does that sends again what got lost.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    net::{TcpListener as Listener, UdpSocket},
    os::{fd::AsRawFd, unix::process::CommandExt},
    process::Command,
    sync::Arc,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    runtime::{Builder, Runtime},
    sync::watch,
};

/// Bytes that a relay passes on at once.
const PASSED_BYTES: usize = 64 << 10;

/// A network in which the servers can be reached until it is cut. Making one takes root.
#[derive(Debug)]
pub struct Network {
    namespace: Namespace,
    flow: watch::Sender<Flow>,
    _relays: Runtime,
}

/// Which way nothing gets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// From the mount to the servers.
    ToServers,
    /// From the servers to the mount.
    ToMount,
    /// Either.
    Both,
}

/// Which way something does.
#[derive(Clone, Copy, Debug)]
struct Flow {
    to_servers: bool,
    to_mount: bool,
}

/// A network namespace, for processes to run in.
#[derive(Clone, Debug)]
pub(crate) struct Namespace(Arc<File>);

impl Network {
    /// A network from which the servers at these endpoints ("address:port" of the loopback
    /// interface) can be reached under the same addresses.
    pub fn to(endpoints: &[String]) -> Self {
        let owned = endpoints.to_vec();
        // The thread stays in the namespace, and ends.
        let made = thread::spawn(move || namespace_with(&owned)).join();
        let (namespace, listeners) = made
            .expect("it does not panic")
            .unwrap_or_else(|error| panic!("no network namespace: {error} (needs root)"));
        let relays = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime needs no more than a thread and descriptors");
        let flow = watch::Sender::new(Flow {
            to_servers: true,
            to_mount: true,
        });
        for (listener, endpoint) in listeners.into_iter().zip(endpoints) {
            relays.spawn(relay(listener, endpoint.clone(), flow.subscribe()));
        }
        Network {
            namespace: Namespace(Arc::new(namespace)),
            flow,
            _relays: relays,
        }
    }

    /// Nothing gets through from now on, that way.
    pub fn cut(&self, cut: Cut) {
        self.flow.send_replace(Flow {
            to_servers: cut == Cut::ToMount,
            to_mount: cut == Cut::ToServers,
        });
    }

    /// What was under way gets through, and everything from now on.
    pub fn mend(&self) {
        self.flow.send_replace(Flow {
            to_servers: true,
            to_mount: true,
        });
    }

    pub(crate) fn namespace(&self) -> Namespace {
        self.namespace.clone()
    }
}

impl Namespace {
    /// Has a command run in it.
    pub(crate) fn hold(&self, command: &mut Command) {
        let namespace = Arc::clone(&self.0);
        let enter = move || Ok(setns(&*namespace, CloneFlags::CLONE_NEWNET)?);
        // SAFETY: the closure makes one system call and touches no memory of the parent.
        unsafe { command.pre_exec(enter) };
    }
}

/// Moves the calling thread into a new namespace, where it listens at the endpoints.
fn namespace_with(endpoints: &[String]) -> io::Result<(File, Vec<Listener>)> {
    unshare(CloneFlags::CLONE_NEWNET)?;
    raise_loopback()?;
    let listen = |endpoint: &String| {
        let listener = Listener::bind(endpoint)?;
        listener.set_nonblocking(true)?;
        Ok(listener)
    };
    let listeners: io::Result<Vec<_>> = endpoints.iter().map(listen).collect();
    Ok((File::open("/proc/thread-self/ns/net")?, listeners?))
}

/// A new namespace has its loopback interface down (netdevice(7)).
fn raise_loopback() -> io::Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    // SAFETY: all fields are integers, or arrays of them, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[..2].copy_from_slice(&b"lo".map(|letter| letter as libc::c_char));
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is what this ioctl reads, and lives until it returns.
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Passes every connection on to the server.
async fn relay(listener: Listener, endpoint: String, flow: watch::Receiver<Flow>) {
    let listener = TcpListener::from_std(listener).expect("the listener does not block");
    while let Ok((near, _)) = listener.accept().await {
        let (endpoint, flow) = (endpoint.clone(), flow.clone());
        tokio::spawn(async move {
            // A server that is away refuses, and so does the relay, by closing.
            let Ok(far) = TcpStream::connect(&endpoint).await else {
                return;
            };
            let (from_near, to_near) = near.into_split();
            let (from_far, to_far) = far.into_split();
            tokio::spawn(pass(from_far, to_near, flow.clone(), |flow| flow.to_mount));
            pass(from_near, to_far, flow, |flow| flow.to_servers).await;
        });
    }
}

/// Passes bytes on while `flows` says so, up to the end of the connection.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut flow: watch::Receiver<Flow>,
    flows: fn(&Flow) -> bool,
) {
    let mut bytes = vec![0; PASSED_BYTES];
    loop {
        // Either side's end is told to the other when its turn has come.
        let length = from.read(&mut bytes).await.unwrap_or(0);
        let is_open = flow.wait_for(flows).await.is_ok();
        if !is_open || length == 0 || to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
    }
}
