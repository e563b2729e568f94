// One session with its timeline, or, while none is open, what happens in the fleet.

import { get, query } from "./api.js";
import { byId, h, keyed, replace, setText } from "./dom.js";
import { showRunbook } from "./runbook.js";
import { clock, describe, moment, plural, stateBadge, until, withoutLink } from "./words.js";

/** Lines of the fleet's feed: what fits into a look. */
const FEED = 60;
const PAGE = 100;

function line(event, withSession, open) {
  const { tone, what, more } = describe(event);
  return h(
    "li",
    { class: "event", "data-tone": tone },
    h("time", { datetime: event.at, title: moment(event.at) }, clock(event.at)),
    h(
      "div",
      {},
      h("p", {}, h("strong", {}, what), more ? h("span", { class: "quiet" }, ` ${more}`) : null),
      withSession && event.session
        ? h("p", { class: "quiet" }, `${event.tenant} `, h("button", { type: "button", class: "link mono", onclick: () => open(event.session) }, event.session))
        : withSession && event.tenant ? h("p", { class: "quiet" }, event.tenant) : null,
    ),
  );
}

function fact(name, ...value) {
  return h("div", {}, h("dt", {}, name), h("dd", {}, value));
}

/** Everything that is known of an error, without what is not. */
function errorFacts(error) {
  const rest = Object.entries(error).filter(([name, value]) => !["code", "message", "at", "docs_url"].includes(name) && value !== null && value !== "");
  return h(
    "div",
    { class: "last-error" },
    h("h3", {}, "Last error: ", error.code),
    h("p", {}, error.message, h("span", { class: "quiet" }, ` at ${moment(error.at)}`)),
    h("dl", { class: "facts" }, rest.map(([name, value]) => fact(name.replaceAll("_", " "), String(value)))),
    h("button", { type: "button", class: "plain small", onclick: () => showRunbook(error.code) }, `Runbook of ${error.code}`),
  );
}

export class Timeline {
  #id = null;
  #feed = [];
  #events = [];
  #next = null;
  /** Whether this server keeps timelines; null until it was asked. */
  #isKept = null;
  #hasFeed = false;
  #session = null;
  #shown = "";
  #on;
  #asked = 0;

  /** `on.act(action, id)`, `on.open(id)`, `on.mark(buttons)`. */
  constructor(on) {
    this.#on = on;
  }

  get id() {
    return this.#id;
  }

  async open(id) {
    this.#id = id;
    this.#events = [];
    this.#next = null;
    this.#session = null;
    this.#shown = "";
    this.draw();
    if (id !== null) await this.refresh();
  }

  /** Forgets what the key opened. */
  forget() {
    this.#feed = [];
    this.open(null);
  }

  /** An event of the stream. */
  hear(event) {
    this.#feed.unshift(event);
    this.#feed.length = Math.min(this.#feed.length, FEED);
  }

