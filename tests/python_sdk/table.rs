//! The table: every feature, under every form that can matter to it, with both clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    time::Instant,
};

use greenroom::simulator::{Fault, Filter, Point, Simulator};
use serde_json::{Value, json};

use crate::{
    before, errors,
    feature::{Feature, saw},
    form::{ALL_SWITCHES, Form, Setup, forms, simulator},
    limits,
    player::{BOTH, Playing, Sdk},
    playing, refusals,
};

/// The simulators of a run: one for each form and setup, shared by all who can share it.
#[derive(Default)]
struct Simulators {
    all: Vec<(Form, Setup, Simulator)>,
}

impl Simulators {
    fn get(&mut self, form: &Form, setup: Setup) -> &Simulator {
        let shared = self.all.iter().position(|(of, for_, _)| of == form && *for_ == setup);
        let at = shared.filter(|_| setup != Setup::Alone).unwrap_or_else(|| {
            self.all.push((*form, setup, simulator(form, setup)));
            self.all.len() - 1
        });
        &self.all[at].2
    }
}

/// A cell of the table, as it is played.
struct Cell<'a> {
    feature: &'a Feature,
    form: Form,
    sdk: Sdk,
    playing: Playing,
}

/// A cell of the table, as it was seen.
struct Row<'a> {
    feature: &'a Feature,
    form: Form,
    sdk: Sdk,
    seen: Value,
    saw: String,
    expected: String,
}

fn begin<'a>(simulators: &mut Simulators, number: usize, feature: &'a Feature) -> Vec<Cell<'a>> {
    let mut cells = Vec::new();
    for form in forms(feature.switches) {
        for sdk in BOTH {
            let simulator = simulators.get(&form, feature.setup);
            let id = format!("feature-{number}-{}", sdk.name());
            if let Some((at, effect)) = &feature.fault {
                let who = match at {
                    Point::Token => Filter::api_key(&id),
                    Point::Upgrade
                    | Point::Handshake
                    | Point::AfterChunks(_)
                    | Point::AfterSeconds(_)
                    | Point::AfterFrames(_) => Filter::avatar(&id),
                };
                simulator.add_fault(Fault::new(*at, effect.clone()).only(who)).unwrap();
            }
            let mut args = (feature.script)(sdk, &form);
            // Behind the scenario: what the script itself says of these is about them, and wins.
            args.splice(1..1, ["--avatar-id", &id, "--api-key", &id].map(str::to_owned));
            cells.push(Cell { feature, form, sdk, playing: sdk.play(simulator, &args) });
        }
    }
    cells
}

