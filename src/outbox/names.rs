//! The ids by which the service knows requests on the connection that stands.

use std::collections::{BTreeMap, VecDeque};

use super::index::Key;

/// What is known of a request that the service knows by some id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Open(Key),
    /// It has its outcome, and the end of its answer is still to come.
    Interrupted,
    /// It has its outcome.
    Over,
}

#[derive(Clone, Debug)]
struct Name {
    client_id: String,
    standing: Standing,
}

/// The ids of one connection.
#[derive(Clone, Debug)]
pub(super) struct Names {
    names: BTreeMap<String, Name>,
    /// Those of ended requests, oldest first; bounded as ended requests are.
    ended: VecDeque<String>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self { names: BTreeMap::new(), ended: VecDeque::new() }
    }

    pub(super) fn insert(&mut self, upstream_id: String, client_id: String, key: Key) {
        self.names.insert(upstream_id, Name { client_id, standing: Standing::Open(key) });
    }

    pub(super) fn standing(&self, upstream_id: &str) -> Option<Standing> {
        self.names.get(upstream_id).map(|name| name.standing)
    }

    pub(super) fn client_id(&self, upstream_id: &str) -> Option<&str> {
        self.names.get(upstream_id).map(|name| name.client_id.as_str())
    }

    /// Notes that the request has its outcome; `bound` ended ones are remembered.
    pub(super) fn end(&mut self, upstream_id: &str, standing: Standing, bound: usize) {
        let Some(name) = self.names.get_mut(upstream_id) else { return };
        name.standing = standing;
        self.ended.push_back(upstream_id.to_owned());
        if self.ended.len() > bound
            && let Some(oldest) = self.ended.pop_front()
            && !matches!(self.standing(&oldest), Some(Standing::Open(_)))
        {
            self.names.remove(&oldest);
        }
    }

    /// Notes that the answer to an interrupted request has come to its end.
    pub(super) fn answered(&mut self, upstream_id: &str) {
        if let Some(name) = self.names.get_mut(upstream_id) {
            name.standing = Standing::Over;
        }
    }

    /// The clients' ids of the interrupted requests whose answers have not come to their end.
    pub(super) fn unended(&self) -> Vec<String> {
        let names = self.names.values().filter(|name| name.standing == Standing::Interrupted);
        names.map(|name| name.client_id.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.ended.clear();
    }
}
