//! A whole Greenroom against the simulator, in this process, and a client by hand over a TCP socket.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use greenroom::{
    cli::process::Process,
    config,
    simulator::{Pace, RequestStats, Simulator, SimulatorConfig, start},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

/// Beyond it something hangs.
const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) async fn in_time<F: Future>(what: F) -> F::Output {
    timeout(DEADLINE, what).await.expect("this should not take twenty seconds")
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) json: Value,
}

impl Answer {
    #[track_caller]
    pub(crate) fn is_refused(&self, code: &str, names: &[&str]) {
        assert_eq!((self.status, self.json["code"].as_str()), (422, Some(code)), "{self:?}");
        let detail = self.json["detail"].as_str().unwrap();
        assert!(names.iter().all(|name| detail.contains(name)), "{detail}");
    }
}

pub(crate) struct Greenroom {
    process: Process,
    pub(crate) simulator: Simulator,
}

impl Greenroom {
    pub(crate) async fn start() -> Self {
        let simulator =
            start(SimulatorConfig { pace: Pace::Fast, ..SimulatorConfig::default() }).await.unwrap();
        let text = format!(
            "[server]\nlisten = \"127.0.0.1:0\"\nshutdown_s = 4\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [store]\nurl = \"memory:\"\n[upstream]\nconsole_url = \"{}\"\ningress_url = \"{}\"\n\
             [[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"key-of-the-service\"\n\
             keys = [\"key-of-acme\"]\n",
            simulator.console_url(),
            simulator.ingress_url(),
        );
        let config = config::parse(&text, "test", &BTreeMap::new()).unwrap();
        Self { process: Process::start(&config).await.unwrap(), simulator }
    }

    pub(crate) async fn stop(self) {
        assert!(in_time(self.process.stop()).await, "the sessions did not end in time");
        assert_eq!(self.simulator.stats().violations.total, 0);
        in_time(self.simulator.stop()).await;
    }

    pub(crate) async fn session(&self, audio_format: &str) -> String {
        let spec = json!({"avatar_id": "a", "sample_rate": 16_000, "audio_format": audio_format});
        let body = spec.to_string();
        let answer = self.post("/v1/sessions", &[body.as_bytes()]).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json["id"].as_str().unwrap().to_owned()
    }

    /// Posts audio and waits for the outcome. More than one piece goes as chunks, so without a length.
    pub(crate) async fn audio(&self, session: &str, pieces: &[&[u8]]) -> Answer {
        self.post(&format!("/v1/sessions/{session}/requests?wait=true"), pieces).await
    }

    pub(crate) async fn post(&self, path: &str, pieces: &[&[u8]]) -> Answer {
        in_time(post(self.process.data_address(), path, pieces)).await
    }

    /// What the service got of a request that completed.
    pub(crate) fn received(&self, answer: &Answer) -> RequestStats {
        assert_eq!((answer.status, answer.json["outcome"].as_str()), (200, Some("completed")), "{answer:?}");
        let req_id = answer.json["req_id"].as_str().unwrap();
        self.simulator.stats().requests.get(req_id).expect("the service knows the request").clone()
    }
}

async fn post(address: SocketAddr, path: &str, pieces: &[&[u8]]) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let length = match pieces {
        [body] => format!("Content-Length: {}", body.len()),
        _ => "Transfer-Encoding: chunked".to_owned(),
    };
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: greenroom\r\nAuthorization: Bearer key-of-acme\r\n\
         Connection: close\r\n{length}\r\n\r\n"
    );
    let write = async {
        writer.write_all(head.as_bytes()).await?;
        if let [body] = pieces {
            return writer.write_all(body).await;
        }
        for piece in pieces {
            writer.write_all(format!("{:x}\r\n", piece.len()).as_bytes()).await?;
            writer.write_all(piece).await?;
            writer.write_all(b"\r\n").await?;
        }
        writer.write_all(b"0\r\n\r\n").await
    };
    let mut bytes = Vec::new();
    // An answer that comes before the body is whole ends the writing, and is read all the same.
    let (_written, read) = tokio::join!(write, read_answer(&mut reader, &mut bytes));
    read
}

async fn read_answer(reader: &mut (impl tokio::io::AsyncRead + Unpin), bytes: &mut Vec<u8>) -> Answer {
    loop {
        let text = String::from_utf8_lossy(bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Some(length) = head.to_ascii_lowercase().split("content-length: ").nth(1)
            && body.len() >= length.lines().next().unwrap().parse::<usize>().unwrap()
        {
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            return Answer { status, json: serde_json::from_str(body).unwrap_or_default() };
        }
        let read = reader.read_buf(bytes).await.unwrap();
        assert_ne!(read, 0, "no whole answer: {}", String::from_utf8_lossy(bytes));
    }
}
