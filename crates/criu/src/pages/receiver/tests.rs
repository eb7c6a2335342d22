//! Receivers to which no dump comes.

use super::*;

fn here() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

#[tokio::test]
async fn a_dump_that_never_comes_is_waited_for_no_longer_than_said() {
    let receiver = PageReceiver::bind(here()).await.unwrap();
    assert_ne!(receiver.address().port(), 0);
    let error = receiver
        .within(Duration::from_millis(20))
        .receive(&Criu::with_binary("/nowhere/criu"), &Options::new("/"))
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            Error::Pages {
                source: PagesError::NoDump { .. },
                ..
            }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_receiver_takes_no_other_page_server() {
    let receiver = PageReceiver::bind(here()).await.unwrap();
    let options = Options::new("/").page_server(PageServer::listening(27));
    let error = receiver.receive(&Criu::new(), &options).await.unwrap_err();
    assert!(matches!(error, Error::Options(_)), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let receiver = PageReceiver::bind(here()).await.unwrap();
    let address = receiver.address();
    let error = PageReceiver::bind(address).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen for a page server at {address}")
    );
}
