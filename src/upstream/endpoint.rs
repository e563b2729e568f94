//! The service's addresses.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// What stands for itself in a query: the unreserved characters of RFC 3986.
const IN_QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path that older deployments' console URLs end in.
const LEGACY_CONSOLE: &str = "/v1/console";

/// Where a session token is had. A console URL with the older path on it keeps to the older call.
pub(super) fn token_url(console: &Url) -> String {
    let root = console.as_str().trim_end_matches('/');
    if root.ends_with(LEGACY_CONSOLE) {
        format!("{root}/session-tokens")
    } else {
        format!("{root}/v1/auth/session-token")
    }
}

/// Where the WebSocket is opened; `query_auth` is app id and token, where they go into the query.
pub(super) fn websocket_url(ingress: &Url, avatar_id: &str, query_auth: Option<(&str, &str)>) -> String {
    let root = ingress.as_str().trim_end_matches('/');
    let encode = |text| utf8_percent_encode(text, IN_QUERY);
    let mut url = format!("{root}/websocket?id={}", encode(avatar_id));
    if let Some((app_id, token)) = query_auth {
        url.push_str(&format!("&appId={}&sessionKey={}", encode(app_id), encode(token)));
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        Url::parse(text).unwrap()
    }

    #[test]
    fn the_token_url_follows_the_deployments_age() {
        let cases = [
            ("https://api.example.com", "https://api.example.com/v1/auth/session-token"),
            ("https://api.example.com/", "https://api.example.com/v1/auth/session-token"),
            ("http://api.example.com/v1/console/", "http://api.example.com/v1/console/session-tokens"),
        ];
        for (console, expected) in cases {
            assert_eq!(token_url(&url(console)), expected);
        }
    }

    #[test]
    fn an_avatar_id_is_opaque_and_cannot_break_the_query() {
        let ingress = url("wss://in.example.com/v2/driveningress/");
        assert_eq!(
            websocket_url(&ingress, "a b&id=c/ü", None),
            "wss://in.example.com/v2/driveningress/websocket?id=a%20b%26id%3Dc%2F%C3%BC"
        );
        assert_eq!(
            websocket_url(&ingress, "a", Some(("app&1", "t=k+n"))),
            "wss://in.example.com/v2/driveningress/websocket?id=a&appId=app%261&sessionKey=t%3Dk%2Bn"
        );
    }
}
