// The list of sessions: filtered and paged by the server, so that ten thousand cost what a hundred do.

import { get, query } from "./api.js";
import { byId, h, keyed, replace, setAttribute, setText } from "./dom.js";
import { STATES, ago, count, moment, plural, stateBadge, until, withoutLink } from "./words.js";

const PAGE = 100;
/** How long typing rests before the server is asked. */
const REST_MS = 200;
const NO_FILTER = { q: "", state: "", code: "", tenant: "" };
const HEADS = ["Session", "Avatar", "Tenant", "State", "Why", "Restarts", "Since"];

/** Since when a session is as it is, as far as its JSON tells. */
function since(session) {
  if (session.state === "backing_off" && session.next_attempt_at) return { text: until(session.next_attempt_at), at: session.next_attempt_at };
  const at = session.running_since ?? (session.state === "starting" ? null : session.last_error?.at) ?? session.created_at;
  return { text: ago(at), at };
}

function why(session, codes) {
  if (session.reason) {
    const reason = withoutLink(session.reason);
    const { code } = session.last_error ?? {};
    // The code comes first where it is the reason, and not what happened before an operator or another session.
    return code && reason.startsWith(codes.get(code)?.meaning) ? `${code}: ${reason}` : reason;
  }
  if (session.state === "running" || !session.last_error) return "";
  return `${session.last_error.code}: ${session.last_error.message}`;
}

export class Sessions {
  /** What is chosen, over pages: id to tenant. */
  chosen = new Map();
  #filter = { ...NO_FILTER };
  /** The cursors of the pages up to this one. */
  #cursors = [null];
  #next = null;
  #rows = new Map();
  #page = [];
  #asked = 0;
  #codes = new Map();
  #current = null;
  #open = null;
  #on;
  #body = h("tbody", { role: "rowgroup" });
  #head = h("input", { type: "checkbox", "aria-label": "Choose every session on this page" });
  #empty = h("p", { class: "empty", hidden: true });
  #table;

  /** `on.open(id)`, `on.changed()` when the choice changes, `on.refresh()` asks for a refresh now. */
  constructor(on) {
    this.#on = on;
    this.#head.addEventListener("change", () => this.#chooseAll(this.#head.checked));
    const heads = HEADS.map((name) => h("th", { role: "columnheader", scope: "col", class: name.toLowerCase() }, name));
    this.#table = h(
      "table",
      { role: "table", "aria-labelledby": "sessions-title" },
      h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, h("th", { role: "columnheader", class: "choose" }, this.#head), heads)),
      this.#body,
    );
    this.#fillFilters();
  }

