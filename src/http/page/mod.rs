//! The console page at the admin listener's `/`: its files, which are part of the binary, and the one path of its own.
//!
//! The files need no key and hold no data; everything that the page shows it asks the admin API for.

mod overview;

use std::sync::LazyLock;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, ETag, EntityTag, Header as _, HeaderName, IfNoneMatch},
    web,
};
use sha2::{Digest as _, Sha256};

use super::{App, auth, get};

/// What the page may load and where it may send: its own files and this listener, nothing inline, nobody's frame.
/// Trusted Types make the browser refuse text that would be read as HTML, should a line of ours ever try.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const MARKDOWN: &str = "text/markdown; charset=utf-8";
const IMAGE: &str = "image/svg+xml";

/// A file of the page.
struct File {
    path: &'static str,
    content_type: &'static str,
    text: &'static str,
}

macro_rules! files {
    ($($path:literal, $content_type:ident, $source:literal;)*) => {
        [$(File { path: $path, content_type: $content_type, text: include_str!($source) }),*]
    };
}

static FILES: [File; 18] = files! {
    "/", HTML, "index.html";
    "/console/console.css", STYLE, "console.css";
    "/console/icon.svg", IMAGE, "icon.svg";
    "/console/theme.js", SCRIPT, "theme.js";
    "/console/main.js", SCRIPT, "main.js";
    "/console/dom.js", SCRIPT, "dom.js";
    "/console/words.js", SCRIPT, "words.js";
    "/console/api.js", SCRIPT, "api.js";
    "/console/events.js", SCRIPT, "events.js";
    "/console/metrics.js", SCRIPT, "metrics.js";
    "/console/charts.js", SCRIPT, "charts.js";
    "/console/fleet.js", SCRIPT, "fleet.js";
    "/console/tenants.js", SCRIPT, "tenants.js";
    "/console/sessions.js", SCRIPT, "sessions.js";
    "/console/timeline.js", SCRIPT, "timeline.js";
    "/console/actions.js", SCRIPT, "actions.js";
    "/console/runbook.js", SCRIPT, "runbook.js";
    "/console/runbooks.md", MARKDOWN, "../../../dashboards/runbooks.md";
};

/// Each file's version, by its content.
static TAGS: LazyLock<[EntityTag; FILES.len()]> = LazyLock::new(|| {
    FILES.each_ref().map(|file| {
        let hash = Sha256::digest(file.text);
        EntityTag::new_strong(hash.iter().take(12).map(|byte| format!("{byte:02x}")).collect())
    })
});

/// The page's paths.
pub(super) fn paths(routes: &mut web::ServiceConfig) {
    for (file, tag) in FILES.iter().zip(TAGS.iter()) {
        routes.service(get(file.path, async move |request: HttpRequest| answer(file, tag, &request)));
    }
    routes.service(get("/console/overview", overview::get)).service(get("/console/access", access));
}

/// `GET /console/access`: what a caller without a key needs to be shown anything. Asked before the key is, so that a
/// browser does not log a refusal that was no mistake.
async fn access(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let needs = if app.admin_key.is_some() {
        "key"
    } else if auth::is_local(&request) {
        "nothing"
    } else {
        "loopback"
    };
    HttpResponse::Ok().json(serde_json::json!({"needs": needs}))
}

fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(known)) => known.iter().any(|known| known.weak_eq(tag)),
        Err(_) => false,
    }
}

fn answer(file: &File, tag: &EntityTag, request: &HttpRequest) -> HttpResponse {
    let mut response = match is_known(request, tag) {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response
        .insert_header(ETag(tag.clone()))
        // A browser asks each time: after an update the page and its scripts are of one version.
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        // Browsers that do not know frame-ancestors.
        .insert_header((header::X_FRAME_OPTIONS, "DENY"))
        .insert_header((HeaderName::from_static("cross-origin-opener-policy"), "same-origin"))
        .insert_header((HeaderName::from_static("cross-origin-resource-policy"), "same-origin"));
    match is_known(request, tag) {
        true => response.finish(),
        false => response.content_type(file.content_type).body(file.text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_names_every_file_by_the_path_that_serves_it_and_holds_nothing_inline() {
        let [page, rest @ ..] = &FILES;
        for file in rest {
            let name = file.path.rsplit('/').next().unwrap();
            let users =
                FILES.iter().filter(|user| user.text.contains(name) && user.path != file.path).count();
            assert!(users > 0, "{} is served, and nothing loads it", file.path);
        }
        for inline in ["style=", "onclick=", "<style", "javascript:"] {
            assert!(!page.text.contains(inline), "{inline}");
        }
        assert_eq!(page.text.matches("<script").count(), page.text.matches("<script src=").count() + 1);
        assert_eq!(page.text.matches("<script type=\"module\" src=").count(), 1);
    }

    #[test]
    fn no_file_of_the_page_writes_html_or_keeps_the_key() {
        for file in &FILES {
            for forbidden in
                ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "sessionStorage"]
            {
                assert!(!file.text.contains(forbidden), "{}: {forbidden}", file.path);
            }
            let keeps = file.text.matches("localStorage.setItem").count();
            assert_eq!(keeps, usize::from(file.path == "/console/theme.js"), "{}", file.path);
            assert!(
                file.content_type == MARKDOWN || file.text.lines().count() <= 500,
                "{}: split it by its second idea",
                file.path
            );
        }
    }
}
