// The timeline of a session and the fleet's feed, live by the stream of events.

import assert from "node:assert/strict";
import { Console, World, eventually } from "./world.mjs";
