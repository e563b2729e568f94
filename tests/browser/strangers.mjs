// What others write is text, the key stays in memory, and other sites' pages can do nothing.

import assert from "node:assert/strict";
import http from "node:http";
import { Console, KEY, World, eventually } from "./world.mjs";

const MARKUP = '<img src=x onerror="window.pwned=1"><b>avatar</b>';
const LABEL = "</script><script>window.pwned=2</script>";

/** A call with headers that fetch() does not let one set. */
function raw(world, method, path, headers) {
  const [host, port] = world.admin.split(":");
  return new Promise((resolve, reject) => {
    const request = http.request({ host, port, method, path, headers }, (response) => {
      let text = "";
      response.on("data", (piece) => (text += piece)).on("end", () => resolve({ status: response.statusCode, headers: response.headers, text }));
    });
    request.on("error", reject).end();
  });
}

const world = await World.start();
const browser = await Console.launch();
const evil = http.createServer((_, response) => response.setHeader("content-type", "text/html").end("<!doctype html><title>evil</title><body>"));
await new Promise((resolve) => evil.listen(0, "127.0.0.1", resolve));
try {
  const [session] = await world.create(1, "acme", () => ({ avatar_id: MARKUP, labels: { note: LABEL, "<i>name</i>": "x" } }));
  await world.until("running", 1);
  const console_ = await Console.open(browser, world);
  const { page } = console_;
  const requests = [];
  page.on("request", (request) => requests.push(request.url()));
  await console_.signIn();

  // Markup is shown as it was written, in the list and in the detail.
  await eventually("the avatar's id, letter by letter", async () => (await console_.row(session.id).locator("td.avatar").textContent()) === MARKUP);
  await console_.row(session.id).getByRole("button").click();
  await page.locator("#detail").getByText(`note: ${LABEL}`).waitFor();
  await page.locator("#detail").getByText("<i>name</i>: x").waitFor();
  assert.equal(await page.locator("tbody img, tbody b, #detail img, #detail i, #detail script").count(), 0);
  await page.getByLabel("Find", { exact: true }).fill(MARKUP);
  await eventually("it is found by its markup", async () => (await page.locator("tbody tr").count()) === 1);
  await page.locator("#detail").getByRole("button", { name: "park", exact: true }).click();
  await page.getByRole("dialog").getByRole("button", { name: "Park" }).click();
  await world.untilSession(session.id, "parked");
  assert.equal(await page.evaluate(() => window.pwned), undefined);

  // The key is in no storage, cookie, address or element.
  const kept = await page.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href, document.documentElement.outerHTML, [...document.querySelectorAll("input")].map((input) => input.value)]));
  assert(!kept.includes(KEY));
  assert(requests.length > 0 && requests.every((url) => !url.includes(KEY)));
  assert(requests.every((url) => url.startsWith(world.url)), "everything comes from this listener");
  await page.reload();
  await page.getByLabel("Admin key").waitFor();

  // The policy holds in the browser: nothing inline runs, and no text becomes markup.
  const refused = await page.evaluate(async () => {
    const said = [];
    document.addEventListener("securitypolicyviolation", (event) => said.push(event.violatedDirective));
    const script = document.createElement("script");
    try {
      script.textContent = "window.pwned=3";
      document.body.append(script);
    } catch {}
    try {
      document.body.innerHTML = "<p>markup</p>";
    } catch (error) {
      said.push(error.name);
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
    return { said, pwned: window.pwned };
  });
  assert.equal(refused.pwned, undefined);
  assert(refused.said.includes("TypeError"), JSON.stringify(refused));
  assert(refused.said.some((directive) => directive.includes("trusted-types") || directive.includes("script-src")), JSON.stringify(refused));

  const { headers } = await raw(world, "GET", "/", {});
  const policy = headers["content-security-policy"];
  assert(policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'") && !policy.includes("unsafe"), policy);
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
  const again = await raw(world, "GET", "/", { "if-none-match": headers.etag });
  assert.deepEqual([again.status, again.text], [304, ""]);
  for (const path of await page.evaluate(() => performance.getEntriesByType("resource").map((entry) => new URL(entry.name).pathname).filter((path) => path.startsWith("/console/") && path.includes(".")))) {
    const file = await raw(world, "GET", path, {});
    assert(file.status === 200 && file.headers.etag && file.headers["x-content-type-options"] === "nosniff", path);
  }

  // Another site's page: its frame stays empty, its calls change nothing.
  await world.api("POST", `v1/sessions/${session.id}/unpark`);
  await world.untilSession(session.id, "running");
  const stranger = await (await browser.newContext()).newPage();
  await stranger.goto(`http://127.0.0.1:${evil.address().port}/`);
  const outcome = await stranger.evaluate(async ([target, id, key]) => {
    const frame = document.createElement("iframe");
    frame.src = target;
    document.body.append(frame);
    await new Promise((resolve) => (frame.onload = resolve));
    const plain = await fetch(`${target}v1/sessions/${id}/park`, { method: "POST", mode: "no-cors" }).then((answer) => answer.type, String);
    const keyed = await fetch(`${target}v1/sessions/${id}/park`, { method: "POST", headers: { authorization: `Bearer ${key}` } }).then((answer) => answer.status, (error) => error.name);
    return { plain, keyed };
  }, [world.url, session.id, KEY]);
  assert.deepEqual([outcome.plain, outcome.keyed], ["opaque", "TypeError"]);
  assert.match(stranger.frames()[1].url(), /^chrome-error:/, "nobody frames the page");
  const authorization = `Bearer ${KEY}`;
  for (const headers of [{ "sec-fetch-site": "cross-site" }, { "sec-fetch-site": "same-site" }, { origin: "http://evil.example" }, { origin: "null" }]) {
    const answer = await raw(world, "POST", `/v1/sessions/${session.id}/park`, { authorization, ...headers });
    assert.equal(answer.status, 403, JSON.stringify(headers));
    assert.equal(JSON.parse(answer.text).code, "crossSite");
  }
  assert.equal((await world.get(`v1/sessions/${session.id}`)).state, "running");
} finally {
  evil.closeAllConnections();
  evil.close();
  await browser.close();
  await world.stop();
}
console.log("every step held");
