//! Collectors that are away, slow or unwilling.

use super::{
    collector::Collector,
    process::eventually,
    sessions::{received, speak, traced},
    world::{World, create_avatar},
};

fn counted(world: &World, outcome: &str) -> f64 {
    world.greenroom.metric("greenroom_traces_total", &[outcome])
}

#[test]
fn a_collector_that_is_away_and_comes_back_costs_the_traces_of_its_absence_and_two_lines_of_log() {
    let mut collector = Collector::away();
    let world = traced(&collector, "timeout_ms = 300\nqueue = 16\n");
    let id = create_avatar(&world.greenroom.acme, "alone");
    world.greenroom.until_state(&id, "running");
    for _ in 0..40 {
        assert_eq!(speak(&world, &id)["outcome"], "completed", "sessions do not notice");
    }
    eventually("all are dropped", || (counted(&world, "dropped") == 41.0).then_some(()));
    collector.come();
    eventually("it takes them again", || {
        speak(&world, &id);
        (counted(&world, "exported") >= 1.0).then_some(())
    });
    let log = world.greenroom.program.err.text();
    let about: Vec<_> = log.lines().filter(|line| line.contains("trace")).collect();
    let told = ["traces are exported", "traces cannot be exported", "the collector takes traces again"];
    assert_eq!(about.len(), told.len(), "{about:#?}");
    assert!(about.iter().zip(told).all(|(line, told)| line.contains(told)), "{about:#?}");
    assert!(about[1].contains("Unavailable"), "{about:#?}");
    let spans = received(world, collector);
    assert!(spans.iter().all(|span| span.name == "audio.request" && span.links.len() == 1), "{spans:#?}");
}

#[test]
fn the_end_waits_for_what_is_not_exported_yet() {
    let collector = Collector::there();
    let world = traced(&collector, "");
    let id = create_avatar(&world.greenroom.acme, "last");
    world.greenroom.until_state(&id, "running");
    speak(&world, &id);
    // At once, while what was spoken waits for others still.
    let spans = received(world, collector);
    let names: Vec<_> = spans.iter().filter(|span| span.parent.is_empty()).map(|span| &span.name).collect();
    assert!(names.contains(&&"session.attempt".to_owned()), "{names:?}");
    assert!(names.contains(&&"audio.request".to_owned()), "{names:?}");
}
