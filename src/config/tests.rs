//! What reading promises.

use std::{collections::BTreeMap, fs, time::Duration};

use secrecy::ExposeSecret;

use super::*;
use crate::{
    errors::{Action, ErrorCode},
    outbox::Continuity,
    recovery::fleet::GateConfig,
};

fn env<const N: usize>(variables: [(&str, &str); N]) -> BTreeMap<String, String> {
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn read(text: &str) -> Config {
    parse(text, "test.toml", &BTreeMap::new()).unwrap_or_else(|errors| panic!("{errors}"))
}

fn mistakes_with(text: &str, env: &BTreeMap<String, String>) -> Vec<String> {
    let errors = parse(text, "test.toml", env).expect_err("the text has mistakes");
    errors.mistakes().iter().map(ToString::to_string).collect()
}

fn mistakes(text: &str) -> Vec<String> {
    mistakes_with(text, &BTreeMap::new())
}

#[track_caller]
fn assert_only(mistakes: &[String], start: &str, parts: &[&str]) {
    assert_eq!(mistakes.len(), 1, "{mistakes:#?}");
    assert!(mistakes[0].starts_with(start), "{mistakes:#?}");
    for part in parts {
        assert!(mistakes[0].contains(part), "{part} is not in {mistakes:#?}");
    }
}

const TENANT: &str = "[[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"upstream-secret\"\n";

#[test]
fn all_mistakes_are_reported_at_once_and_sorted_by_line() {
    let text = "[upstream.gate]\nper_second = 0\nmax_in_fligth = 7\n\n[server]\nlisten = \"nowhere\"\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert_eq!(
        found[0],
        "test.toml:2:14: upstream.gate.per_second: is 0, but must be a whole number from 1 to 10000"
    );
    assert_eq!(
        found[1],
        "test.toml:3:1: upstream.gate.max_in_fligth: unknown key; the nearest known one is \"max_in_flight\""
    );
    assert!(found[2].starts_with("test.toml:6:10: server.listen: \"nowhere\" is not an IP"), "{found:#?}");
}

