// The stream of events as the page reads it: cut anywhere, resumed where it broke, with gaps told. And the metrics.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";

const STREAM = [
  ": a comment\n\n",
  'event: state\nid: 41\ndata: {"id":41,"at":"2026-01-31T03:12:07Z","kind":"state","tenant":"acme","session":"SES","from":"running","to":"backing_off","code":"connectionClosed","next_attempt_at":"2026-01-31T03:12:09Z"}\n\n',
  'event: attempt\r\nid: 42\r\ndata: {"id":42,"at":"2026-01-31T03:12:09Z","kind":"attempt",\r\ndata: "tenant":"acme","session":"SES","attempt":2,"token_ms":12,"connect_ms":4,"outcome":"running"}\r\n\r\n',
  'event: gap\nid: 99\ndata: {"missed":7,"from":43,"to":50}\n\n',
  'event: state\nid: 100\ndata: half an ev',
].join("");

const world = await World.start();
const browser = await Console.launch();
try {
  const [session] = await world.create(1, "acme");
  await world.until("running", 1);
  const text = STREAM.replaceAll("SES", session.id);
  const console_ = await Console.open(browser, world);
  const { page } = console_;

  // The parser gives the same events wherever the stream is cut.
  const cuts = await page.evaluate(async (text) => {
    const { Parser } = await import("/console/events.js");
    const whole = new Parser().take(text);
    const differing = [];
    for (let cut = 0; cut <= text.length; cut += 1) {
      const parser = new Parser();
      const parts = [...parser.take(text.slice(0, cut)), ...parser.take(text.slice(cut))];
      if (JSON.stringify(parts) !== JSON.stringify(whole)) differing.push(cut);
    }
    let refused = false;
    try {
      new Parser().take("data: ".padEnd(1 << 21, "x"));
    } catch {
      refused = true;
    }
    return { whole, differing, refused };
  }, text);
  assert.deepEqual(cuts.differing, []);
  assert.deepEqual(cuts.whole.map(({ event, id }) => [event, id]), [["state", "41"], ["attempt", "42"], ["gap", "99"]]);
  assert.equal(JSON.parse(cuts.whole[1].data).attempt, 2);
  assert(cuts.refused, "an event without end is not kept");

  // The page shows them, tells the gap, and resumes after the last whole one.
  const resumed = [];
  await page.route("**/v1/events", async (route) => {
    const { "last-event-id": last, authorization } = route.request().headers();
    resumed.push([last ?? null, authorization]);
    if (resumed.length === 1) await route.fulfill({ contentType: "text/event-stream", body: text });
    else if (resumed.length === 2) await route.fulfill({ status: 503, body: "" });
    // The third stays open, and silent.
  });
  await console_.signIn();
  const feed = page.locator("#told", { hasText: "7 events were missed" });
  await feed.waitFor();
  await eventually("it asks a third time", () => resumed.length === 3);
  const bearer = "Bearer key-of-the-operators";
  assert.deepEqual(resumed, [[null, bearer], ["99", bearer], ["99", bearer]]);
  await page.locator("#link", { hasText: "asking every second" }).waitFor();

  const said = await page.evaluate(async (text) => {
    const { Parser } = await import("/console/events.js");
    const { describe } = await import("/console/words.js");
    return new Parser().take(text).slice(0, 2).map((event) => describe(JSON.parse(event.data)));
  }, text);
  assert.deepEqual(said, [
    { tone: "backing_off", what: "running → backing off", more: "connectionClosed · next attempt 03:12:09" },
    { tone: "running", what: "attempt 2: running", more: "token 12 ms · connect 4 ms" },
  ]);

  // Metrics: labels with quotes, a new process that counts from 0, quantiles between bounds.
  const metrics = await page.evaluate(async () => {
    const { History, by, gained, parse } = await import("/console/metrics.js");
    const sample = (errors, fast, all) =>
      parse(`# HELP x\ngreenroom_session_errors_total{code="connectionClosed",phase="a"} ${errors}\ngreenroom_session_errors_total{code="connectionClosed",phase="b\\"}"} 1\ngreenroom_session_recovery_seconds_bucket{le="1"} ${fast}\ngreenroom_session_recovery_seconds_bucket{le="2"} ${all}\ngreenroom_session_recovery_seconds_bucket{le="+Inf"} ${all}\n`);
    const history = new History();
    const now = Date.now();
    [[10, 0, 0], [14, 5, 10], [2, 5, 10]].forEach(([errors, fast, all], i) => history.add(sample(errors, fast, all), now - 4000 + i * 2000));
    return {
      labels: by(sample(3, 0, 0), "session_errors_total", "phase"),
      gained: [gained(4, 9), gained(9, 4)],
      gain: history.gain((one) => one.errors.connectionClosed, 60_000),
      p75: history.quantile("session_recovery_seconds", 0.75, 60_000),
      none: Number.isNaN(history.quantile("request_first_frame_seconds", 0.5, 60_000)),
    };
  });
  assert.deepEqual(metrics, { labels: { a: 3, 'b"}': 1 }, gained: [5, 4], gain: 4 + 3, p75: 1.5, none: true });
  assert.deepEqual(console_.unexplained([/503 \(Service Unavailable\).*v1\/events/]), []);
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
