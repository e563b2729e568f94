//! Traces over OTLP, off by default: one of each attempt to connect a session, one of each request for audio.
//!
//! They are made of events after the fact: `attempt` and `request` have their end and how long each step took. So a
//! session pays nothing for them, and nothing that happens to them, a collector that is away or slow least of all,
//! reaches a session. They have a thread of their own, which follows the bus, makes spans (`mapping`), and hands
//! them to the exporter of OpenTelemetry through a bounded queue (`export`).

mod export;
mod mapping;
pub mod names;
mod sampling;

use std::{io, sync::Arc, thread, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use opentelemetry::KeyValue;
use opentelemetry_otlp::{
    ExporterBuildError, RetryPolicy, SpanExporter, WithExportConfig as _, WithTonicConfig as _,
    tonic_types::transport::{Certificate, ClientTlsConfig},
};
use opentelemetry_sdk::{Resource, resource::EnvResourceDetector, trace::SpanExporter as _};
use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};

use crate::{
    config::Otlp,
    events::{Bus, Since},
    telemetry::Metrics,
};
use export::{Bounds, Exporting};
use mapping::Mapper;
pub use mapping::{Peer, Peers};
use sampling::Sampler;

/// How long the first trace of an export waits for others: few exports, and still a trace is there when somebody
/// looks for it.
const LINGER: Duration = Duration::from_secs(1);
/// How long the end of the process waits for what is not exported yet: a collector that is there takes less than one
/// second, and one that is not shall not hold the end up.
const FLUSH_WITHIN: Duration = Duration::from_secs(5);
/// What the thread may take beyond that to end.
const END_MARGIN: Duration = Duration::from_secs(1);
/// Repetitions of an export, all within its timeout, which is what ends them.
const MAX_RETRIES: usize = 1000;
/// The longest wait between them.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(2);

/// The thread that makes and exports traces.
pub struct Traces {
    ended: oneshot::Receiver<()>,
}

/// Why there are no traces.
#[derive(Debug, thiserror::Error)]
pub enum TracesUnusable {
    /// A header cannot be sent.
    #[error("telemetry.otlp.headers: \"{0}\" or its value cannot be sent as a header of gRPC")]
    Header(String),
    /// The exporter refuses the configuration, or a variable of OpenTelemetry's that it reads.
    #[error("telemetry.otlp: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// There is no thread for them.
    #[error("the traces' thread cannot be started: {0}")]
    Thread(#[from] io::Error),
}

impl Traces {
    /// Follows `bus` from now on, where the configuration names a collector. Whether that is there shows later.
    ///
    /// # Errors
    ///
    /// The exporter or its thread cannot be had.
    pub fn start(
        otlp: &Otlp,
        peers: Peers,
        bus: &Bus,
        metrics: &Arc<Metrics>,
    ) -> Result<Option<Self>, TracesUnusable> {
        let Some(endpoint) = otlp.endpoint.clone() else { return Ok(None) };
        let headers = metadata(otlp)?;
        let seed: [u8; 16] = rand::random();
        let mapper = Mapper::new(seed, Sampler::new(otlp.sample_ratio), peers);
        let (otlp, metrics) = (otlp.clone(), Arc::clone(metrics));
        let follower = bus.follow(Since::Now);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        // The exporter's channel belongs to the runtime that it is made in.
        let exporter = {
            let _entered = runtime.enter();
            exporter(&otlp, endpoint.as_str(), headers, &resource(seed))?
        };
        let (mut end, ended) = oneshot::channel();
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            let bounds = Bounds { queue: otlp.queue, linger: LINGER, flush_within: FLUSH_WITHIN };
            let exporting = Exporting::new(exporter, metrics, bounds);
            runtime.block_on(async {
                tokio::select! {
                    () = exporting.run(follower, mapper) => {}
                    // Nobody waits for the end: a process that did not come to serve.
                    () = end.closed() => {}
                }
            });
            // Its drop would be an answer, too.
            let _ = end.send(());
        })?;
        tracing::info!(endpoint = %endpoint, sample_ratio = otlp.sample_ratio, "traces are exported");
        Ok(Some(Self { ended }))
    }

    /// Waits until what there is has been exported, after the bus was closed; some seconds at most.
    pub async fn flushed(self) {
        if tokio::time::timeout(FLUSH_WITHIN + END_MARGIN, self.ended).await.is_err() {
            tracing::warn!("the traces' thread did not end in time");
        }
    }
}