#[test]
fn columns_count_characters_and_not_bytes() {
    let found = mistakes("defaults = { continuity = \"ä\", nonsense = 1 }\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[1].starts_with("test.toml:1:32: defaults.nonsense: unknown key"), "{found:#?}");
}

#[test]
fn an_unknown_section_names_the_nearest_one() {
    assert_only(&mistakes("[sever]\nlisten = 3\n"), "test.toml:1:2: sever:", &["\"server\""]);
}

#[test]
fn a_known_key_in_the_wrong_section_is_told_where_it_belongs() {
    let found = mistakes("[upstream]\ntoken_ms = 5\n");
    assert_only(&found, "test.toml:2:1: upstream.token_ms:", &["\"upstream.deadlines.token_ms\""]);
}

#[test]
fn every_mistake_of_syntax_has_its_line_and_no_line_is_quoted() {
    let found = mistakes("[admin]\nkey = hunter2-hunter2\n\n[server]\nlisten = \"127.0.0.1:1\n");
    assert!(found.len() >= 2, "{found:#?}");
    assert!(found[0].starts_with("test.toml:2:7: not valid TOML: "), "{found:#?}");
    assert!(found.iter().any(|mistake| mistake.starts_with("test.toml:5:")), "{found:#?}");
    assert!(!found.concat().contains("hunter2"), "{found:#?}");
}

#[test]
fn a_key_given_twice_is_a_mistake_at_the_second() {
    let found = mistakes("[server]\nlisten = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"\n");
    assert_only(&found, "test.toml:3:1: not valid TOML: duplicate key", &[]);
}

#[test]
fn values_of_the_wrong_kind_name_the_kind_and_what_is_allowed() {
    let found =
        mistakes("server = 3\ntenants = \"acme\"\n[outbox]\nmax_age_s = \"30\"\nsession_bytes = 1.5\n");
    assert_eq!(found.len(), 4, "{found:#?}");
    assert_eq!(found[0], "test.toml:1:10: server: is a whole number, but must be a section");
    assert!(found[1].ends_with("tenants: is a string, but must be a list of sections, [[tenants]]"));
    assert!(found[2].ends_with("is a string, but must be a whole number from 1 to 3600 (seconds)"));
    assert!(found[3].contains("session_bytes: is a number with a fraction"), "{found:#?}");
}

#[test]
fn numbers_beyond_64_bits_and_negative_ones_are_mistakes() {
    let found = mistakes("[outbox]\nmax_age_s = -1\nsession_bytes = 99999999999999999999\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("is -1"), "{found:#?}");
    assert!(found[1].contains("out of all bounds"), "{found:#?}");
}

#[test]
fn spans_keep_their_unit() {
    let config = read("[upstream.deadlines]\ntoken_ms = 1500\n[server]\nshutdown_s = 3\n");
    assert_eq!(config.upstream.deadlines.token, Duration::from_millis(1500));
    assert_eq!(config.server.shutdown, Duration::from_secs(3));
    assert_eq!(read("[recovery]\npark_probe_s = 0\n").recovery.park_probe, None);
}

#[test]
fn keys_that_depend_on_each_other_are_checked_together() {
    let found = mistakes("[upstream]\nping_s = 30\n");
    assert_only(&found, "test.toml:1:1: upstream.half_open_s:", &["45 s", "30 s"]);
    let found = mistakes("[recovery.backoff]\nmax_ms = 400\n");
    assert_only(&found, "test.toml:2:10: recovery.backoff.max_ms:", &["initial_ms"]);
    let found = mistakes("[upstream.breaker]\nopen_s = 90\nopen_max_s = 80\n");
    assert_only(&found, "test.toml:3:14: upstream.breaker.open_max_s:", &["open_s"]);
    let found = mistakes("[admin]\nlisten = \"127.0.0.1:8080\"\n");
    assert_only(&found, "test.toml:2:10: admin.listen:", &["server.listen"]);
}

#[test]
fn an_admin_listener_for_other_machines_needs_a_key() {
    let open = "[admin]\nlisten = \"0.0.0.0:9000\"\n";
    assert_only(&mistakes(open), "test.toml:2:10: admin.listen:", &["admin.key"]);
    assert!(read(&format!("{open}key = \"hunter2-hunter2\"\n")).admin.key.is_some());
}

#[test]
fn an_upstream_url_has_a_scheme_it_can_use_and_nothing_that_would_be_lost() {
    for (url, reason) in [
        ("ftp://api.example", "scheme \"ftp\""),
        ("wss://api.example", "scheme \"wss\""),
        ("api.example", "is no URL"),
        ("https://api.example/?a=b", "query"),
        ("https://api.example/#a", "fragment"),
        ("https://me:hunter2@api.example/", "password"),
    ] {
        let found = mistakes(&format!("[upstream]\nconsole_url = \"{url}\"\n"));
        assert_only(&found, "test.toml:2:15: upstream.console_url:", &[reason]);
        assert!(!found[0].contains("hunter2"), "{found:#?}");
    }
    let config =
        read("[upstream]\ningress_url = \"http://127.0.0.1:9/v2/driveningress\"\nauth = \"query\"\n");
    assert_eq!(config.upstream.ingress_url.as_str(), "http://127.0.0.1:9/v2/driveningress");
    assert_eq!(config.upstream.auth, UpstreamAuth::Query);
}

#[test]
fn what_this_version_does_not_have_is_refused_by_name() {
    let text = "[store]\nurl = \"etcd://me:hunter2@host:2379\"\n\
                [[upstream.fallback]]\nname = \"eu\"\n";
    let found = mistakes(text);
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].contains("store.url: the etcd store is not built in this version"));
    assert!(!found[0].contains("hunter2"), "{found:#?}");
    assert!(found[1].contains("upstream.fallback: further regions"), "{found:#?}");
}

#[test]
fn the_ingress_has_its_settings_and_each_is_checked() {
    let text =
        "[ingress]\nlinger_s = 5\nupgrade_ms = 500\npartial_failure = \"end\"\ntoken_single_use = false\n";
    let ingress = read(text).ingress;
    assert_eq!((ingress.linger, ingress.upgrade), (Duration::from_secs(5), Duration::from_millis(500)));
    assert_eq!((ingress.partial_failure, ingress.token_single_use), (PartialFailure::End, false));
    let variables = env([
        ("GREENROOM_INGRESS__LINGER_S", "7"),
        ("GREENROOM_INGRESS__TOKEN_SINGLE_USE", "true"),
        ("GREENROOM_INGRESS__PARTIAL_FAILURE", "error"),
    ]);
    let ingress = parse(text, "test.toml", &variables).unwrap_or_else(|errors| panic!("{errors}")).ingress;
    assert_eq!((ingress.linger, ingress.token_single_use), (Duration::from_secs(7), true));
    assert_eq!(ingress.partial_failure, PartialFailure::Error);
    for (line, says) in [
        ("linger_s = 3601", "0 to 3600"),
        ("upgrade_ms = 99", "100 to 300000"),
        ("partial_failure = \"none\"", "use \"error\" or \"end\""),
        ("token_single_use = \"yes\"", "true or false"),
        ("confirm_ms = 999", "1000 to 300000"),
        ("client_bytes = 1024", "65536"),
        ("slow_client_ms = 1", "1000 to 300000"),
        ("max_message_bytes = 1", "65536"),
        ("half_open_s = 30", "twice ingress.ping_s (15 s)"),
        ("upgrade_s = 8", "nearest known one is \"upgrade_ms\""),
    ] {
        let found = mistakes(&format!("[ingress]\n{line}\n"));
        let key = line.split(' ').next().unwrap();
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(found[0].contains(&format!("ingress.{key}: ")) && found[0].contains(says), "{found:#?}");
    }
}

#[test]
fn each_continuity_is_read_and_the_default_sends_again_what_nothing_was_answered_to() {
    assert_eq!(read("").defaults.continuity, Continuity::Unanswered);
    for continuity in [Continuity::Off, Continuity::Unanswered, Continuity::Resume] {
        let text = format!("[defaults]\ncontinuity = \"{}\"\n", continuity.as_str());
        assert_eq!(read(&text).defaults.continuity, continuity);
    }
}

#[test]
fn a_policy_changes_codes_and_a_tenant_changes_them_again() {
    let text = format!(
        "[recovery.policy]\nidleTimeout = \"restart\"\nunknown = \"fail\"\n{TENANT}keys = [\"key-of-acme\"]\n\
         recovery = {{ policy = {{ unknown = \"park\" }} }}\n"
    );
    let config = read(&text);
    assert_eq!(config.recovery.policy.action(ErrorCode::IdleTimeout), Action::Restart);
    assert_eq!(config.recovery.policy.action(ErrorCode::Unknown), Action::Fail);
    let tenant = &config.tenants[0].policy;
    assert_eq!(*tenant, BTreeMap::from([(ErrorCode::Unknown, Action::Park)]));
}

#[test]
fn an_unknown_code_names_the_nearest_and_an_unknown_action_the_allowed_ones() {
    let found = mistakes("[recovery.policy]\nidleTimeOut = \"sleep\"\nserverError = \"retry\"\n");
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("test.toml:2:1: recovery.policy.idleTimeOut:"), "{found:#?}");
    assert!(found[0].contains("\"idleTimeout\""), "{found:#?}");
    assert!(found[1].contains("\"retry\" is no action; use \"restart\", \"renew\", \"park\""), "{found:#?}");
}

#[test]
fn the_environment_overrides_the_file_key_by_key() {
    let text = format!("[server]\nlisten = \"127.0.0.1:1\"\n{TENANT}keys = [\"key-of-acme\"]\n");
    let variables = env([
        ("GREENROOM_SERVER__LISTEN", "127.0.0.1:2"),
        ("GREENROOM_UPSTREAM__GATE__PER_SECOND", "7"),
        ("GREENROOM_RECOVERY__BACKOFF__MULTIPLIER", "1.5"),
        ("GREENROOM_RECOVERY__POLICY__IDLETIMEOUT", "restart"),
        ("GREENROOM_TENANTS__0__MAX_SESSIONS", "9"),
        ("GREENROOM_TENANTS__0__KEYS", r#"["another-key", { env = "SECOND" }]"#),
        ("GREENROOM_ADMIN__KEY", "1234567890"),
        ("GREENROOM_ADMIN_KEY", "no override"),
        ("SECOND", "the-second-key"),
    ]);
    let config = parse(&text, "test.toml", &variables).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.server.listen.port(), 2);
    assert_eq!(config.upstream.gate, GateConfig { per_second: 7, ..GateConfig::default() });
    assert_eq!(config.recovery.backoff.multiplier, 1.5);
    assert_eq!(config.recovery.policy.action(ErrorCode::IdleTimeout), Action::Restart);
    let tenant = &config.tenants[0];
    assert_eq!(tenant.max_sessions, 9);
    let keys: Vec<&str> = tenant.keys.iter().map(ExposeSecret::expose_secret).collect();
    assert_eq!(keys, ["another-key", "the-second-key"]);
    assert_eq!(config.admin.key.as_ref().map(ExposeSecret::expose_secret), Some("1234567890"));
}

#[test]
fn a_mistake_from_the_environment_names_the_variable() {
    let variables = env([
        ("GREENROOM_SERVER__LISTN", "127.0.0.1:2"),
        ("GREENROOM_SEVER__LISTEN", "127.0.0.1:2"),
        ("GREENROOM__SERVER__LISTEN", "127.0.0.1:2"),
        ("GREENROOM_OUTBOX__MAX_AGE_S", "soon"),
        ("GREENROOM_SERVER__LISTEN__PORT", "2"),
        ("GREENROOM_TENANTS__3__ID", "acme"),
    ]);
    let text = format!("[server]\nlisten = \"127.0.0.1:1\"\n{TENANT}keys = [\"key-of-acme\"]\n");
    let found = mistakes_with(&text, &variables);
    assert_eq!(found.len(), 6, "{found:#?}");
    assert!(found[0].starts_with("environment GREENROOM_OUTBOX__MAX_AGE_S: outbox.max_age_s: is a string"));
    assert!(found[1].contains("\"listen\" is no section"), "{found:#?}");
    for misspelt in &found[2..=3] {
        assert!(misspelt.ends_with("the nearest known one is GREENROOM_SERVER__LISTEN"), "{found:#?}");
    }
    assert!(found[4].contains("\"tenants\" has 1 entries"), "{found:#?}");
    assert!(found[5].starts_with("environment GREENROOM__SERVER__LISTEN: _server:"), "{found:#?}");
}

#[test]
fn a_secret_is_a_string_or_a_variable_or_a_file_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("upstream.key"), "from-a-file\r\n").unwrap();
    let text = "[admin]\nkey = { env = \"ADMIN\" }\n[[tenants]]\nid = \"acme\"\napp_id = \"app\"\n\
                upstream_api_key = { file = \"upstream.key\" }\nkeys = [\"written-out\"]\n";
    let path = directory.path().join("greenroom.toml");
    fs::write(&path, text).unwrap();
    let config = load(&path, &env([("ADMIN", "from-the-environment")])).unwrap();
    assert_eq!(config.admin.key.as_ref().map(ExposeSecret::expose_secret), Some("from-the-environment"));
    assert_eq!(config.tenants[0].upstream_api_key.expose_secret(), "from-a-file");
    assert_eq!(config.tenants[0].keys[0].expose_secret(), "written-out");
    let shown = format!("{config:?}");
    assert!(!shown.contains("from-a-file") && !shown.contains("written-out"), "{shown}");
}

