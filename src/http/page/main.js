// The page as a whole: what it may do, when it asks, and whether the server is there.

import { get, getText, hasKey, readiness, setKey } from "./api.js";
import { onChosen, onOne, onTenant, tell } from "./actions.js";
import { byId, h, replace, setAttribute, setText, showNotice, throttled } from "./dom.js";
import { follow } from "./events.js";
import { Fleet, showReadiness } from "./fleet.js";
import { EVERY_MS, History, by, parse } from "./metrics.js";
import { Sessions } from "./sessions.js";
import { Tenants } from "./tenants.js";
import { Timeline } from "./timeline.js";
import { clock, span } from "./words.js";

/** Without events: how often what may change is asked for. It leaves a change room to be seen within a second. */
const POLL_MS = 600;
/** With events: how often all the same, should one have been missed. */
const SAFETY_MS = 10_000;
/** After a change: the least time to the next question. */
const BETWEEN_MS = 300;
const ACTIONS = ["restart", "park", "unpark", "end"];

/** What this page may do: "unknown", "locked" (asks for the key), "open", "readOnly" (no key is configured), "closed". */
let access = "unknown";
let lostSince = null;
let stream = "lost";
let following = null;
let families = new Map();
/** How long the last questions took: a server that is slow is asked less. */
let tookMs = 0;

const history = new History();
const open = (id) => showSession(id);
const sessions = new Sessions({
  open,
  changed: drawChosen,
  // Somebody waits for this answer: it does not queue behind what is asked anyway.
  refresh: () => canRead() && sessions.refresh().catch(failed),
});
const choose = (filter) => {
  sessions.setFilter(filter);
  byId("sessions").scrollIntoView({ block: "start" });
  byId("sessions").focus({ preventScroll: true });
};
const fleet = new Fleet(history, choose);
const tenants = new Tenants({ choose, mark, act: (action, tenant) => acting(() => onTenant(action, tenant)) });
const timeline = new Timeline({ open, mark, failed, act: (action, id) => acting(() => onOne(action, id)) });

const canAct = () => access === "open";
const canRead = () => access === "open" || access === "readOnly";

/** Buttons of actions stay in sight where they may not be used, and say why. */
function mark(buttons) {
  for (const button of buttons) {
    button.disabled = !canAct();
    setAttribute(button, "title", canAct() ? null : "Needs admin.key in the configuration");
  }
}

async function acting(action) {
  if (!canAct()) return;
  await action();
  refresh();
}

function failed(error) {
  if (error.status === 0) lost();
  else if (error.status === 401) lock("The key is not accepted any more.");
  else tell(error.message, true);
}

function found() {
  if (lostSince === null) return;
  tell(`Greenroom answers again, after ${span((Date.now() - lostSince) / 1000)}.`);
  lostSince = null;
  drawLink();
}

function lost() {
  lostSince ??= Date.now();
  drawLink();
}

function drawLink() {
  const away = lostSince !== null;
  const words = away ? "reconnecting" : { live: "live", absent: "asking every second", lost: canRead() ? "asking every second" : "metrics only" }[stream];
  setText(byId("link"), words);
  setAttribute(byId("link"), "data-tone", away ? "bad" : stream === "live" ? "good" : null);
  byId("banner").hidden = !away;
  if (away) setText(byId("banner"), `Greenroom does not answer since ${clock(lostSince)} UTC. What you see is from then; the page keeps trying.`);
  timeline.setHasFeed(stream === "live");
}

/** Finds out what this page may do. */
async function probe() {
  try {
    if (!hasKey()) {
      const { needs } = await get("console/access");
      if (needs === "key") return lock("");
      if (needs === "loopback") return enter("closed");
    }
    const { codes } = await get("v1/codes");
    for (const user of [fleet, tenants, sessions]) user.setCodes(codes);
    enter(hasKey() ? "open" : "readOnly");
  } catch (error) {
    if (error.status === 401) lock("This is not the admin key.");
    else failed(error);
  }
}

function enter(next) {
  access = next;
  byId("sign-in").hidden = true;
  byId("forget").hidden = next !== "open";
  byId("read-only").hidden = next === "open";
  if (next === "readOnly") {
    setText(byId("read-only"), "Read only: no admin key is configured, so the admin API shows everything to this machine and changes nothing. Set admin.key and restart Greenroom to use the actions.");
  } else if (next === "closed") {
    setText(byId("read-only"), "Metrics only: no admin key is configured, so the admin API answers to its own machine alone. Open this page there, or set admin.key and restart Greenroom.");
  }
  drawChosen();
  if (!canRead()) return;
  following?.abort();
  following = new AbortController();
  follow({ state: heardState, event: heard, gap: missed }, following.signal);
  refresh();
}

function lock(why) {
  const fresh = access !== "locked";
  access = "locked";
  setKey(null);
  following?.abort();
  stream = "lost";
  byId("sign-in").hidden = false;
  byId("forget").hidden = true;
  byId("read-only").hidden = true;
  setText(byId("sign-in-error"), why);
  for (const part of [sessions, tenants, timeline]) part.forget();
  for (const id of ["tenant-list", "session-list"]) replace(byId(id), h("p", { class: "empty" }, "Opens with the admin key."));
  byId("dialog").close();
  for (const id of ["told", "dialog"]) replace(byId(id));
  drawChosen();
  drawLink();
  if (fresh) byId("key").focus();
}

