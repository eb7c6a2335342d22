//! A `criu swrk` that does what `FAKE_SWRK` says, for tests of what the real one cannot be made
//! to do.
//!
//! `FAKE_SWRK` is a list of steps, one a line. Version and feature checks, which a client makes
//! by itself, are answered as CRIU 4.2.1 would, without a step. Each message that arrives is
//! sent to the datagram socket `FAKE_SWRK_HEARD`, if that is set, and so is what is said there.
//!
//! ```text
//! take                    waits for a request
//! answer-one              answers one version or feature check
//! notify HOOK [PID]       calls a hook and waits for the answer; `refused` jumps to `fail`
//! notify-with-fd HOOK     the same, with a descriptor
//! call HOOK [PID]         calls a hook and does not wait for the answer
//! tell HOOK [PID]         calls a hook and goes on whatever the answer
//! tell-with-fd HOOK       the same, with a descriptor
//! reply                   succeeds
//! reply-bare              succeeds, and says no more
//! fail [ERRNO [MESSAGE]]  fails
//! reply-as TYPE           succeeds, as if asked for request number TYPE
//! reply-with-fd           succeeds, with a descriptor
//! empty                   the reply of a CRIU that did not know the request
//! cut                     half a reply
//! huge BYTES              a reply of so many bytes
//! say TEXT                writes to stderr
//! log TEXT                writes an error over the file `FAKE_SWRK_LOG`
//! flood BYTES             writes so many bytes to stderr
//! write-until-refused     says `writes` there, and writes to a file until the kernel does not let it
//! wait-for-file           waits until the file `FAKE_SWRK_GO` is there
//! hang                    waits for ever, also when the socket closes
//! exit STATUS             ends
//! ```

use std::{
    env, fs,
    io::{self, IoSlice, Write},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, FromRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    process, thread,
    time::Duration,
};

use prost::Message;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use stasis_criu::rpc::{
    CriuFeatures, CriuNotify, CriuPageServerInfo, CriuReq, CriuReqType, CriuResp, CriuRestoreResp,
    CriuVersion,
};

fn main() {
    let arguments: Vec<String> = env::args().collect();
    let [_, swrk, socket] = arguments.as_slice() else {
        panic!("fake-swrk: called as {arguments:?}");
    };
    assert_eq!(swrk, "swrk");
    // SAFETY: the client says that this descriptor is the socket, and nobody else here owns it.
    let socket = unsafe { OwnedFd::from_raw_fd(socket.parse().unwrap()) };
    let steps = env::var("FAKE_SWRK").unwrap_or_default();
    Fake {
        socket,
        asked: CriuReqType::Empty,
    }
    .play(&steps);
}

struct Fake {
    socket: OwnedFd,
    asked: CriuReqType,
}

impl Fake {
    fn play(&mut self, steps: &str) {
        for step in steps.lines().map(str::trim).filter(|step| !step.is_empty()) {
            let (verb, rest) = step.split_once(' ').unwrap_or((step, ""));
            match verb {
                "take" => self.take(),
                "answer-one" => {
                    self.answer_check();
                }
                "notify" => {
                    if !self.notify(rest, false) {
                        return self.fail("");
                    }
                }
                "notify-with-fd" => {
                    if !self.notify(rest, true) {
                        return self.fail("");
                    }
                }
                "call" => self.call(rest, false),
                "tell" => {
                    self.notify(rest, false);
                }
                "tell-with-fd" => {
                    self.notify(rest, true);
                }
                "reply" => self.send(&self.success(), false),
                "fail" => self.fail(rest),
                "reply-as" => {
                    let reply = CriuResp {
                        r#type: rest.parse().unwrap(),
                        ..self.success()
                    };
                    self.send(&reply, false);
                }
                "reply-bare" => {
                    let reply = CriuResp {
                        r#type: self.asked as i32,
                        success: true,
                        ..CriuResp::default()
                    };
                    self.send(&reply, false);
                }
                "reply-with-fd" => self.send(&self.success(), true),
                "empty" => self.send(
                    &CriuResp {
                        r#type: CriuReqType::Empty as i32,
                        ..CriuResp::default()
                    },
                    false,
                ),
                "cut" => {
                    let bytes = CriuResp {
                        cr_errmsg: Some(String::from("a text that is cut")),
                        ..self.success()
                    }
                    .encode_to_vec();
                    self.send_bytes(&bytes[..bytes.len() / 2], false);
                }
                "huge" => {
                    let reply = CriuResp {
                        cr_errmsg: Some("x".repeat(rest.parse().unwrap())),
                        ..self.success()
                    };
                    self.send(&reply, false);
                }
                "say" => eprintln!("{rest}"),
                "log" => {
                    let log = env::var_os("FAKE_SWRK_LOG").unwrap();
                    fs::write(log, format!("(00.1) Error (criu/x.c:1): {rest}\n")).unwrap();
                }
                "flood" => {
                    let bytes = vec![b'.'; rest.parse().unwrap()];
                    io::stderr().write_all(&bytes).unwrap();
                }
                "write-until-refused" => write_until_refused(),
                "wait-for-file" => {
                    let go = env::var_os("FAKE_SWRK_GO").unwrap();
                    while !fs::exists(&go).unwrap() {
                        thread::sleep(Duration::from_millis(1));
                    }
                }
                "hang" => loop {
                    thread::sleep(Duration::from_secs(60));
                },
                "exit" => process::exit(rest.parse().unwrap()),
                other => panic!("fake-swrk: no step {other:?}"),
            }
        }
        // What real CRIU does at the end of a connection that was kept open.
        if let Some(request) = self.receive() {
            panic!("fake-swrk: nobody expected {request:?}");
        }
        process::exit(255);
    }

