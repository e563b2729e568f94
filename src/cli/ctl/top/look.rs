//! One look at the fleet: a few calls, whatever its size.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::super::{
    client::{Client, Query},
    failure::Failure,
    fleet::items,
    tenants::in_states,
};
use crate::recovery::StateName;

/// Sessions in trouble that are fetched of each state: more do not fit a screen.
const TROUBLED: usize = 40;
/// States that somebody may have to do something about, the worst first.
pub(super) const TROUBLES: [&str; 3] = ["failed", "parked", "backing_off"];

/// The fleet at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// Sessions by state.
    pub(super) states: BTreeMap<String, u64>,
    /// Tenants as Greenroom gives them; `None` where the caller may not see them.
    pub(super) tenants: Option<Vec<Value>>,
    /// Codes as Greenroom gives them.
    pub(super) codes: Option<Vec<Value>>,
    /// Upstreams as Greenroom gives them.
    pub(super) upstreams: Option<Vec<Value>>,
    /// Sessions in trouble, the worst first.
    pub(super) troubled: Vec<Value>,
}

impl Look {
    /// The look as a program reads it.
    pub(super) fn json(&self) -> Value {
        let Self { states, tenants, codes, upstreams, troubled } = self;
        json!({"states": states, "tenants": tenants, "codes": codes, "upstreams": upstreams, "troubled": troubled})
    }
}

/// A listing that this Greenroom, or this caller, may not have.
fn optional(listed: Result<Vec<Value>, Failure>) -> Result<Option<Vec<Value>>, Failure> {
    match listed {
        Ok(items) => Ok(Some(items)),
        Err(Failure::Refused(refused)) if matches!(refused.status, 404 | 405) => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// Looks at all, or at the sessions of one tenant.
///
/// # Errors
///
/// As [`Failure`] says.
pub(super) async fn look(client: &Client, tenant: Option<&str>) -> Result<Look, Failure> {
    let mut tenants = optional(client.all(&["v1", "tenants"], "tenants", &Query::new()).await)?;
    if let (Some(tenants), Some(wanted)) = (&mut tenants, tenant) {
        tenants.retain(|tenant| tenant["id"] == wanted);
    }
    let of_tenant: Query = tenant.iter().map(|tenant| ("tenant", (*tenant).to_owned())).collect();
    let states = match &tenants {
        Some(tenants) => StateName::ALL
            .map(StateName::as_str)
            .into_iter()
            .map(|state| (state.to_owned(), tenants.iter().map(|tenant| in_states(tenant, &[state])).sum()))
            .collect(),
        None => count(client, &of_tenant).await?,
    };
    let mut troubled = Vec::new();
    for state in TROUBLES {
        if states.get(state).is_none_or(|count| *count == 0) {
            continue;
        }
        let mut query = of_tenant.clone();
        query.push(("state", state.to_owned()));
        client
            .pages(&["v1", "sessions"], "sessions", &query, TROUBLED, |sessions| {
                troubled.extend(sessions);
                Ok(())
            })
            .await?;
    }
    let whole = async |list: &str| {
        let answer = client.get(&["v1", list], &Query::new()).await;
        optional(answer.map(|mut answer| items(&mut answer, list)))
    };
    let codes = whole("codes").await?;
    let upstreams = whole("upstreams").await?;
    Ok(Look { states, tenants, codes, upstreams, troubled })
}

/// Counts sessions one by one, where nobody has counted them.
async fn count(client: &Client, query: &Query) -> Result<BTreeMap<String, u64>, Failure> {
    let mut states: BTreeMap<String, u64> =
        StateName::ALL.map(|state| (state.as_str().to_owned(), 0)).into_iter().collect();
    client
        .pages(&["v1", "sessions"], "sessions", query, usize::MAX, |sessions| {
            for state in sessions.iter().filter_map(|session| session["state"].as_str()) {
                *states.entry(state.to_owned()).or_default() += 1;
            }
            Ok(())
        })
        .await?;
    Ok(states)
}
