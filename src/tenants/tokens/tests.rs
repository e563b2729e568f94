//! What the table of tokens promises.

use super::*;

const NOW: u64 = 1_763_841_600;

struct World {
    table: TokenTable,
    made: u8,
}

impl World {
    fn new(usable: TokenUse) -> Self {
        Self { table: TokenTable::new(usable), made: 0 }
    }

    fn issue_at(&mut self, tenant: &str, expires_at: u64, now: u64) -> Result<String, NotIssued> {
        self.made += 1;
        self.table.issue(&TenantId::from(tenant), expires_at, 3, [self.made; 32], now)
    }

    fn issue(&mut self, tenant: &str) -> String {
        self.issue_at(tenant, NOW + 3600, NOW).unwrap()
    }
}

#[test]
fn a_token_is_long_unpredictable_and_kept_as_a_hash_only() {
    let mut world = World::new(TokenUse::Once);
    let (one, two) = (world.issue("acme"), world.issue("acme"));
    assert_ne!(one, two);
    assert!(one.starts_with("grt_") && one.len() == 4 + 43, "{one}");
    let kept: Vec<&Hash> = world.table.tokens.keys().collect();
    assert!(kept.iter().all(|kept| **kept != [1; 32] && **kept != [2; 32]));
    assert_eq!(kept.len(), 2);
}

#[test]
fn a_token_opens_one_connection_of_its_own_tenant() {
    let mut world = World::new(TokenUse::Once);
    let (acme, globex) = (world.issue("acme"), world.issue("globex"));
    let reserved = world.table.reserve(&acme, NOW).unwrap();
    assert_eq!(reserved.tenant.as_str(), "acme");
    world.table.consume(reserved);
    assert_eq!(world.table.reserve(&acme, NOW), Err(TokenRefused::Invalid));
    assert_eq!(world.table.reserve(&globex, NOW).unwrap().tenant.as_str(), "globex");
}

#[test]
fn while_one_upgrade_waits_no_other_has_its_token_and_afterwards_it_is_free_again() {
    let mut world = World::new(TokenUse::Once);
    let token = world.issue("acme");
    let reserved = world.table.reserve(&token, NOW).unwrap();
    assert_eq!(world.table.reserve(&token, NOW), Err(TokenRefused::Invalid));
    world.table.release(reserved);
    assert!(world.table.reserve(&token, NOW).is_ok());
}

#[test]
fn a_token_for_often_serves_until_it_expires() {
    let mut world = World::new(TokenUse::Often);
    let token = world.issue("acme");
    let (one, two) = (world.table.reserve(&token, NOW).unwrap(), world.table.reserve(&token, NOW).unwrap());
    world.table.consume(one);
    world.table.release(two);
    assert!(world.table.reserve(&token, NOW + 3599).is_ok());
    assert_eq!(world.table.reserve(&token, NOW + 3600), Err(TokenRefused::Expired));
}

#[test]
fn an_expired_token_is_told_so_for_an_hour_and_a_stranger_is_invalid() {
    let mut world = World::new(TokenUse::Once);
    let token = world.issue_at("acme", NOW + 1, NOW).unwrap();
    assert!(world.table.reserve(&token, NOW).is_ok());
    assert_eq!(world.table.reserve(&token, NOW + 1), Err(TokenRefused::Expired));
    world.issue_at("acme", NOW + 7000, NOW + 3600).unwrap();
    assert_eq!(world.table.reserve(&token, NOW + 3600), Err(TokenRefused::Expired));
    world.issue_at("acme", NOW + 7000, NOW + 3601).unwrap();
    assert_eq!(world.table.reserve(&token, NOW + 3601), Err(TokenRefused::Invalid));
    let (short, long) = (&token[..20], format!("{token}{}", "A".repeat(500)));
    for stranger in ["", "grt_", "tok", short, &long, "grt_\u{e9}", &token[4..]] {
        assert_eq!(world.table.reserve(stranger, NOW), Err(TokenRefused::Invalid), "{stranger:?}");
    }
}

#[test]
fn an_expiry_lies_in_the_future_and_within_a_day() {
    let mut world = World::new(TokenUse::Once);
    for (expires_at, answer) in [
        (0, Some(NotIssued::NotInFuture)),
        (NOW - 1, Some(NotIssued::NotInFuture)),
        (NOW, Some(NotIssued::NotInFuture)),
        (NOW + 1, None),
        (NOW + MAX_LIFETIME_S, None),
        (NOW + MAX_LIFETIME_S + 1, Some(NotIssued::TooFar)),
        (u64::MAX, Some(NotIssued::TooFar)),
    ] {
        assert_eq!(world.issue_at("acme", expires_at, NOW).err(), answer, "{expires_at}");
    }
}

#[test]
fn what_a_tenant_holds_is_bounded_and_no_other_tenant_pays_for_it() {
    let mut world = World::new(TokenUse::Once);
    let first = world.issue_at("acme", NOW + 20, NOW).unwrap();
    world.issue("acme");
    world.issue("acme");
    let full = |retry_after_s| Some(NotIssued::TooMany { held: 3, retry_after_s });
    assert_eq!(world.issue_at("acme", NOW + 60, NOW).err(), full(20));
    assert_eq!(world.issue_at("acme", NOW + 60, NOW + 19).err(), full(1));
    world.issue("globex");
    // One that expired makes room before its hour is over, and so does one that was used.
    let second = world.issue_at("acme", NOW + 90, NOW + 20).unwrap();
    assert_eq!(world.table.reserve(&first, NOW + 20), Err(TokenRefused::Invalid));
    assert_eq!(world.issue_at("acme", NOW + 7200, NOW + 20).err(), full(60));
    let reserved = world.table.reserve(&second, NOW + 20).unwrap();
    assert_eq!(world.issue_at("acme", NOW + 7200, NOW + 20).err(), full(60), "a reserved one is held");
    world.table.consume(reserved);
    assert!(world.issue_at("acme", NOW + 7200, NOW + 20).is_ok());
    assert_eq!(world.table.held(&TenantId::from("acme")), 3);
    assert_eq!(world.table.tokens.len(), 4);
}
