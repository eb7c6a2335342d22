//! A checkpoint that CRIU refuses: whoever asked by ctr reads the cause and a way out, from the
//! table that `stasis dump` has them from, and the container runs on.

use std::path::Path;

use stasis_criu::KnownCause;

use crate::support::{containerd::Containerd, lab::Release, wait};

/// What a program does that CRIU refuses, in which network, the cause, and what the way out names.
const DEEDS: [(&str, &str, KnownCause, &str); 5] = [
    (
        "socket(L, 2, 1, 0); listen(L, 1); socket(C, 2, 1, 0); connect(C, getsockname(L)) or die; \
         accept(A, L)",
        "",
        KnownCause::EstablishedTcp,
        "`tcp_established` in [checkpoint] of config.toml",
    ),
    (
        "open(G, '>', '/ghost'); syswrite(G, 'x' x (2 << 20)); unlink('/ghost') or die",
        "",
        KnownCause::GhostTooLarge,
        "`ghost-limit` in CRIU's configuration file",
    ),
    (
        // io_uring_setup(2), which has this number on every machine.
        "my $parameters = \"\\0\" x 120; syscall(425, 1, $parameters) > 0 or die",
        "",
        KnownCause::IoUring,
        "kernel.io_uring_disabled",
    ),
    (OUTSIDE, "", KnownCause::UnixPeerElsewhere, EXT_UNIX_SK),
    (
        OUTSIDE,
        "--net-host",
        KnownCause::ExternalUnixSocket,
        EXT_UNIX_SK,
    ),
];
const OUTSIDE: &str = "socket(U, 1, 2, 0); connect(U, pack_sockaddr_un('/data/outside')) or die";
const EXT_UNIX_SK: &str = "`ext_unix_sk` in [checkpoint] of config.toml";

for_each_criu_engine! {
    fn what_criu_refuses_is_told_with_its_cause_and_a_way_out(engine: Engine) {
        let containerd = Containerd::start();
        let data = containerd.directory().join("data");
        std::fs::create_dir(&data).expect("a new directory");
        let outside = std::os::unix::net::UnixDatagram::bind(data.join("outside"));
        let _outside = outside.expect("a socket");
        // The image has no perl, the lab has.
        let binds = [("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64")]
            .iter()
            .filter(|(source, _)| Path::new(source).is_dir())
            .map(|(source, target)| format!("--mount type=bind,src={source},dst={target},options=rbind:ro"))
            .collect::<Vec<_>>()
            .join(" ");
        let options = format!(
            "--detach --null-io {} {binds} --mount type=bind,src={},dst=/data,options=rbind:rw",
            containerd.runtime(engine),
            data.display(),
        );
        for (number, (deed, network, cause, way_out)) in DEEDS.into_iter().enumerate() {
            let id = format!("c{number}");
            let done = data.join(&id);
            // CRIU's parasite cuts a sleep short.
            let script = format!("use Socket; {deed}; open(D, '>', '/data/{id}'); sleep(1) while 1");
            containerd.run(&format!("{options} {network}"), &id).args(&["/usr/bin/perl", "-e", &script]).ok();
            wait::until(&format!("{cause:?} is there"), wait::SOON, || done.exists().then_some(()));
            let told = containerd.ctr(&format!("task checkpoint {id}")).run().fails();
            // CRIU 4.1.1, which comes with 1.7, asks TCP sockets for what kernels from 6.16 on refuse.
            let early = KnownCause::SocketOptionRefused.meaning();
            let tcp = cause == KnownCause::EstablishedTcp;
            let cut_short = tcp && containerd.release() == Release::V1_7 && told.contains(early);
            let parts = if cut_short { [early, "CRIU 4.2"] } else { [cause.meaning(), way_out] };
            for part in parts {
                assert!(told.contains(part), "{cause:?}: {told}");
            }
            assert_eq!(containerd.status(&id).as_deref(), Some("RUNNING"), "{cause:?}");
            containerd.remove(&id);
        }
    }
}
