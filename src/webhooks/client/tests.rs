//! What an attempt promises, over real sockets.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;

/// Beyond it something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

fn delivery(timeout_ms: u64, allow_private: bool) -> Arc<ArcSwap<WebhookDelivery>> {
    let timeout = Duration::from_millis(timeout_ms);
    Arc::new(ArcSwap::from_pointee(WebhookDelivery { timeout, allow_private, allow_http: true }))
}

fn request(url: &str) -> Request {
    Request {
        url: Url::parse(url).unwrap(),
        id: "msg_1_session_parked".to_owned(),
        timestamp: 1_700_000_000,
        signature: "v1,c2lnbmF0dXJl".to_owned(),
        body: Bytes::from_static(b"{\"type\":\"session.parked\"}"),
    }
}

/// What a receiver does with the connection once a request came.
#[derive(Clone, Copy)]
enum Answer {
    Bytes(&'static [u8]),
    /// A head, and a body without end.
    EndlessBody,
    /// A head, and nothing of the body that it announces.
    SlowBody,
    Nothing,
}

struct Receiver {
    port: u16,
    connections: Arc<AtomicUsize>,
    heard: Arc<Mutex<String>>,
}

async fn receiver(answer: Answer, tls: Option<TlsAcceptor>) -> Receiver {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::<AtomicUsize>::default();
    let heard = Arc::<Mutex<String>>::default();
    let (counted, noted) = (Arc::clone(&connections), Arc::clone(&heard));
    actix_rt::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::Relaxed);
            let (tls, noted) = (tls.clone(), Arc::clone(&noted));
            actix_rt::spawn(async move {
                match tls {
                    Some(tls) => {
                        if let Ok(stream) = tls.accept(stream).await {
                            serve(stream, answer, &noted).await;
                        }
                    }
                    None => serve(stream, answer, &noted).await,
                }
            });
        }
    });
    Receiver { port, connections, heard }
}

async fn serve(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    answer: Answer,
    noted: &Mutex<String>,
) {
    let mut buffer = vec![0; 65_536];
    // A request of these tests comes as one piece or two, head and body.
    while let Ok(count) = stream.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        noted.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..count]));
        if !noted.lock().unwrap().ends_with('}') {
            continue;
        }
        match answer {
            Answer::Bytes(bytes) => stream.write_all(bytes).await.unwrap(),
            Answer::Nothing => {}
            Answer::SlowBody => {
                stream.write_all(b"HTTP/1.1 202 Accepted\r\nContent-Length: 100\r\n\r\n").await.unwrap();
            }
            Answer::EndlessBody => {
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n").await.unwrap();
                while stream.write_all(&[b'x'; 16_384]).await.is_ok() {}
                return;
            }
        }
    }
}

async fn ask(post: &HttpPost, url: &str) -> Ended {
    timeout(DEADLINE, post.post(request(url))).await.expect("an attempt ends")
}

