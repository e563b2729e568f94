//! Which sessions a command is about.

use super::{client::Query, failure::Failure};

/// Filters; all of them have to hold.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct Filter {
    /// Sessions of this tenant.
    #[arg(long, short)]
    pub(super) tenant: Option<String>,
    /// Sessions in this state: starting, running, backing_off, parked, dormant, failed or stopped.
    #[arg(long, short)]
    state: Option<String>,
    /// Sessions whose latest error has this code.
    #[arg(long, short)]
    code: Option<String>,
    /// Sessions of this avatar.
    #[arg(long, value_name = "AVATAR_ID")]
    avatar: Option<String>,
    /// Sessions with this label, or with this label of this value.
    #[arg(long, value_name = "NAME[:VALUE]")]
    label: Option<String>,
}

impl Filter {
    /// The query that has Greenroom filter.
    pub(super) fn query(&self) -> Query {
        let fields = [
            ("tenant", &self.tenant),
            ("state", &self.state),
            ("code", &self.code),
            ("avatar_id", &self.avatar),
            ("label", &self.label),
        ];
        fields.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }

    /// Whether nothing is filtered.
    pub(super) fn is_empty(&self) -> bool {
        self.query().is_empty()
    }
}

/// Sessions by their ids, or by filters.
#[derive(Debug, clap::Args)]
pub(super) struct Selection {
    /// Ids of sessions.
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
    /// Every session.
    #[arg(long, conflicts_with = "ids")]
    all: bool,
}

/// What a selection says.
pub(super) enum Selected {
    /// These.
    Ids(Vec<String>),
    /// Those that the filter lets through.
    Filter(Filter),
}

impl Selection {
    /// What was meant.
    ///
    /// # Errors
    ///
    /// Nothing is selected, or in two ways.
    pub(super) fn meant(self) -> Result<Selected, Failure> {
        match (self.ids.is_empty(), self.filter.is_empty(), self.all) {
            (false, true, _) => {
                let mut ids = self.ids;
                ids.sort();
                ids.dedup();
                Ok(Selected::Ids(ids))
            }
            (true, false, _) | (true, true, true) => Ok(Selected::Filter(self.filter)),
            (false, false, _) => {
                Err(Failure::Usage("name sessions by id or by filters, not by both".to_owned()))
            }
            (true, true, false) => Err(Failure::Usage(
                "which sessions? Give ids, filters (--tenant, --state, --code, ...) or --all".to_owned(),
            )),
        }
    }
}
