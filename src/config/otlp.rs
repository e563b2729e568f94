//! `[telemetry.otlp]`: where traces are sent, and how many of them.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use url::{Host, Url};

use super::{Authorities, reader::Section, tls::read_authorities};

const ENDPOINT: &str = "a URL such as \"http://127.0.0.1:4317\"";
/// What collectors have by convention at this port is OTLP over HTTP.
const HTTP_PORT: u16 = 4318;
/// Headers of gRPC itself, which a configured one would break.
const RESERVED: [&str; 6] = ["content-type", "te", "user-agent", "host", "connection", "transfer-encoding"];
const MAX_NAME_BYTES: usize = 128;

/// `[telemetry.otlp]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Otlp {
    /// The collector, which speaks OTLP over gRPC; without it no traces are made.
    pub endpoint: Option<Url>,
    /// Authorities that are trusted with the collector's certificate, beside the public ones.
    pub ca: Option<Authorities>,
    /// Headers that go with each export.
    pub headers: Vec<OtlpHeader>,
    /// How long an export may take, repetitions included.
    pub timeout: Duration,
    /// The share of sessions whose successful attempts and requests are kept; what failed always is.
    pub sample_ratio: f64,
    /// The most traces that wait for an export.
    pub queue: usize,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca: None,
            headers: Vec::new(),
            timeout: Duration::from_secs(10),
            sample_ratio: 1.0,
            queue: 2048,
        }
    }
}

/// A header that goes with each export. Its value does not show.
#[derive(Clone, Debug)]
pub struct OtlpHeader {
    /// Its name, lower case.
    pub name: String,
    /// Its value: ASCII that shows, and single spaces.
    pub value: SecretString,
}

impl PartialEq for OtlpHeader {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.value.expose_secret() == other.value.expose_secret()
    }
}

impl Otlp {
    /// What is accepted and is likely a mistake, each as one sentence.
    pub(super) fn notes(&self) -> Vec<String> {
        let Some(endpoint) = &self.endpoint else { return Vec::new() };
        let mut notes = Vec::new();
        if endpoint.port() == Some(HTTP_PORT) {
            notes.push(format!(
                "telemetry.otlp.endpoint has the port {HTTP_PORT}, where collectors speak OTLP over HTTP by \
                 convention; Greenroom speaks gRPC, which is at 4317"
            ));
        }
        if endpoint.scheme() == "http" && !self.headers.is_empty() && !is_loopback(endpoint) {
            notes.push(
                "telemetry.otlp.headers go to telemetry.otlp.endpoint in clear; use https where others can listen"
                    .to_owned(),
            );
        }
        notes
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

pub(super) fn read_otlp(section: &Section<'_>) -> Otlp {
    let default = Otlp::default();
    let queue = u32::try_from(default.queue).unwrap_or(u32::MAX);
    let headers = section.sections("headers", read_header).into_iter().flatten().collect();
    let otlp = Otlp {
        endpoint: section.text("endpoint", ENDPOINT, read_endpoint),
        ca: read_authorities(section),
        headers,
        timeout: section.millis("timeout_ms", default.timeout, 100..=60_000),
        sample_ratio: section.number("sample_ratio", default.sample_ratio, 0.0..=1.0),
        queue: section.count("queue", queue, 16..=100_000) as usize,
    };
    if otlp.ca.is_some() && otlp.endpoint.as_ref().is_some_and(|endpoint| endpoint.scheme() != "https") {
        section.mistake("ca", "is of no use with an endpoint that is not https; leave one of them out");
    }
    let twice = otlp.headers.iter().enumerate().find_map(|(index, header)| {
        let before = otlp.headers[..index].iter().any(|earlier| earlier.name == header.name);
        before.then_some(&header.name)
    });
    if let Some(name) = twice {
        section.mistake("headers", format!("has \"{name}\" twice; give each header once"));
    }
    otlp
}

/// The text is never quoted: it may have a password in it.
fn read_endpoint(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no URL ({error}); use {ENDPOINT}"))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(format!("has the scheme \"{}\"; use {ENDPOINT}, or https", url.scheme()));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "has a user name or password in it; credentials belong to telemetry.otlp.headers".to_owned()
        );
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        return Err(format!(
            "has something behind its host and port, which belongs to OTLP over HTTP; Greenroom speaks gRPC: use {ENDPOINT}"
        ));
    }
    Ok(url)
}

fn read_header(section: &Section<'_>) -> Option<OtlpHeader> {
    let has_name = section.node("name").is_some();
    let has_value = section.node("value").is_some();
    for (key, is_there) in [("name", has_name), ("value", has_value)] {
        if !is_there {
            section.mistake(key, "is missing; a header is { name = \"...\", value = \"...\" }");
        }
    }
    let name = section.text("name", "the name of a header", read_name);
    let value = section.secret_words("value");
    Some(OtlpHeader { name: name?, value: value? })
}