  #fillFilters() {
    const states = Object.entries(STATES).map(([state, { word }]) => h("option", { value: state }, word));
    replace(byId("by-state"), h("option", { value: "" }, "any"), states);
    replace(byId("by-code"), h("option", { value: "" }, "any"));
    const fields = { q: "find", state: "by-state", code: "by-code", tenant: "by-tenant" };
    let rest = null;
    for (const [name, id] of Object.entries(fields)) {
      byId(id).addEventListener("input", () => {
        clearTimeout(rest);
        rest = setTimeout(() => this.setFilter({ ...this.#filter, [name]: byId(id).value.trim() }), REST_MS);
      });
    }
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("clear").addEventListener("click", () => this.setFilter(NO_FILTER));
  }

  setCodes(codes) {
    this.#codes = new Map(codes.map((code) => [code.code, code]));
    const select = byId("by-code");
    if (select.options.length === codes.length + 1) return;
    replace(select, h("option", { value: "" }, "any"), codes.map(({ code }) => h("option", { value: code }, code)));
    select.value = this.#filter.code;
  }

  setFilter(filter) {
    this.#filter = { ...NO_FILTER, ...filter };
    for (const [id, value] of [["find", this.#filter.q], ["by-state", this.#filter.state], ["by-code", this.#filter.code ?? ""], ["by-tenant", this.#filter.tenant]]) {
      if (byId(id) !== document.activeElement || byId(id).value.trim() !== value) byId(id).value = value ?? "";
    }
    this.#turn([null]);
  }

  #turn(cursors) {
    this.#cursors = cursors;
    this.#current = null;
    this.#on.refresh();
  }

  previousPage() {
    if (this.#cursors.length > 1) this.#turn(this.#cursors.slice(0, -1));
  }

  nextPage() {
    if (this.#next) this.#turn([...this.#cursors, this.#next]);
  }

  /** Asks the server for this page again. */
  async refresh() {
    const asked = ++this.#asked;
    const page = await get(`v1/sessions${query({ ...this.#filter, limit: PAGE, cursor: this.#cursors.at(-1) })}`);
    // A later question was asked meanwhile: its answer counts.
    if (asked !== this.#asked) return;
    this.#page = page.sessions;
    this.#next = page.next_cursor;
    this.draw();
  }

  draw() {
    const panel = byId("session-list");
    if (this.#table.parentElement !== panel) replace(panel, this.#table, this.#empty);
    keyed(this.#body, this.#rows, this.#page, (session) => session.id, (session) => this.#row(session));
    const filtered = Object.values(this.#filter).some(Boolean);
    this.#empty.hidden = this.#page.length > 0;
    this.#table.hidden = this.#page.length === 0;
    setText(this.#empty, filtered ? "No session matches." : "There is no session.");
    const chosenHere = this.#page.filter(({ id }) => this.chosen.has(id)).length;
    this.#head.checked = chosenHere > 0 && chosenHere === this.#page.length;
    this.#head.indeterminate = chosenHere > 0 && chosenHere < this.#page.length;
    this.#drawPages();
  }

  #drawPages() {
    const nav = byId("pages");
    const [number, here] = [this.#cursors.length, this.#page.length];
    const first = (number - 1) * PAGE + 1;
    nav.hidden = number === 1 && !this.#next;
    if (!nav.firstChild) {
      nav.append(
        h("button", { type: "button", class: "plain", onclick: () => this.#turn([null]) }, "First"),
        h("button", { type: "button", class: "plain", onclick: () => this.previousPage() }, "Previous"),
        h("p", {}),
        h("button", { type: "button", class: "plain", onclick: () => this.nextPage() }, "Next"),
      );
    }
    const [start, previous, place, next] = nav.children;
    start.disabled = previous.disabled = number === 1;
    next.disabled = !this.#next;
    setText(place, here ? `Page ${count(number)}: ${count(first)} to ${count(first + here - 1)}` : `Page ${count(number)}`);
  }

  #row({ id, tenant }) {
    const box = h("input", { type: "checkbox", "aria-label": `Choose ${id}` });
    box.addEventListener("change", () => this.#choose(id, tenant, box.checked));
    const cell = (name, ...children) => h("td", { role: "cell", class: name }, ...children);
    const cells = { avatar: cell("avatar"), why: cell("why", h("span")), restarts: cell("restarts"), since: cell("since") };
    const state = cell("state-cell");
    const element = h(
      "tr",
      { role: "row", "data-id": id },
      cell("choose", box),
      cell("session", h("button", { type: "button", class: "link mono", onclick: () => this.#on.open(id) }, id)),
      cells.avatar,
      cell("tenant-cell", tenant),
      state,
      cells.why,
      cells.restarts,
      cells.since,
    );
    element.addEventListener("click", (event) => {
      if (!event.target.closest("button, input") && getSelection().isCollapsed) this.#on.open(id);
    });
    let shown = null;
    const update = (session) => {
      box.checked = this.chosen.has(id);
      setAttribute(element, "aria-selected", this.#open === id ? "true" : null);
      if (shown !== session.state) {
        shown = session.state;
        replace(state, stateBadge(shown));
      }
      setText(cells.avatar, session.avatar_id);
      cells.avatar.title = session.avatar_id;
      const reason = why(session, this.#codes);
      setText(cells.why.firstChild, reason);
      cells.why.title = reason;
      setText(cells.restarts, count(session.restarts));
      setAttribute(cells.restarts, "data-none", session.restarts === 0);
      const from = since(session);
      setText(cells.since, from.text);
      cells.since.title = moment(from.at);
    };
    return { element, update };
  }

  #choose(id, tenant, isChosen) {
    if (isChosen) this.chosen.set(id, tenant);
    else this.chosen.delete(id);
    this.draw();
    this.#on.changed();
  }

  #chooseAll(isChosen) {
    for (const { id, tenant } of this.#page) {
      if (isChosen) this.chosen.set(id, tenant);
      else this.chosen.delete(id);
    }
    this.draw();
    this.#on.changed();
  }

  chooseNone() {
    this.chosen.clear();
    this.draw();
    this.#on.changed();
  }

  /** Forgets what the key opened; an answer that is still under way is dropped. */
  forget() {
    this.#asked += 1;
    this.#page = [];
    this.#next = null;
    this.#cursors = [null];
    this.chosen.clear();
    this.draw();
    this.#filter = { ...NO_FILTER };
    byId("filters").reset();
  }

  /** Marks the session whose timeline is open. */
  setOpen(id) {
    this.#open = id;
    if (this.#page.length) this.draw();
  }

  /** Moves the keyboard's place by `step` rows. */
  move(step) {
    if (this.#page.length === 0) return;
    const focused = document.activeElement?.closest?.("tr[data-id]")?.dataset.id ?? this.#current;
    const place = this.#page.findIndex(({ id }) => id === focused);
    const target = this.#page[Math.min(this.#page.length - 1, Math.max(0, place + step))].id;
    this.#current = target;
    this.#rows.get(target)?.element.querySelector("button").focus();
  }

  /** The session that the keyboard is on. */
  underKeyboard() {
    return document.activeElement?.closest?.("tr[data-id]")?.dataset.id ?? null;
  }

  toggleUnderKeyboard() {
    const session = this.#page.find(({ id }) => id === this.underKeyboard());
    if (session) this.#choose(session.id, session.tenant, !this.chosen.has(session.id));
  }

  describeChoice() {
    return plural(this.chosen.size, "session");
  }
}
