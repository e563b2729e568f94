// Every action: on one, on a choice and on a tenant, by mouse and by keyboard; never without a yes.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";

const world = await World.start();
const browser = await Console.launch();
try {
  const acme = await world.create(8, "acme");
  await world.create(6, "globex");
  await world.until("running", 14);
  const console_ = await Console.open(browser, world);
  const { page } = console_;
  await console_.signIn("not-the-key");
  await page.getByText("This is not the admin key.").waitFor();
  await console_.signIn();
  await page.locator("tbody tr").nth(13).waitFor();
  const dialog = page.getByRole("dialog");
  const connection = async (id) => (await world.get(`v1/sessions/${id}`)).connection_id;
  const { connection_id: first } = await world.untilSession(acme[0].id, "running");

  // One. Cancel, Escape and the answer yes.
  await console_.row(acme[0].id).getByRole("button").click();
  const detail = page.locator("#detail");
  await detail.getByRole("button", { name: "restart" }).click();
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await detail.getByRole("button", { name: "restart" }).click();
  await page.keyboard.press("Escape");
  await dialog.waitFor({ state: "hidden" });
  assert.equal(await connection(acme[0].id), first, "nobody said yes");
  await detail.getByRole("button", { name: "restart" }).click();
  await dialog.getByRole("button", { name: "Restart" }).click();
  await page.locator("#told", { hasText: "restarted" }).waitFor();
  await eventually("it has another connection", async () => ![null, first].includes(await connection(acme[0].id)));
  await page.keyboard.press("Escape");
  await detail.getByText("What happens").waitFor();

  // A choice, over filters: two of acme and one of globex.
  for (const session of acme.slice(1, 3)) await page.getByLabel(`Choose ${session.id}`).check();
  await page.locator(".tenant", { hasText: "globex" }).getByTitle("Show this tenant's sessions").click();
  await eventually("globex alone", async () => (await page.locator("tbody tr").count()) === 6);
  await page.locator("tbody tr").first().getByRole("checkbox").check();
  await page.locator("#chosen", { hasText: "3 sessions chosen" }).waitFor();
  await page.locator("#chosen").getByRole("button", { name: "park", exact: true }).click();
  await dialog.getByRole("button", { name: "Park 3 sessions" }).click();
  await page.locator("#told", { hasText: "3 sessions: parked." }).waitFor();
  await world.until("parked", 3);
  await page.locator(".group", { hasText: "by an operator" }).first().waitFor();
  await page.locator("#chosen").getByRole("button", { name: "unpark" }).click();
  await dialog.getByRole("button", { name: "Unpark 3 sessions" }).click();
  await world.until("running", 14);

  // Ending several has to be typed.
  await page.locator("#chosen").getByRole("button", { name: "end" }).click();
  const end = dialog.getByRole("button", { name: "End 3 sessions" });
  assert(await end.isDisabled());
  await dialog.getByLabel(/Type/).fill("end 2");
  await page.keyboard.press("Enter");
  assert(await end.isDisabled());
  assert.equal(await world.count("stopped"), 0);
  await dialog.getByLabel(/Type/).fill("end 3");
  await page.keyboard.press("Enter");
  await world.until("stopped", 3);
  await page.locator("#told", { hasText: "3 sessions: ended." }).waitFor();

  // What is refused is told, with the reason.
  await page.locator("#chosen").getByRole("button", { name: "restart" }).click();
  await dialog.getByRole("button", { name: "Restart 3 sessions" }).click();
  await page.locator("#told", { hasText: "0 of 3 restarted" }).waitFor();
  await page.locator("#told", { hasText: "stopped, which is final" }).waitFor();
  await page.locator("#chosen").getByRole("button", { name: "None" }).click();
  await page.locator("#chosen").waitFor({ state: "hidden" });

  // A tenant.
  await page.getByRole("button", { name: "park all sessions of globex", exact: true }).click();
  await dialog.getByRole("button", { name: "Park all" }).click();
  await world.until("parked", 5);
  await page.getByRole("button", { name: "unpark all sessions of globex" }).click();
  await dialog.getByRole("button", { name: "Unpark all" }).click();
  await world.until("parked", 0);
  await page.getByRole("button", { name: "end all sessions of globex" }).click();
  assert(await dialog.getByRole("button", { name: "End all" }).isDisabled());
  await dialog.getByLabel(/Type/).fill("globex");
  await dialog.getByRole("button", { name: "End all" }).click();
  await world.until("stopped", 8);
  await page.locator("#told", { hasText: "globex: 5 sessions: ended." }).waitFor();
  await world.until("running", 6);

  // By keyboard alone: find, walk, open, choose, park, confirm.
  await page.getByRole("button", { name: "Clear" }).click();
  await page.locator("h1").click();
  await page.keyboard.press("/");
  await page.keyboard.type("acme-5");
  await eventually("one row", async () => (await page.locator("tbody tr").count()) === 1);
  await page.keyboard.press("Escape");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await detail.getByText(acme[5].id).waitFor();
  await page.keyboard.press("p");
  await dialog.getByText(`Park ${acme[5].id}?`).waitFor();
  await page.keyboard.press("Enter");
  await dialog.waitFor({ state: "hidden" });
  assert.equal((await world.get(`v1/sessions/${acme[5].id}`)).state, "running", "Enter is Cancel until one moves on");
  await page.keyboard.press("p");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await world.untilSession(acme[5].id, "parked");

  // A browser tells late that a dialog closed: the next question may be answered by then, and its answer counts.
  await page.evaluate(() => {
    const press = (key) => document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const answer = (name) => [...document.querySelectorAll("dialog[open] button")].find((button) => button.textContent === name).click();
    press("p");
    answer("Cancel");
    press("u");
    answer("Unpark");
    press("p");
    answer("Cancel");
  });
  await world.untilSession(acme[5].id, "running");
  await page.keyboard.press("?");
  await dialog.getByText("find a session").waitFor();
  await dialog.getByLabel("use these keys").uncheck();
  await page.keyboard.press("Escape");
  await page.keyboard.press("u");
  assert.equal(await dialog.isVisible(), false, "the keys are off");

  // Forgetting the key closes what it opened.
  await page.getByRole("button", { name: "Forget key" }).click();
  await page.getByLabel("Admin key").waitFor();
  assert.equal(await page.locator("tbody tr").count(), 0);
  assert.equal(await page.getByText(acme[5].id).count(), 0);
  assert.deepEqual(console_.unexplained([/401 \(Unauthorized\).*v1\/codes/, /409 \(Conflict\)/]), []);
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
