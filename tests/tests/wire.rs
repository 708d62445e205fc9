//! Peers that speak nonsense, or of what is not theirs: refused with a sentence, and every server
//! serves on.

#![allow(clippy::unwrap_used)]

use std::{fs, io::Write, net::TcpStream};

use pocket_proto::{
    BLOCK_ADDRESS_BYTES, BODY_BYTES_MAX, BlockAddress, BlockIndex, ClusterKey, Credential, Header,
    InodeId, JobId, Operation, PROTOCOL_VERSION, Scope, Status,
    control::{RegisterJobReply, RegisterJobRequest},
    session::{Create, GetAttributes, Lookup, Remove, Request, SetAttributes, request},
};
use pocket_tests::{CLUSTER_KEY, Mount, Peer, ProcessCluster, welcome, with_cluster};
use prost::Message;

/// A cluster with a job that is in use, and another job's credential.
fn with_jobs(body: impl FnOnce(&mut ProcessCluster, &Jobs)) {
    with_cluster(|cluster| {
        let mount = cluster.mount("victim");
        fs::write(mount.join("secret"), "secret data").unwrap();
        let register = |name: &str| {
            let request = RegisterJobRequest {
                name: name.to_owned(),
                protocol_version: PROTOCOL_VERSION,
                ..RegisterJobRequest::default()
            };
            cluster.control().register(request).unwrap()
        };
        let jobs = Jobs {
            victim: register("victim"),
            attacker: register("attacker"),
        };
        body(cluster, &jobs);
        serves_on(&mount);
        mount.finish();
        for name in ["victim", "attacker"] {
            assert!(cluster.control().deregister(name).unwrap());
        }
    });
}

struct Jobs {
    victim: RegisterJobReply,
    attacker: RegisterJobReply,
}

impl Jobs {
    /// What makes the attacker known at an endpoint: its job's credential, or at a storage server
    /// that of a session.
    fn known_at(&self, endpoint: &str) -> Vec<u8> {
        let RegisterJobReply {
            metadata_endpoint,
            credential,
            job,
            ..
        } = &self.attacker;
        if endpoint == metadata_endpoint {
            return credential.to_vec();
        }
        let (_, answer) = Peer::hello(metadata_endpoint, JobId(*job), credential).unwrap();
        let session = welcome(&answer).session.unwrap();
        session.storage_credential.to_vec()
    }

    /// The attacker's connection to an endpoint.
    fn peer_at(&self, endpoint: &str) -> Peer {
        let job = JobId(self.attacker.job);
        let (peer, answer) = Peer::hello(endpoint, job, &self.known_at(endpoint)).unwrap();
        welcome(&answer);
        peer
    }
}

/// The mount and all servers behind it still work.
#[track_caller]
fn serves_on(mount: &Mount) {
    assert_eq!(fs::read(mount.join("secret")).unwrap(), b"secret data");
    for index in 0..8 {
        fs::write(mount.join(format!("f{index}")), vec![index; 100_000]).unwrap();
        assert!(fs::read(mount.join(format!("f{index}"))).unwrap() == vec![index; 100_000]);
    }
}

/// Ports that speak frames.
fn frame_endpoints(cluster: &mut ProcessCluster) -> Vec<String> {
    vec![
        cluster.metadata().endpoint().to_owned(),
        cluster.storage(0).endpoint().to_owned(),
        cluster.storage(1).endpoint().to_owned(),
    ]
}

fn every_endpoint(cluster: &mut ProcessCluster) -> Vec<String> {
    let mut endpoints = frame_endpoints(cluster);
    endpoints.push(cluster.controller_endpoint().to_owned());
    endpoints.extend(cluster.metadata().control_endpoint().map(str::to_owned));
    endpoints
}

fn block(inode: u64, block: u64, offset_bytes: u32, length_bytes: u32) -> Vec<u8> {
    let address = BlockAddress {
        inode: InodeId(inode),
        block: BlockIndex(block),
        offset_bytes,
        length_bytes,
    };
    address.encode().to_vec()
}

