// The fleet over time, its vital signs, and the errors by code: all from /metrics, which needs no key.

import { barChart, lineChart } from "./charts.js";
import { byId, h, keyed, replace, setAttribute, setText } from "./dom.js";
import { WINDOW_MS, by, total } from "./metrics.js";
import { showRunbook } from "./runbook.js";
import { ACTORS, STATES, bytes, clock, count, lasting, plural, rate, span } from "./words.js";

const MINUTE = 60_000;
const BREAKERS = ["closed", "half-open", "open"];

/** How long ago the first sample was, in words. */
function spanSeen(history) {
  const seen = Date.now() - (history.samples[0]?.at ?? Date.now());
  return seen > WINDOW_MS - MINUTE ? "15 min" : `${span(Math.max(1, seen / 1000))}`;
}

function stateTile(state, choose) {
  const { word, sign, means } = STATES[state];
  const number = h("span", { class: "number" }, "0");
  const range = h("span", { class: "quiet range" });
  const chart = lineChart(word);
  const element = h(
    "button",
    { type: "button", class: `tile ${state}`, title: `${means}. Show these sessions.`, onclick: () => choose({ state }) },
    h("span", { class: `state ${state}` }, h("span", { class: "sign", "aria-hidden": "true" }, sign), word),
    number,
    chart.element,
    range,
  );
  function update(points, seen, windowMs) {
    const values = points.map((point) => point.value);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    setText(range, low === high ? `steady for ${seen}` : `${count(low)} to ${count(high)} in ${seen}`);
    chart.update(points, `${word}: ${count(low)} to ${count(high)} in ${seen}, now ${count(values.at(-1))}`, windowMs);
  }
  return { element, number, update };
}

export class Fleet {
  #tiles = {};
  #vitals = new Map();
  #errors = new Map();
  #quiet = h("p", { class: "quiet codes-at-zero" });
  #rows = h("div", { class: "codes", role: "list" });
  #codes = new Map();
  #history;
  #choose;

