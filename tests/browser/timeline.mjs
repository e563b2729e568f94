// The timeline of a session and the fleet's feed, live by the stream of events.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";

const world = await World.start();
const browser = await Console.launch();
try {
  const [session] = await world.create(1, "acme");
  await world.until("running", 1);
  const console_ = await Console.open(browser, world);
  const { page } = console_;
  await console_.signIn();
  await page.locator("#link", { hasText: "live" }).waitFor();

  // The fleet's feed tells what happens while one looks.
  const feed = page.locator("#detail-body .event");
  await world.simulate("drop", { avatar_id: "acme-0" });
  await feed.getByText("connectionClosed", { exact: true }).first().waitFor();
  await world.untilSession(session.id, "running");
  await feed.getByText("backing off → starting").waitFor();

  // A session's timeline begins with its making, newest first.
  await console_.row(session.id).getByRole("button").click();
  const lines = page.locator("#detail-body ol.events .event");
  await eventually("the whole life is shown", async () => (await lines.count()) === 9);
  const told = await lines.locator("strong").allTextContents();
  // The answer to whoever made it is told beside its first steps.
  assert(told.includes("operator: session.create"), told);
  assert.deepEqual(told.filter((line) => line !== "operator: session.create"), [
    "starting → running", "attempt 2: running", "backing off → starting", "running → backing off", "connectionClosed",
    "starting → running", "attempt 1: running", "made, starting",
  ]);
  assert.match(await lines.nth(0).textContent(), /back after \d+ ms/);
  assert.match(await lines.nth(1).textContent(), /gate \d+ ms · token \d+ ms · connect \d+ ms · handshake \d+ ms/);

  // What an operator does elsewhere is there within a second of it.
  const before = Date.now();
  await world.api("POST", `v1/sessions/${session.id}/park`);
  await lines.getByText("operator: session.park").waitFor();
  const took = Date.now() - before;
  console.log(`a parking was in the open timeline after ${took} ms`);
  assert(took < 1000, `${took} ms`);
  await lines.getByText("running → parked").waitFor();
  assert.deepEqual(console_.unexplained(), []);
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
