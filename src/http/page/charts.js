// Small charts. Each has its own scale from 0, so that three failed sessions beside two thousand can be seen;
// the numbers stand beside it in words.

import { svg, setAttribute } from "./dom.js";
import { GAP_MS } from "./metrics.js";

const WIDTH = 300;
const HEIGHT = 40;

function frame(label) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg(
    "svg",
    { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img", "aria-label": label },
    area,
    line,
  );
  return { element, area, line };
}

const fixed = (number) => number.toFixed(1);

/** A line over the last `windowMs`. update([{at, value}], label, windowMs) */
export function lineChart(label) {
  const { element, area, line } = frame(label);
  function update(points, words, windowMs) {
    const now = Date.now();
    const top = Math.max(1, ...points.map((point) => point.value));
    const x = (at) => Math.max(0, WIDTH * (1 - (now - at) / windowMs));
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 3);
    const runs = [];
    let before = null;
    for (const point of points) {
      if (before === null || point.at - before > GAP_MS) runs.push([]);
      runs.at(-1).push(`${fixed(x(point.at))} ${fixed(y(point.value))}`);
      before = point.at;
    }
    setAttribute(line, "d", runs.map((run) => `M${run.join("L")}${run.length === 1 ? "h1" : ""}`).join(""));
    const closed = runs.map((run) => {
      const [first, last] = [run[0].split(" ")[0], run.at(-1).split(" ")[0]];
      return `M${first} ${HEIGHT}L${run.join("L")}L${last} ${HEIGHT}Z`;
    });
    setAttribute(area, "d", closed.join(""));
    setAttribute(element, "aria-label", words);
  }
  return { element, update };
}

/** Bars of gains in equal steps of the last `windowMs`. update([{at, gain}], label, windowMs) */
export function barChart(label, bars = 30) {
  const { element, area } = frame(label);
  function update(gains, words, windowMs) {
    // Steps of the clock, not of now: a bar must not change by waiting.
    const step = windowMs / bars;
    const end = Math.ceil(Date.now() / step);
    const sums = new Array(bars).fill(0);
    for (const { at, gain } of gains) {
      const bar = bars - (end - Math.floor(at / step));
      if (bar >= 0 && bar < bars) sums[bar] += gain;
    }
    const top = Math.max(1, ...sums);
    const width = WIDTH / bars;
    const drawn = sums.map((sum, bar) => {
      const height = sum === 0 ? 0 : Math.max(2, (sum / top) * (HEIGHT - 2));
      return sum === 0 ? "" : `M${fixed(bar * width + 1)} ${HEIGHT}v${fixed(-height)}h${fixed(width - 2)}v${fixed(height)}Z`;
    });
    setAttribute(area, "d", drawn.join(""));
    setAttribute(element, "aria-label", words);
  }
  return { element, update };
}
