// Tenants: who has sessions that stand still, how many, and why, in words. Trouble first.

import { byId, h, keyed, replace, setAttribute, setText } from "./dom.js";
import { showRunbook } from "./runbook.js";
import { ACTORS, STATES, count, plural, stateBadge } from "./words.js";

/** Tenants that are shown before somebody asks for all. */
const SHOWN = 12;
const NEEDS = ["failed", "parked"];

const number = (tenant, state) => tenant.sessions[state] ?? 0;
const trouble = (tenant) => NEEDS.reduce((sum, state) => sum + number(tenant, state), 0);

/** Why a group stands still: the sentence, and who must act. */
function why(group, codes) {
  if (group.by === "minutesUsed") {
    return {
      title: "for today's minutes",
      means: "The tenant's connections have stood for max_connected_minutes_per_day. They go on at 00:00 UTC, or once that is raised.",
      code: null,
    };
  }
  if (group.by === "operator") return { title: "by an operator", means: "They wait until they are unparked.", code: null };
  const facts = codes.get(group.code);
  const acts = facts ? `Must act: ${ACTORS[facts.must_act] ?? facts.must_act}.` : "";
  if (group.by === "keyRefused") {
    return { title: "API key refused", means: "The service refuses this tenant's API key. Change upstream_api_key, then unpark the tenant.", code: group.code };
  }
  const means = facts?.meaning ?? "";
  if (group.by === "suspension") {
    return { title: `${group.code}, of another session`, means: `The tenant is suspended. ${means} ${acts}`, code: group.code };
  }
  return { title: group.code ?? "no error is known", means: `${means} ${acts}`, code: group.code };
}

export class Tenants {
  #known = new Map();
  #list = h("div", { class: "tenants", role: "list" });
  #all = h("button", { type: "button", class: "plain", onclick: () => this.#showAll() });
  #none = h("p", { class: "empty" }, "No tenant is configured.");
  #showsAll = false;
  #latest = [];
  #codes = new Map();
  #on;

  /** `on.choose(filter)`, `on.act(action, tenant)`, `on.canAct()`. */
  constructor(on) {
    this.#on = on;
  }

  setCodes(codes) {
    this.#codes = new Map(codes.map((code) => [code.code, code]));
  }

  /** `suspended` are the tenants that the metrics name so. */
  update(tenants, suspended) {
    this.#latest = tenants
      .map((tenant) => ({ ...tenant, isSuspended: suspended.has(tenant.id) || tenant.held.some((group) => group.by === "suspension") }))
      .sort((a, b) => b.isSuspended - a.isSuspended || trouble(b) - trouble(a) || (a.id < b.id ? -1 : 1));
    const troubled = this.#latest.filter((tenant) => trouble(tenant) > 0 || tenant.isSuspended);
    setText(byId("tenants-title"), troubled.length ? `Tenants: ${plural(troubled.length, "needs", "need")} a person` : "Tenants: nobody is needed");
    this.#draw();
  }

  /** Forgets what the key opened. */
  forget() {
    this.update([], new Set());
    setText(byId("tenants-title"), "Tenants");
  }

  #showAll() {
    this.#showsAll = !this.#showsAll;
    this.#draw();
  }

  #draw() {
    const panel = byId("tenant-list");
    if (this.#list.parentElement !== panel) replace(panel, this.#list, this.#all, this.#none);
    const shown = this.#showsAll ? this.#latest : this.#latest.slice(0, SHOWN);
    keyed(this.#list, this.#known, shown, (tenant) => tenant.id, (tenant) => this.#row(tenant));
    this.#all.hidden = this.#latest.length <= SHOWN;
    setText(this.#all, this.#showsAll ? `Show the first ${SHOWN}` : `Show all ${count(this.#latest.length)} tenants`);
    this.#none.hidden = this.#latest.length > 0;
    const names = byId("tenant-names");
    const wanted = this.#latest.slice(0, 500);
    if (names.children.length !== wanted.length) replace(names, wanted.map(({ id }) => h("option", { value: id })));
  }

  #row({ id }) {
    const badge = h("span", { class: "state parked" }, "suspended");
    const counts = h("p", { class: "counts" });
    const groups = h("div", { class: "groups" });
    const known = new Map();
    const actions = ["restart", "park", "unpark", "end"].map((action) =>
      h(
        "button",
        { type: "button", class: "plain small", "data-acts": true, "aria-label": `${action} all sessions of ${id}`, onclick: () => this.#on.act(action, id) },
        action,
      ),
    );
    const element = h(
      "div",
      { class: "tenant", role: "listitem" },
      h("div", { class: "tenant-head" }, h("h3", {}, h("button", { type: "button", class: "link", title: "Show this tenant's sessions", onclick: () => this.#on.choose({ tenant: id }) }, id)), badge, counts, h("div", { class: "acts" }, actions)),
      groups,
    );
    const update = (tenant) => {
      badge.hidden = !tenant.isSuspended;
      const parts = Object.keys(STATES).filter((state) => number(tenant, state) > 0).map((state) => `${count(number(tenant, state))} ${STATES[state].word}`);
      setText(counts, parts.join(", ") || "no session");
      setAttribute(element, "data-trouble", trouble(tenant) > 0 || tenant.isSuspended);
      keyed(groups, known, tenant.held, (group) => [group.state, group.by, group.code].join(), (group) => this.#group(id, group));
      this.#on.mark(actions);
    };
    return { element, update };
  }

  #group(tenant, { state, code }) {
    const amount = h("span", { class: "number" });
    const title = h("strong");
    const means = h("span", { class: "quiet" });
    const runbook = h("button", { type: "button", class: "plain small" }, "Runbook");
    let shown = null;
    runbook.addEventListener("click", () => showRunbook(shown));
    const element = h(
      "div",
      { class: "group" },
      h("p", { class: "group-count" }, amount, stateBadge(state)),
      h("p", { class: "group-why" }, title, " ", means),
      h(
        "div",
        { class: "acts" },
        h("button", { type: "button", class: "plain small", "aria-label": `Show the ${STATES[state].word} sessions of ${tenant}${code ? ` with ${code}` : ""}`, onclick: () => this.#on.choose({ tenant, state, code }) }, "Show"),
        runbook,
      ),
    );
    const update = (group) => {
      const reason = why(group, this.#codes);
      shown = reason.code;
      setText(amount, count(group.count));
      setText(title, reason.title);
      setText(means, reason.means);
      runbook.hidden = shown === null;
      setAttribute(runbook, "aria-label", `Runbook of ${shown}`);
    };
    return { element, update };
  }
}