#[test]
fn garbage_at_any_port_harms_nobody() {
    with_jobs(|cluster, _| {
        let http = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
        let endpoints = every_endpoint(cluster);
        for endpoint in &endpoints {
            for bytes in [
                http.clone(),
                vec![0; 100],
                vec![0xff; 10_000],
                vec![b'P'; 64],
                vec![],
            ] {
                let mut stream = TcpStream::connect(endpoint).unwrap();
                // The server may close before it has read all.
                let _ = stream.write_all(&bytes);
            }
        }
    });
}

#[test]
fn frames_that_cannot_be_are_the_end_of_their_connection() {
    with_jobs(|cluster, jobs| {
        let sound = Header::request(Operation::Ping, 1, JobId(jobs.attacker.job), 0).encode();
        let with = |at: usize, bytes: &[u8]| {
            let mut header = sound;
            header[at..at + bytes.len()].copy_from_slice(bytes);
            header
        };
        let cases = [
            ("too long", with(0, &u32::MAX.to_le_bytes())),
            (
                "a byte too long",
                with(0, &(BODY_BYTES_MAX + 1).to_le_bytes()),
            ),
            ("not ours", with(4, b"X")),
            ("another wire version", with(5, &[99])),
            ("an unknown operation", with(6, &999_u16.to_le_bytes())),
        ];
        for endpoint in frame_endpoints(cluster) {
            for (what, header) in &cases {
                // Before hello, and behind it.
                let mut stranger = Peer::connect(&endpoint).unwrap();
                let _ = stranger.send(header);
                assert!(stranger.is_closed(), "{what} at {endpoint}");
                let mut known = jobs.peer_at(&endpoint);
                let _ = known.send(header);
                assert!(known.is_closed(), "{what} behind hello at {endpoint}");
            }
        }
    });
}

#[test]
fn a_connection_begins_with_hello() {
    with_jobs(|cluster, jobs| {
        for endpoint in frame_endpoints(cluster) {
            for operation in [Operation::Ping, Operation::ReadBlock, Operation::Metadata] {
                let mut peer = Peer::connect(&endpoint).unwrap();
                peer.set_job(JobId(jobs.victim.job));
                match peer.call(operation, &block(1, 0, 0, 10)) {
                    Ok(answer) => assert_ne!(answer.status, Status::Ok, "{operation:?}"),
                    Err(_) => assert!(peer.is_closed()),
                }
            }
        }
    });
}

#[test]
fn another_version_is_told_which_is_spoken() {
    with_jobs(|cluster, jobs| {
        for endpoint in frame_endpoints(cluster) {
            let mut peer = Peer::connect(&endpoint).unwrap();
            peer.set_job(JobId(jobs.victim.job));
            let answer = peer
                .say_hello(PROTOCOL_VERSION + 1, &jobs.victim.credential)
                .unwrap();
            assert_eq!(answer.status, Status::VersionMismatch, "{endpoint}");
            assert!(
                answer.sentence().contains(&PROTOCOL_VERSION.to_string()),
                "{answer:?}"
            );
        }
        let request = RegisterJobRequest {
            name: "new".to_owned(),
            protocol_version: PROTOCOL_VERSION + 1,
            ..RegisterJobRequest::default()
        };
        let refused = cluster.control().register(request).unwrap_err();
        assert!(refused.message().contains("version"), "{refused}");
    });
}

#[test]
fn a_credential_of_another_cluster_is_refused() {
    with_jobs(|cluster, jobs| {
        let job = JobId(jobs.victim.job);
        let key = ClusterKey::from_passphrase("another cluster's key");
        let forged = Credential::issue(&key, Scope::Job(job));
        let forged_cluster = Credential::issue(&key, Scope::Cluster);
        let storage = cluster.storage(0).endpoint().to_owned();
        let mut another_session = jobs.known_at(&storage);
        another_session[9] ^= 1;
        let mut flipped = jobs.victim.credential.to_vec();
        flipped[20] ^= 1;
        for endpoint in frame_endpoints(cluster) {
            for credential in [
                forged.as_bytes(),
                forged_cluster.as_bytes(),
                &flipped,
                &another_session,
                b"",
                b"short",
            ] {
                let (_, answer) = Peer::hello(&endpoint, job, credential).unwrap();
                assert_eq!(answer.status, Status::Denied, "{endpoint}");
                assert!(!answer.sentence().is_empty());
            }
        }
    });
}

