//! What reading webhooks promises.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Config, parse};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const TENANT: &str =
    "[[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"up\"\nkeys = [\"key-of-acme\"]\n";

fn read(text: &str) -> Result<Config, Vec<String>> {
    let read = parse(text, "test.toml", &BTreeMap::new());
    read.map_err(|errors| errors.mistakes().iter().map(ToString::to_string).collect())
}

#[test]
fn endpoints_of_operators_and_of_tenants_are_read_with_all_that_they_say() {
    let text = format!(
        "{TENANT}[[tenants.webhooks]]\nurl = \"https://hooks.acme.example/in\"\nsecrets = [\"{SECRET}\"]\n\
         [[webhooks]]\nurl = \"http://127.0.0.1:9/\"\nsecrets = [\"{SECRET}\", \"{SECRET}\"]\n\
         events = [\"upstream.breaker_changed\"]\ntenants = [\"acme\", \"globex\"]\n\
         [webhook_delivery]\ntimeout_ms = 2000\nallow_private = true\nallow_http = true\n"
    );
    let config = read(&text).unwrap();
    let [of_acme] = config.tenants[0].webhooks.as_slice() else { panic!("{config:?}") };
    assert_eq!((of_acme.url.as_str(), of_acme.secrets.len()), ("https://hooks.acme.example/in", 1));
    assert_eq!((&of_acme.events, &of_acme.tenants), (&None, &None));
    let [of_operators] = config.webhooks.as_slice() else { panic!("{config:?}") };
    assert_eq!(of_operators.secrets.len(), 2);
    assert_eq!(of_operators.events, Some([WebhookEvent::BreakerChanged].into()));
    assert_eq!(of_operators.tenants, Some(["acme", "globex"].map(TenantId::from).into()));
    let delivery = WebhookDelivery { timeout: Duration::from_secs(2), allow_private: true, allow_http: true };
    assert_eq!(config.webhook_delivery, delivery);
}

#[test]
fn every_mistake_has_its_line_and_quotes_neither_address_nor_secret() {
    let with = |lines: &str| format!("[[webhooks]]\n{lines}\n");
    let url = "url = \"https://hooks.example/hunter2\"";
    let secrets = format!("secrets = [\"{SECRET}\"]");
    for (text, place, part) in [
        (with(&secrets), "test.toml:1:1: webhooks[0].url:", "is missing"),
        (with(url), "test.toml:1:1: webhooks[0].secrets:", "is missing"),
        (with(&format!("{url}\nsecrets = []")), "test.toml:3:11: webhooks[0].secrets:", "empty list"),
        (
            with(&format!("{url}\nsecrets = [\"hunter2\"]")),
            "test.toml:3:12: webhooks[0].secrets:",
            "does not begin with whsec_",
        ),
        (
            with(&format!("{url}\nsecrets = [\"whsec_hunter2\"]")),
            "test.toml:3:12: webhooks[0].secrets:",
            "is no base64",
        ),
        (
            with(&format!("{url}\nsecrets = [\"whsec_aHVudGVyMg==\"]")),
            "test.toml:3:12: webhooks[0].secrets:",
            "is 7 bytes long",
        ),
        (
            with(&format!("url = \"http://hooks.example/hunter2\"\n{secrets}")),
            "test.toml:2:7: webhooks[0].url:",
            "allow_http",
        ),
        (with(&format!("url = \"ftp://hunter2\"\n{secrets}")), "test.toml:2:7: webhooks[0].url:", "scheme"),
        (
            with(&format!("url = \"https://a:hunter2@hooks.example\"\n{secrets}")),
            "test.toml:2:7: webhooks[0].url:",
            "password",
        ),
        (
            with(&format!("url = \"https://hooks.example/#hunter2\"\n{secrets}")),
            "test.toml:2:7: webhooks[0].url:",
            "fragment",
        ),
        (with(&format!("url = \"hunter2\"\n{secrets}")), "test.toml:2:7: webhooks[0].url:", "is no URL"),
        (
            with(&format!("{url}\n{secrets}\nevents = [\"session.parkd\"]")),
            "test.toml:4:11: webhooks[0].events:",
            "\"session.parked\"",
        ),
        (with(&format!("{url}\n{secrets}\nevents = []")), "test.toml:4:10: webhooks[0].events:", "empty"),
        (
            with(&format!("{url}\n{secrets}\ntenants = [\"ACME\"]")),
            "test.toml:4:12: webhooks[0].tenants:",
            "a-z",
        ),
        (with(&format!("{url}\n{secrets}\nevent = 1")), "test.toml:4:1: webhooks[0].event:", "\"events\""),
        (
            format!("[[webhooks]]\n{url}\n{secrets}\n[[webhooks]]\n{url}\n{secrets}\n"),
            "test.toml:5:7: webhooks[1].url:",
            "already",
        ),
        (
            format!("{TENANT}[[tenants.webhooks]]\n{url}\n{secrets}\nevents = [\"tenant.suspended\"]\n"),
            "test.toml:9:11: tenants[0].webhooks[0].events:",
            "is no event",
        ),
        (
            format!("{TENANT}[[tenants.webhooks]]\n{url}\n{secrets}\ntenants = [\"globex\"]\n"),
            "test.toml:9:1: tenants[0].webhooks[0].tenants:",
            "unknown key",
        ),
        (
            "[webhook_delivery]\ntimeout_ms = 5\n".to_owned(),
            "test.toml:2:14: webhook_delivery.timeout_ms:",
            "from 1000 to 60000",
        ),
    ] {
        let mistakes = read(&text).unwrap_err();
        assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
        assert!(mistakes[0].starts_with(place) && mistakes[0].contains(part), "{mistakes:#?} of {text}");
        assert!(!mistakes[0].contains("hunter2"), "{mistakes:#?}");
    }
}

#[test]
fn an_owner_has_sixteen_endpoints_at_most() {
    let of = |count: usize| -> String {
        let one =
            |number| format!("[[webhooks]]\nurl = \"https://a{number}.example\"\nsecrets = [\"{SECRET}\"]\n");
        (0..count).map(one).collect()
    };
    assert_eq!(read(&of(Webhook::MAX)).unwrap().webhooks.len(), Webhook::MAX);
    assert_eq!(read(&of(Webhook::MAX + 1)).unwrap_err().len(), 1);
}

#[test]
fn nothing_of_an_endpoint_but_its_host_is_in_a_debug_output() {
    let text = format!(
        "[[webhooks]]\nurl = \"https://hooks.example/hunter2?a=hunter3\"\nsecrets = [\"{SECRET}\"]\n"
    );
    let shown = format!("{:?}", read(&text).unwrap());
    assert!(shown.contains("https://hooks.example"), "{shown}");
    assert!(!shown.contains("hunter") && !shown.contains("MfKQ9r8G"), "{shown}");
}