#[actix_rt::test]
async fn a_message_is_posted_with_the_headers_of_the_specification_and_connections_are_used_again() {
    let receiver = receiver(Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n"), None).await;
    let post = HttpPost::new(delivery(5_000, true));
    let url = format!("http://127.0.0.1:{}/hook?token=1", receiver.port);
    for _ in 0..3 {
        let ended = ask(&post, &url).await;
        assert_eq!((ended.outcome, ended.status), (DeliveryOutcome::Delivered, Some(204)));
    }
    assert_eq!(receiver.connections.load(Ordering::Relaxed), 1);
    let heard = receiver.heard.lock().unwrap().to_lowercase();
    for part in [
        "post /hook?token=1 http/1.1\r\n",
        "\r\nwebhook-id: msg_1_session_parked\r\n",
        "\r\nwebhook-timestamp: 1700000000\r\n",
        "\r\nwebhook-signature: v1,c2lnbmf0dxjl\r\n",
        "\r\ncontent-type: application/json\r\n",
        "\r\nuser-agent: greenroom/",
        "\r\n\r\n{\"type\":\"session.parked\"}",
    ] {
        assert!(heard.contains(part), "{part} is not in {heard}");
    }
}

#[actix_rt::test]
async fn of_an_answer_only_the_status_counts_and_its_body_keeps_nobody_waiting() {
    let post = HttpPost::new(delivery(10_000, true));
    for (answer, status) in [(Answer::EndlessBody, 200), (Answer::SlowBody, 202)] {
        let receiver = receiver(answer, None).await;
        let began = Instant::now();
        let ended = ask(&post, &format!("http://127.0.0.1:{}/", receiver.port)).await;
        assert_eq!((ended.outcome, ended.status), (DeliveryOutcome::Delivered, Some(status)));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
}

#[actix_rt::test]
async fn who_does_not_answer_who_is_not_there_and_who_says_something_else_is_told_apart() {
    let silent = receiver(Answer::Nothing, None).await;
    let post = HttpPost::new(delivery(1_000, true));
    let ended = ask(&post, &format!("http://127.0.0.1:{}/", silent.port)).await;
    assert_eq!((ended.outcome, ended.status), (DeliveryOutcome::Timeout, None));
    let other = receiver(Answer::Bytes(b"220 mail.example ESMTP\r\n"), None).await;
    let ended = ask(&post, &format!("http://127.0.0.1:{}/", other.port)).await;
    assert_eq!(ended.outcome, DeliveryOutcome::Unreachable, "{ended:?}");
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let ended = ask(&post, &format!("http://127.0.0.1:{port}/hook?token=hunter2")).await;
    assert_eq!(ended.outcome, DeliveryOutcome::Unreachable, "{ended:?}");
    assert!(!ended.detail.contains("hunter2"), "{ended:?}");
    let busy = receiver(
        Answer::Bytes(b"HTTP/1.1 429 Slow Down\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n"),
        None,
    );
    let ended = ask(&post, &format!("http://127.0.0.1:{}/", busy.await.port)).await;
    assert_eq!((ended.outcome, ended.retry_after), (DeliveryOutcome::Refused, Some(Duration::from_secs(7))));
}

#[actix_rt::test]
async fn nothing_is_connected_to_an_address_that_is_not_public() {
    let receiver = receiver(Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n"), None).await;
    let delivery = delivery(5_000, false);
    let post = HttpPost::new(Arc::clone(&delivery));
    for host in ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1", "0x7f000001"] {
        let ended = ask(&post, &format!("http://{host}:{}/", receiver.port)).await;
        assert_eq!(ended.outcome, DeliveryOutcome::Forbidden, "{host}: {ended:?}");
    }
    assert_eq!(receiver.connections.load(Ordering::Relaxed), 0);
    // A reload lifts it.
    delivery.rcu(|delivery| WebhookDelivery { allow_private: true, ..(**delivery).clone() });
    let ended = ask(&post, &format!("http://localhost:{}/", receiver.port)).await;
    assert_eq!(ended.outcome, DeliveryOutcome::Delivered, "{ended:?}");
}

#[test]
fn of_what_a_name_leads_to_only_public_addresses_are_asked() {
    let addresses =
        |texts: &[&str]| -> Vec<SocketAddr> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let mixed = addresses(&["10.0.0.1:443", "1.1.1.1:443", "[::1]:443", "[2606:4700::1]:443"]);
    let allowed = checked(mixed.clone().into_iter(), false).unwrap();
    assert_eq!(allowed, addresses(&["1.1.1.1:443", "[2606:4700::1]:443"]));
    assert_eq!(checked(mixed.clone().into_iter(), true).unwrap(), mixed);
    assert!(checked(addresses(&["10.0.0.1:443"]).into_iter(), false).is_err());
    assert!(checked(std::iter::empty(), false).unwrap().is_empty());
}

#[actix_rt::test]
async fn a_receiver_with_tls_must_have_a_certificate_that_is_known() {
    install_crypto();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(server));
    let receiver = receiver(Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n"), Some(acceptor)).await;
    let url = format!("https://localhost:{}/", receiver.port);
    let ended = ask(&HttpPost::new(delivery(5_000, true)), &url).await;
    assert_eq!(ended.outcome, DeliveryOutcome::Unreachable, "{ended:?}");
    assert!(receiver.heard.lock().unwrap().is_empty());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let trusting = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let post = HttpPost::with(delivery(5_000, true), Arc::new(trusting));
    assert_eq!(ask(&post, &url).await.outcome, DeliveryOutcome::Delivered);
    // Its name counts, and not only that it is known.
    let other = format!("https://127.0.0.1:{}/", receiver.port);
    assert_eq!(ask(&post, &other).await.outcome, DeliveryOutcome::Unreachable);
}
