//! The command line as people use it: pipes, proxies, copied tokens, large files, bytes that terminals obey.

use crate::harness::*;
use crosspark::net::{CertificateResolver, TlsIdentity, server_config};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::io::Read;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Runs a command without blocking the runtime that serves it.
async fn run(args: &[&str]) -> (Output, String, String) {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let output = tokio::task::spawn_blocking(move || Command::new(PROGRAM).args(args).output().unwrap()).await.unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert!(!err.contains("panicked"), "{err}");
    (output, out, err)
}

/// The refusal of a large file arrives, although the file is not read to its end.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_of_large_files_arrive() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let node = a.start().await;
    let (publisher, folder) = (a.token_of("publisher").await, alliance.folder.path());
    let (file, policy_file) = (folder.join("large.csv"), folder.join("policy.json"));
    std::fs::write(&file, format!("area,surprise\n{}", "A1,2024-some-text-to-fill-the-file\n".repeat(1_000_000)))
        .unwrap();
    std::fs::write(&policy_file, research().to_string()).unwrap();
    for (schema, token, expected) in [
        ("urn:crosspark:schema:economic-indicator", publisher.as_str(), "`surprise` is neither a property"),
        ("urn:crosspark:schema:unheard-of", &publisher, "there is no schema"),
        ("urn:crosspark:schema:economic-indicator", "crosspark_wrong", "token"),
    ] {
        let args = ["publish", text(&file), "--schema", schema, "--policy", text(&policy_file), "--title", "Large"];
        let (output, _, err) = run(&[&args[..], &["--node", &a.management, "--token", token]].concat()).await;
        assert!(!output.status.success() && err.contains(expected), "{err}");
    }
    node.stop();
}

/// A node behind a TLS proxy; tokens with a line break; addresses that cannot work are named in words.
#[tokio::test(flavor = "multi_thread")]
async fn from_anywhere() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let node = a.start().await;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let certificate = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap().self_signed(&key).unwrap();
    let ca = alliance.folder.path().join("proxy.pem");
    std::fs::write(&ca, certificate.pem()).unwrap();
    let identity = TlsIdentity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
    };
    let acceptor =
        TlsAcceptor::from(Arc::new(server_config(Arc::new(CertificateResolver::new(&identity).unwrap())).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = format!("https://{}", listener.local_addr().unwrap());
    let behind = a.management.strip_prefix("http://").unwrap().to_owned();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, behind) = (acceptor.clone(), behind.clone());
            tokio::spawn(async move {
                let Ok(mut tls) = acceptor.accept(stream).await else { return };
                let mut plain = TcpStream::connect(behind).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
            });
        }
    });
    let admin = a.admin_token();
    let copied = format!("{admin}\r\n");
    let closed = format!("http://127.0.0.1:{}", free_port());
    let plain_as_tls = a.management.replace("http", "https");
    for (node, ca, token, expected) in [
        (proxy.as_str(), Some(&ca), copied.as_str(), Ok("did:web:park-a.example")),
        (&format!("{proxy}/"), Some(&ca), &admin, Ok("did:web:park-a.example")),
        (&proxy, None, &admin, Err("unknown issuer")),
        (&plain_as_tls, Some(&ca), &admin, Err("does not speak TLS")),
        (&closed, None, &admin, Err("nothing listens at its address; is `crosspark serve` running?")),
        ("http://park.example:8080", None, &admin, Err("unencrypted")),
        ("park.example", None, &admin, Err("is not a URL")),
        (&a.management, None, "crosspark_a\u{200b}b", Err("the token contains '\\u{200b}'")),
    ] {
        let mut args = vec!["status", "--node", node, "--token", token];
        args.extend(ca.iter().flat_map(|ca| ["--ca-file", text(ca)]));
        let (output, out, err) = run(&args).await;
        match expected {
            Ok(expected) => assert!(output.status.success() && out.contains(expected), "{node}: {out} {err}"),
            Err(expected) => assert!(!output.status.success() && err.contains(expected), "{node}: {err}"),
        }
    }
    node.stop();
}

/// The command line comes before the environment, which no usage error lists; with `--json`, errors are JSON.
#[tokio::test(flavor = "multi_thread")]
async fn the_environment_is_a_default() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let node = a.start().await;
    let file = alliance.folder.path().join("token");
    std::fs::write(&file, a.admin_token() + "\n").unwrap();
    let with_wrong_token = async |args: &[&str]| {
        let mut command = Command::new(PROGRAM);
        command.args(args).env("CROSSPARK_NODE", &a.management).env("CROSSPARK_TOKEN", "crosspark_wrong");
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(with_wrong_token(&["status", "--token-file", text(&file)]).await, (0, String::new()));
    let (code, said) = with_wrong_token(&["status"]).await;
    assert!(code == 3 && said.starts_with("error: the token is unknown"), "{said}");
    let (code, said) = with_wrong_token(&["status", "--json"]).await;
    let problem: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 3 && problem["status"] == 401 && problem["detail"].is_string(), "{said}");
    let (code, said) = with_wrong_token(&["status", "--json", "--token-file", "nowhere"]).await;
    let problem: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert!(code == 1 && problem["detail"].as_str().unwrap().contains("nowhere"), "{said}");
    let (code, said) = with_wrong_token(&["request", "new"]).await;
    assert!(code == 2 && said.contains("--provider") && !said.contains("--token"), "{said}");
    node.stop();
}

/// `crosspark ... | head` ends quietly, with the command's own exit code.
#[test]
fn a_closed_pipe_is_no_failure() {
    let alliance = Alliance::new();
    let folder = alliance.path();
    for args in [vec!["alliance", "show", text(&folder)], vec!["alliance", "show", text(&folder), "--json"]] {
        let mut child =
            Command::new(PROGRAM).args(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut complaint = String::new();
        child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        assert!(child.wait().unwrap().success() && complaint.is_empty(), "{complaint}");
    }
    // Output that cannot be written is a failure.
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let args = ["alliance", "show", text(&folder)];
    let output = Command::new(PROGRAM).args(args).stdout(full).output().unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("could not be written"));
}

/// Characters that a terminal obeys are shown by their code.
#[tokio::test(flavor = "multi_thread")]
async fn terminals_are_not_controlled() {
    let alliance = Alliance::new();
    let [a] = alliance.parks(["park-a"]);
    let node = a.start().await;
    let publisher = a.token_of("publisher").await;
    let (file, policy_file) = (alliance.folder.path().join("x.csv"), alliance.folder.path().join("policy.json"));
    std::fs::write(&file, "area,\u{1b}[2J\u{202e}x\nA,1\n").unwrap();
    std::fs::write(&policy_file, research().to_string()).unwrap();
    let schema = "urn:crosspark:schema:economic-indicator";
    let args = ["publish", text(&file), "--schema", schema, "--policy", text(&policy_file), "--title", "x"];
    let (_, _, err) = run(&[&args[..], &["--node", &a.management, "--token", &publisher]].concat()).await;
    assert!(err.contains("\\u001b[2J\\u202ex") && !err.contains(['\u{1b}', '\u{202e}']), "{err}");
    node.stop();
}