fn exporter(
    otlp: &Otlp,
    endpoint: &str,
    headers: MetadataMap,
    resource: &Resource,
) -> Result<SpanExporter, ExporterBuildError> {
    let mut builder = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(otlp.timeout)
        .with_metadata(headers)
        .with_retry_policy(
            RetryPolicy::recommended().with_max_retries(MAX_RETRIES).with_max_delay(MAX_RETRY_DELAY),
        );
    if endpoint.starts_with("https:") {
        let own = otlp.ca.iter().flat_map(|ca| &ca.certificates).map(|certificate| pem(certificate));
        builder = builder.with_tls_config(ClientTlsConfig::new().with_enabled_roots().ca_certificates(own));
    }
    let mut exporter = builder.build()?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// The exporter takes PEM, and the configuration has read it already.
fn pem(certificate: &[u8]) -> Certificate {
    let text = BASE64_STANDARD.encode(certificate);
    Certificate::from_pem(format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"))
}

/// The configured headers, none of which shows in a log.
fn metadata(otlp: &Otlp) -> Result<MetadataMap, TracesUnusable> {
    let mut map = MetadataMap::new();
    for header in &otlp.headers {
        let unusable = || TracesUnusable::Header(header.name.clone());
        let name: MetadataKey<Ascii> = header.name.parse().map_err(|_| unusable())?;
        let mut value: MetadataValue<Ascii> = header.value.expose_secret().parse().map_err(|_| unusable())?;
        value.set_sensitive(true);
        map.insert(name, value);
    }
    Ok(map)
}

/// What the spans are of: this process, and what `OTEL_RESOURCE_ATTRIBUTES` adds.
fn resource(seed: [u8; 16]) -> Resource {
    // A random UUID, as the conventions recommend; of the seed, since both name this process.
    let hex = seed.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let instance =
        format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..]);
    Resource::builder_empty()
        .with_detector(Box::new(EnvResourceDetector::new()))
        .with_attributes([
            KeyValue::new("service.name", names::SERVICE),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
            KeyValue::new("service.instance.id", instance),
        ])
        .build()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::config::OtlpHeader;

    fn peers() -> Peers {
        let peer = || Peer { host: "service.example".to_owned(), port: 443 };
        Peers { console: peer(), ingress: peer() }
    }

    fn otlp(endpoint: Option<&str>) -> Otlp {
        let header = OtlpHeader { name: "authorization".to_owned(), value: "Bearer hunter2".into() };
        Otlp {
            endpoint: endpoint.map(|text| text.parse().unwrap()),
            headers: vec![header],
            ..Otlp::default()
        }
    }

    #[test]
    fn headers_are_sent_as_configured_and_do_not_show() {
        let map = metadata(&otlp(None)).unwrap();
        assert_eq!(map.get("authorization").unwrap().to_str().unwrap(), "Bearer hunter2");
        assert!(!format!("{map:?}").contains("hunter2"), "{map:?}");
    }

    #[test]
    fn without_a_collector_there_is_no_thread_and_with_one_it_goes_with_its_owner() {
        let (bus, metrics) = (Bus::default(), Arc::new(Metrics::new(1)));
        assert!(Traces::start(&otlp(None), peers(), &bus, &metrics).unwrap().is_none());
        assert_eq!(Arc::strong_count(&metrics), 1);
        let traces = Traces::start(&otlp(Some("http://127.0.0.1:9")), peers(), &bus, &metrics).unwrap();
        assert_eq!(Arc::strong_count(&metrics), 2);
        drop(traces);
        let deadline = Instant::now() + Duration::from_secs(10);
        while Arc::strong_count(&metrics) > 1 {
            assert!(Instant::now() < deadline, "the thread goes on");
            thread::yield_now();
        }
    }

    #[test]
    fn an_instance_has_a_uuid_of_its_own() {
        let id = |seed| {
            let value = resource(seed).get(&"service.instance.id".into()).unwrap().to_string();
            assert_eq!(value.split('-').map(str::len).collect::<Vec<_>>(), [8, 4, 4, 4, 12]);
            value
        };
        assert_eq!(id([0xab; 16]), "abababab-abab-4bab-8bab-abababababab");
        assert_ne!(id([1; 16]), id([2; 16]));
    }
}