#[test]
fn a_job_cannot_touch_another_jobs_blocks() {
    with_jobs(|cluster, jobs| {
        let victim = JobId(jobs.victim.job);
        for index in 0..2 {
            let endpoint = cluster.storage(index).endpoint().to_owned();
            let mut peer = jobs.peer_at(&endpoint);
            peer.set_job(victim);
            // The victim's only file has an inode of a small number.
            for inode in 1..10 {
                let write = [block(inode, 0, 0, 4), b"evil".to_vec()].concat();
                let place = block(inode, 0, 0, 11);
                for (operation, body) in [
                    (Operation::ReadBlock, block(inode, 0, 0, 11)),
                    (Operation::WriteBlock, write),
                    (Operation::TruncateBlocks, block(inode, 0, 0, 0)),
                    (Operation::AllocateBlock, place.clone()),
                    (Operation::ZeroBlock, place.clone()),
                    (Operation::PunchBlock, place.clone()),
                    (Operation::CopyBlock, [place.clone(), place].concat()),
                    (Operation::ListBlocks, block(inode, 0, 1, 0)),
                    (Operation::DropBlocks, block(inode, 0, 1, 0)),
                    (Operation::RemoveInodes, inode.to_le_bytes().to_vec()),
                    (Operation::DropJob, vec![]),
                ] {
                    let answer = peer.call(operation, &body).unwrap();
                    assert_eq!(answer.status, Status::Denied, "{operation:?} of {inode}");
                    assert!(!answer.sentence().contains("secret"));
                }
            }
        }
    });
}

#[test]
fn a_mount_does_not_drop_even_its_own_job_nor_speak_as_its_metadata_server() {
    with_jobs(|cluster, jobs| {
        let endpoint = cluster.storage(0).endpoint().to_owned();
        let mut peer = jobs.peer_at(&endpoint);
        for operation in [
            Operation::DropJob,
            Operation::RemoveInodes,
            Operation::ListInodes,
            Operation::Vouch,
            Operation::FenceSessions,
        ] {
            let answer = peer.call(operation, &[0; 32]).unwrap();
            assert_eq!(answer.status, Status::Denied, "{operation:?}");
        }
    });
}

#[test]
fn a_credential_is_good_for_one_kind_of_server() {
    with_jobs(|cluster, jobs| {
        let job = JobId(jobs.attacker.job);
        let metadata = cluster.metadata().endpoint().to_owned();
        let storage = cluster.storage(0).endpoint().to_owned();
        let of_a_session = jobs.known_at(&storage);
        for (endpoint, credential, sentence) in [
            (
                &storage,
                &jobs.attacker.credential.to_vec(),
                "opens a session",
            ),
            (&metadata, &of_a_session, "is for storage servers"),
        ] {
            let (_, answer) = Peer::hello(endpoint, job, credential).unwrap();
            assert_eq!(answer.status, Status::Denied, "{endpoint}");
            assert!(answer.sentence().contains(sentence), "{answer:?}");
        }
    });
}

#[test]
fn a_job_cannot_touch_another_jobs_names() {
    with_jobs(|cluster, jobs| {
        let (own, victim) = (JobId(jobs.attacker.job), JobId(jobs.victim.job));
        let endpoint = cluster.metadata().endpoint().to_owned();
        // A hello that names one job and proves another.
        let (_, answer) = Peer::hello(&endpoint, victim, &jobs.attacker.credential).unwrap();
        let fooled = answer.status == Status::Ok
            && welcome(&answer)
                .session
                .is_some_and(|session| session.job_name == "victim");
        assert!(!fooled);
        let (mut peer, answer) = Peer::hello(&endpoint, own, &jobs.attacker.credential).unwrap();
        assert_eq!(welcome(&answer).session.unwrap().job_name, "attacker");
        peer.set_job(victim);
        let (parent, name) = (1, b"secret".to_vec());
        let operations = [
            request::Operation::Lookup(Lookup {
                parent,
                name: name.clone().into(),
            }),
            request::Operation::GetAttributes(GetAttributes { inode: 1 }),
            request::Operation::Remove(Remove {
                parent,
                name: name.into(),
                directory: false,
                ahead: None,
            }),
        ];
        for operation in operations {
            let (status, _) = peer.ask(operation.clone()).unwrap();
            assert_eq!(status, Status::Denied, "{operation:?}");
        }
    });
}

