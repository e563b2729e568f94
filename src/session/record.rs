//! A session as the store keeps it, and back.

use std::{sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use serde::{Serialize, de::DeserializeOwned};

use super::{EgressSpec, Origin, Revision, SessionEntry, SessionSpec};
use crate::{
    errors::ErrorCode,
    outbox,
    recovery::{
        Moment,
        lifecycle::{Hold, Remembered, Standing},
    },
    store::records::{
        BudgetRecord, Desired, EgressRecord, EndRecord, ErrorRecord, HoldRecord, Origin as OriginRecord,
        OutcomeRecord, RequestRecord, SecretText, SessionRecord, SpecRecord, UnixMillis,
    },
};

/// What became of a request that was open when the process ended.
const PROCESS_ENDED: &str = "the process ended before the request had its outcome, and its audio with it; send it again where it is still wanted";

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The calendar time of a moment of the process's clock, which counts from 1970.
fn calendar(moment: Moment) -> UnixMillis {
    UnixMillis(millis(moment.since_start()))
}

pub(crate) const fn moment(time: UnixMillis) -> Moment {
    Moment::at(Duration::from_millis(time.0))
}

/// The record of a session of which `remembered` is to be remembered.
pub(crate) fn record(entry: &SessionEntry, remembered: &Remembered) -> SessionRecord {
    record_with(entry, &entry.spec.load(), remembered)
}

/// As [`record`], with another spec than it has.
pub(super) fn record_with(
    entry: &SessionEntry,
    spec: &SessionSpec,
    remembered: &Remembered,
) -> SessionRecord {
    let origin = **entry.origin.load();
    let Remembered { standing, restarts, used, attempts, renewals, strikes, last_error } = remembered;
    SessionRecord {
        id: entry.id.clone(),
        tenant: entry.tenant.clone(),
        // A session of a pool is as much bound to this process as one whose client sits here.
        origin: match origin {
            Origin::Api if !entry.is_pooled => OriginRecord::Api,
            Origin::Api | Origin::Ingress => OriginRecord::Ingress,
        },
        created_at: calendar(entry.created_at),
        spec: spec_record(spec, origin),
        desired: desired(standing),
        restarts: *restarts,
        budget: BudgetRecord {
            used: used.iter().copied().map(calendar).collect(),
            attempts: *attempts,
            renewals: *renewals,
            strikes: *strikes,
        },
        last_error: last_error.as_ref().map(|(error, at)| ErrorRecord::new(error, calendar(*at))),
    }
}

fn desired(standing: &Standing) -> Desired {
    match standing {
        Standing::Run => Desired::Run,
        Standing::Parked(hold) => Desired::Parked {
            hold: match hold {
                Hold::Error(code) => HoldRecord::Error { code: *code },
                Hold::KeyRefused => HoldRecord::KeyRefused,
                Hold::Suspension(code) => HoldRecord::Suspension { code: *code },
                Hold::Minutes => HoldRecord::Minutes,
                Hold::Operator => HoldRecord::Operator,
            },
        },
        Standing::Dormant => Desired::Dormant,
        Standing::Failed => Desired::Failed,
        Standing::Stopped { at } => Desired::Stopped { at: calendar(*at) },
    }
}

/// What the record remembers of the session.
pub(crate) fn remembered(record: &SessionRecord) -> Remembered {
    let BudgetRecord { used, attempts, renewals, strikes } = &record.budget;
    Remembered {
        standing: match &record.desired {
            Desired::Run => Standing::Run,
            Desired::Parked { hold } => Standing::Parked(match hold {
                HoldRecord::Error { code } => Hold::Error(*code),
                HoldRecord::KeyRefused => Hold::KeyRefused,
                HoldRecord::Suspension { code } => Hold::Suspension(*code),
                HoldRecord::Minutes => Hold::Minutes,
                HoldRecord::Operator => Hold::Operator,
            }),
            Desired::Dormant => Standing::Dormant,
            Desired::Failed => Standing::Failed,
            Desired::Stopped { at } => Standing::Stopped { at: moment(*at) },
        },
        restarts: record.restarts,
        used: used.iter().copied().map(moment).collect(),
        attempts: *attempts,
        renewals: *renewals,
        strikes: *strikes,
        last_error: record.last_error.clone().map(|error| {
            let (error, at) = error.into_error();
            (Arc::new(error), moment(at))
        }),
    }
}

pub(super) fn spec_record(spec: &SessionSpec, origin: Origin) -> SpecRecord {
    SpecRecord {
        avatar_id: spec.avatar_id.clone(),
        sample_rate: spec.sample_rate,
        bitrate: spec.bitrate,
        audio_format: spelling(&spec.audio_format).unwrap_or_default(),
        // A drop-in client says its tokens anew each time it comes, so that they need not lie on a disk.
        egress: match origin {
            Origin::Api => spec.egress.as_ref().map(egress_record),
            Origin::Ingress => None,
        },
        labels: spec.labels.clone(),
        continuity: spec.continuity.as_ref().and_then(spelling),
        revision: spec.revision.0,
    }
}

fn egress_record(egress: &EgressSpec) -> EgressRecord {
    let secret = |secret: &secrecy::SecretString| SecretText::from(secret.expose_secret());
    match egress {
        EgressSpec::Livekit {
            url,
            room_name,
            publisher_id,
            extra_attributes,
            idle_timeout,
            api_token,
            api_key,
            api_secret,
        } => EgressRecord::Livekit {
            url: url.clone(),
            room_name: room_name.clone(),
            publisher_id: publisher_id.clone(),
            extra_attributes: extra_attributes.clone(),
            idle_timeout: *idle_timeout,
            api_token: secret(api_token),
            api_key: secret(api_key),
            api_secret: secret(api_secret),
        },
        EgressSpec::Agora { channel_name, token, uid, publisher_id } => EgressRecord::Agora {
            channel_name: channel_name.clone(),
            token: secret(token),
            uid: *uid,
            publisher_id: publisher_id.clone(),
        },
    }
}

/// What the session of the record is made from.
///
/// # Errors
///
/// The field that this version does not understand.
pub(crate) fn spec(record: SpecRecord) -> Result<SessionSpec, String> {
    let SpecRecord { avatar_id, sample_rate, bitrate, audio_format, egress, labels, continuity, revision } =
        record;
    Ok(SessionSpec {
        avatar_id,
        sample_rate,
        bitrate,
        audio_format: spelt("audio_format", audio_format)?,
        egress: egress.map(egress_spec),
        labels,
        continuity: continuity.map(|text| spelt("continuity", text)).transpose()?,
        revision: Revision(revision),
    })
}

fn egress_spec(egress: EgressRecord) -> EgressSpec {
    match egress {
        EgressRecord::Livekit {
            url,
            room_name,
            publisher_id,
            extra_attributes,
            idle_timeout,
            api_token,
            api_key,
            api_secret,
        } => EgressSpec::Livekit {
            url,
            room_name,
            publisher_id,
            extra_attributes,
            idle_timeout,
            api_token: api_token.into(),
            api_key: api_key.into(),
            api_secret: api_secret.into(),
        },
        EgressRecord::Agora { channel_name, token, uid, publisher_id } => {
            EgressSpec::Agora { channel_name, token: token.into(), uid, publisher_id }
        }
    }
}

/// The record of a request that was just accepted by `process`.
pub(crate) fn open_request(req_id: &str, process: &str, now: Moment) -> RequestRecord {
    let (req_id, process) = (req_id.to_owned(), Some(process.to_owned()));
    RequestRecord { req_id, accepted_at: calendar(now), process, end: None }
}

/// The record of a request that has its outcome; `None` of one that has not.
pub(super) fn ended_request(record: &outbox::Record) -> Option<RequestRecord> {
    let outcome = match record.outcome? {
        outbox::Outcome::Completed => OutcomeRecord::Completed,
        outbox::Outcome::Interrupted => OutcomeRecord::Interrupted,
        outbox::Outcome::Failed(code) => OutcomeRecord::Failed { code },
    };
    let end = EndRecord {
        outcome,
        reason: record.reason.clone(),
        total_ms: record.total().map_or(0, millis),
        first_frame_ms: record.first_frame_after().map(millis),
        audio_bytes: record.audio_bytes,
        frames: record.frames,
        breaks: record.breaks,
    };
    let accepted_at = calendar(record.accepted_at);
    Some(RequestRecord { req_id: record.req_id.clone(), accepted_at, process: None, end: Some(end) })
}

/// The account of a request that is kept. One that another process than this had open has failed with it.
pub(crate) fn request(kept: RequestRecord, process: &str) -> outbox::Record {
    let RequestRecord { req_id, accepted_at, process: by, end } = kept;
    let mut record = outbox::Record {
        req_id,
        outcome: None,
        reason: None,
        accepted_at: moment(accepted_at),
        first_frame_at: None,
        ended_at: None,
        audio_bytes: 0,
        frames: 0,
        breaks: 0,
    };
    let begun = record.accepted_at;
    let after = |span_ms| begun + Duration::from_millis(span_ms);
    match end {
        Some(end) => {
            record.outcome = Some(match end.outcome {
                OutcomeRecord::Completed => outbox::Outcome::Completed,
                OutcomeRecord::Interrupted => outbox::Outcome::Interrupted,
                OutcomeRecord::Failed { code } => outbox::Outcome::Failed(code),
            });
            (record.reason, record.ended_at) = (end.reason, Some(after(end.total_ms)));
            record.first_frame_at = end.first_frame_ms.map(after);
            (record.audio_bytes, record.frames, record.breaks) = (end.audio_bytes, end.frames, end.breaks);
        }
        None if by.as_deref() == Some(process) => {}
        None => {
            record.outcome = Some(outbox::Outcome::Failed(ErrorCode::ConnectionClosed));
            record.reason = Some(PROCESS_ENDED.to_owned());
        }
    }
    record
}

/// A word of the API's, as that spells it.
fn spelling(word: &impl Serialize) -> Option<String> {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(text)) => Some(text),
        Ok(_) | Err(_) => None,
    }
}

