//! Figures for people: read from the same text that Prometheus scrapes.

use std::{collections::BTreeMap, fmt::Write as _};

/// One reading of all metrics: the value of each series.
#[derive(Debug, Default)]
pub(super) struct Figures {
    series: BTreeMap<String, f64>,
}

impl Figures {
    /// Reads the Prometheus text format.
    pub(super) fn read(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)))
            .collect();
        Self { series }
    }

    /// The sum over all series of a metric.
    pub(super) fn total(&self, metric: &str) -> f64 {
        // From 0: the sum of nothing is -0 otherwise, and is shown so.
        self.of(metric).fold(0.0, |sum, (_, value)| sum + value)
    }

    /// The sums of a metric by the values of one label, without those that are 0.
    pub(super) fn by(&self, metric: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums: BTreeMap<String, f64> = BTreeMap::new();
        let start = format!("{label}=\"");
        for (labels, value) in self.of(metric) {
            let Some((_, rest)) = labels.split_once(&start) else { continue };
            let Some((name, _)) = rest.split_once('"') else { continue };
            *sums.entry(name.to_owned()).or_default() += value;
        }
        sums.retain(|_, sum| *sum > 0.0);
        sums
    }

    /// The mean of a histogram; `None` where nothing was recorded.
    pub(super) fn mean(&self, metric: &str) -> Option<f64> {
        let count = self.total(&format!("{metric}_count"));
        (count > 0.0).then(|| self.total(&format!("{metric}_sum")) / count)
    }

    fn of<'a>(&'a self, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
        self.series.iter().filter_map(move |(name, value)| {
            let labels = name.strip_prefix(metric)?;
            (labels.is_empty() || labels.starts_with('{')).then_some((labels, *value))
        })
    }
}

/// `name=3 other=1`, or `none`.
pub(super) fn list(counts: &BTreeMap<String, f64>) -> String {
    let mut text = String::new();
    for (name, count) in counts {
        let gap = if text.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _written = write!(text, "{gap}{name}={count:.0}");
    }
    if text.is_empty() { "none".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP x y\nx_total{code=\"a\",t=\"1\"} 2\nx_total{code=\"b\",t=\"1\"} 0\n\
        x_total{code=\"a\",t=\"2\"} 3\nx_total_more 9\nh_sum 3\nh_count 2\n";

    #[test]
    fn figures_are_summed_by_metric_and_by_label() {
        let figures = Figures::read(TEXT);
        assert_eq!(figures.total("x_total"), 5.0);
        assert_eq!(format!("{:.0}", figures.total("absent")), "0");
        assert_eq!(list(&figures.by("x_total", "code")), "a=5");
        assert_eq!(list(&figures.by("absent", "code")), "none");
        assert_eq!(figures.mean("h"), Some(1.5));
    }
}
