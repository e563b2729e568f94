//! Windows and holds, and how they are made shorter.

/// Milliseconds of a duration as Prometheus writes it: `90s`, `5m`, `1h`, `3d`.
pub(crate) fn millis(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        other => panic!("{text}: no unit {other}"),
    };
    digits.parse::<u64>().unwrap_or_else(|error| panic!("{text}: {error}")) * unit
}

/// A duration `scale` times shorter.
pub(crate) fn shorter(text: &str, scale: u32) -> String {
    if scale == 1 { text.to_owned() } else { format!("{}ms", millis(text) / u64::from(scale)) }
}

/// An expression with each window (`[5m]`) and each `offset 5m` `scale` times shorter.
pub(crate) fn scaled(expression: &str, scale: u32) -> String {
    let mut text = String::new();
    let mut rest = expression;
    while let Some((start, opening)) =
        ["[", "offset "].iter().filter_map(|opening| Some((rest.find(opening)?, opening.len()))).min()
    {
        let at = start + opening;
        let length = rest[at..].find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(rest.len() - at);
        text.push_str(&rest[..at]);
        let duration = &rest[at..at + length];
        // `[$__rate_interval]` is Grafana's to fill in.
        text.push_str(&if duration.is_empty() { String::new() } else { shorter(duration, scale) });
        rest = &rest[at + length..];
    }
    text + rest
}
