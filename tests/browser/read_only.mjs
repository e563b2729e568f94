// No admin key is configured: the page says so, shows everything, and can change nothing.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";

const world = await World.start({ keyed: false });
const browser = await Console.launch();
try {
  const [session] = await world.create(3, "acme");
  await world.until("running", 3);
  const console_ = await Console.open(browser, world);
  const { page } = console_;
  await page.getByText("Read only: no admin key is configured").waitFor();
  assert.equal(await page.locator("#sign-in").isVisible(), false);
  await page.locator("tbody tr").nth(2).waitFor();
  await console_.row(session.id).getByRole("button").click();
  await page.locator("#detail .state.running").waitFor();

  const actions = page.locator("[data-acts]");
  assert.equal(await actions.count(), 12, "four for the session and for each tenant");
  for (const action of await actions.all()) {
    assert(await action.isVisible());
    assert(await action.isDisabled());
    assert.match(await action.getAttribute("title"), /admin\.key/);
  }
  await page.getByLabel(`Choose ${session.id}`).check();
  assert.equal(await actions.count(), 16);
  await console_.row(session.id).getByRole("button").focus();
  await page.keyboard.press("p");
  assert.equal(await page.getByRole("dialog").isVisible(), false);
  const status = await page.evaluate(async (id) => (await fetch(`v1/sessions/${id}/park`, { method: "POST" })).status, session.id);
  assert.equal(status, 403);

  // It is live all the same.
  await world.simulate("strike", { match: { avatar_id: session.avatar_id }, do: { close: { code: 4002 } } });
  await console_.row(session.id).locator(".state.parked").waitFor();
  await eventually("the tenant's group", async () => page.locator(".group", { hasText: "sessionDurationExceeded" }).isVisible());
  assert.deepEqual(console_.unexplained([/403 \(Forbidden\).*park/]), []);
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
