//! The same over TLS, where CRIU connects itself.

use stasis_criu::{Error, KnownCause, Options, PageServerChild, options::PageServer};
use tokio::net::TcpListener;

use super::{Before, Directories, LOOPBACK, Subject, any_port, cause, names, reap};
use crate::{
    certificates::Certificates,
    victim::{self, Victim},
};

/// Over TLS with these certificates, or in the clear.
fn over_tls(options: Options, certificates: Option<&Certificates>) -> Options {
    match certificates {
        Some(certificates) => options.tls(certificates.tls()),
        None => options,
    }
}

/// A page server of CRIU's own, at a port that it has chosen.
async fn start_page_server(
    directories: &Directories,
    certificates: Option<&Certificates>,
) -> PageServerChild {
    let options = Options::new(&directories.other).page_server(PageServer::at(LOOPBACK.into(), 0));
    let options = over_tls(options, certificates);
    let server = victim::criu().start_page_server_child(&options).await;
    server.unwrap()
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn pages_that_went_over_tls_are_restored() {
    let directories = Directories::new();
    let certificates = Certificates::new();
    let server = start_page_server(&directories, Some(&certificates)).await;
    let mut victim = Victim::start(&["--memory", "64", "--children", "1"]);
    let before = Before::of(&victim);
    let options = victim::options(&directories.images)
        .pid(victim.pid())
        .page_server(PageServer::at(LOOPBACK.into(), server.port))
        .tls(certificates.tls());
    victim::criu().dump(&options).await.unwrap();
    reap(&before.tree);
    let exit = server.wait().await.unwrap();
    assert!(exit.success(), "{exit}");

    before.comes_back(&mut victim, &directories).await;
}

/// How a dump fails to a page server that has other certificates, or one of the two none.
async fn disagree(server: Option<&Certificates>, dump: Option<&Certificates>) -> Error {
    let directories = Directories::new();
    let mut subject = Subject::start().await;
    let server = start_page_server(&directories, server).await;
    let to = PageServer::at(LOOPBACK.into(), server.port);
    let options = subject.dump_to(&directories.images).page_server(to);
    let options = over_tls(options, dump);
    let error = victim::criu().dump(&options).await.unwrap_err();
    let exit = server.wait().await.unwrap();
    assert!(!exit.success(), "{exit}");
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
    error
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_dump_fails_where_the_two_ends_do_not_agree_on_tls() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let error = disagree(Some(&others), Some(&certificates)).await;
    assert_eq!(cause(&error), Some(KnownCause::TlsFailed), "{error}");
    assert!(error.to_string().contains("Invalid certificate"), "{error}");
    let error = disagree(None, Some(&certificates)).await;
    assert_eq!(cause(&error), Some(KnownCause::TlsFailed), "{error}");
    // The dump is not told what the page server wants. Which of the two it sees first is chance.
    let error = disagree(Some(&certificates), None).await;
    assert!(
        matches!(
            cause(&error),
            Some(KnownCause::PageServerLost | KnownCause::ParentAtPageServer)
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("whether it wants TLS"),
        "{error}"
    );
}

#[tokio::test]
#[ignore = "needs the lab"]
async fn a_dump_whose_peer_begins_no_tls_can_be_cancelled() {
    let directories = Directories::new();
    let certificates = Certificates::new();
    let mut subject = Subject::start().await;
    let silent = TcpListener::bind(any_port()).await.unwrap();
    let port = silent.local_addr().unwrap().port();
    let options = subject
        .dump_to(&directories.images)
        .page_server(PageServer::at(LOOPBACK.into(), port))
        .tls(certificates.tls());
    let mut peer = None;
    let begins = async {
        let (peer, _) = peer.insert(silent.accept().await.unwrap());
        // The dump begins, and waits for an answer.
        peer.readable().await.unwrap();
    };
    let dumped = victim::criu().dump(&options).until(begins).await;
    drop((silent, peer));
    let Err(Error::Cancelled { left, .. }) = dumped else {
        panic!("{dumped:?}");
    };
    assert!(left.is_empty(), "{left}");
    // CRIU aborts then, so that its log may be of use.
    assert_eq!(names(&directories.images), ["dump.log"]);
    subject.runs_as_before();
}
