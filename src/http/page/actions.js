// What an operator does to sessions: asked first, told afterwards.

import { act, actOnEach, actOnTenant } from "./api.js";
import { byId, h, setText, showDialog } from "./dom.js";
import { clock, count, plural } from "./words.js";

/** What each action does, for the question before it. */
const EFFECTS = {
  restart: { word: "Restart", done: "restarted", effect: "The connection closes and a new one is made, through the gate. Failed and parked sessions try again." },
  park: { word: "Park", done: "parked", effect: "The connection closes, and no attempt is made until an unpark or restart. Audio is refused meanwhile." },
  unpark: { word: "Unpark", done: "let go on", effect: "Parked sessions make an attempt, through the gate. Where the cause is not mended, they park again." },
  end: { word: "End", done: "ended", effect: "This is final: an ended session cannot be started again, its owner has to make a new one." },
};

/** More than so many ends at once have to be typed. */
const TYPED_FROM = 2;
const TOLD_MS = 12_000;

/** Says what was done or went wrong, for a while. */
export function tell(text, isTrouble = false) {
  const line = h("p", { class: isTrouble ? "told-line trouble" : "told-line" }, h("time", {}, clock(Date.now())), " ", text);
  byId("told").append(line);
  while (byId("told").children.length > 4) byId("told").firstChild.remove();
  setTimeout(() => line.remove(), isTrouble ? 3 * TOLD_MS : TOLD_MS);
}

/** Asks; gives whether it was confirmed. `typed` must be typed first, where it is given. */
function confirmed({ title, effect, button, typed }) {
  const go = h("button", { type: "submit", class: "primary", value: "go", disabled: Boolean(typed) }, button);
  const field = typed
    ? h(
        "label",
        { class: "typed" },
        "Type ",
        h("strong", {}, typed),
        " to confirm",
        h("input", { type: "text", autocomplete: "off", spellcheck: "false", autofocus: true, oninput: (event) => (go.disabled = event.target.value.trim() !== typed) }),
      )
    : null;
  const form = h(
    "form",
    { method: "dialog" },
    h("p", {}, effect),
    field,
    h("div", { class: "dialog-end" }, h("button", { type: "submit", class: "plain", value: "no", formnovalidate: true, autofocus: !typed }, "Cancel"), go),
  );
  const dialog = showDialog(title, form);
  dialog.returnValue = "no";
  // Enter presses a form's first submit button; after typing the word it means the last.
  form.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
    event.preventDefault();
    if (!go.disabled) dialog.close("go");
  });
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "go"), { once: true }));
}

/** One line of what became of an action. */
function report(word, what, { done, refusals }) {
  if (refusals.length === 0) return tell(`${what}: ${word}.`);
  const [{ id, error }] = refusals;
  const first = `${id}: ${error.message}`;
  return tell(`${what}: ${count(done - refusals.length)} of ${count(done)} ${word}. ${first}${refusals.length > 1 ? ` And ${refusals.length - 1} more.` : ""}`, true);
}

async function carried(out) {
  try {
    await out();
  } catch (error) {
    tell(`Not done: ${error.message}`, true);
  }
}

/** Asks, then carries an action out on one session. */
export async function onOne(action, id) {
  const { word, done, effect } = EFFECTS[action];
  if (!(await confirmed({ title: `${word} ${id}?`, effect, button: word }))) return;
  await carried(async () => {
    await act(action, id);
    report(done, id, { done: 1, refusals: [] });
  });
}

/** Asks, then carries an action out on each of `ids`. */
export async function onChosen(action, ids) {
  const { word, done, effect } = EFFECTS[action];
  const what = plural(ids.length, "session");
  const typed = action === "end" && ids.length >= TYPED_FROM ? `end ${ids.length}` : null;
  if (!(await confirmed({ title: `${word} ${what}?`, effect, button: `${word} ${what}`, typed }))) return;
  const line = progress(`${word} ${what}`);
  await carried(async () => report(done, what, await actOnEach(action, ids, line.step)));
  line.end();
}

/** Asks, then carries an action out on all sessions of a tenant. */
export async function onTenant(action, tenant) {
  const { word, done, effect } = EFFECTS[action];
  const more = action === "unpark" ? " This lifts the tenant's suspension." : "";
  const question = { title: `${word} all sessions of ${tenant}?`, effect: effect + more, button: `${word} all`, typed: action === "end" ? tenant : null };
  if (!(await confirmed(question))) return;
  const line = progress(`${word} all of ${tenant}`);
  await carried(async () => {
    const outcome = await actOnTenant(action, tenant, line.step);
    report(done, `${tenant}: ${plural(outcome.done, "session")}`, outcome);
  });
  line.end();
}

/** A line that counts while an action over many sessions is under way. */
function progress(what) {
  const line = h("p", { class: "told-line" }, `${what}: under way`);
  byId("told").append(line);
  return {
    step: (done, refused) => setText(line, `${what}: ${count(done)} done${refused ? `, ${count(refused)} refused` : ""}`),
    end: () => line.remove(),
  };
}
