// States, codes, times and numbers in words. No meaning is carried by colour alone.

import { h } from "./dom.js";

/** Every state in the order that a reader looks for trouble in, with its sign and what it means. */
export const STATES = {
  running: { word: "running", sign: "●", means: "connected, audio flows" },
  starting: { word: "starting", sign: "◐", means: "token, connect or handshake under way" },
  backing_off: { word: "backing off", sign: "↻", means: "a restart is due by itself" },
  parked: { word: "parked", sign: "‖", means: "blocked, no attempts; unpark it" },
  failed: { word: "failed", sign: "✕", means: "a person must mend it, then restart it" },
  dormant: { word: "dormant", sign: "○", means: "closed for lack of audio; the next audio wakes it" },
  stopped: { word: "stopped", sign: "■", means: "ended by its owner; final" },
};

/** Who must act, as a sentence's beginning. */
export const ACTORS = {
  nobody: "nobody: it recovers by itself",
  operator: "you, the operator",
  billing: "whoever pays for the account",
  developer: "whoever configured the session",
};

export function stateBadge(state) {
  const { word, sign } = STATES[state] ?? { word: state, sign: "?" };
  return h("span", { class: `state ${state}` }, h("span", { class: "sign", "aria-hidden": "true" }, sign), word);
}

const two = (number) => String(number).padStart(2, "0");

/** 03:12:07, in UTC as the logs are. */
export function clock(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime())
    ? "?"
    : `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`;
}

/** 2026-01-31 03:12:07 UTC. */
export function moment(at) {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "?" : `${date.toISOString().slice(0, 10)} ${clock(at)} UTC`;
}

/** A span of seconds, with its two largest units at most. */
export function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

export const ago = (at) => (at ? span((Date.now() - Date.parse(at)) / 1000) : "");

/** Until a moment: "in 3 s", or "due". */
export function until(at) {
  const seconds = (Date.parse(at) - Date.now()) / 1000;
  return seconds > 0.5 ? `in ${span(seconds)}` : "due";
}

/** 12,345 */
export const count = (number) => Math.round(number).toLocaleString("en-US");

export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;

export function bytes(number) {
  for (const [unit, size] of [["GiB", 2 ** 30], ["MiB", 2 ** 20], ["KiB", 2 ** 10]]) {
    if (number >= size) return `${(number / size).toFixed(1)} ${unit}`;
  }
  return `${Math.round(number)} B`;
}

/** Seconds as a duration that somebody waited. */
export function lasting(seconds) {
  if (!Number.isFinite(seconds)) return "none yet";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 10 ? `${seconds.toFixed(1)} s` : span(seconds);
}

/** A reason without its pointer to the runbook, which has a button of its own here. */
export const withoutLink = (reason) => reason.replace(/[;.]? [Ss]ee \S*runbooks\S*$/, ".").replace(/\.\.$/, ".");

/** A number a minute, or a second where there are many. */
export function rate(perSecond) {
  if (perSecond === 0) return "0";
  return perSecond < 1 ? `${(perSecond * 60).toFixed(1)}/min` : `${perSecond.toFixed(1)}/s`;
}

const words = (state) => STATES[state]?.word ?? String(state);

/** One line of a timeline. `tone` is the state whose colour it has. */
export function describe(event) {
  const made = {
    state: () => ({
      tone: event.to,
      what: event.from ? `${words(event.from)} → ${words(event.to)}` : `made, ${words(event.to)}`,
      more: [event.code ?? event.parked_by, Number.isFinite(event.recovered_after_ms) && `back after ${lasting(event.recovered_after_ms / 1000)}`, event.next_attempt_at && `next attempt ${clock(event.next_attempt_at)}`],
    }),
    error: () => ({
      tone: "failed",
      what: event.error?.code ?? "error",
      more: [event.error?.phase, event.error?.http_status && `HTTP ${event.error.http_status}`,
        event.error?.close_code && `close ${event.error.close_code}`,
        event.error?.server_code !== null && event.error?.server_code !== undefined && `server code ${event.error.server_code}`,
        event.error?.message, event.error?.action && `then: ${event.error.action}`],
    }),
    attempt: () => ({
      tone: event.outcome === "running" ? "running" : "backing_off",
      what: `attempt ${event.attempt ?? ""}: ${words(event.outcome)}`,
      more: [["gate", event.gate_ms], ["token", event.token_ms], ["connect", event.connect_ms], ["handshake", event.handshake_ms]]
        .filter(([, ms]) => Number.isFinite(ms)).map(([step, ms]) => `${step} ${ms} ms`),
    }),
    request: () => ({
      tone: event.outcome === "failed" ? "failed" : "running",
      what: `request ${event.outcome}`,
      more: [event.code, event.req_id, Number.isFinite(event.frames) && plural(event.frames, "frame"),
        Number.isFinite(event.first_frame_ms) && `first after ${event.first_frame_ms} ms`,
        event.breaks > 0 && `over ${plural(event.breaks, "break")}`],
    }),
    operator: () => ({
      tone: "starting",
      what: `operator: ${event.action}`,
      more: [event.who && `by ${event.who}`, event.request_id && `request ${event.request_id}`],
    }),
    client: () => ({ tone: "dormant", what: `client ${String(event.action).replaceAll("_", " ")}`, more: [] }),
    upstream: () => ({ tone: event.breaker === "closed" ? "running" : "parked", what: `breaker of ${event.name}: ${String(event.breaker).replaceAll("_", "-")}`, more: [] }),
    tenant: () => ({ tone: ["suspended", "quota_reached"].includes(event.action) ? "parked" : "running", what: `tenant ${String(event.action).replaceAll("_", " ")}`, more: [event.code, event.quota] }),
  }[event.kind];
  const line = made ? made() : { tone: "dormant", what: String(event.kind), more: [] };
  return { ...line, more: line.more.flat().filter(Boolean).join(" · ") };
}