function heardState(state) {
  const before = stream;
  stream = state;
  // A stream that broke may be the first sign that the server is away: ask, and see.
  if (state === "lost" && before === "live") measure();
  if (state === "live") {
    found();
    refresh();
  }
  drawLink();
}

function heard(event) {
  timeline.hear(event);
  refresh();
}

function missed({ missed: number }) {
  tell(`${number ?? "Some"} events were missed; everything is asked for anew.`);
  refresh();
}

/** Asks for everything that the key opens. */
const refresh = throttled(async () => {
  if (!canRead() || document.hidden) return;
  const began = performance.now();
  try {
    const [overview] = await Promise.all([get("console/overview"), sessions.refresh(), timeline.refresh()]);
    if (!canRead()) return;
    fleet.setCounts(overview.sessions);
    tenants.update(overview.tenants, suspended());
    found();
  } catch (error) {
    failed(error);
  }
  tookMs = performance.now() - began;
}, () => Math.max(BETWEEN_MS, 2 * tookMs));

const suspended = () =>
  new Set(Object.entries(by(families, "tenant_suspended", "tenant")).filter(([, value]) => value > 0).map(([tenant]) => tenant));

/** Asks for what needs no key. */
const measure = throttled(async () => {
  try {
    const [text, ready] = await Promise.all([getText("metrics"), readiness()]);
    families = parse(text);
    history.add(families, Date.now());
    fleet.update(families);
    showReadiness(ready);
    found();
  } catch (error) {
    failed(error);
  }
  if (access === "unknown") await probe();
}, () => BETWEEN_MS);

function drawChosen() {
  const bar = byId("chosen");
  const number = sessions.chosen.size;
  bar.hidden = number === 0;
  if (number === 0) return;
  const buttons = ACTIONS.map((action) =>
    h("button", { type: "button", class: "plain", "data-acts": true, onclick: () => acting(() => onChosen(action, [...sessions.chosen.keys()])) }, action),
  );
  mark(buttons);
  replace(bar, h("p", {}, h("strong", {}, sessions.describeChoice()), " chosen"), buttons, h("button", { type: "button", class: "plain", onclick: () => sessions.chooseNone() }, "None"));
}

function showSession(id) {
  sessions.setOpen(id);
  timeline.open(id).catch(failed);
  if (id !== null && innerWidth < 1200) {
    byId("detail").scrollIntoView({ block: "start" });
    byId("detail").focus({ preventScroll: true });
  }
}

/** The keys, and what each does; the dialog of the keys is made from it. */
const KEYS = {
  "/": ["find a session", () => byId("find").focus()],
  j: ["next session", () => sessions.move(1)],
  k: ["previous session", () => sessions.move(-1)],
  x: ["choose the session, or not", () => sessions.toggleUnderKeyboard()],
  "]": ["next page", () => sessions.nextPage()],
  "[": ["previous page", () => sessions.previousPage()],
  r: ["restart", () => keyAction("restart")],
  p: ["park", () => keyAction("park")],
  u: ["unpark", () => keyAction("unpark")],
  e: ["end", () => keyAction("end")],
  t: ["change the theme", () => byId("theme").click()],
  Escape: ["close the timeline", () => timeline.id !== null && showSession(null)],
  "?": ["these keys", showKeys],
};
let usesKeys = true;

/** On what is chosen; on the session under the keyboard, or the open one, where nothing is. */
function keyAction(action) {
  const chosen = [...sessions.chosen.keys()];
  const one = sessions.underKeyboard() ?? timeline.id;
  if (chosen.length > 0) acting(() => onChosen(action, chosen));
  else if (one !== null) acting(() => onOne(action, one));
}

function showKeys() {
  const uses = h("input", { type: "checkbox", onchange: (event) => (usesKeys = event.target.checked) });
  uses.checked = usesKeys;
  showNotice(
    "Keys",
    h("dl", { class: "keys" }, Object.entries(KEYS).map(([key, [what]]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)))),
    h("p", { class: "quiet" }, "Enter opens a session's timeline. Actions are on what is chosen, else on the session under the keyboard, and ask first."),
    h("label", {}, uses, " use these keys"),
  );
}

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input:not([type=checkbox]), select, textarea, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey || byId("dialog").open) return;
  if (typing) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (!usesKeys || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key][1]();
});

byId("keys").addEventListener("click", showKeys);
byId("forget").addEventListener("click", () => lock(""));
byId("sign-in").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId("key").value.trim());
  byId("key").value = "";
  probe();
});

function tick() {
  setText(byId("clock"), `${clock(Date.now())} UTC`);
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  measure();
  refresh();
});
setInterval(tick, 1_000);
setInterval(() => !document.hidden && measure(), EVERY_MS);
setInterval(() => stream !== "live" && refresh(), POLL_MS);
setInterval(() => stream === "live" && refresh(), SAFETY_MS);
tick();
drawLink();
measure();