#[test]
fn a_secret_that_cannot_be_had_is_a_mistake_at_its_key() {
    let cases = [
        ("{ env = \"ABSENT\" }", "the environment variable ABSENT is not set"),
        ("{ env = \"EMPTY\" }", "the environment variable EMPTY is empty"),
        ("{ file = \"/nowhere/at-all\" }", "the file /nowhere/at-all cannot be read"),
        ("{ evn = \"ADMIN\" }", "unknown key \"evn\""),
        ("{ env = \"A\", file = \"B\" }", "exactly one"),
        ("{ env = 3 }", "\"env\" is a whole number"),
        ("12345678", "is a whole number, but must be a string, { env"),
        ("\"hunter2 hunter2\"", "the secret has spaces"),
    ];
    for (secret, reason) in cases {
        let found = mistakes_with(&format!("[admin]\nkey = {secret}\n"), &env([("EMPTY", "")]));
        assert_only(&found, "test.toml:2:7: admin.key:", &[reason]);
        assert!(!found[0].contains("hunter2"), "{found:#?}");
    }
}

#[test]
fn a_tenant_names_each_key_that_it_lacks_at_its_header() {
    let found = mistakes("\n[[tenants]]\nmax_sessions = 1\n");
    assert_eq!(found.len(), 4, "{found:#?}");
    for (mistake, key) in found.iter().zip(["app_id", "id", "keys", "upstream_api_key"]) {
        assert!(mistake.starts_with(&format!("test.toml:2:1: tenants[0].{key}: is missing")), "{found:#?}");
    }
    let found = mistakes(&format!("{TENANT}keys = []\n"));
    assert_only(&found, "test.toml:5:8: tenants[0].keys:", &["empty list"]);
}

