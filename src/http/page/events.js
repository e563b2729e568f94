// Server-sent events over fetch(): EventSource cannot send the key.

import { headers } from "./api.js";

/** The server sends a comment every 15 s; twice that and a bit is silence. */
const SILENCE_MS = 35_000;
const FIRST_WAIT_MS = 250;
const LONGEST_WAIT_MS = 4_000;
/** How long a server that has no events is left in peace. */
const ABSENT_WAIT_MS = 30_000;
/** A line that is longer is no event of ours. */
const MAX_PENDING = 1 << 20;

/** Takes text as it comes and gives {event, data, id} for each whole event. */
export class Parser {
  #pending = "";
  #fields = { event: "message", data: [], id: null };

  take(text) {
    this.#pending += text;
    if (this.#pending.length > MAX_PENDING) throw new Error("an event without end");
    const lines = this.#pending.split(/\r\n|\n|\r(?!$)/);
    this.#pending = lines.pop();
    return lines.map((line) => this.#line(line)).filter(Boolean);
  }

  #line(line) {
    if (line === "") {
      const { event, data, id } = this.#fields;
      this.#fields = { event: "message", data: [], id };
      return data.length ? { event, data: data.join("\n"), id } : null;
    }
    const [, field, value] = /^([^:]*):? ?(.*)$/s.exec(line);
    if (field === "data") this.#fields.data.push(value);
    else if (field === "event" || field === "id") this.#fields[field] = value;
    return null;
  }
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/**
 * Follows the events until `signal` aborts. `on.state` hears "live", "absent" (this server has none) and "lost";
 * `on.event` each event, `on.gap` when some were missed.
 */
export async function follow(on, signal) {
  let last = null;
  let pause = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      const response = await open(last, signal);
      if (response === null) {
        on.state("absent");
        await wait(ABSENT_WAIT_MS);
        continue;
      }
      on.state("live");
      pause = FIRST_WAIT_MS;
      await listen(response, on, (id) => (last = id), signal);
    } catch {
      // A broken stream and a refused one are alike: ask again.
    }
    if (signal.aborted) return;
    on.state("lost");
    await wait(pause);
    pause = Math.min(pause * 2, LONGEST_WAIT_MS);
  }
}

async function open(last, signal) {
  const response = await fetch("v1/events", {
    headers: { ...headers(), accept: "text/event-stream", ...(last === null ? {} : { "last-event-id": last }) },
    cache: "no-store",
    signal,
  });
  if ([404, 405, 501].includes(response.status)) return null;
  if (!response.ok || !response.headers.get("content-type")?.startsWith("text/event-stream")) {
    throw new Error(`HTTP ${response.status}`);
  }
  return response;
}

async function listen(response, on, remember, signal) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new Parser();
  let silence;
  try {
    for (;;) {
      const silent = new Promise((_, reject) => (silence = setTimeout(() => reject(new Error("silence")), SILENCE_MS)));
      const { done, value } = await Promise.race([reader.read(), silent]);
      clearTimeout(silence);
      if (done || signal.aborted) return;
      for (const event of parser.take(value)) {
        if (event.id !== null) remember(event.id);
        hand(event, on);
      }
    }
  } finally {
    clearTimeout(silence);
    reader.cancel().catch(() => {});
  }
}

function hand(event, on) {
  let data;
  try {
    data = JSON.parse(event.data);
  } catch {
    return;
  }
  if (event.event === "gap") on.gap(data);
  else on.event(data);
}
