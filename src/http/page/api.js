// Calls of the admin API. The key lives in this module's memory and nowhere else.

let key = null;

/** How long an answer may take before the call counts as lost. */
const DEADLINE_MS = 10_000;
/** Calls that one action over many sessions has under way at a time. */
const AT_ONCE = 8;
const PAGE = 500;

export const setKey = (value) => (key = value);
export const hasKey = () => key !== null;

/** An answer that says no. `status` is 0 where none came. */
export class Refused extends Error {
  constructor(status, code, detail) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export function headers() {
  return key === null ? {} : { authorization: `Bearer ${key}` };
}

async function refusal(response) {
  const problem = await response.json().catch(() => ({}));
  return new Refused(response.status, problem.code ?? "", problem.detail ?? `HTTP ${response.status}`);
}

async function fetched(path, method) {
  try {
    return await fetch(path, {
      method,
      headers: headers(),
      cache: "no-store",
      signal: AbortSignal.timeout(DEADLINE_MS),
    });
  } catch (error) {
    throw new Refused(0, "noAnswer", error.name === "TimeoutError" ? "no answer within 10 s" : "no answer");
  }
}

async function read(response, how) {
  if (!response.ok) throw await refusal(response);
  try {
    return await response[how]();
  } catch {
    throw new Refused(0, "noAnswer", "the answer broke off");
  }
}

/** JSON of an answer. */
export const get = async (path) => read(await fetched(path, "GET"), "json");
/** Text of an answer. */
export const getText = async (path) => read(await fetched(path, "GET"), "text");
export const call = async (method, path) => read(await fetched(path, method), "json");

/** Whether the process takes sessions: {status, reason?}; it answers 503 where it does not. */
export async function readiness() {
  const response = await fetched("readyz", "GET");
  return response.json().catch(() => ({ status: `HTTP ${response.status}` }));
}

/** A query string of what is set. */
export function query(parameters) {
  const set = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined && value !== "");
  return set.length ? `?${new URLSearchParams(set)}` : "";
}

const part = encodeURIComponent;

/** Carries one action out on one session. */
export function act(action, id) {
  return action === "end" ? call("DELETE", `v1/sessions/${part(id)}`) : call("POST", `v1/sessions/${part(id)}/${action}`);
}

/** Carries one action out on each of `ids`; `onProgress(done, refusals)` after each. */
export async function actOnEach(action, ids, onProgress) {
  const waiting = [...ids];
  const refusals = [];
  let done = 0;
  async function work() {
    for (let id = waiting.shift(); id !== undefined; id = waiting.shift()) {
      try {
        await act(action, id);
      } catch (error) {
        refusals.push({ id, error });
      }
      done += 1;
      onProgress(done, refusals.length);
    }
  }
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  return { done, refusals };
}

/** Every session of a tenant that is not stopped. */
export async function sessionsOf(tenant) {
  const ids = [];
  let cursor = null;
  do {
    const page = await get(`v1/sessions${query({ tenant, limit: PAGE, cursor })}`);
    ids.push(...page.sessions.filter((session) => session.state !== "stopped").map((session) => session.id));
    cursor = page.next_cursor;
  } while (cursor);
  return ids;
}

/** Carries an action out on a tenant as a whole; ending is one session at a time, as the API has no other way. */
export async function actOnTenant(action, tenant, onProgress) {
  if (action === "end") return actOnEach("end", await sessionsOf(tenant), onProgress);
  const answer = await call("POST", `v1/tenants/${part(tenant)}/${action}`);
  return { done: answer.sessions, refusals: [] };
}
