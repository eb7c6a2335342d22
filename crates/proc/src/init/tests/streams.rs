//! The streams of an init process, from end to end.

use super::*;

#[tokio::test(flavor = "current_thread")]
async fn streams_that_cannot_be_served_are_refused_before_anything_is_made() {
    let fixture = Fixture::new("exit 0");
    let refuse = |stdio| {
        fixture.init.create(CreateConfig {
            stdio,
            restore: None,
        })
    };
    let stdio = StdioPaths {
        stdout: "binary:///bin/log".to_owned(),
        ..StdioPaths::default()
    };
    let error = refuse(stdio).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert!(
        error
            .to_string()
            .starts_with("stdout by binary:// is not supported"),
        "{error}"
    );
    let error = refuse(StdioPaths {
        terminal: true,
        ..StdioPaths::default()
    })
    .await
    .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unimplemented);
    assert_eq!(fixture.engine.calls(), [""; 0]);
}

#[tokio::test(flavor = "current_thread")]
async fn output_is_whole_when_a_delete_returns() {
    let fixture = Fixture::new("head -c 1000000 /dev/zero | tr '\\0' x; echo ; echo end >&2");
    let (stdout, stderr) = (fixture.fifo("out"), fixture.fifo("err"));
    let paths = StdioPaths {
        stdout: stdout.clone(),
        stderr: stderr.clone(),
        ..StdioPaths::default()
    };
    let (out, err) = (reader(&stdout), reader(&stderr));
    fixture
        .init
        .create(CreateConfig {
            stdio: paths.clone(),
            restore: None,
        })
        .await
        .unwrap();
    let life = async {
        fixture.init.start().await.unwrap();
        fixture.init.wait().await;
        fixture.init.delete().await.unwrap()
    };
    let (_, out, err) = tokio::join!(life, read_to_end(out), read_to_end(err));
    assert_eq!((out.len(), err.as_str()), (1_000_001, "end\n"));
    assert_eq!(fixture.init.stdio(), paths);
}

#[tokio::test(flavor = "current_thread")]
async fn input_ends_when_it_is_closed_and_not_when_a_writer_goes() {
    let mut fixture = Fixture::new("test \"$(cat)\" = ab");
    let stdin = fixture.fifo("in");
    let stdio = StdioPaths {
        stdin: stdin.clone(),
        ..StdioPaths::default()
    };
    fixture
        .init
        .create(CreateConfig {
            stdio,
            restore: None,
        })
        .await
        .unwrap();
    fixture.init.start().await.unwrap();
    fs::write(Path::new(&stdin), "a").unwrap();
    fs::write(Path::new(&stdin), "b").unwrap();
    assert_eq!(fixture.init.status(), Status::Running);
    fixture.init.close_stdin().await;
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
}

#[tokio::test(flavor = "current_thread")]
async fn input_that_is_closed_before_any_writer_came_ends_at_once() {
    let mut fixture = Fixture::new("test -z \"$(cat)\"");
    let stdio = StdioPaths {
        stdin: fixture.fifo("in"),
        ..StdioPaths::default()
    };
    fixture
        .init
        .create(CreateConfig {
            stdio,
            restore: None,
        })
        .await
        .unwrap();
    fixture.init.close_stdin().await;
    fixture.init.start().await.unwrap();
    assert_eq!(fixture.exits.recv().await.unwrap().status, 0);
}
