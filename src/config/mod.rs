//! The configuration file: TOML with overrides from the environment, read into a typed [`Config`].
//!
//! Reading never stops at the first mistake: [`ConfigErrors`] has all of them, each with its line. Keys are
//! read in `sections` with the getters of `reader`, so a key, its type, its range and its default stand
//! in one place; what no getter asks for is an unknown key.
//!
//! `GREENROOM_UPSTREAM__GATE__PER_SECOND=50` overrides `upstream.gate.per_second`; two underscores separate
//! levels, and the position of a tenant in the file is a level (`GREENROOM_TENANTS__0__MAX_SESSIONS`). The
//! text is a TOML value where it is one, and else a string.

mod changes;
mod local;
mod mistakes;
mod overrides;
mod reader;
mod secrets;
mod sections;
mod store;
mod tenants;
mod tls;
mod tree;
mod types;
mod webhooks;

#[cfg(test)]
mod example_file;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

pub use mistakes::{ConfigErrors, Mistake, Place};
pub use tls::{Authorities, LoadedTls, Tls, TlsFiles, TlsMistake};
pub use types::{
    Admin, Config, Deadlines, Defaults, EncryptionKey, Ingress, LogFormat, Outbox, PartialFailure,
    PoolFormat, PoolSpec, Recovery, Server, Sessions, Store, StoreCommit, StorePlace, Telemetry, Tenant,
    Upstream, UpstreamAuth,
};
pub use webhooks::{Webhook, WebhookDelivery, WebhookEvent};

use changes::Keys;
use reader::{Report, Section};
use tree::{Positions, parse_document};

/// The largest configuration file, in bytes: tens of thousands of tenants fit, a log file named by mistake
/// does not.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// Reads the configuration from the file at `path` with the overrides and secrets of `env`.
///
/// Relative paths of secret files begin at the directory of `path`.
///
/// # Errors
///
/// [`ConfigErrors::Unreadable`] where the file cannot be read, is not UTF-8 or is larger than 16 MiB; else
/// every mistake in it.
pub fn load(path: &Path, env: &BTreeMap<String, String>) -> Result<Config, ConfigErrors> {
    read_file(path, env).map(|Understood { config, .. }| config)
}

fn read_file(path: &Path, env: &BTreeMap<String, String>) -> Result<Understood, ConfigErrors> {
    let text =
        read_bounded(path).map_err(|error| ConfigErrors::Unreadable { path: path.to_owned(), error })?;
    read(&text, &path.to_string_lossy(), env)
}

/// Reads the configuration from `text`; mistakes name it as `origin`, which is a path where `text` came from
/// a file.
///
/// # Errors
///
/// Every mistake in it.
pub fn parse(text: &str, origin: &str, env: &BTreeMap<String, String>) -> Result<Config, ConfigErrors> {
    read(text, origin, env).map(|Understood { config, .. }| config)
}

/// The process's environment, for [`load`]. Variables that are not UTF-8 are left out.
pub fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// A configuration that was read, and what is known of its keys.
struct Understood {
    config: Config,
    /// The paths of all keys that there are; only the test of the example file asks for them.
    #[cfg_attr(not(test), expect(dead_code, reason = "for the test of the example file"))]
    known: BTreeSet<String>,
    given: Keys,
}

/// The file that a configuration came from, which can be read again.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    path: PathBuf,
    /// The environment of the process, which does not change.
    env: BTreeMap<String, String>,
    given: Keys,
}

impl ConfigFile {
    /// As [`load`], and remembers what was read.
    ///
    /// # Errors
    ///
    /// Those of [`load`].
    pub fn load(path: &Path, env: BTreeMap<String, String>) -> Result<(Config, Self), ConfigErrors> {
        let Understood { config, given, .. } = read_file(path, &env)?;
        Ok((config, Self { path: path.to_owned(), env, given }))
    }

    /// Reads the file as it is now.
    ///
    /// # Errors
    ///
    /// Those of [`load`].
    pub fn read_again(&self) -> Result<(Config, Self), ConfigErrors> {
        Self::load(&self.path, self.env.clone())
    }

    /// The keys whose values in `again`, which is `now`, are others than in this file, which was `before`, and hold
    /// after a restart only.
    pub fn need_restart(&self, before: &Config, again: &Self, now: &Config) -> Vec<String> {
        changes::need_restart((before, &self.given), (now, &again.given))
    }
}

/// As [`parse`], and gives what is known of the keys.
fn read(text: &str, origin: &str, env: &BTreeMap<String, String>) -> Result<Understood, ConfigErrors> {
    let positions = Positions::new(Arc::from(origin), text);
    let mut tree = parse_document(&positions).map_err(ConfigErrors::Mistakes)?;
    let misplaced = overrides::apply(&mut tree, env);
    let directory = Path::new(origin).parent().unwrap_or(Path::new(""));
    let report = Report::new(env, directory);
    for mistake in misplaced {
        report.mistake(&mistake.place, &mistake.key, mistake.text);
    }
    let config = Section::root(&report, &tree, positions.at(0), sections::read_config);
    let (mistakes, known) = report.finish();
    let given = Keys::of(&tree);
    if mistakes.is_empty() {
        Ok(Understood { config, known, given })
    } else {
        Err(ConfigErrors::Mistakes(mistakes))
    }
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        let reason = format!("larger than {MAX_FILE_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(text)
}