fn features() -> Vec<Feature> {
    // The longest waits first: they are waited for side by side.
    [
        errors::long(),
        limits::features(),
        playing::features(),
        refusals::features(),
        before::features(),
        errors::features(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// One line for all forms under which both clients saw the same; a reason is a letter, and told at the end.
fn print(rows: &[Row]) -> String {
    let mut text = String::new();
    let mut reasons: Vec<&str> = Vec::new();
    for both in rows.chunk_by(|one, next| std::ptr::eq(one.feature, next.feature)) {
        let feature = both[0].feature;
        let mut outcomes: Vec<([&str; 2], Vec<String>)> = Vec::new();
        for pair in both.chunks(2) {
            let saw = [pair[0].saw.as_str(), pair[1].saw.as_str()];
            let form = pair[0].form.describe(feature.switches);
            match outcomes.iter_mut().find(|(outcome, _)| *outcome == saw) {
                Some((_, forms)) => forms.push(form),
                None => outcomes.push((saw, vec![form])),
            }
        }
        let letter = feature.why.map(|why| {
            let at = reasons.iter().position(|reason| *reason == why).unwrap_or_else(|| {
                reasons.push(why);
                reasons.len() - 1
            });
            format!(" ({})", char::from(b'a' + u8::try_from(at).unwrap()))
        });
        text.push_str(&format!("{}{}\n", feature.name, letter.unwrap_or_default()));
        for ([spatialreal, avatarkit], forms) in outcomes {
            if !feature.switches.is_empty() {
                text.push_str(&format!("  [{}]\n", forms.join(" | ")));
            }
            if spatialreal == avatarkit {
                text.push_str(&format!("    both         {spatialreal}\n"));
            } else {
                text.push_str(&format!("    spatialreal  {spatialreal}\n    avatarkit    {avatarkit}\n"));
            }
        }
    }
    text.push_str("\nwhy the clients differ\n");
    for (letter, reason) in ('a'..).zip(reasons) {
        text.push_str(&format!("  ({letter}) {reason}\n"));
    }
    text
}

fn play(features: &[Feature]) -> (Vec<Row<'_>>, Simulators) {
    let mut simulators = Simulators::default();
    let mut cells = Vec::new();
    for (number, feature) in features.iter().enumerate() {
        cells.extend(begin(&mut simulators, number, feature));
    }
    let rows = cells.into_iter().map(|Cell { feature, form, sdk, playing }| {
        let seen = playing.seen();
        let (saw, expected) = (saw(&seen, feature.look), (feature.sees)(sdk, &form));
        Row { feature, form, sdk, seen, saw, expected }
    });
    (rows.collect(), simulators)
}

/// What is true of every session, whatever its feature.
fn check_callbacks(row: &Row, wrong: &mut Vec<String>) {
    let Row { feature, sdk, seen, .. } = row;
    if seen["stage"] == "absent" {
        return;
    }
    // The older client tells of its end once for each call of `close`, and once when the socket ends.
    let told_once = match sdk {
        Sdk::Spatialreal => seen["closes"] == 1,
        Sdk::Avatarkit => seen["closes"].as_u64() >= Some(1),
    };
    if !told_once {
        wrong.push(format!("{}, {}: told of the end {} times", feature.name, sdk.name(), seen["closes"]));
    }
    let structured = match sdk {
        Sdk::Spatialreal => &seen["raw"],
        Sdk::Avatarkit => &json!(0),
    };
    if seen["structured"] != *structured {
        wrong.push(format!("{}, {}: {} signals", feature.name, sdk.name(), seen["structured"]));
    }
}

#[test]
fn both_clients_see_every_feature_under_every_form_as_their_code_says() {
    let begun = Instant::now();
    let features = features();
    let (rows, simulators) = play(&features);
    let mut wrong = Vec::new();
    for row in &rows {
        if row.saw != row.expected {
            let form = row.form.describe(row.feature.switches);
            let (name, sdk) = (&row.feature.name, row.sdk.name());
            wrong
                .push(format!("{name} [{form}], {sdk}\n  saw      {}\n  expected {}", row.saw, row.expected));
        }
        check_callbacks(row, &mut wrong);
    }
    // A client that breaks the protocol shows in the statistics; these scripts make it do so.
    let violations: Vec<_> =
        simulators.all.iter().flat_map(|(_, _, simulator)| simulator.stats().violations.last).collect();
    wrong.extend(violations.into_iter().filter(|text| !text.starts_with("a session token presented twice")));
    let played: BTreeSet<_> = features.iter().flat_map(|feature| feature.switches).map(describe).collect();
    let missing: Vec<_> = ALL_SWITCHES.iter().map(describe).filter(|name| !played.contains(name)).collect();
    assert!(missing.is_empty(), "no feature is played under {missing:?}");
    let forms: usize = features.iter().map(|feature| forms(feature.switches).len()).sum();
    let differ = features.iter().filter(|feature| feature.why.is_some()).count();
    let table = format!(
        "\n{}\n{} features, {forms} with their forms; {} runs with two clients, {} as expected; the clients differ \
         in {differ} features, each with its reason; {:.0?}\n",
        print(&rows),
        features.len(),
        rows.len(),
        rows.iter().filter(|row| row.saw == row.expected).count(),
        begun.elapsed()
    );
    // Past the test's capture: the table is worth reading when all is well, too.
    let _ = std::io::stdout().write_all(table.as_bytes());
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

fn describe(switch: &crate::form::Switch) -> String {
    format!("{switch:?}")
}

#[test]
fn a_reason_stands_where_the_clients_differ_and_nowhere_else() {
    let mut names = BTreeSet::new();
    for feature in features() {
        assert!(names.insert(feature.name.clone()), "two features are called {}", feature.name);
        let all = forms(feature.switches);
        let differ = all.iter().any(|form| {
            let [one, other] = BOTH.map(|sdk| (feature.sees)(sdk, form));
            one != other
        });
        assert_eq!(differ, feature.why.is_some(), "{}", feature.name);
        // A switch that changes nothing for either client is one that the feature could do without.
        let outcomes: BTreeSet<_> =
            all.iter().flat_map(|form| BOTH.map(|sdk| (feature.sees)(sdk, form))).collect();
        assert!(
            all.len() == 1 || outcomes.len() > 1 || feature.name.contains("whatever"),
            "{}",
            feature.name
        );
    }
}

/// The codes that a client's own code can give, and does.
const SPATIALREAL_GIVES: [&str; 13] = [
    "appIDUnrecognized",
    "avatarNotFound",
    "billingRequired",
    "concurrencyLimit",
    "connectionClosed",
    "connectionFailed",
    "creditsExhausted",
    "invalidRequest",
    "protocolError",
    "serverError",
    "sessionDurationExceeded",
    "sessionTokenInvalid",
    "upstreamError",
];
const AVATARKIT_GIVES: [&str; 19] = [
    "appIDMismatch",
    "appIDUnrecognized",
    "avatarNotFound",
    "billingRequired",
    "connectionClosed",
    "connectionFailed",
    "creditsExhausted",
    "egressUnavailable",
    "idleTimeout",
    "invalidEgressConfig",
    "invalidRequest",
    "protocolError",
    "serverError",
    "sessionDurationExceeded",
    "sessionTokenExpired",
    "sessionTokenInvalid",
    "unknown",
    "unsupportedSampleRate",
    "upstreamError",
];

#[test]
fn every_code_that_a_client_can_give_is_in_the_table() {
    let mut gives: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for feature in features() {
        for form in forms(feature.switches) {
            for sdk in BOTH {
                let sees = (feature.sees)(sdk, &form);
                let codes = sees.split("; ").filter(|part| part.contains(" (")).filter_map(|part| {
                    let code = part.split(" (").next()?.rsplit(' ').next()?;
                    part.contains('_').then(|| code.to_owned())
                });
                gives.entry(sdk.name()).or_default().extend(codes);
            }
        }
    }
    assert_eq!(gives["spatialreal"].iter().collect::<Vec<_>>(), SPATIALREAL_GIVES);
    assert_eq!(gives["avatarkit"].iter().collect::<Vec<_>>(), AVATARKIT_GIVES);
}
