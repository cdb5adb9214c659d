//! The sink over real connections: each fault fires and is counted, messages arrive as they were.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

async fn talk(address: SocketAddr, lines: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(lines.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn message(recipient: &str, body: &str) -> String {
    format!("MAIL FROM:<a@b.c>\r\nRCPT TO:<{recipient}>\r\nDATA\r\nMessage-ID: <1@b.c>\r\n\r\n{body}\r\n.\r\n")
}

#[tokio::test]
async fn messages_are_kept_and_faults_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (told, mut heard) = mpsc::unbounded_channel();
    let options = SinkOptions {
        folder: Some(dir.path().join("mail")),
        journal: Some(dir.path().join("journal")),
        faults: Faults::new(true, 0, std::time::Duration::ZERO),
        told: Some(told),
    };
    let sink = Listening::open("127.0.0.1:0".parse().unwrap(), options).await.unwrap();
    let address = sink.address().unwrap();
    let shutdown = Shutdown::new();
    let serving = tokio::spawn(sink.run(shutdown.clone()));

    let answers = talk(
        address,
        &format!("EHLO x\r\n{}{}QUIT\r\n", message("ana@x.test", "..dot"), message("greylist+a@x.test", "x")),
    )
    .await;
    assert!(
        answers.contains("250 2.0.0 Ok: kept")
            && answers.contains("451 4.7.1")
            && answers.ends_with("221 2.0.0 Bye\r\n")
    );
    assert!(
        talk(address, &message("unknown+a@x.test", "x").replace("DATA\r\n", "QUIT\r\n")).await.contains("550 5.1.1")
    );
    assert!(!talk(address, &message("silent+a@x.test", "x")).await.contains("kept"), "closed without an answer");
    assert!(talk(address, &(message("greylist+a@x.test", "x") + "QUIT\r\n")).await.contains("kept"), "the second time");

    shutdown.stop();
    let (received, fired) = serving.await.unwrap();
    assert_eq!(received, 3);
    let count = |word: &str| fired.iter().find(|(w, _)| w == word).map(|(_, n)| *n);
    assert_eq!((count("greylist"), count("unknown"), count("silent")), (Some(1), Some(1), Some(1)));
    assert_eq!(&*heard.recv().await.unwrap().message, b"Message-ID: <1@b.c>\r\n\r\n.dot\r\n");
    let journal = std::fs::read_to_string(dir.path().join("journal")).unwrap();
    assert_eq!(journal.lines().next().unwrap(), "<1@b.c>\tana@x.test");
    assert_eq!(std::fs::read_dir(dir.path().join("mail")).unwrap().count(), 3);
}
