// A real Greenroom before the simulator, and a real Chromium before Greenroom. Everything ends with the test.

import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

const BINARY = process.env.GREENROOM_BINARY;
const require = createRequire(join(process.env.GREENROOM_NODE_MODULES, "anchor.cjs"));
const { chromium } = require("playwright-core");
export const axeSource = require("axe-core").source;

export const KEY = "key-of-the-operators";
/** Beyond it something hangs. */
const DEADLINE_MS = 30_000;

/** Waits until `ready` gives something that counts; fails with `what` at the deadline. */
export async function eventually(what, ready, deadline = DEADLINE_MS) {
  const end = Date.now() + deadline;
  let last;
  for (;;) {
    try {
      const value = await ready();
      if (value) return value;
      last = value;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(`not within ${deadline} ms: ${what} (last: ${last})`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A child process with its output kept; `until(pattern)` waits for a line. */
function start(args) {
  const child = spawn(BINARY, args, { env: {}, stdio: ["ignore", "pipe", "pipe"] });
  const program = { child, text: "", ended: null };
  program.exit = new Promise((resolve) => child.on("exit", (code, signal) => resolve((program.ended = code ?? signal))));
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (text) => (program.text += text));
  }
  program.until = (pattern) =>
    eventually(`${args[0]}: ${pattern}`, () => {
      if (program.ended !== null) throw new Error(`${args[0]} ended with ${program.ended}: ${program.text}`);
      return pattern.exec(program.text);
    });
  return program;
}

async function stop(program, signal) {
  if (program.ended === null) program.child.kill(signal);
  await program.exit;
}

const LIMITS = "max_sessions = 20000\n";
const tenant = (id) =>
  `[[tenants]]\nid = "${id}"\napp_id = "app-of-${id}"\nkeys = ["key-of-${id}-backends"]\nupstream_api_key = "upstream-key-of-${id}"\n${LIMITS}`;

/** Greenroom and the simulator. `keyed: false` leaves the admin key out; `durable` keeps sessions over a restart. */
export class World {
  static async start({ keyed = true, durable = false, tenants = ["acme", "globex"] } = {}) {
    const world = new World();
    world.folder = mkdtempSync(join(tmpdir(), "greenroom-console-"));
    world.simulator = start(["simulate", "--listen", "127.0.0.1:0", "--pace", "fast"]);
    [, world.simulated] = await world.simulator.until(/console {2}http:\/\/(\S+)/);
    world.settings = { keyed, durable, tenants };
    world.admin = "127.0.0.1:0";
    await world.serve();
    // A server without events has a page that asks instead; a browser notes that it found none.
    const events = await fetch(`${world.url}v1/events`);
    world.hasEvents = events.status !== 404;
    await events.body.cancel();
    return world;
  }

  async serve() {
    const { keyed, durable, tenants } = this.settings;
    const path = join(this.folder, "greenroom.toml");
    writeFileSync(
      path,
      `[server]\nlisten = "127.0.0.1:0"\nshutdown_s = 3\n[admin]\nlisten = "${this.admin}"\n${keyed ? `key = "${KEY}"\n` : ""}` +
        `[upstream]\nconsole_url = "http://${this.simulated}"\ningress_url = "ws://${this.simulated}/v2/driveningress"\n` +
        "gate = { max_in_flight = 200, per_second = 5000 }\n" +
        `[store]\nurl = "${durable ? `redb:${join(this.folder, "greenroom.redb")}` : "memory:"}"\n` +
        '[telemetry]\nlog_level = "warn,greenroom::cli=info"\n[sessions]\nmax = 20000\n' +
        tenants.map(tenant).join(""),
    );
    this.greenroom = start(["serve", "--config", path]);
    [, this.data] = await this.greenroom.until(/data="?([\d.:]+)/);
    [, this.admin] = await this.greenroom.until(/admin="?([\d.:]+)/);
    await eventually("Greenroom is ready", async () => (await fetch(`${this.url}readyz`)).ok);
  }

  get url() {
    return `http://${this.admin}/`;
  }

  /** A call of the admin API. */
  async api(method, path, body) {
    const response = await fetch(this.url + path, {
      method,
      headers: { authorization: `Bearer ${KEY}`, ...(body ? { "content-type": "application/json" } : {}) },
      body: body && JSON.stringify(body),
    });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  get(path) {
    return this.api("GET", path);
  }

  /** Tells the simulator something. */
  async simulate(path, body) {
    const response = await fetch(`http://${this.simulated}/_sim/${path}`, { method: "POST", body: JSON.stringify(body) });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  /** Makes `number` sessions of a tenant; gives their JSON. Without an admin key they are made by the tenant. */
  async create(number, tenantId, spec = (i) => ({ avatar_id: `${tenantId}-${i}` })) {
    const made = new Array(number);
    let next = 0;
    const work = async () => {
      for (let i = next++; i < number; i = next++) {
        if (this.settings.keyed) {
          made[i] = await this.api("POST", "v1/sessions", { tenant: tenantId, ...spec(i) });
          continue;
        }
        const response = await fetch(`http://${this.data}/v1/sessions`, {
          method: "POST",
          headers: { authorization: `Bearer key-of-${tenantId}-backends` },
          body: JSON.stringify(spec(i)),
        });
        if (response.status !== 201) throw new Error(`${response.status} ${await response.text()}`);
        made[i] = await response.json();
      }
    };
    await Promise.all(Array.from({ length: 16 }, work));
    return made;
  }

  async count(state) {
    const { sessions } = await this.get("console/overview");
    return sessions[state] ?? 0;
  }

  /** Waits until `number` sessions are in `state`. */
  async until(state, number) {
    await eventually(`${number} sessions are ${state}`, async () => (await this.count(state)) === number, 60_000);
  }

  async untilSession(id, state) {
    return eventually(`${id} is ${state}`, async () => {
      const session = await this.get(`v1/sessions/${id}`);
      return session.state === state ? session : null;
    });
  }

  async stop() {
    await stop(this.greenroom, "SIGKILL");
    await stop(this.simulator, "SIGKILL");
    rmSync(this.folder, { recursive: true, force: true });
  }

  /** Ends Greenroom as its operator would. */
  async endServer(signal = "SIGTERM") {
    await stop(this.greenroom, signal);
  }
}

/** The page in Chromium, with all that went wrong in it. */
export class Console {
  static async launch() {
    const executablePath = process.env.GREENROOM_CHROMIUM ?? execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
    // Chromium's own sandbox cannot be made by root, as in a container.
    const args = process.getuid() === 0 ? ["--no-sandbox"] : [];
    return chromium.launch({ executablePath, args, headless: true });
  }

  static async open(browser, world, { width = 1440, height = 900, colorScheme = "light" } = {}) {
    const context = await browser.newContext({ viewport: { width, height }, colorScheme, reducedMotion: "reduce" });
    const page = await context.newPage();
    const troubles = [];
    page.on("console", (message) => {
      if (["error", "warning"].includes(message.type())) troubles.push(`${message.type()}: ${message.text()} ${message.location().url}`);
    });
    page.on("pageerror", (error) => troubles.push(`uncaught: ${error}`));
    page.setDefaultTimeout(DEADLINE_MS);
    await page.goto(world.url, { waitUntil: "load" });
    return Object.assign(new Console(), { page, context, troubles, world });
  }

  /** Gives the admin key, as an operator does. */
  async signIn(key = KEY) {
    await this.page.getByLabel("Admin key").fill(key);
    await this.page.getByRole("button", { name: "Open" }).click();
  }

  row(id) {
    return this.page.locator(`tr[data-id="${id}"]`);
  }

  /** What Chromium complains of, without what `expected` explains. */
  unexplained(expected = []) {
    if (!this.world.hasEvents) expected = [...expected, /404 \(Not Found\).*v1\/(events|sessions\/\w+\/history)/];
    return this.troubles.filter((trouble) => !expected.some((pattern) => pattern.test(trouble)));
  }

  async close() {
    await this.context.close();
  }
}
