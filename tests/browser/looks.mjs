// Both themes, desk and phone: nothing cut, covered or unreadable, by axe and by measure; pictures for the eye.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Console, World, axeSource, eventually } from "./world.mjs";

const PICTURES = process.env.GREENROOM_SCREENSHOTS;
const SIZES = { desk: { width: 1440, height: 900 }, tablet: { width: 820, height: 1180 }, phone: { width: 390, height: 844 } };
const LONG = "initech-production-europe-west-with-a-name-that-does-not-end";

/** What reaches beyond the window, and what can be pressed but is covered by something else. */
function faults() {
  const found = [];
  if (document.documentElement.scrollWidth > innerWidth) found.push(`the page is ${document.documentElement.scrollWidth} wide`);
  const scrollers = (element) => element.closest(".tenants, .codes, #detail-body, .dialog-body");
  for (const element of document.querySelectorAll("button, input, select, h1, h2, h3, dt, dd, p, th, td, td > *, .state")) {
    const box = element.getBoundingClientRect();
    if (box.width === 0 || !element.checkVisibility() || element.closest(".skip, noscript")) continue;
    const name = `${element.tagName} ${element.className} "${(element.textContent || element.id).trim().slice(0, 40)}"`;
    if (box.left < -0.5 || box.right > innerWidth + 0.5) found.push(`${name} is outside: ${box.left} to ${box.right}`);
    const isClipped = element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0 && getComputedStyle(element).overflowX !== "visible";
    if (isClipped && !element.matches("td.avatar, td.why > span, .range, .tenant-cell, input, select")) found.push(`${name} is cut`);
    if (element.matches("button, input, select") && !document.querySelector("dialog[open]")) {
      element.scrollIntoView({ block: "center" });
      const { left, top, width, height } = element.getBoundingClientRect();
      const top_ = document.elementFromPoint(left + width / 2, top + height / 2);
      const holds = top_ && (element.contains(top_) || top_.contains(element));
      if (!holds && scrollers(element) === null) found.push(`${name} is covered by ${top_?.tagName} ${top_?.className}`);
    }
  }
  scrollTo(0, 0);
  return found;
}

async function accessible(page, what) {
  await page.evaluate(axeSource);
  const { violations, passes } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations", "passes"] }));
  const told = violations.map((violation) => `${violation.id} (${violation.impact}): ${violation.nodes.map((node) => `${node.target} ${node.failureSummary}`).join("; ")}`);
  assert.deepEqual(told, [], `axe, ${what}`);
  assert(passes.length > 20, "axe looked at the page");
  return passes.length;
}

mkdirSync(PICTURES, { recursive: true });
const world = await World.start({ tenants: ["acme", "globex", LONG, "umbrella"] });
const browser = await Console.launch();
let checks = 0;
try {
  await world.create(120, "acme", (i) => ({ avatar_id: `avatar-${i}`, labels: { room: `lobby ${i}` } }));
  await world.create(12, "globex", (i) => ({ avatar_id: i === 3 ? "<b>markup</b>" : `guide-${i}` }));
  await world.create(9, LONG, (i) => ({ avatar_id: `a-rather-long-avatar-identifier-${i}-0123456789-0123456789` }));
  await world.create(2, "umbrella", (i) => ({ avatar_id: `missing-${i}` }));
  await world.until("failed", 2);
  await world.until("running", 141);

  for (const [size, viewport] of Object.entries(SIZES)) {
    const console_ = await Console.open(browser, world, viewport);
    const { page } = console_;
    const picture = (name) => page.screenshot({ path: join(PICTURES, `${size}-${name}.png`), fullPage: true });
    async function bothThemes(name) {
      // Between desk and phone one view shows the one thing that differs: rows that became cards.
      if (size === "tablet" && name !== "trouble") return;
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme });
        checks += await accessible(page, `${size}, ${name}, ${colorScheme}`);
        assert.deepEqual(await page.evaluate(faults), [], `${size}, ${name}, ${colorScheme}`);
        await picture(`${name}-${colorScheme}`);
      }
      await page.emulateMedia({ colorScheme: "light" });
    }

    await page.getByLabel("Admin key").waitFor();
    await bothThemes("locked");
    await console_.signIn();
    await page.locator("tbody tr").nth(99).waitFor();
    await world.simulate("strike", { match: { api_key: "upstream-key-of-acme" }, share: 0.1, do: { close: { code: 4002 } } });
    await world.simulate("strike", { match: { avatar_id: "guide-5" }, do: { close: { code: 4001 } } });
    await world.simulate("drop", { api_key: `upstream-key-of-${LONG}` });
    await page.locator(".code", { hasText: "sessionDurationExceeded" }).waitFor();
    await world.until("backing_off", 0);
    await page.getByLabel("State").selectOption("parked");
    await eventually("parked ones alone", async () => (await page.locator("tbody .state.running").count()) === 0);
    const id = await page.locator("tbody tr").first().getAttribute("data-id");
    await console_.row(id).getByRole("button").click();
    await page.locator("#detail").getByText("Last error").waitFor();
    await page.getByLabel(`Choose ${id}`).check();
    await bothThemes("trouble");

    await page.getByRole("button", { name: "Clear" }).click();
    await eventually("all", async () => (await page.locator("tbody tr").count()) === 100);
    await bothThemes("all");
    await page.locator(".code").getByRole("button", { name: "Runbook of sessionDurationExceeded" }).click();
    await page.getByRole("dialog").getByText("Must act:").waitFor();
    await bothThemes("runbook");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: `end all sessions of ${LONG}` }).click();
    await bothThemes("question");
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: "Keys" }).click();
    await bothThemes("keys");
    await page.keyboard.press("Escape");

    // The switch beats the system's choice, and is kept.
    const back = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const light = await back();
    const theme = page.getByRole("button", { name: /^Theme/ });
    await theme.click();
    await theme.click();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.notEqual(await back(), light);
    await page.reload();
    await page.getByRole("button", { name: "Theme: dark" }).waitFor();
    assert.notEqual(await back(), light);
    assert.deepEqual(console_.unexplained(), [], "no console error");
    await world.api("POST", "v1/tenants/acme/unpark");
    await world.api("POST", "v1/tenants/globex/unpark");
    await world.until("running", 141);
    await console_.close();
  }
  console.log(`${checks} rules of axe passed over a desk, a tablet and a phone in two themes; pictures in ${PICTURES}`);
} finally {
  await browser.close();
  await world.stop();
}
console.log("every step held");
