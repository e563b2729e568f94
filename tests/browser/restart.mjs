// The server goes away and comes back: the page says so meanwhile, and goes on by itself with the key it has.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";

/** What a browser says of a server that is away. */
const AWAY = [/ERR_CONNECTION_REFUSED/, /ERR_CONNECTION_RESET/, /ERR_EMPTY_RESPONSE/, /ERR_INCOMPLETE_CHUNKED_ENCODING/, /ERR_SOCKET_NOT_CONNECTED/];

const world = await World.start({ durable: true });
const browser = await Console.launch();
try {
  await world.create(20, "acme");
  await world.until("running", 20);
  const console_ = await Console.open(browser, world);
  const { page } = console_;
  await console_.signIn();
  await page.locator("tbody tr").nth(19).waitFor();
  const id = await page.locator("tbody tr").first().getAttribute("data-id");
  await console_.row(id).getByRole("button").click();
  await page.locator("#detail .state.running").waitFor();
  assert.equal(await page.locator("#banner").isVisible(), false);

  for (const signal of ["SIGKILL", "SIGTERM"]) {
    await world.endServer(signal);
    await page.locator("#banner", { hasText: "Greenroom does not answer since" }).waitFor();
    await page.locator("#link", { hasText: "reconnecting" }).waitFor();
    assert.equal(await page.locator("tbody tr").count(), 20, "what was known stays in sight");

    await world.serve();
    await page.locator("#banner").waitFor({ state: "hidden" });
    await page.locator("#told", { hasText: "Greenroom answers again" }).last().waitFor();
    assert.equal(await page.locator("#sign-in").isVisible(), false, "the key is still known");
    await world.until("running", 20);
    await eventually("all are shown running", async () => (await page.locator("tbody .state.running").count()) === 20);
    await eventually("no chip speaks of trouble", async () => (await page.locator("#link").textContent()) !== "reconnecting");
  }

  // And it is live: a session that is parked now is shown so.
  await world.api("POST", `v1/sessions/${id}/park`);
  await console_.row(id).locator(".state.parked").waitFor();
  await page.locator("#detail .state.parked").waitFor();
  assert.deepEqual(console_.unexplained(AWAY), [], "no other console error");
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
