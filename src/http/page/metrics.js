// Reads the Prometheus text of /metrics and keeps the last quarter of an hour.

export const EVERY_MS = 2_000;
export const WINDOW_MS = 15 * 60_000;
/** What a chart shows while less has been seen: in steps, so that it does not creep. */
const FIRST_WINDOWS_MS = [60_000, 5 * 60_000];
/** Two samples further apart than this have a gap between them: the server was away, or the tab asleep. */
export const GAP_MS = 3 * EVERY_MS + 1_000;

const LINE = /^greenroom_([a-z0-9_]+?)(?:\{(.*)\})? (\S+)$/;
const LABEL = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;
const ESCAPES = { n: "\n", "\\": "\\", '"': '"' };

/** Gives a map from name to its series, [{labels, value}], without the prefix. */
export function parse(text) {
  const families = new Map();
  for (const line of text.split("\n")) {
    const found = line.startsWith("#") ? null : LINE.exec(line);
    if (!found) continue;
    const labels = {};
    for (const [, name, value] of (found[2] ?? "").matchAll(LABEL)) {
      labels[name] = value.replace(/\\(.)/g, (_, letter) => ESCAPES[letter] ?? letter);
    }
    const series = { labels, value: Number(found[3]) };
    const family = families.get(found[1]);
    if (family) family.push(series);
    else families.set(found[1], [series]);
  }
  return families;
}

/** Sums a family by one label: {label: sum}. */
export function by(families, name, label) {
  const sums = {};
  for (const { labels, value } of families.get(name) ?? []) {
    const key = labels[label] ?? "";
    sums[key] = (sums[key] ?? 0) + value;
  }
  return sums;
}

export const total = (families, name) =>
  (families.get(name) ?? []).reduce((sum, { value }) => sum + value, 0);

/** A histogram's cumulative buckets over all its labels: {le: count}. */
const buckets = (families, name) => by(families, `${name}_bucket`, "le");

const HISTOGRAMS = ["request_first_frame_seconds", "session_recovery_seconds", "store_commit_seconds"];

function sampleOf(families, at) {
  return {
    at,
    states: by(families, "sessions", "state"),
    errors: by(families, "session_errors_total", "code"),
    requests: by(families, "requests_total", "outcome"),
    buckets: Object.fromEntries(HISTOGRAMS.map((name) => [name, buckets(families, name)])),
  };
}

/** What a counter gained from one sample to a later one; a new process begins at 0. */
export const gained = (before, after) => (after >= before ? after - before : after);

/** The last samples, oldest first. */
export class History {
  samples = [];

  add(families, at) {
    this.samples.push(sampleOf(families, at));
    while (this.samples[0].at < at - WINDOW_MS) this.samples.shift();
  }

  latest() {
    return this.samples.at(-1);
  }

  /** How far back the charts reach now. */
  windowMs() {
    const seen = Date.now() - (this.samples[0]?.at ?? Date.now());
    return FIRST_WINDOWS_MS.find((window) => seen <= window) ?? WINDOW_MS;
  }

  /** What a counter gained in each step of the last `ms`, as [{at, gain}]. */
  gains(read, ms) {
    const from = Date.now() - ms;
    const gains = [];
    for (let i = 1; i < this.samples.length; i += 1) {
      if (this.samples[i].at < from) continue;
      gains.push({ at: this.samples[i].at, gain: gained(read(this.samples[i - 1]) ?? 0, read(this.samples[i]) ?? 0) });
    }
    return gains;
  }

  gain(read, ms) {
    return this.gains(read, ms).reduce((sum, { gain }) => sum + gain, 0);
  }

  /** A counter's rate a second over the last `ms`, or over as much of it as was seen. */
  rate(read, ms) {
    const seen = this.samples.filter((sample) => sample.at >= Date.now() - ms);
    const seconds = seen.length < 2 ? 0 : (seen.at(-1).at - seen[0].at) / 1000;
    return seconds === 0 ? 0 : this.gain(read, ms) / seconds;
  }

  /** A quantile of a histogram over the last `ms`; NaN where nothing was observed. */
  quantile(name, share, ms) {
    const bounds = Object.keys(this.latest()?.buckets[name] ?? {});
    const gains = bounds
      .map((le) => ({ le: Number(le.replace("+Inf", "Infinity")), gain: this.gain((s) => s.buckets[name][le], ms) }))
      .sort((a, b) => a.le - b.le);
    const all = gains.at(-1)?.gain ?? 0;
    if (all === 0) return NaN;
    const rank = share * all;
    const place = gains.findIndex(({ gain }) => gain >= rank);
    const lower = place > 0 ? gains[place - 1] : { le: 0, gain: 0 };
    if (!Number.isFinite(gains[place].le)) return lower.le;
    const within = gains[place].gain - lower.gain;
    return lower.le + (gains[place].le - lower.le) * (within === 0 ? 1 : (rank - lower.gain) / within);
  }
}