fn spelt<T: DeserializeOwned>(field: &str, text: String) -> Result<T, String> {
    serde_json::from_value(serde_json::Value::String(text)).map_err(|error| format!("{field}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_reads_back_as_it_was_given() {
        for text in [
            r#"{"avatar_id": "a"}"#,
            r#"{"avatar_id": "a", "sample_rate": 48000, "bitrate": 7, "audio_format": "ogg_opus",
                "continuity": "resume", "labels": {"team": "red"},
                "egress": {"type": "livekit", "url": "u", "room_name": "r", "publisher_id": "p",
                    "extra_attributes": {"k": "v"}, "idle_timeout": 3, "api_token": "t", "api_key": "k",
                    "api_secret": "s"}}"#,
            r#"{"avatar_id": "a", "egress": {"type": "agora", "channel_name": "c", "token": "t", "uid": 7,
                "publisher_id": "p"}}"#,
        ] {
            let given: SessionSpec = serde_json::from_str(text).unwrap();
            let back = spec(spec_record(&given, Origin::Api)).unwrap();
            assert_eq!(back.configure_message(), given.configure_message());
            assert_eq!((&back.labels, back.continuity), (&given.labels, given.continuity));
            let of_client = spec(spec_record(&given, Origin::Ingress)).unwrap();
            assert!(of_client.egress.is_none());
        }
    }

    #[test]
    fn a_word_that_is_not_known_is_named() {
        let mut record = spec_record(&SessionSpec::for_avatar("a"), Origin::Api);
        record.audio_format = "mp3".to_owned();
        assert!(spec(record).unwrap_err().contains("mp3"));
    }
}