fn read_name(text: &str) -> Result<String, String> {
    let name = text.to_ascii_lowercase();
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(is_token) {
        return Err(format!(
            "\"{}\" is no name of a header; use 1 to {MAX_NAME_BYTES} letters, digits, -, _ and .",
            text.escape_debug()
        ));
    }
    if name.starts_with("grpc-") || name.ends_with("-bin") || RESERVED.contains(&name.as_str()) {
        return Err(format!("\"{name}\" is a header that gRPC sets or reads itself; leave it out"));
    }
    Ok(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::config::{Config, ConfigErrors, parse};

    fn read(text: &str) -> Result<Config, ConfigErrors> {
        let env = BTreeMap::from([("COLLECTOR_KEY".to_owned(), "Bearer hunter2".to_owned())]);
        parse(&format!("[telemetry.otlp]\n{text}\n"), "test.toml", &env)
    }

    fn otlp(text: &str) -> Otlp {
        read(text).unwrap_or_else(|errors| panic!("{errors}")).telemetry.otlp
    }

    #[test]
    fn traces_are_off_until_there_is_a_collector() {
        assert_eq!(otlp("sample_ratio = 1.0"), Otlp::default());
        assert_eq!(Otlp::default().endpoint, None);
    }

    #[test]
    fn every_setting_is_read_and_a_header_may_be_a_secret_of_the_environment() {
        let otlp = otlp(
            "endpoint = \"https://collector.example:4317\"\ntimeout_ms = 1500\nsample_ratio = 0.25\nqueue = 20\n\
             headers = [{ name = \"Authorization\", value = { env = \"COLLECTOR_KEY\" } }]",
        );
        assert_eq!(otlp.endpoint.as_ref().map(Url::as_str), Some("https://collector.example:4317/"));
        assert_eq!((otlp.timeout, otlp.sample_ratio, otlp.queue), (Duration::from_millis(1500), 0.25, 20));
        let [header] = otlp.headers.as_slice() else { panic!("one header") };
        assert_eq!((header.name.as_str(), header.value.expose_secret()), ("authorization", "Bearer hunter2"));
        assert!(!format!("{otlp:?}").contains("hunter2"), "{otlp:?}");
    }

    #[test]
    fn each_mistake_has_its_line_and_quotes_no_secret() {
        for (line, says) in [
            ("endpoint = \"collector:4317\"", "endpoint: has the scheme \"collector\""),
            ("endpoint = \"grpc://collector:4317\"", "endpoint: has the scheme \"grpc\""),
            ("endpoint = \"collector\"", "endpoint: is no URL"),
            ("endpoint = \"http://collector:4318/v1/traces\"", "endpoint: has something behind its host"),
            ("endpoint = \"http://me:hunter2@collector\"", "belong to telemetry.otlp.headers"),
            ("endpoint = 4317", "endpoint: is a whole number"),
            ("sample_ratio = 1.5", "sample_ratio: is 1.5, but must be a number from 0.0 to 1.0"),
            ("timeout_ms = 99", "100 to 60000"),
            ("queue = 1", "16 to 100000"),
            ("protocol = \"http\"", "protocol: unknown key"),
            ("ca = \"/nowhere/ca.crt\"", "ca: the file /nowhere/ca.crt cannot be read"),
            ("ca = \"/proc/version\"", "ca: the file /proc/version holds no certificate"),
            ("headers = [{ name = \"a b\", value = \"hunter2\" }]", "\"a b\" is no name of a header"),
            ("headers = [{ name = \"grpc-timeout\", value = \"hunter2\" }]", "gRPC sets or reads itself"),
            ("headers = [{ name = \"key-bin\", value = \"hunter2\" }]", "gRPC sets or reads itself"),
            ("headers = [{ name = \"a\", value = \"hunter2\\nb\" }]", "value: the secret has line breaks"),
            ("headers = [{ name = \"a\", value = \" hunter2\" }]", "needless spaces"),
            ("headers = [{ name = \"a\", value = { env = \"NO_SUCH\" } }]", "NO_SUCH is not set"),
            ("headers = [{ name = \"a\" }]", "headers[0].value: is missing"),
            ("headers = [{ value = \"hunter2\" }]", "headers[0].name: is missing"),
            (
                "headers = [{ name = \"a\", value = \"hunter2\" }, { name = \"A\", value = \"hunter2\" }]",
                "headers: has \"a\" twice",
            ),
        ] {
            let error = read(line).unwrap_err();
            assert_eq!(error.mistakes().len(), 1, "{line}: {error}");
            let error = error.to_string();
            assert!(error.starts_with("test.toml:2:") && error.contains(says), "{line}: {error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn authorities_are_those_of_an_endpoint_that_has_tls() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.crt");
        let own = rcgen::generate_simple_self_signed(["collector.example".to_owned()]).unwrap();
        std::fs::write(&path, own.cert.pem()).unwrap();
        let ca = format!("ca = \"{}\"", path.display());
        let with = otlp(&format!("endpoint = \"https://collector.example\"\n{ca}"));
        assert_eq!(with.ca.unwrap().certificates, [own.cert.der().clone()]);
        let error = read(&format!("endpoint = \"http://collector.example\"\n{ca}")).unwrap_err().to_string();
        assert!(error.starts_with("test.toml:3:") && error.contains("is not https"), "{error}");
    }

    #[test]
    fn the_port_of_the_other_protocol_and_secrets_in_clear_are_noted() {
        let notes = |text: &str| otlp(text).notes();
        assert!(notes("endpoint = \"http://127.0.0.1:4317\"").is_empty());
        assert!(notes("endpoint = \"http://collector:4318\"")[0].contains("gRPC, which is at 4317"));
        let header = "headers = [{ name = \"a\", value = \"hunter2\" }]";
        assert!(notes(&format!("endpoint = \"http://collector:4317\"\n{header}"))[0].contains("in clear"));
        for url in ["https://collector", "http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
            assert!(notes(&format!("endpoint = \"{url}\"\n{header}")).is_empty(), "{url}");
        }
    }
}