#[test]
fn requests_that_make_no_sense_are_answered_so() {
    with_jobs(|cluster, jobs| {
        let job = JobId(jobs.attacker.job);
        let endpoint = cluster.metadata().endpoint().to_owned();
        let (mut peer, answer) = Peer::hello(&endpoint, job, &jobs.attacker.credential).unwrap();
        welcome(&answer);
        let answer = peer.call(Operation::Metadata, &[0xff; 50]).unwrap();
        assert_eq!(answer.status, Status::Malformed);
        let empty = Request::default().encode_to_vec();
        let answer = peer.call(Operation::Metadata, &empty).unwrap();
        assert!(matches!(
            answer.status,
            Status::Malformed | Status::Unsupported | Status::Invalid
        ));
        let create = |name: &[u8]| {
            request::Operation::Create(Create {
                parent: 1,
                name: name.to_vec().into(),
                mode: 0o644,
                ..Create::default()
            })
        };
        for (operation, expected) in [
            (create(b""), Status::Invalid),
            (create(b"."), Status::IsDirectory),
            (create(b".."), Status::IsDirectory),
            (create(b"a/b"), Status::Invalid),
            (create(b"nul\0"), Status::Invalid),
            (create(&[b'n'; 256]), Status::NameTooLong),
            (
                request::Operation::SetAttributes(SetAttributes {
                    inode: 999_999,
                    ..SetAttributes::default()
                }),
                Status::Stale,
            ),
        ] {
            let (status, _) = peer.ask(operation.clone()).unwrap();
            let taken = matches!(status, Status::Exists);
            assert!(status == expected || taken, "{operation:?}: {status}");
        }
    });
}

#[test]
fn blocks_that_cannot_be_are_refused() {
    with_jobs(|cluster, jobs| {
        let endpoint = cluster.storage(0).endpoint().to_owned();
        let mut peer = jobs.peer_at(&endpoint);
        let write = |address: Vec<u8>, data: &[u8]| [&address[..], data].concat();
        for (what, operation, body) in [
            ("no address", Operation::ReadBlock, vec![1, 2, 3]),
            (
                "half an address",
                Operation::WriteBlock,
                vec![0; BLOCK_ADDRESS_BYTES - 1],
            ),
            (
                "a read of 4 GiB",
                Operation::ReadBlock,
                block(5, 0, 0, u32::MAX),
            ),
            (
                "a read past any block",
                Operation::ReadBlock,
                block(5, 0, u32::MAX, 10),
            ),
            (
                "a write of 4 GiB",
                Operation::WriteBlock,
                block(5, 0, 0, u32::MAX),
            ),
            (
                "a write past any block",
                Operation::WriteBlock,
                write(block(5, 0, u32::MAX, 4), b"data"),
            ),
            (
                "less data than said",
                Operation::WriteBlock,
                write(block(5, 0, 0, 100), b"data"),
            ),
            (
                "more data than said",
                Operation::WriteBlock,
                write(block(5, 0, 0, 1), b"data"),
            ),
            ("an odd list", Operation::RemoveInodes, vec![1, 2, 3]),
            (
                "4 GiB of zeros",
                Operation::AllocateBlock,
                block(5, 0, 0, u32::MAX),
            ),
            (
                "zeros past any block",
                Operation::ZeroBlock,
                block(5, 0, u32::MAX, 1),
            ),
            (
                "a hole past any block",
                Operation::PunchBlock,
                block(5, 0, u32::MAX, u32::MAX),
            ),
            (
                "a copy from nowhere",
                Operation::CopyBlock,
                block(5, 0, 0, 1),
            ),
            ("half a span", Operation::ListBlocks, vec![0; 12]),
            ("no span", Operation::DropBlocks, vec![]),
        ] {
            match peer.call(operation, &body) {
                Ok(answer) => assert!(
                    matches!(
                        answer.status,
                        Status::Invalid | Status::Malformed | Status::Denied | Status::TooLarge
                    ),
                    "{what}: {}",
                    answer.status
                ),
                Err(error) => panic!("{what}: {error}"),
            }
        }
    });
}

