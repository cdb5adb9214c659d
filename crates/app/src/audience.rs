//! The simulated audience of `demo`: reads what the sink got, and opens, clicks and unsubscribes over real HTTP.
//!
//! What each mail's reader does is a hash of the message, so two demos look alike. Robots are among them: a provider that
//! loads images ahead, a gateway that follows links. Not responsible for counting: the tracker must find out by itself.
//! To add a habit: a field of `Habits`, read in `habits`, acted on in `react`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use mail_parser::MessageParser;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::sink::Received;

/// Requests at once.
const CONNECTIONS: usize = 32;
/// How long one request may take.
const LIMIT: Duration = Duration::from_secs(5);
const BROWSER: &str =
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0 Safari/537.36";
const PREFETCH: &str = "Mozilla/5.0";
const GATEWAY: &str = "Barracuda Sentinel (EE)";

/// What the audience did, as far as it got an answer.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// Pixels fetched by people.
    pub(crate) opens: AtomicU64,
    /// Links followed by people.
    pub(crate) clicks: AtomicU64,
    /// Unsubscribes.
    pub(crate) unsubscribes: AtomicU64,
    /// Requests of robots.
    pub(crate) robots: AtomicU64,
    /// Requests without the answer that they should get.
    pub(crate) refused: AtomicU64,
}

/// An audience at work.
pub(crate) struct Audience {
    /// What it did so far.
    pub(crate) deeds: Arc<Deeds>,
    task: JoinHandle<()>,
}

impl Audience {
    /// Starts reading; it ends when the sender of `mail` is gone and everybody has reacted.
    pub(crate) fn start(mut mail: mpsc::UnboundedReceiver<Received>) -> Self {
        let deeds = Arc::new(Deeds::default());
        let counted = Arc::clone(&deeds);
        let task = tokio::spawn(async move {
            let room = Arc::new(Semaphore::new(CONNECTIONS));
            let mut readers = tokio::task::JoinSet::new();
            while let Some(received) = mail.recv().await {
                readers.spawn(react(received, Arc::clone(&counted), Arc::clone(&room)));
            }
            while readers.join_next().await.is_some() {}
        });
        Self { deeds, task }
    }

    /// Waits until everybody has reacted.
    pub(crate) async fn finish(self) {
        let _bounded = tokio::time::timeout(Duration::from_secs(20), self.task).await;
    }
}

/// What one reader does with one mail.
struct Habits {
    opens: bool,
    prefetch: bool,
    clicks: bool,
    gateway: bool,
    unsubscribes: bool,
    which_link: usize,
    after: Duration,
}

fn habits(message: &[u8]) -> Habits {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, message);
    let byte = |i: usize| u64::from(digest.as_ref()[i]);
    let opens = byte(0) < 150;
    Habits {
        opens,
        prefetch: byte(1) < 25,
        clicks: opens && byte(2) < 90,
        gateway: byte(3) < 12,
        unsubscribes: opens && byte(4) < 5,
        which_link: usize::from(digest.as_ref()[5]),
        after: Duration::from_millis(200 + byte(6) * 12),
    }
}

/// The links of a mail.
struct Links {
    pixel: Option<String>,
    clicks: Vec<String>,
    unsubscribe: Option<String>,
}

fn links(message: &[u8]) -> Option<Links> {
    let parsed = MessageParser::default().parse(message)?;
    let html = parsed.body_html(0)?;
    let with = |part: &str| {
        html.split('"').filter(|text| text.contains(part)).map(|text| text.replace("&amp;", "&")).collect::<Vec<_>>()
    };
    let header = parsed.header_raw("List-Unsubscribe").map(|value| value.trim().trim_matches(['<', '>']).to_owned());
    Some(Links { pixel: with("/api/track/open?").pop(), clicks: with("/api/track/click?"), unsubscribe: header })
}

async fn react(received: Received, deeds: Arc<Deeds>, room: Arc<Semaphore>) {
    let habits = habits(&received.message);
    let Some(links) = links(&received.message) else { return };
    let ask = async |url: &str, method, agent, expected: StatusCode, count: &AtomicU64| {
        let Ok(_permit) = room.acquire().await else { return };
        match tokio::time::timeout(LIMIT, request(url, method, agent)).await {
            Ok(Ok(status)) if status == expected => count.fetch_add(1, Ordering::Relaxed),
            _ => deeds.refused.fetch_add(1, Ordering::Relaxed),
        };
    };
    let click = links.clicks.get(habits.which_link % links.clicks.len().max(1));
    if let (true, Some(pixel)) = (habits.prefetch, &links.pixel) {
        ask(pixel, Method::GET, PREFETCH, StatusCode::OK, &deeds.robots).await;
    }
    if let (true, Some(link)) = (habits.gateway, click) {
        ask(link, Method::GET, GATEWAY, StatusCode::FOUND, &deeds.robots).await;
    }
    tokio::time::sleep(habits.after).await;
    if let (true, Some(pixel)) = (habits.opens, &links.pixel) {
        ask(pixel, Method::GET, BROWSER, StatusCode::OK, &deeds.opens).await;
    }
    if let (true, Some(link)) = (habits.clicks, click) {
        ask(link, Method::GET, BROWSER, StatusCode::FOUND, &deeds.clicks).await;
    }
    if let (true, Some(way_out)) = (habits.unsubscribes, &links.unsubscribe) {
        ask(way_out, Method::POST, BROWSER, StatusCode::OK, &deeds.unsubscribes).await;
    }
}

/// One request on a connection of its own; redirects are not followed, they lead outside.
async fn request(url: &str, method: Method, agent: &str) -> anyhow::Result<StatusCode> {
    let uri: hyper::Uri = url.parse()?;
    let authority = uri.authority().ok_or_else(|| anyhow::anyhow!("no host"))?.clone();
    let stream = TcpStream::connect(authority.as_str()).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driving = tokio::spawn(connection);
    let body = if method == Method::POST { "List-Unsubscribe=One-Click" } else { "" };
    let request = Request::builder()
        .method(method)
        .uri(uri.path_and_query().map_or("/", |p| p.as_str()))
        .header("host", authority.as_str())
        .header("user-agent", agent)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(Full::new(Bytes::from_static(body.as_bytes())))?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    answer.into_body().collect().await?;
    drop(sender);
    driving.abort();
    Ok(status)
}
