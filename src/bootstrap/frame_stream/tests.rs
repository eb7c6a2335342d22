//! Tests of [`super`], with a client's frames on one side and ttrpc's place on the other.

use containerd_shim::protos::ttrpc::proto::MESSAGE_TYPE_DATA;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const KNOWN: &str = "containerd.task.v3.Task";

/// A client, and the connection as ttrpc has it.
fn pair() -> (DuplexStream, FrameStream<DuplexStream>, Arc<FrameWatch>) {
    let (client, server) = duplex(1 << 16);
    let watch = FrameWatch::new(vec![KNOWN]);
    (client, FrameStream::new(server, Arc::clone(&watch)), watch)
}

fn frame(stream_id: u32, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend(stream_id.to_be_bytes());
    frame.extend([kind, 0]);
    frame.extend(body);
    frame
}

fn request(stream_id: u32, service: &str, method: &str, payload: &[u8]) -> Vec<u8> {
    let request = Request {
        service: service.to_owned(),
        method: method.to_owned(),
        payload: payload.to_vec(),
        ..Request::default()
    };
    frame(
        stream_id,
        MESSAGE_TYPE_REQUEST,
        &request.write_to_bytes().unwrap(),
    )
}

async fn read_frame(from: &mut (impl AsyncRead + Unpin)) -> (MessageHeader, Vec<u8>) {
    let mut header = [0; MESSAGE_HEADER_LENGTH];
    from.read_exact(&mut header).await.unwrap();
    let header = MessageHeader::from(header);
    let mut body = vec![0; header.length as usize];
    from.read_exact(&mut body).await.unwrap();
    (header, body)
}

async fn read_request(from: &mut (impl AsyncRead + Unpin)) -> (u32, Request) {
    let (header, body) = read_frame(from).await;
    (header.stream_id, Request::parse_from_bytes(&body).unwrap())
}

#[tokio::test]
async fn a_request_for_a_known_service_passes_unchanged() {
    let (mut client, mut connection, _) = pair();
    let sent = request(1, KNOWN, "State", b"payload");

    client.write_all(&sent).await.unwrap();

    let mut received = vec![0; sent.len()];
    connection.read_exact(&mut received).await.unwrap();
    assert_eq!(received, sent);
}

#[tokio::test]
async fn a_request_for_an_unknown_service_goes_to_the_service_without_methods() {
    let (mut client, mut connection, _) = pair();
    client
        .write_all(&request(5, "a.Transfer", "Get", &[7; 50_000]))
        .await
        .unwrap();
    client
        .write_all(&request(7, KNOWN, "State", b""))
        .await
        .unwrap();

    let (stream_id, readdressed) = read_request(&mut connection).await;
    assert_eq!(stream_id, 5);
    assert_eq!(readdressed.service, unknown_service::NAME);
    assert_eq!(readdressed.method, "a.Transfer/Get");
    let (stream_id, next) = read_request(&mut connection).await;
    assert_eq!((stream_id, &*next.service), (7, KNOWN));
}

#[tokio::test]
async fn frames_may_come_in_any_pieces() {
    let (mut client, mut connection, _) = pair();
    let mut sent = request(1, "a.Unknown", "Get", b"x");
    sent.extend(request(3, KNOWN, "Kill", &[1; 300]));
    sent.extend(frame(5, MESSAGE_TYPE_DATA, &[2; 300]));
    sent.extend(frame(7, MESSAGE_TYPE_DATA, &[]));
    let writer = tokio::spawn(async move {
        for byte in sent {
            client.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        client
    });

    assert_eq!(
        read_request(&mut connection).await.1.method,
        "a.Unknown/Get"
    );
    assert_eq!(read_request(&mut connection).await.1.payload, [1; 300]);
    assert_eq!(read_frame(&mut connection).await.1, [2; 300]);
    assert_eq!(read_frame(&mut connection).await.0.stream_id, 7);
    drop(writer.await.unwrap());
    assert_eq!(connection.read(&mut [0; 10]).await.unwrap(), 0);
}

#[tokio::test]
async fn a_frame_beyond_the_cap_passes_without_being_held() {
    let (mut client, mut connection, _) = pair();
    let length = MESSAGE_LENGTH_MAX + 1;
    let sent = frame(1, MESSAGE_TYPE_REQUEST, &vec![3; length]);
    let writer = tokio::spawn(async move {
        client.write_all(&sent).await.unwrap();
        client
            .write_all(&request(3, KNOWN, "State", b""))
            .await
            .unwrap();
        client
    });

    let (header, body) = read_frame(&mut connection).await;

    assert_eq!((header.stream_id, body.len()), (1, length));
    assert!(connection.input.frame.capacity() <= CHUNK);
    assert_eq!(read_request(&mut connection).await.0, 3);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn a_header_alone_takes_no_memory() {
    let (mut client, mut connection, _) = pair();
    let mut header = frame(1, MESSAGE_TYPE_REQUEST, &[]);
    header[..4].copy_from_slice(&u32::try_from(MESSAGE_LENGTH_MAX).unwrap().to_be_bytes());

    client.write_all(&header).await.unwrap();
    drop(client);

    assert_eq!(connection.read(&mut [0; 10]).await.unwrap(), 0);
    assert!(connection.input.frame.capacity() <= CHUNK);
}

#[tokio::test]
async fn a_request_that_is_none_is_left_to_ttrpc() {
    let (mut client, mut connection, _) = pair();

    client
        .write_all(&frame(1, MESSAGE_TYPE_REQUEST, &[0xff; 9]))
        .await
        .unwrap();

    assert_eq!(read_frame(&mut connection).await.1, [0xff; 9]);
}

#[tokio::test]
async fn the_reply_of_shutdown_is_waited_for_until_its_last_byte_has_left() {
    let (mut client, mut connection, watch) = pair();
    client
        .write_all(&request(9, KNOWN, SHUTDOWN, b""))
        .await
        .unwrap();
    read_request(&mut connection).await;
    let reply = frame(9, MESSAGE_TYPE_RESPONSE, &[4; 100]);
    let other = frame(7, MESSAGE_TYPE_RESPONSE, &[4; 100]);

    connection.write_all(&other).await.unwrap();
    for part in [&reply[..4], &reply[4..50], &reply[50..109]] {
        connection.write_all(part).await.unwrap();
        assert_eq!(*watch.shutdowns.borrow(), 1);
    }
    connection.write_all(&reply[109..]).await.unwrap();

    watch.shutdown_replies().await;
}

#[tokio::test]
async fn a_client_that_goes_away_gets_no_reply_to_shutdown() {
    let (mut client, mut connection, watch) = pair();
    client
        .write_all(&request(9, KNOWN, SHUTDOWN, b""))
        .await
        .unwrap();
    read_request(&mut connection).await;
    assert_eq!(*watch.shutdowns.borrow(), 1);

    drop(connection);

    watch.shutdown_replies().await;
}