#[test]
fn random_frames_kill_no_server() {
    with_jobs(|cluster, jobs| {
        let job = JobId(jobs.attacker.job);
        // A small generator of its own: any bytes will do, the same in every run.
        let mut state = 1_u64;
        let mut random = move || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 33) as u32
        };
        let operations = [
            Operation::Hello,
            Operation::Ping,
            Operation::ReadBlock,
            Operation::WriteBlock,
            Operation::TruncateBlocks,
            Operation::DropJob,
            Operation::RemoveInodes,
            Operation::AllocateBlock,
            Operation::ZeroBlock,
            Operation::PunchBlock,
            Operation::DropBlocks,
            Operation::ListBlocks,
            Operation::CopyBlock,
            Operation::ListInodes,
            Operation::Vouch,
            Operation::FenceSessions,
            Operation::Metadata,
            Operation::Recall,
        ];
        for endpoint in frame_endpoints(cluster) {
            for _ in 0..30 {
                let mut peer = jobs.peer_at(&endpoint);
                for _ in 0..30 {
                    let operation = operations[random() as usize % operations.len()];
                    let length = random() as usize % 200;
                    let body: Vec<u8> = (0..length).map(|_| random() as u8 & 0x1f).collect();
                    let sound = Header::request(operation, u64::from(random()), job, length as u32);
                    let mut frame = [&sound.encode()[..], &body].concat();
                    if random() % 8 == 0 {
                        let at = random() as usize % frame.len();
                        frame[at] ^= random() as u8;
                    }
                    if peer.send(&frame).is_err() {
                        break; // The server has had enough.
                    }
                }
            }
        }
    });
}

#[test]
fn a_peer_that_never_reads_is_not_served_without_bound() {
    with_jobs(|cluster, jobs| {
        let job = JobId(jobs.attacker.job);
        let endpoint = cluster.storage(0).endpoint().to_owned();
        let mut peer = jobs.peer_at(&endpoint);
        let data = vec![1; 1 << 20];
        let body = [block(5, 0, 0, 1 << 20), data].concat();
        assert_eq!(
            peer.call(Operation::WriteBlock, &body).unwrap().status,
            Status::Ok
        );
        // A GiB is asked for and not read.
        let ask = block(5, 0, 0, 1 << 20);
        let header = Header::request(Operation::ReadBlock, 77, job, ask.len() as u32).encode();
        let before = resident_bytes(cluster);
        for _ in 0..1024 {
            if peer.send(&[&header[..], &ask].concat()).is_err() {
                break;
            }
        }
        let after = resident_bytes(cluster);
        assert!(
            after < before + (200 << 20),
            "grew from {before} to {after}"
        );
    });
}

/// Resident memory of storage server 0.
fn resident_bytes(cluster: &mut ProcessCluster) -> u64 {
    let pid = cluster.storage(0).process().pid();
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    let pages: u64 = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn a_server_without_the_clusters_key_does_not_join() {
    with_cluster(|cluster| {
        cluster.expect_in_logs("credential");
        assert_ne!(CLUSTER_KEY, "a wrong key");
        let before = cluster.control().servers().unwrap().len();
        let controller = cluster.controller_endpoint().to_owned();
        let mut command = std::process::Command::new(pocket_tests::binary("pocket"));
        command
            .args(["storage", "--listen", "127.0.0.1:0", "--capacity", "1GiB"])
            .args(["--controller", &controller])
            .env("POCKET_CLUSTER_KEY", "a wrong key");
        let folder = cluster.folder("stranger");
        let mut stranger = pocket_tests::Process::start("stranger", &folder, command);
        stranger.expect_in_log("credential");
        let told = |stranger: &mut pocket_tests::Process| {
            stranger.log().contains("credential") || stranger.ended().is_some()
        };
        pocket_tests::until(std::time::Duration::from_secs(10), "a refusal", || {
            told(&mut stranger)
        });
        assert_eq!(cluster.control().servers().unwrap().len(), before);
    });
}
