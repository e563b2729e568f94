//! The ids by which the service knows requests on the connection that stands.

use std::collections::VecDeque;

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
    upstream_id: String,
    client_id: String,
    standing: Standing,
}

/// The ids of one connection.
///
/// They are looked up for every frame, which nearly always answers the request that began last or the one before; and
/// there are few of them, since open and ended requests are bounded. So the search goes from the latest backwards, and
/// touches one or two ids where a search by their order would touch several.
#[derive(Clone, Debug)]
pub(super) struct Names {
    /// Those that began or ended last are behind.
    names: VecDeque<Name>,
}

impl Names {
    pub(super) const fn new() -> Self {
        Self { names: VecDeque::new() }
    }

    fn find(&self, upstream_id: &str) -> Option<&Name> {
        self.names.iter().rev().find(|name| name.upstream_id == upstream_id)
    }

    fn find_mut(&mut self, upstream_id: &str) -> Option<&mut Name> {
        self.names.iter_mut().rev().find(|name| name.upstream_id == upstream_id)
    }

    /// Notes that a request begins under this id; what another one was by the same is forgotten.
    pub(super) fn insert(&mut self, upstream_id: String, client_id: String, key: Key) {
        self.names.retain(|name| name.upstream_id != upstream_id);
        self.names.push_back(Name { upstream_id, client_id, standing: Standing::Open(key) });
    }

    pub(super) fn standing(&self, upstream_id: &str) -> Option<Standing> {
        self.find(upstream_id).map(|name| name.standing)
    }

    pub(super) fn client_id(&self, upstream_id: &str) -> Option<&str> {
        self.find(upstream_id).map(|name| name.client_id.as_str())
    }

    /// Notes that the request has its outcome; `bound` ended ones are remembered, those that ended last.
    pub(super) fn end(&mut self, upstream_id: &str, standing: Standing, bound: usize) {
        let Some(at) = self.names.iter().rposition(|name| name.upstream_id == upstream_id) else { return };
        let Some(name) = self.names.remove(at) else { return };
        self.names.push_back(Name { standing, ..name });
        let has_ended = |name: &Name| !matches!(name.standing, Standing::Open(_));
        if self.names.iter().filter(|name| has_ended(name)).count() > bound
            && let Some(oldest) = self.names.iter().position(has_ended)
        {
            self.names.remove(oldest);
        }
    }

    /// Notes that the answer to an interrupted request has come to its end.
    pub(super) fn answered(&mut self, upstream_id: &str) {
        if let Some(name) = self.find_mut(upstream_id) {
            name.standing = Standing::Over;
        }
    }

    /// The clients' ids of the interrupted requests whose answers have not come to their end.
    pub(super) fn unended(&self) -> Vec<String> {
        let names = self.names.iter().filter(|name| name.standing == Standing::Interrupted);
        names.map(|name| name.client_id.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.names.clear();
    }
}
