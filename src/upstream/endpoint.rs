//! The addresses that are called.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

/// Everything but the unreserved characters of RFC 3986: ids and tokens are opaque, and a `+` or `&` in one
/// must arrive as itself.
const QUERY_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `text` as a value in a query.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, QUERY_VALUE).to_string()
}

/// `url` up to the end of its path, without the slash there. A query or credentials in a configured URL have
/// no meaning to the service and would only mangle what is appended.
fn base(url: &Url, scheme: &str) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{scheme}://{host}{port}{}", url.path().trim_end_matches('/'))
}

/// The address of the token call.
pub(super) fn token_url(console: &Url) -> String {
    let base = base(console, console.scheme());
    let path = if base.ends_with("/v1/console") { "session-tokens" } else { "v1/auth/session-token" };
    format!("{base}/{path}")
}

/// The address of the WebSocket, with the app id and the session token where the query carries them.
pub(super) fn websocket_url(ingress: &Url, avatar_id: &str, credentials: Option<(&str, &str)>) -> String {
    let scheme = match ingress.scheme() {
        "http" => "ws",
        "https" => "wss",
        other => other,
    };
    let mut url = format!("{}/websocket?id={}", base(ingress, scheme), encoded(avatar_id));
    if let Some((app_id, token)) = credentials {
        url.push_str(&format!("&appId={}&sessionKey={}", encoded(app_id), encoded(token)));
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
    fn the_token_is_asked_for_at_the_path_that_the_console_url_implies() {
        for (console, expected) in [
            ("https://api.example.com", "https://api.example.com/v1/auth/session-token"),
            ("https://api.example.com/", "https://api.example.com/v1/auth/session-token"),
            ("http://127.0.0.1:81/base/", "http://127.0.0.1:81/base/v1/auth/session-token"),
            ("https://api.example.com/v1/console", "https://api.example.com/v1/console/session-tokens"),
            ("https://api.example.com/v1/console/", "https://api.example.com/v1/console/session-tokens"),
            ("https://user:pw@api.example.com/?a=b#c", "https://api.example.com/v1/auth/session-token"),
        ] {
            assert_eq!(token_url(&url(console)), expected, "{console}");
        }
    }

    #[test]
    fn http_is_mapped_to_ws_and_the_path_is_kept() {
        for (ingress, expected) in [
            ("wss://in.example.com/v2/driveningress", "wss://in.example.com/v2/driveningress/websocket?id=a"),
            ("https://in.example.com:8443/v2/", "wss://in.example.com:8443/v2/websocket?id=a"),
            ("http://[::1]:80/x", "ws://[::1]/x/websocket?id=a"),
            ("ws://127.0.0.1:9", "ws://127.0.0.1:9/websocket?id=a"),
        ] {
            assert_eq!(websocket_url(&url(ingress), "a", None), expected);
        }
    }

    #[test]
    fn ids_and_tokens_are_opaque_in_the_query() {
        let made = websocket_url(&url("ws://h"), "a b/ü&id=x", Some(("app+1", "t=%/?#~-._")));
        assert_eq!(
            made,
            "ws://h/websocket?id=a%20b%2F%C3%BC%26id%3Dx&appId=app%2B1&sessionKey=t%3D%25%2F%3F%23~-._"
        );
        let read: Vec<_> = url(&made).query_pairs().into_owned().collect();
        assert_eq!(read[0].1, "a b/ü&id=x");
        assert_eq!(read[1].1, "app+1");
        assert_eq!(read[2].1, "t=%/?#~-._");
    }
}
