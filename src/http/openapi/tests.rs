//! What the documents promise.

use std::collections::BTreeSet;

use actix_web::App as WebApp;

use super::{problems::PROBLEMS, *};
use crate::http::{admin_paths, ingress, routes_noted, session_paths};

/// Method and path of every operation of a document.
fn documented(surface: Surface) -> BTreeSet<(String, String)> {
    let document = build(surface);
    let paths = document["paths"].as_object().unwrap();
    paths
        .iter()
        .flat_map(|(path, operations)| {
            operations.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

#[actix_rt::test]
async fn every_route_is_documented_and_nothing_else_is() {
    for (surface, is_admin) in [(Surface::Data, false), (Surface::Admin, true)] {
        let before = routes_noted().len();
        let app = actix_web::test::init_service(WebApp::new().configure(session_paths).configure(|routes| {
            if is_admin {
                admin_paths(routes);
            } else {
                ingress::paths(routes);
            }
        }))
        .await;
        drop(app);
        let served: BTreeSet<_> =
            routes_noted().into_iter().skip(before).filter(|(method, _)| method != "HEAD").collect();
        let documented = documented(surface);
        let undocumented: Vec<_> = served.difference(&documented).collect();
        assert!(
            undocumented.is_empty(),
            "{surface:?}: give these handlers a #[utoipa::path] and list them in http/openapi: {undocumented:?}"
        );
        let unserved: Vec<_> = documented.difference(&served).collect();
        assert!(unserved.is_empty(), "{surface:?}: documented and not served: {unserved:?}");
        assert!(served.len() >= 10, "{served:?}");
    }
}

#[test]
fn every_code_that_a_handler_names_is_known_and_every_known_one_is_named() {
    let sources = [
        include_str!("../admin.rs"),
        include_str!("../audit.rs"),
        include_str!("../auth.rs"),
        include_str!("../body.rs"),
        include_str!("../events/mod.rs"),
        include_str!("../events/filter.rs"),
        include_str!("../idempotency.rs"),
        include_str!("../patching.rs"),
        include_str!("../playing.rs"),
        include_str!("../problem.rs"),
        include_str!("../requests.rs"),
        include_str!("../sending.rs"),
        include_str!("../sessions.rs"),
        include_str!("../tenants/mod.rs"),
        include_str!("../tenants/body.rs"),
        include_str!("../upload.rs"),
        include_str!("../webhooks.rs"),
        include_str!("../audio/mod.rs"),
    ]
    .concat();
    for (code, ..) in PROBLEMS.iter().filter(|(code, ..)| *code != "errorCode") {
        // These are made of the state's name.
        let is_made = matches!(*code, "sessionParked" | "sessionFailed");
        assert!(is_made || sources.contains(&format!("\"{code}\"")), "{code} is nowhere");
    }
    let known = |code: &str| PROBLEMS.iter().any(|(known, ..)| *known == code);
    for call in [
        "unprocessable(",
        "StatusCode::CONFLICT,",
        "StatusCode::BAD_REQUEST,",
        "StatusCode::SERVICE_UNAVAILABLE,",
        "StatusCode::TOO_MANY_REQUESTS,",
    ] {
        for (at, _) in sources.match_indices(call) {
            let rest = sources[at + call.len()..].trim_start();
            if let Some(code) = rest.strip_prefix('"').and_then(|rest| rest.split('"').next()) {
                assert!(known(code), "{code} is in no document: add it to http/openapi/problems.rs");
            }
        }
    }
    for listed in sources.split("\"x-problem-codes\" = json!([").skip(1) {
        for code in listed.split(']').next().unwrap().split(',') {
            let code = code.trim().trim_matches('"');
            assert!(code.is_empty() || known(code), "{code} is in no table");
        }
    }
}

#[test]
fn every_operation_says_what_it_is_and_who_may() {
    for surface in [Surface::Data, Surface::Admin] {
        let document = build(surface);
        let mut ids = BTreeSet::new();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let name = format!("{method} {path}");
                assert!(operation["summary"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
                assert!(operation["security"].is_array(), "{name}");
                assert!(operation["tags"][0].is_string(), "{name}");
                assert!(ids.insert(operation["operationId"].to_string()), "{name}: its id is there twice");
                let is_public = operation["security"] == json!([{}]);
                assert_eq!(operation["responses"]["401"].is_null(), is_public, "{name}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    assert_ne!(parameter["schema"]["format"], "", "{name}: give {parameter} a format");
                }
            }
        }
    }
}
