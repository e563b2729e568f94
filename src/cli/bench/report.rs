//! What was measured: figures, percentiles, ratios; as JSON and as a table.

use std::{collections::BTreeMap, fmt::Write as _, thread::available_parallelism, time::Duration};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::{Args, Client, Scenario};

/// Beyond it a latency is recorded as this: an hour is no latency any more.
const LONGEST_NS: u64 = 3_600_000_000_000;
/// Significant digits of a recorded latency.
const DIGITS: u8 = 3;

/// Percentiles of a latency, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Percentiles {
    pub(super) count: u64,
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    pub(super) max: f64,
}

/// A latency that is being recorded.
#[derive(Clone, Debug)]
pub(super) struct Latency(Histogram<u64>);

impl Latency {
    pub(super) fn new() -> Self {
        #[expect(clippy::expect_used, reason = "start-up: the bounds are constants that the crate allows")]
        let histogram = Histogram::new_with_bounds(1, LONGEST_NS, DIGITS).expect("constant bounds");
        Self(histogram)
    }

    pub(super) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
    }

    /// `None` where nothing was recorded.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let at = |quantile: f64| self.0.value_at_quantile(quantile) as f64 / 1e6;
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: self.0.max() as f64 / 1e6,
        })
    }
}

/// One client, measured once.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    pub(super) client: Client,
    /// Names end in their unit.
    pub(super) figures: BTreeMap<String, f64>,
    pub(super) latencies_ms: BTreeMap<String, Percentiles>,
    /// Frames that were due and did not come, or came out of order.
    pub(super) frames_lost: u64,
    /// What went wrong, each as one sentence.
    pub(super) trouble: Vec<String>,
}

impl Run {
    pub(super) const fn new(client: Client) -> Self {
        Self {
            client,
            figures: BTreeMap::new(),
            latencies_ms: BTreeMap::new(),
            frames_lost: 0,
            trouble: Vec::new(),
        }
    }

    pub(super) fn set(&mut self, name: &str, value: f64) {
        self.figures.insert(name.to_owned(), value);
    }

    pub(super) fn set_latency(&mut self, name: &str, latency: &Latency) {
        if let Some(percentiles) = latency.percentiles() {
            self.latencies_ms.insert(name.to_owned(), percentiles);
        }
    }

    /// All numbers under one name each.
    fn numbers(&self) -> BTreeMap<String, f64> {
        let mut numbers = self.figures.clone();
        for (name, latency) in &self.latencies_ms {
            for (percentile, value) in
                [("p50", latency.p50), ("p90", latency.p90), ("p99", latency.p99), ("max", latency.max)]
            {
                numbers.insert(format!("{name} {percentile} ms"), value);
            }
        }
        numbers
    }
}

/// Everything that one call has measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    scenario: Scenario,
    sessions: u32,
    seconds: u32,
    gate_per_second: u32,
    cpus: usize,
    /// Medians over the rounds, by client and number.
    medians: BTreeMap<Client, BTreeMap<String, f64>>,
    /// Medians of Greenroom's number over the other's, each taken within one round.
    ratios: BTreeMap<Client, BTreeMap<String, f64>>,
    frames_lost: u64,
    rounds: Vec<Vec<Run>>,
}

impl Report {
    pub(super) fn new(args: &Args) -> Self {
        Self {
            scenario: args.scenario,
            sessions: args.sessions(),
            seconds: args.seconds,
            gate_per_second: args.gate_per_second(),
            cpus: available_parallelism().map_or(1, usize::from),
            medians: BTreeMap::new(),
            ratios: BTreeMap::new(),
            frames_lost: 0,
            rounds: Vec::new(),
        }
    }

    /// Takes a run of a round, and reckons anew.
    pub(super) fn add(&mut self, round: usize, run: Run) {
        if run.client == Client::Greenroom {
            self.frames_lost += run.frames_lost;
        }
        while self.rounds.len() <= round {
            self.rounds.push(Vec::new());
        }
        self.rounds[round].push(run);
        let mut values: BTreeMap<Client, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
        let mut ratios = values.clone();
        for round in &self.rounds {
            let ours = round.iter().find(|run| run.client == Client::Greenroom).map(Run::numbers);
            for run in round {
                for (name, value) in run.numbers() {
                    if run.client != Client::Greenroom
                        && let Some(our) = ours.as_ref().and_then(|ours| ours.get(&name))
                        && value > 0.0
                    {
                        ratios
                            .entry(run.client)
                            .or_default()
                            .entry(name.clone())
                            .or_default()
                            .push(our / value);
                    }
                    values.entry(run.client).or_default().entry(name).or_default().push(value);
                }
            }
        }
        self.medians = medians(values);
        self.ratios = medians(ratios);
    }

