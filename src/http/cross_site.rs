//! Refuses what another site's page makes a browser send to the admin listener.
//!
//! The admin key is no cookie, so a foreign page has nothing to ride on; this holds where a proxy adds the key, and
//! costs those who are no browser nothing: they send neither header. The order of the checks is the one of the Fetch
//! Metadata guidance: the browser's own word first, `Origin` for browsers and plain-text addresses without it.

use std::net::IpAddr;

use actix_web::{
    HttpRequest,
    http::{Method, StatusCode, header},
};

use super::Problem;

const SEC_FETCH_SITE: &str = "sec-fetch-site";

/// Whether a request changes nothing, by its method.
fn is_reading(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS].contains(method)
}

/// The host and port of an origin, without the port that its scheme has anyway.
fn authority(origin: &str) -> Option<&str> {
    let (scheme, rest) = origin.split_once("://")?;
    let usual = if scheme.eq_ignore_ascii_case("https") { ":443" } else { ":80" };
    Some(rest.strip_suffix(usual).unwrap_or(rest))
}

/// Refuses a call that changes something and comes from a page of another origin.
///
/// # Errors
///
/// 403 `crossSite`.
pub(super) fn check(request: &HttpRequest) -> Result<(), Problem> {
    let text = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap_or_default());
    if is_reading(request.method()) {
        return Ok(());
    }
    let from = match (text(SEC_FETCH_SITE), text(header::ORIGIN.as_str())) {
        (Some("same-origin" | "none"), _) | (None, None) => return Ok(()),
        (Some(site), _) => format!("the browser says {site:?}"),
        (None, Some(origin)) => {
            let host = text(header::HOST.as_str()).unwrap_or_default();
            let own = authority(origin).is_some_and(|from| {
                [":80", ":443", ""].iter().any(|port| host.strip_suffix(port) == Some(from))
            });
            if own {
                return Ok(());
            }
            format!("it comes from {origin:?}, this is {host:?}")
        }
    };
    let detail = format!("a page of another site may not change anything here: {from}");
    Err(Problem::new(StatusCode::FORBIDDEN, "crossSite", detail))
}

/// Whether the client asks for an address or `localhost`, and not for a name. A site may let its own name lead to
/// 127.0.0.1 and then read, as its own origin, what needs no key; it cannot do that to an address.
pub(super) fn is_asked_by_address(request: &HttpRequest) -> bool {
    let Some(host) = request.headers().get(header::HOST) else {
        // No browser leaves it out.
        return true;
    };
    let host = host.to_str().unwrap_or_default().to_ascii_lowercase();
    let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|c| c.is_ascii_digit()));
    let name = name.map_or(host.as_str(), |(name, _)| name);
    let bare = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    bare == "localhost" || bare.ends_with(".localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn is_refused(method: Method, headers: &[(&str, &str)]) -> bool {
        let request = headers.iter().fold(
            TestRequest::default().method(method).insert_header(("host", "127.0.0.1:8081")),
            |request, (name, value)| request.insert_header((*name, *value)),
        );
        check(&request.to_http_request()).is_err()
    }

    #[test]
    fn a_change_that_another_site_asks_for_is_refused() {
        let foreign: [&[(&str, &str)]; 7] = [
            &[("sec-fetch-site", "cross-site")],
            &[("sec-fetch-site", "same-site")],
            &[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8081")],
            &[("origin", "http://evil.example")],
            &[("origin", "null")],
            &[("origin", "http://127.0.0.1:8080")],
            &[("origin", "http://127.0.0.1:8081.evil.example")],
        ];
        for headers in foreign {
            assert!(is_refused(Method::POST, headers), "{headers:?}");
            assert!(is_refused(Method::DELETE, headers), "{headers:?}");
            assert!(!is_refused(Method::GET, headers), "{headers:?}");
        }
    }

    #[test]
    fn a_name_that_somebody_let_lead_here_is_no_address() {
        let is_address = |host: &str| {
            is_asked_by_address(&TestRequest::default().insert_header(("host", host)).to_http_request())
        };
        for host in ["127.0.0.1", "127.0.0.1:8081", "[::1]:8081", "[::1]", "localhost:8081", "Ops.LOCALHOST"]
        {
            assert!(is_address(host), "{host}");
        }
        for host in
            ["evil.example", "evil.example:8081", "127.0.0.1.evil.example", "localhost.evil.example:80", ""]
        {
            assert!(!is_address(host), "{host}");
        }
    }

    #[test]
    fn the_pages_own_changes_and_those_of_programs_pass() {
        let own: [&[(&str, &str)]; 5] = [
            &[],
            &[("sec-fetch-site", "same-origin"), ("origin", "https://ops.example")],
            &[("sec-fetch-site", "none")],
            &[("origin", "http://127.0.0.1:8081")],
            &[("origin", "https://ops.example"), ("host", "ops.example:443")],
        ];
        for headers in own {
            assert!(!is_refused(Method::POST, headers), "{headers:?}");
        }
    }
}
