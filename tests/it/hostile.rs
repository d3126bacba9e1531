//! Peers that are slow, silent, numerous, or send endless or false answers, and manipulated registers. Each is refused,
//! and the node's other work continues.

use crate::harness::*;
use crosspark::net::{CertificateResolver, TlsIdentity, server_config};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

/// Behaviour of a hostile server after it has read a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    ClosesAtOnce,
    Silent,
    /// Sends this text and closes the connection.
    Text(&'static str),
    /// Sends the first text, then the second one endlessly.
    Repeats(&'static str, &'static str),
    /// Sends this text, then one byte per second.
    Drips(&'static str),
    /// Speaks without TLS.
    Plain,
    /// Presents another member's key.
    OthersKey,
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";

/// Names, behaviours, and the message to the user.
fn modes() -> Vec<(&'static str, Mode, &'static str)> {
    vec![
        ("closing", Mode::ClosesAtOnce, "cannot be reached"),
        ("silent", Mode::Silent, "no response in time"),
        ("garbage", Mode::Text("SMTP ready\r\n\r\n"), "cannot be reached"),
        ("endless-head", Mode::Repeats("HTTP/1.1 200 OK\r\n", "x-more: and more of it\r\n"), "cannot be reached"),
        (
            "endless-body",
            Mode::Repeats(
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n[",
                "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,",
            ),
            "longer than",
        ),
        ("dripping", Mode::Drips("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n["), "did not end in time"),
        ("truncated", Mode::Text("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"dataset\":"), "cannot be reached"),
        ("lying", Mode::Text("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{\"dataset\":[]}"), "violates the protocol"),
        (
            "redirecting",
            Mode::Text("HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n"),
            "refused (302)",
        ),
        ("prose", Mode::Text("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"), "violates the protocol"),
        ("failing", Mode::Text("HTTP/1.1 500 No\r\ncontent-length: 2\r\n\r\nno"), "refused (500"),
        ("plain", Mode::Plain, "cannot be reached"),
        ("masked", Mode::OthersKey, "not among those that the register pins"),
    ]
}

async fn behave<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, mode: Mode) -> std::io::Result<()> {
    if mode == Mode::ClosesAtOnce {
        return Ok(());
    }
    let mut head = vec![0; 65_536];
    let _ = stream.read(&mut head).await?;
    match mode {
        Mode::Silent => tokio::time::sleep(Duration::from_secs(100)).await,
        Mode::Text(text) => {
            stream.write_all(text.as_bytes()).await?;
            stream.shutdown().await?;
        }
        Mode::Repeats(first, more) => {
            stream.write_all(first.as_bytes()).await?;
            loop {
                stream.write_all(more.repeat(100).as_bytes()).await?;
            }
        }
        Mode::Drips(first) => {
            stream.write_all(first.as_bytes()).await?;
            loop {
                stream.write_all(b"1,").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Mode::Plain => stream.write_all(OK.as_bytes()).await?,
        Mode::ClosesAtOnce | Mode::OthersKey => {}
    }
    Ok(())
}

async fn serve_badly(park: &Park, identity: TlsIdentity, mode: Mode) {
    let address: SocketAddr = park.endpoint.strip_prefix("https://").unwrap().parse().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    let acceptor =
        TlsAcceptor::from(Arc::new(server_config(Arc::new(CertificateResolver::new(&identity).unwrap())).unwrap()));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if mode == Mode::Plain {
                    let _ = behave(stream, mode).await;
                } else if let Ok(stream) = acceptor.accept(stream).await {
                    let _ = behave(stream, mode).await;
                }
            });
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_that_misbehave_hold_nothing_up() {
    let alliance = Alliance::new();
    let modes = modes();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let hostile: Vec<Park> = modes.iter().map(|(name, ..)| Park::make(&alliance, name)).collect();
    hostile.iter().for_each(|park| park.admit(&alliance));
    for (park, (_, mode, _)) in hostile.iter().zip(&modes) {
        park.join(&alliance);
        let identity = if *mode == Mode::OthersKey { a.identity() } else { park.identity() };
        serve_badly(park, identity, *mode).await;
    }
    let (run_a, run_b) = (a.start().await, b.start().await);
    // All registers in sequence, as a node gets them after it was unreachable.
    for sequence in 4..=modes.len() + 3 {
        let jws = std::fs::read_to_string(alliance.path().join(format!("registers/{sequence}.jws"))).unwrap();
        let response = crosspark::net::own_node_client()
            .unwrap()
            .post(format!("{}/v1/register", b.management))
            .bearer_auth(b.admin_token())
            .body(jws);
        assert!(response.send().await.unwrap().status().is_success());
    }
    let (published, _) = a.publish("economic-indicator", &records(100), "ndjson", &research()).await;
    let before = run_b.memory_kib();
    let token = b.token_of("requester").await;
    let ask = async |park: &Park| {
        let begun = Instant::now();
        let (status, said) = b.call("GET", &format!("/v1/catalog?peer={}", park.id), &token, None).await;
        (status, said, begun.elapsed())
    };
    let asked = futures_util::future::join_all(hostile.iter().map(ask));
    // An honest exchange at the same time is not delayed.
    let honest = async {
        let mut slowest = Duration::ZERO;
        for _ in 0..10 {
            let begun = Instant::now();
            let end = b.request(&a, dataset_of(&published), "research").await;
            assert_eq!(end["stage"], "verified", "{end}");
            slowest = slowest.max(begun.elapsed());
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        slowest
    };
    let (answers, slowest) = tokio::join!(asked, honest);
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    for ((name, _, part), (status, said, took)) in modes.iter().zip(answers) {
        assert!(matches!(status, 400 | 503), "{name}: {status} {said}");
        assert!(said.to_string().contains(part), "{name}: {said}");
        assert!(took < Duration::from_secs(40), "{name} took {took:?}");
    }
    let grown = run_b.memory_kib().saturating_sub(before);
    assert!(grown < 96 * 1024, "memory grew by {grown} KiB");
    run_a.stop();
    run_b.stop();
}

/// A TLS connection to a park, as `identity`.
async fn dial(
    park: &Park,
    alliance: &Alliance,
    identity: TlsIdentity,
    from: &str,
) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<>> {
    let address: SocketAddr = park.endpoint.strip_prefix("https://").unwrap().parse().unwrap();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let stream: TcpStream = socket.connect(address).await.ok()?;
    let config = park.client_config(alliance, identity);
    let name = rustls::pki_types::ServerName::try_from("park.example").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_take_too_much_get_no_more() {
    let alliance = Alliance::new();
    let [a, b, c] = alliance.parks(["park-a", "park-b", "park-c"]);
    let run = a.start().await;
    let (before, host) = (run.memory_kib(), "host: a\r\n");
    // Request heads without bodies: each counts as a request in flight.
    let half = format!(
        "POST /dsp/2025-1/catalog/request HTTP/1.1\r\n{host}content-type: application/json\r\ncontent-length: 100\r\n\r\n"
    );
    let mut held = Vec::new();
    for _ in 0..crosspark::core::limits::REQUESTS_PER_MEMBER_MAX {
        let mut stream = dial(&a, &alliance, b.identity(), "127.0.0.1").await.unwrap();
        stream.write_all(half.as_bytes()).await.unwrap();
        held.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let greedy = a.client(&alliance, b.identity());
    let answer = greedy.get(format!("{}/register", a.endpoint)).send().await.unwrap();
    assert_eq!(answer.status(), 429);
    assert!(answer.headers().contains_key("retry-after"));
    let other = a.client(&alliance, c.identity());
    assert_eq!(other.get(format!("{}/register", a.endpoint)).send().await.unwrap().status(), 200);
    drop(held);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let answer = greedy.get(format!("{}/register", a.endpoint)).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the permits of closed connections are free again");

    // More silent connections than permits, from many addresses: a new connection is still served.
    let mut idle = Vec::new();
    for n in 0..crosspark::core::limits::CONNECTIONS_MAX + 200 {
        let from = format!("127.0.{}.{}", 1 + n / 200, 1 + n % 200);
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let address: SocketAddr = a.endpoint.strip_prefix("https://").unwrap().parse().unwrap();
        if let Ok(Ok(stream)) = tokio::time::timeout(Duration::from_secs(5), socket.connect(address)).await {
            idle.push(stream);
        }
    }
    let begun = Instant::now();
    let fresh = a.client(&alliance, c.identity());
    let answer = fresh.get(format!("{}/register", a.endpoint)).timeout(Duration::from_secs(20)).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let grown = run.memory_kib().saturating_sub(before);
    assert!(grown < 200 * 1024, "memory grew by {grown} KiB");
    drop(idle);
    // The rejected connections are in the log, as counts.
    let counted = a.entries().await;
    let shed: u64 = counted.iter().filter_map(|row| row["entry"]["detail"]["shed"].as_u64()).sum();
    assert!(shed > 0, "rejected connections are counted");
    run.stop();
}

/// Registers that are older, have the same sequence but other content, follow a gap, or are of another alliance.
#[tokio::test(flavor = "multi_thread")]
async fn bent_registers_are_refused_and_logged() {
    let alliance = Alliance::new();
    let [a, b] = alliance.parks(["park-a", "park-b"]);
    let run = a.start().await;
    let twin = alliance.folder.path().join("twin");
    let copied = std::process::Command::new("cp").args(["-a", text(&alliance.path()), text(&twin)]).status();
    assert!(copied.unwrap().success());
    std::fs::copy(alliance.path().with_extension("kek"), twin.with_extension("kek")).unwrap();
    let stranger = Alliance::new();
    let older = alliance.register();
    alliance.command("renew", &b);
    good(&["alliance", "suspend", text(&twin), &b.id, "--reason", "a test"]);
    let fork = std::fs::read_to_string(twin.join("register.jws")).unwrap();
    good(&["alliance", "renew", text(&twin)]);
    let behind_fork = std::fs::read_to_string(twin.join("register.jws")).unwrap();
    good(&["alliance", "renew", text(&twin)]);
    let gap = std::fs::read_to_string(twin.join("register.jws")).unwrap();
    let install = async |jws: &str| {
        let client = crosspark::net::own_node_client().unwrap();
        let request = client.post(format!("{}/v1/register", a.management)).bearer_auth(a.admin_token());
        let response = request.body(jws.to_owned()).send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    assert_eq!(install(&alliance.register()).await.1["installed"], true);
    for (jws, part) in [
        (older, "older registers are never installed"),
        (fork, "two different registers with sequence"),
        (behind_fork, "two different registers with sequence"),
        (gap, "install the registers between them first"),
        (stranger.register(), "signed with another key"),
        ("x.y.z".to_owned(), "header"),
    ] {
        let before = a.entries().await.len();
        let (status, said) = install(&jws).await;
        assert!(status == 400 && said.to_string().contains(part), "{part}: {said}");
        let entries = a.entries().await;
        assert_eq!(entries.len(), before + 1, "{part}");
        assert_eq!(entries[before]["entry"]["kind"], "register.refused");
        // A repeated register is refused again but logged only once.
        assert_eq!(install(&jws).await.0, 400);
        assert_eq!(a.entries().await.len(), before + 1);
    }
    assert_eq!(a.get("admin", "/v1/status").await["register"]["sequence"], json!(4));
    run.stop();
}
