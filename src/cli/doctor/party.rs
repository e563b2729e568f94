//! Who must act, in the words of whoever is called at night.

use serde::Serialize;

use crate::errors::{ErrorCode, Phase, SessionError};

/// Whose turn it is. The order is that of the exit codes: the later, the more is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Party {
    /// The avatar service: it recovers, or its support helps.
    Service,
    /// Whoever pays for the tenant's account.
    TenantBill,
    /// Whoever wrote the tenant's part of the configuration.
    TenantConfiguration,
    /// Whoever runs the network between here and the service.
    Network,
    /// Whoever runs this Greenroom: its machine, its configuration, its version.
    Greenroom,
}

impl Party {
    /// Who must act on `error`.
    pub(super) const fn of(error: &SessionError) -> Self {
        match error.code {
            ErrorCode::EgressUnavailable
            | ErrorCode::IdleTimeout
            | ErrorCode::UpstreamError
            | ErrorCode::ServerError => Self::Service,
            ErrorCode::BillingRequired
            | ErrorCode::CreditsExhausted
            | ErrorCode::SessionDurationExceeded
            | ErrorCode::ConcurrencyLimit => Self::TenantBill,
            ErrorCode::SessionTokenInvalid
            | ErrorCode::AppIdUnrecognized
            | ErrorCode::AppIdMismatch
            | ErrorCode::AvatarNotFound => Self::TenantConfiguration,
            ErrorCode::ConnectionFailed | ErrorCode::ConnectionClosed => Self::Network,
            // What this command asked for is right by the protocol: its version, or this machine's clock, is not.
            ErrorCode::SessionTokenExpired
            | ErrorCode::UnsupportedSampleRate
            | ErrorCode::InvalidEgressConfig
            | ErrorCode::InvalidRequest
            | ErrorCode::ProtocolError
            | ErrorCode::Unknown => Self::Greenroom,
        }
    }

    /// The exit code where this is the worst.
    pub(super) const fn exit_code(self) -> u8 {
        match self {
            Self::Service => 10,
            Self::TenantBill => 11,
            Self::TenantConfiguration => 12,
            Self::Network => 13,
            Self::Greenroom => 14,
        }
    }

    /// Who that is.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Service => "the avatar service",
            Self::TenantBill => "whoever pays for the tenant's account",
            Self::TenantConfiguration => "whoever configured the tenant",
            Self::Network => "whoever runs the network between here and the service",
            Self::Greenroom => "whoever runs this Greenroom",
        }
    }
}

/// What `error` asks for, in a sentence.
pub(super) const fn advice(error: &SessionError) -> &'static str {
    match error.code {
        ErrorCode::SessionTokenExpired => {
            "A token that was made just now has expired: compare this machine's clock with the time."
        }
        ErrorCode::SessionTokenInvalid => match error.phase {
            Phase::SessionToken => "Put the tenant's API key at the service into upstream_api_key.",
            Phase::WebsocketConnect
            | Phase::WebsocketHandshake
            | Phase::WebsocketSend
            | Phase::WebsocketRuntime => {
                "See that upstream.console_url and upstream.ingress_url belong to one region, and app_id to the key."
            }
        },
        ErrorCode::AppIdUnrecognized => "Put the app id of the service's console into the tenant's app_id.",
        ErrorCode::AppIdMismatch => {
            "The tenant's app_id and upstream_api_key belong to different apps; take both of one."
        }
        ErrorCode::AvatarNotFound => {
            "Give an avatar of this tenant's app with --avatar, or mend its [[tenants.pool]]."
        }
        ErrorCode::BillingRequired => {
            "Put the account's billing at the service in order, then unpark the tenant."
        }
        ErrorCode::CreditsExhausted => "Buy credits at the service, then unpark the tenant.",
        ErrorCode::SessionDurationExceeded => {
            "The plan ends sessions at once; change the plan at the service."
        }
        ErrorCode::ConcurrencyLimit => {
            "End sessions of this account, or raise the plan's limit at the service."
        }
        ErrorCode::UnsupportedSampleRate
        | ErrorCode::InvalidEgressConfig
        | ErrorCode::InvalidRequest
        | ErrorCode::ProtocolError
        | ErrorCode::Unknown => {
            "The service and this version of Greenroom do not understand each other, or something stands between them: \
             see that both addresses of [upstream] are the service's, then look for a newer version."
        }
        ErrorCode::EgressUnavailable
        | ErrorCode::IdleTimeout
        | ErrorCode::UpstreamError
        | ErrorCode::ServerError => {
            "Wait and run this again; where it lasts, ask the service's support and tell them the connection id."
        }
        ErrorCode::ConnectionFailed => match error.phase {
            Phase::SessionToken => {
                "See that upstream.console_url is right, then DNS, firewall and proxy on the way to it."
            }
            Phase::WebsocketConnect
            | Phase::WebsocketHandshake
            | Phase::WebsocketSend
            | Phase::WebsocketRuntime => {
                "See that upstream.ingress_url is right, then DNS, firewall and proxy on the way to it."
            }
        },
        ErrorCode::ConnectionClosed => {
            "Something cut the connection without a word: look at proxies and firewalls on the way, then at the service."
        }
    }
}
