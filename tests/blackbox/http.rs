//! HTTP as a backend speaks it, and as nobody should.

use std::{
    io::{Read, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;
use ureq::{
    Agent,
    http::{Request, Response, request::Builder},
};

use super::process::DEADLINE;

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn of(response: Response<ureq::Body>) -> Self {
        let (head, mut body) = response.into_parts();
        let headers = head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let is_stream = head.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        // A stream has no end.
        let body = if is_stream { String::new() } else { body.read_to_string().unwrap() };
        Self { status: head.status.as_u16(), headers, body }
    }

    /// Reads an answer as it came over the wire.
    pub(crate) fn parse(raw: &[u8]) -> Option<Self> {
        let raw = String::from_utf8_lossy(raw);
        let (head, body) = raw.split_once("\r\n\r\n")?;
        let mut lines = head.lines();
        let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
        let headers = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Some(Self { status, headers, body: body.to_owned() })
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(have, _)| have == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The body without what differs from request to request.
    pub(crate) fn body_without_id(&self) -> String {
        let id = self.header("x-request-id").unwrap_or_default();
        self.body.replace(&format!("\"request_id\":\"{id}\""), "")
    }

    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// That this is a whole problem of RFC 9457 with this status and code.
    #[track_caller]
    pub(crate) fn is_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        for member in ["type", "title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        assert_eq!(problem["status"], status, "{problem}");
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
        let is_not_now = status == 429 || status == 503;
        assert_eq!(self.header("retry-after").is_some(), is_not_now, "{self:?}");
        problem
    }
}

/// A caller of one listener, with or without a key.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    address: SocketAddr,
    key: Option<String>,
    idempotency_key: Option<String>,
    /// Every answer that came to this caller or to one made from it; `None` where there are too many to keep.
    heard: Option<Arc<Mutex<String>>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .timeout_global(Some(DEADLINE))
            .build();
        Self { agent: config.into(), address, key: None, idempotency_key: None, heard: Some(Arc::default()) }
    }

    pub(crate) fn with_key(&self, key: &str) -> Self {
        Self { key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) fn with_idempotency_key(&self, key: &str) -> Self {
        Self { idempotency_key: Some(key.to_owned()), ..self.clone() }
    }

    pub(crate) fn without_key(&self) -> Self {
        Self { key: None, ..self.clone() }
    }

    pub(crate) fn at(&self, address: SocketAddr) -> Self {
        Self { address, ..self.clone() }
    }

    /// One that keeps no answers.
    #[allow(dead_code, reason = "only the chaos, which has this file too, makes as many calls")]
    pub(crate) fn forgetful(&self) -> Self {
        Self { heard: None, ..self.clone() }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn heard(&self) -> String {
        self.heard.as_ref().map(|heard| heard.lock().unwrap().clone()).unwrap_or_default()
    }

    /// An answer, or why there is none.
    pub(crate) fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        self.try_call_with(method, path, &[], body)
    }

    fn request(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> Builder {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(key) = &self.key {
            request = request.header("Authorization", format!("Bearer {key}"));
        }
        if let Some(key) = &self.idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        request
    }

    /// The head of an answer, and its body as it comes.
    #[track_caller]
    pub(crate) fn open(&self, path: &str, headers: &[(&str, &str)]) -> (Answer, impl Read + use<>) {
        let request = self.request("GET", path, headers).body(()).unwrap();
        let (head, body) =
            self.agent.run(request).unwrap_or_else(|error| panic!("{path}: {error}")).into_parts();
        let nothing = ureq::Body::builder().data("");
        (Answer::of(Response::from_parts(head, nothing)), body.into_reader())
    }

    /// As [`Client::try_call`], with headers.
    pub(crate) fn try_call_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> Result<Answer, ureq::Error> {
        let request = self.request(method, path, headers);
        let response = match body {
            Some(body) => self.agent.run(request.body(body)?),
            None => self.agent.run(request.body(())?),
        }?;
        let answer = Answer::of(response);
        if let Some(heard) = &self.heard {
            heard.lock().unwrap().push_str(&format!("{:?}\n{}\n", answer.headers, answer.body));
        }
        Ok(answer)
    }

    #[track_caller]
    pub(crate) fn call(&self, method: &str, path: &str, body: Option<&[u8]>) -> Answer {
        self.try_call(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.call("GET", path, None)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, Some(body.to_string().as_bytes()))
    }

    #[track_caller]
    pub(crate) fn send(&self, path: &str, body: &[u8]) -> Answer {
        self.call("POST", path, Some(body))
    }

    /// The head of a request by hand.
    pub(crate) fn head(&self, method: &str, path: &str, headers: &[&str]) -> String {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if let Some(key) = &self.key {
            head.push_str(&format!("Authorization: Bearer {key}\r\n"));
        }
        for header in headers {
            head.push_str(header);
            head.push_str("\r\n");
        }
        head + "\r\n"
    }
}

/// Writes all of `bytes`, as a client does that does not listen while it speaks, then reads to the end.
pub(crate) fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(5))).unwrap();
    // The other side may have heard enough.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let mut piece = [0; 8192];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        answer.extend_from_slice(&piece[..count]);
    }
    answer
}

/// A chunked body of pieces.
pub(crate) fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut body = Vec::new();
    for piece in pieces {
        body.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        body.extend_from_slice(piece);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(b"0\r\n\r\n");
    body
}
