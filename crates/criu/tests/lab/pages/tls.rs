//! The same over TLS, where CRIU connects itself.

use std::{path::PathBuf, time::Duration};

use stasis_criu::{
    Error, Options, PageServerChild,
    options::{PageServer, Tls},
};
use tempfile::TempDir;

use super::{Directories, LOOPBACK, Subject, any_port, memory, names, reap, run};
use crate::victim::{self, Victim};

/// An authority, and a certificate of the loopback's that it has signed.
struct Certificates(TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        let file = |name| made.file(name).into_os_string().into_string().unwrap();
        let (authority, its_key) = (file("authority.pem"), file("authority.key"));
        let (certificate, key) = (file("certificate.pem"), file("key.pem"));
        let new = [
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ];
        let new = [&["req"], &new[..], &["-nodes", "-days", "1"]].concat();
        let own = [
            "-subj",
            "/CN=authority",
            "-out",
            &authority,
            "-keyout",
            &its_key,
        ];
        run("openssl", &[&new[..], &own].concat());
        let signed = [
            "-subj",
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ];
        let by = ["-CA", &authority, "-CAkey", &its_key];
        let to = ["-out", &certificate, "-keyout", &key];
        run("openssl", &[&new[..], &signed, &by, &to].concat());
        made
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn tls(&self) -> Tls {
        Tls::default()
            .cacert(self.file("authority.pem"))
            .cert(self.file("certificate.pem"))
            .key(self.file("key.pem"))
    }
}

/// A page server whose dump has to show a certificate.
async fn start_page_server(directories: &Directories, tls: Tls) -> PageServerChild {
    let options = Options::new(&directories.other)
        .page_server(PageServer::at(LOOPBACK.into(), 0))
        .tls(tls);
    let server = victim::criu().start_page_server_child(&options).await;
    server.unwrap()
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn pages_that_went_over_tls_are_restored() {
    let directories = Directories::new();
    let certificates = Certificates::new();
    let server = start_page_server(&directories, certificates.tls()).await;
    let criu = victim::criu();
    let mut victim = Victim::start(&["--memory", "64", "--children", "1"]);
    let (tree, before) = (victim.tree(), memory(victim.pid(), 64));
    let options = victim::options(&directories.images)
        .pid(victim.pid())
        .page_server(PageServer::at(LOOPBACK.into(), server.port))
        .tls(certificates.tls());
    criu.dump(&options).await.unwrap();
    reap(victim.pid());
    let exit = server.wait().await.unwrap();
    assert!(exit.success(), "{exit}");

    directories.unite();
    let options = victim::options(&directories.other);
    criu.restore(&options).await.unwrap();
    victim.is_well(&tree);
    assert_eq!(memory(victim.pid(), 64), before);
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_dump_sends_nothing_to_a_page_server_of_another_authority() {
    let directories = Directories::new();
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories, others.tls()).await;
    let options = subject
        .dump_to(&directories.images)
        .page_server(PageServer::at(LOOPBACK.into(), server.port))
        .tls(certificates.tls());
    let error = victim::criu().dump(&options).await.unwrap_err();
    // CRIU aborts then.
    assert!(
        matches!(error, Error::Failed { .. } | Error::NoReply { .. }),
        "{error:?}"
    );
    let said = error.to_string();
    assert!(said.contains("Invalid certificate"), "{said}");
    let exit = server.wait().await.unwrap();
    assert!(!exit.success(), "{exit}");
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_peer_that_begins_no_tls_holds_a_dump_no_longer_than_its_deadline() {
    let directories = Directories::new();
    let certificates = Certificates::new();
    let mut subject = Subject::start().await;
    let silent = std::net::TcpListener::bind(any_port()).unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = subject
        .dump_to(&directories.images)
        .page_server(PageServer::at(LOOPBACK.into(), port))
        .tls(certificates.tls());
    let deadline = Duration::from_millis(500);
    let dumped = victim::criu().dump(&options).within(deadline).await;
    drop(silent);
    let Err(Error::Deadline { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    // CRIU aborts then, so that its log may be of use.
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
}
