//! A Greenroom on a thread of its own, in front of a simulator.

use std::{collections::BTreeMap, net::SocketAddr, sync::mpsc, thread::JoinHandle};

use greenroom::{cli::process::Process, config, errors::ErrorCode, simulator::Simulator, upstream};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::player::Sdk;

const KEY: &str = "greenroom-key-of-acme";

/// Greenroom, until it is dropped.
pub struct Greenroom {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<bool>>,
}

/// Settings under which nothing is recovered from: whatever happens is the end, and is told.
pub fn everything_fails() -> String {
    ErrorCode::ALL.map(|code| format!("recovery.policy.{code} = \"fail\"\n")).concat()
}

impl Greenroom {
    /// In front of `simulator`; `settings` has dotted keys, one a line.
    pub fn before(simulator: &Simulator, settings: &str) -> Self {
        let text = format!(
            "{settings}\nstore.url = \"memory:\"\nserver.listen = \"127.0.0.1:0\"\nadmin.listen = \"127.0.0.1:0\"\n\
             recovery.backoff.initial_ms = 20\nrecovery.backoff.max_ms = 100\nrecovery.park_probe_s = 0\n\
             upstream.console_url = \"{}\"\nupstream.ingress_url = \"{}\"\n\
             [[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"upstream-key\"\nkeys = [\"{KEY}\"]\n",
            simulator.console_url(),
            simulator.ingress_url()
        );
        let config = config::parse(&text, "python_sdk", &BTreeMap::new()).unwrap();
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            upstream::install_crypto();
            actix_rt::System::new().block_on(async move {
                let process = Process::start(&config).await.unwrap();
                tell.send(process.data_address()).unwrap();
                let _dropped = stopped.await;
                process.stop().await
            })
        });
        Self { address: told.recv().unwrap(), stop: Some(stop), thread: Some(thread) }
    }

    /// Plays a scenario through it and gives what the client saw.
    pub fn play(&self, sdk: &Sdk, scenario: &str, flags: &[&str]) -> Value {
        let (console, ingress) =
            (format!("http://{}", self.address), format!("ws://{}/v2/driveningress", self.address));
        let flags = [&["--api-key", KEY], flags].concat();
        sdk.play_at(&console, &ingress, scenario, &flags)
    }
}

impl Drop for Greenroom {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let in_time = thread.join();
            // A second panic would hide the first.
            assert!(std::thread::panicking() || in_time.unwrap(), "not every session ended in time");
        }
    }
}