    /// Whether Greenroom lost nothing and nothing went wrong.
    pub(super) fn is_sound(&self) -> bool {
        self.frames_lost == 0
            && self
                .rounds
                .iter()
                .flatten()
                .filter(|run| run.client == Client::Greenroom)
                .all(|run| run.trouble.is_empty())
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    pub(super) fn to_table(&self) -> String {
        let mut text = format!(
            "{} sessions, {} s, gate {} a second, {} CPUs, medians of {} rounds\n\n{:<40}",
            self.sessions,
            self.seconds,
            self.gate_per_second,
            self.cpus,
            self.rounds.len(),
            ""
        );
        for client in self.medians.keys() {
            let ratio = if *client == Client::Greenroom { "" } else { "ratio" };
            // Writing to a string cannot fail.
            let _written = write!(text, "{:>14}{ratio:>8}", client.as_str());
        }
        let names: std::collections::BTreeSet<&String> =
            self.medians.values().flat_map(BTreeMap::keys).collect();
        for name in names {
            let _written = write!(text, "\n{:<40}", name.replace('_', " "));
            for (client, medians) in &self.medians {
                let value = medians.get(name).map(|value| shown(*value)).unwrap_or_default();
                let ratio = self.ratios.get(client).and_then(|ratios| ratios.get(name));
                let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
                let _written = write!(text, "{value:>14}{ratio:>8}");
            }
        }
        let _written = write!(text, "\n\nframes lost: {}", self.frames_lost);
        for run in self.rounds.iter().flatten() {
            if run.client != Client::Greenroom && run.frames_lost > 0 {
                let _written = write!(text, "\nframes lost by {}: {}", run.client.as_str(), run.frames_lost);
            }
            for trouble in &run.trouble {
                let _written = write!(text, "\n{}: {trouble}", run.client.as_str());
            }
        }
        text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
    }
}

fn shown(value: f64) -> String {
    if value.fract() == 0.0 || value.abs() >= 1000.0 {
        format!("{value:.0}")
    } else if value.abs() >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.3}")
    }
}

fn medians(values: BTreeMap<Client, BTreeMap<String, Vec<f64>>>) -> BTreeMap<Client, BTreeMap<String, f64>> {
    values
        .into_iter()
        .map(|(client, numbers)| {
            let numbers = numbers.into_iter().map(|(name, values)| (name, median(values))).collect();
            (client, numbers)
        })
        .collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match (values.get(middle), values.len() % 2) {
        (Some(value), 1) => *value,
        (Some(value), _) => f64::midpoint(values[middle - 1], *value),
        (None, _) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn report() -> Report {
        Report::new(&Line::parse_from(["bench", "stream"]).args)
    }

    fn run(client: Client, cpu: f64) -> Run {
        let mut run = Run::new(client);
        run.set("cpu_ms", cpu);
        run
    }

    #[test]
    fn a_ratio_is_taken_within_a_round_and_the_median_over_them() {
        let mut report = report();
        // A round in which everything took ten times as long changes no ratio.
        for (round, (ours, theirs)) in [(2.0, 1.0), (20.0, 10.0), (3.0, 1.0)].into_iter().enumerate() {
            report.add(round, run(Client::Bare, theirs));
            report.add(round, run(Client::Greenroom, ours));
        }
        assert_eq!(report.ratios[&Client::Bare]["cpu_ms"], 2.0);
        assert_eq!(report.medians[&Client::Greenroom]["cpu_ms"], 3.0);
        assert!(report.is_sound());
        assert!(report.to_table().contains("cpu ms"), "{}", report.to_table());
    }

    #[test]
    fn a_lost_frame_of_ours_is_no_sound_run_and_one_of_another_client_is_told() {
        let mut lossy = run(Client::Bare, 1.0);
        lossy.frames_lost = 3;
        let mut theirs = report();
        theirs.add(0, lossy);
        assert!(theirs.is_sound());
        assert!(theirs.to_table().contains("frames lost by bare: 3"));
        let mut lossy = run(Client::Greenroom, 1.0);
        lossy.frames_lost = 1;
        let mut ours = report();
        ours.add(0, lossy);
        assert!(!ours.is_sound());
    }

    #[test]
    fn percentiles_are_in_milliseconds() {
        let mut latency = Latency::new();
        assert!(latency.percentiles().is_none());
        for ms in 1..=100 {
            latency.record(Duration::from_millis(ms));
        }
        let seen = latency.percentiles().unwrap();
        assert_eq!(seen.count, 100);
        assert!((seen.p50 - 50.0).abs() < 0.1 && (seen.p99 - 99.0).abs() < 0.1, "{seen:?}");
        assert!((seen.max - 100.0).abs() < 0.2, "{seen:?}");
    }
}