    /// Waits for a request that is not answered by itself.
    fn take(&mut self) {
        self.asked = loop {
            if let Some(asked) = self.answer_check() {
                break asked;
            }
        };
    }

    /// Waits for a request, and answers it if it is for the version or for features.
    fn answer_check(&self) -> Option<CriuReqType> {
        let Some(request) = self.receive() else {
            process::exit(255);
        };
        let reply = CriuResp {
            r#type: request.r#type,
            success: true,
            ..CriuResp::default()
        };
        let reply = match request.r#type() {
            CriuReqType::Version => CriuResp {
                version: Some(CriuVersion {
                    major_number: 4,
                    minor_number: 2,
                    sublevel: Some(1),
                    ..CriuVersion::default()
                }),
                ..reply
            },
            CriuReqType::FeatureCheck => CriuResp {
                features: Some(CriuFeatures {
                    mem_track: Some(true),
                    lazy_pages: Some(false),
                    pidfd_store: Some(true),
                }),
                ..reply
            },
            asked => return Some(asked),
        };
        self.send(&reply, false);
        None
    }

    fn notify(&self, hook: &str, with_descriptor: bool) -> bool {
        self.call(hook, with_descriptor);
        self.receive().is_some_and(|answer| answer.notify_success())
    }

    fn call(&self, hook: &str, with_descriptor: bool) {
        let (script, pid) = match hook.split_once(' ') {
            Some((script, pid)) => (script, Some(pid.parse().unwrap())),
            None => (hook, None),
        };
        let notify = CriuResp {
            r#type: CriuReqType::Notify as i32,
            success: true,
            notify: Some(CriuNotify {
                script: Some(script.to_owned()),
                pid,
            }),
            ..CriuResp::default()
        };
        self.send(&notify, with_descriptor);
    }

    fn success(&self) -> CriuResp {
        let server = CriuPageServerInfo {
            // Whoever waits for it opens a pidfd.
            pid: Some(process::id().cast_signed()),
            port: Some(4712),
            ..CriuPageServerInfo::default()
        };
        let (asked, ps) = match self.asked {
            CriuReqType::PageServer | CriuReqType::PageServerChld => {
                (CriuReqType::PageServer, Some(server))
            }
            other => (other, None),
        };
        CriuResp {
            r#type: asked as i32,
            success: true,
            restore: (asked == CriuReqType::Restore).then_some(CriuRestoreResp { pid: 4711 }),
            ps,
            status: (asked == CriuReqType::WaitPid).then_some(0x0300),
            ..CriuResp::default()
        }
    }

    fn fail(&self, what: &str) {
        let (errno, message) = what.split_once(' ').unwrap_or((what, ""));
        let reply = CriuResp {
            success: false,
            restore: None,
            cr_errno: errno.parse().ok(),
            cr_errmsg: Some(message.to_owned()).filter(|message| !message.is_empty()),
            ..self.success()
        };
        self.send(&reply, false);
    }

    fn receive(&self) -> Option<CriuReq> {
        let mut bytes = vec![0; 1 << 20];
        let (_, length) = net::recv(&self.socket, &mut bytes[..], RecvFlags::empty()).ok()?;
        if length == 0 {
            return None;
        }
        let request = CriuReq::decode(&bytes[..length]).unwrap();
        tell(&format!("{request:?}"));
        Some(request)
    }

    fn send(&self, reply: &CriuResp, with_descriptor: bool) {
        self.send_bytes(&reply.encode_to_vec(), with_descriptor);
    }

    fn send_bytes(&self, bytes: &[u8], with_descriptor: bool) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let descriptor = fs::File::open("/dev/null").unwrap();
        let descriptors = [descriptor.as_fd()];
        if with_descriptor {
            assert!(control.push(SendAncillaryMessage::ScmRights(&descriptors)));
        }
        // Of the long ones that root's tests ask for; all others fit.
        let _ = net::sockopt::set_socket_send_buffer_size_force(&self.socket, bytes.len() * 2);
        net::sendmsg(
            &self.socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        )
        .unwrap();
    }
}

/// Tells the test something.
fn tell(what: &str) {
    if let Some(heard) = env::var_os("FAKE_SWRK_HEARD") {
        let mouth = UnixDatagram::unbound().unwrap();
        // The test may be over, or listen to the first messages only.
        mouth.set_nonblocking(true).unwrap();
        let _ = mouth.send_to(what.as_bytes(), heard);
    }
}

/// Writes as CRIU writes pages, until it is cancelled.
fn write_until_refused() {
    let file = tempfile::tempfile().unwrap();
    tell("writes");
    loop {
        match rustix::io::pwrite(&file, &[0; 4096], 0) {
            Ok(_) => thread::sleep(Duration::from_millis(1)),
            Err(rustix::io::Errno::FBIG) => return,
            Err(error) => panic!("fake-swrk: {error}"),
        }
    }
}