#[test]
fn tenants_share_neither_an_id_nor_a_key() {
    let other = "[[tenants]]\nid = \"acme\"\napp_id = \"app\"\nupstream_api_key = \"u\"\n";
    let text = format!(
        "[admin]\nkey = \"hunter2-admin\"\n{TENANT}keys = [\"hunter2-acme\"]\n\
         {other}keys = [\"hunter2-fine\", \"hunter2-acme\", \"hunter2-admin\"]\n"
    );
    let found = mistakes(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    assert!(found[0].starts_with("test.toml:9:6: tenants[1].id: \"acme\""), "{found:#?}");
    assert!(found[1].starts_with("test.toml:12:25: tenants[1].keys: is the same key as in tenants[0].keys"));
    assert!(found[2].starts_with("test.toml:12:41: tenants[1].keys: is the same key as in admin.key"));
    assert!(!found.concat().contains("hunter2"), "{found:#?}");
}

#[test]
fn a_key_that_can_be_guessed_and_an_id_that_cannot_be_a_label_are_refused() {
    let found = mistakes(&format!("{TENANT}keys = [\"hunter2\"]\n"));
    assert_only(&found, "test.toml:5:9: tenants[0].keys:", &["shorter than 8"]);
    let long = "k".repeat(Tenant::MAX_KEY_BYTES + 1);
    let found = mistakes(&format!("[admin]\nkey = \"{long}\"\n"));
    assert_only(&found, "test.toml:2:7: admin.key:", &["longer than 256"]);
    for id in ["", "Acme", "a b", "_other", &"a".repeat(65)] {
        let text = format!(
            "[[tenants]]\nid = \"{id}\"\napp_id = \"a\"\nupstream_api_key = \"u\"\nkeys = [\"12345678\"]\n"
        );
        assert_only(&mistakes(&text), "test.toml:2:6: tenants[0].id:", &[]);
    }
}

#[test]
fn a_log_level_that_the_filter_does_not_understand_is_refused() {
    for level in ["", "info,=", "greenroom=loud"] {
        let found = mistakes(&format!("[telemetry]\nlog_level = \"{level}\"\n"));
        assert_only(&found, "test.toml:2:13: telemetry.log_level:", &["no log directive"]);
    }
    let config = read("[telemetry]\nlog_level = \"info,greenroom::session=debug\"\nlog_format = \"json\"\n");
    assert_eq!(config.telemetry.log_level, "info,greenroom::session=debug");
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart_from_mistakes() {
    let errors = load(Path::new("/nowhere/greenroom.toml"), &BTreeMap::new()).unwrap_err();
    assert!(matches!(errors, ConfigErrors::Unreadable { .. }));
    assert!(errors.to_string().starts_with("/nowhere/greenroom.toml: cannot be read: "), "{errors}");
}

#[test]
fn a_pool_needs_an_avatar_and_a_format_that_there_is() {
    let tenant =
        "[[tenants]]\nid = \"a\"\napp_id = \"b\"\nupstream_api_key = \"c\"\nkeys = [\"0123456789\"]\n";
    let config = |pool: &str| parse(&format!("{tenant}{pool}"), "pool.toml", &BTreeMap::new());
    let read =
        config("[[tenants.pool]]\navatar_id = \"w\"\nsize = 3\naudio_format = \"ogg_opus\"\n").unwrap();
    let [pool] = read.tenants[0].pool.as_slice() else { panic!("one pool") };
    assert_eq!((pool.avatar_id.as_str(), pool.size, pool.sample_rate), ("w", 3, 16_000));
    assert_eq!(pool.audio_format, PoolFormat::OggOpus);
    for (pool, mistake) in [
        ("size = 3", "pool[0].avatar_id: is missing"),
        ("avatar_id = \"\"", "pool[0].avatar_id: has 0 characters"),
        ("avatar_id = \"w\"\naudio_format = \"mp3\"", "\"mp3\" is not known"),
        ("avatar_id = \"w\"\nsample_rat = 3", "sample_rate"),
    ] {
        let errors = config(&format!("[[tenants.pool]]\n{pool}\n")).unwrap_err().to_string();
        assert!(errors.contains(mistake), "{errors}");
    }
}