  setHasFeed(hasFeed) {
    if (this.#hasFeed === hasFeed) return;
    this.#hasFeed = hasFeed;
    if (this.#id === null) this.draw();
  }

  /** Asks for the open session again. */
  async refresh() {
    if (this.#id === null) {
      this.draw();
      return;
    }
    const [id, asked] = [this.#id, ++this.#asked];
    const path = `v1/sessions/${encodeURIComponent(id)}`;
    const [session, history] = await Promise.all([
      get(path).catch((error) => {
        if (error.status === 404) return null;
        throw error;
      }),
      this.#isKept === false ? null : get(`${path}/history${query({ limit: PAGE })}`).catch((error) => {
        if (error.status === 404) return null;
        throw error;
      }),
    ]);
    if (asked !== this.#asked || id !== this.#id) return;
    if (session !== null) this.#isKept = history !== null;
    this.#session = session;
    if (history) {
      // Pages that were asked for stay; the first is the newest.
      const newest = new Set(history.events.map((event) => event.id));
      const isJoined = this.#events.some((event) => newest.has(event.id));
      this.#next = isJoined ? this.#next : history.next_cursor;
      this.#events = isJoined ? [...history.events, ...this.#events.filter((event) => !newest.has(event.id))] : history.events;
    }
    this.draw();
  }

  async #older() {
    const path = `v1/sessions/${encodeURIComponent(this.#id)}/history`;
    const history = await get(`${path}${query({ limit: PAGE, cursor: this.#next })}`);
    this.#events.push(...history.events);
    this.#next = history.next_cursor;
    this.draw();
  }

  draw() {
    // Rebuilt only when something of it changed: what a reader selects or tabs to must not vanish under the hand.
    const version = JSON.stringify([this.#id, this.#session, this.#events.length, this.#events[0]?.id, this.#next, this.#id === null && [this.#feed[0]?.id, this.#feed.length], this.#isKept, this.#hasFeed]);
    if (version === this.#shown) return;
    this.#shown = version;
    const focused = document.activeElement?.dataset?.action;
    const body = byId("detail-body");
    setText(byId("detail-title"), this.#id === null ? "What happens" : "Session");
    replace(body, this.#id === null ? this.#fleet() : this.#one());
    if (focused) body.querySelector(`[data-action="${focused}"]`)?.focus();
  }

  #fleet() {
    if (!this.#hasFeed) {
      return h("p", { class: "empty" }, "Choose a session to see its timeline. Events are not live now; the page asks for changes instead.");
    }
    if (this.#feed.length === 0) return h("p", { class: "empty" }, "Nothing has happened since this page was opened. Choose a session to see its timeline.");
    return h("ol", { class: "events" }, this.#feed.map((event) => line(event, true, this.#on.open)));
  }

  #one() {
    const close = h("button", { type: "button", class: "plain small", "data-action": "close", onclick: () => this.#on.open(null) }, "Close");
    const title = h("p", { class: "mono id" }, this.#id);
    if (this.#session === null) {
      return [h("div", { class: "detail-head" }, title, close), h("p", { class: "empty" }, this.#asked && this.#shown && this.#isKept !== null ? "There is no such session any more." : "Reading.")];
    }
    const session = this.#session;
    const buttons = ["restart", "park", "unpark", "end"].map((action) =>
      h("button", { type: "button", class: "plain", "data-acts": true, "data-action": action, onclick: () => this.#on.act(action, session.id) }, action),
    );
    this.#on.mark(buttons);
    const labels = Object.entries(session.labels);
    return [
      h("div", { class: "detail-head" }, title, close),
      h("div", { class: "acts" }, stateBadge(session.state), buttons),
      session.reason ? h("p", { class: "reason" }, withoutLink(session.reason)) : null,
      h(
        "dl",
        { class: "facts" },
        fact("tenant", session.tenant),
        fact("avatar", session.avatar_id),
        fact("made", moment(session.created_at), `, by ${session.origin === "api" ? "the API" : "a client's connection"}`),
        session.running_since ? fact("running since", moment(session.running_since)) : null,
        session.next_attempt_at ? fact("next attempt", until(session.next_attempt_at)) : null,
        session.connection_id ? fact("connection", h("span", { class: "mono" }, session.connection_id)) : null,
        fact("restarts", String(session.restarts), session.attempt > 0 ? `, ${plural(session.attempt, "failed attempt")} in a row` : ""),
        fact("audio", `${session.audio_format}, ${session.sample_rate} Hz`),
        fact("continuity", session.continuity),
        labels.length ? fact("labels", h("ul", { class: "labels" }, labels.map(([name, value]) => h("li", {}, `${name}: ${value}`)))) : null,
      ),
      session.last_error ? errorFacts(session.last_error) : h("p", { class: "quiet" }, "It had no error."),
      h("h3", {}, "Timeline"),
      this.#events.length
        ? h("ol", { class: "events" }, this.#events.map((event) => line(event, false)))
        : h("p", { class: "quiet" }, this.#isKept === false ? "This server keeps no timeline." : "Nothing is kept of it yet."),
      this.#next ? h("button", { type: "button", class: "plain", "data-action": "older", onclick: () => this.#older().catch(this.#on.failed) }, "Older") : null,
    ];
  }
}