  constructor(history, choose) {
    this.#history = history;
    this.#choose = choose;
    for (const state of Object.keys(STATES)) {
      this.#tiles[state] = stateTile(state, choose);
      byId("states").append(this.#tiles[state].element);
    }
    replace(byId("error-list"), this.#rows, this.#quiet);
  }

  /** What each code means, once the key is there. */
  setCodes(codes) {
    this.#codes = new Map(codes.map((code) => [code.code, code]));
  }

  /** The numbers of sessions by state, from whoever knows them latest. */
  setCounts(states) {
    for (const [state, tile] of Object.entries(this.#tiles)) {
      setText(tile.number, count(states[state] ?? 0));
      setAttribute(tile.element, "data-none", (states[state] ?? 0) === 0);
    }
  }

  update(families) {
    const seen = spanSeen(this.#history);
    this.setCounts(this.#history.latest().states);
    for (const [state, tile] of Object.entries(this.#tiles)) {
      tile.update(this.#history.samples.map(({ at, states }) => ({ at, value: states[state] ?? 0 })), seen, this.#history.windowMs());
    }
    keyed(byId("vitals"), this.#vitals, this.#signs(families), (sign) => sign.name, vital);
    this.#updateErrors(seen);
    const build = families.get("build_info")?.[0]?.labels ?? {};
    setText(byId("build"), `Greenroom ${build.version ?? ""}${build.commit && build.commit !== "unknown" ? ` (${build.commit.slice(0, 12)})` : ""}. Times are UTC. Charts begin when this page was opened.`);
  }

  #signs(families) {
    const history = this.#history;
    const outcome = (name) => history.rate((sample) => sample.requests[name], MINUTE);
    const breakers = Object.entries(by(families, "breaker_state", "upstream"));
    const worst = Math.max(0, ...breakers.map(([, value]) => value));
    const breaches = total(families, "invariant_breaches_total");
    const suspended = total(families, "tenant_suspended");
    const failed = outcome("failed");
    const firstFrame = history.quantile("request_first_frame_seconds", 0.95, MINUTE);
    const commit = history.quantile("store_commit_seconds", 0.95, MINUTE);
    const recovery = history.quantile("session_recovery_seconds", 0.95, 5 * MINUTE);
    return [
      { name: "Breaker", value: BREAKERS[worst] ?? "?", more: worst > 0 ? "the service is not well" : "the service answers", bad: worst > 0 },
      { name: "Waiting at the gate", value: count(total(families, "gate_waiting")), more: "attempts" },
      { name: "Connections", value: count(total(families, "upstream_connections")), more: "open, and billed" },
      { name: "Clients", value: count(total(families, "clients")), more: "in sessions now" },
      { name: "Requests completed", value: rate(outcome("completed")), more: "last minute" },
      { name: "Requests failed", value: rate(failed), more: "last minute", bad: failed > 0 },
      { name: "First frame, p95", value: lasting(firstFrame), more: "last minute" },
      { name: "Recovery, p95", value: lasting(recovery), more: "last 5 min" },
      { name: "Store commit, p95", value: lasting(commit), more: "last minute" },
      { name: "Outbox", value: bytes(total(families, "outbox_bytes")), more: "audio that waits" },
      { name: "Tenants suspended", value: count(suspended), more: "billing or key", bad: suspended > 0 },
      { name: "Invariant breaches", value: count(breaches), more: breaches > 0 ? "bugs: report them" : "none since the start", bad: breaches > 0 },
    ];
  }

  #updateErrors(seen) {
    const totals = this.#history.latest().errors;
    const rows = Object.entries(totals)
      .filter(([, sum]) => sum > 0)
      .map(([code, sum]) => {
        const gains = this.#history.gains((sample) => sample.errors[code], WINDOW_MS);
        const recent = gains.reduce((all, { gain }) => all + gain, 0);
        return { code, sum, gains, recent, seen, windowMs: this.#history.windowMs(), facts: this.#codes.get(code) };
      })
      .sort((a, b) => b.recent - a.recent || b.sum - a.sum || (a.code < b.code ? -1 : 1));
    keyed(this.#rows, this.#errors, rows, (row) => row.code, (row) => this.#errorRow(row.code));
    const zero = Object.keys(totals).length - rows.length;
    setText(this.#quiet, rows.length === 0 ? `No error of any of the ${zero} codes since the start.` : `The other ${zero} codes are at 0 since the start.`);
  }

  #errorRow(code) {
    const recent = h("span", { class: "number" });
    const all = h("span", { class: "quiet" });
    const chart = barChart(code);
    const means = h("p", { class: "quiet means" });
    const element = h(
      "div",
      { class: "code", role: "listitem" },
      h("button", { type: "button", class: "link", title: "Show the sessions with this code", onclick: () => this.#choose({ code }) }, code),
      h("div", { class: "code-chart" }, chart.element),
      h("p", { class: "code-count" }, recent, all),
      means,
      h("button", { type: "button", class: "plain small", "aria-label": `Runbook of ${code}`, onclick: () => showRunbook(code) }, "Runbook"),
    );
    function update({ sum, gains, recent: latest, seen, windowMs, facts }) {
      setText(recent, count(latest));
      setText(all, ` in ${seen}, ${count(sum)} in all`);
      setText(means, facts ? `${facts.meaning} Policy: ${facts.action}. Must act: ${ACTORS[facts.must_act] ?? facts.must_act}.` : "");
      chart.update(gains, `${code}: ${plural(latest, "error")} in ${seen}`, windowMs);
    }
    return { element, update };
  }
}

function vital() {
  const [name, value, more] = [h("dt"), h("dd", { class: "number" }), h("dd", { class: "quiet" })];
  const element = h("div", { class: "vital" }, name, value, more);
  function update(sign) {
    setText(name, sign.name);
    setText(value, sign.value);
    setText(more, sign.more);
    setAttribute(element, "data-bad", Boolean(sign.bad));
  }
  return { element, update };
}

/** The chip that says whether the process takes sessions. */
export function showReadiness({ status, reason }) {
  const words = { ready: "ready", draining: "draining: takes no new session", storeUnavailable: `store unavailable: ${reason}` };
  const chip = byId("readiness");
  setText(chip, words[status] ?? status);
  setAttribute(chip, "data-tone", status === "ready" ? "good" : "bad");
  chip.title = `asked at ${clock(Date.now())} UTC`;
}
