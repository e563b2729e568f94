// The runbook of a code, beside the numbers that it explains: the binary has the text, so it is there when the
// repository is not.

import { h, replace, showNotice } from "./dom.js";
import { getText } from "./api.js";

let whole = null;

/** The lines of a code's section. */
function section(text, code) {
  const lines = text.split("\n");
  const begin = lines.findIndex((line) => /^#{2,3} /.test(line) && line.replace(/^#+ /, "") === code);
  if (begin < 0) return null;
  const rest = lines.slice(begin + 1);
  const end = rest.findIndex((line) => /^#{1,3} |^<a id=/.test(line));
  return rest.slice(0, end < 0 ? rest.length : end);
}

/** **strong**, `code`, [text](link): the three that the runbooks use. */
function inline(text) {
  return text.split(/(\*\*[^*]+\*\*|`[^`]+`|\[[^\]]+\]\([^)]+\))/).map((piece) => {
    if (piece.startsWith("**")) return h("strong", {}, piece.slice(2, -2));
    if (piece.startsWith("`")) return h("code", {}, piece.slice(1, -1));
    return /^\[([^\]]+)\]\(/.exec(piece)?.[1] ?? piece;
  });
}

function render(lines) {
  const top = h("div", { class: "runbook" });
  const lists = [];
  let item = null;
  let fence = null;
  for (const line of lines) {
    if (/^\s*```/.test(line)) {
      if (fence === null) (item ?? top).append((fence = h("pre")));
      else fence = null;
      continue;
    }
    if (fence !== null) {
      fence.append(`${line.trim()}\n`);
      continue;
    }
    const bullet = /^(\s*)(?:[-*]|(\d+)\.) (.*)$/.exec(line);
    if (bullet) {
      const depth = bullet[1].length >= 2 ? 1 : 0;
      lists.length = Math.min(lists.length, depth + 1);
      if (!lists[depth]) {
        lists[depth] = h(bullet[2] ? "ol" : "ul");
        (depth === 0 ? top : item ?? top).append(lists[depth]);
      }
      const made = h("li", {}, inline(bullet[3]));
      lists[depth].append(made);
      if (depth === 0) item = made;
    } else if (line.trim() !== "") {
      const target = lists.length && /^\s/.test(line) ? lists.at(-1).lastChild : top.appendChild(h("p"));
      target.append(" ", ...inline(line.trim()));
    } else {
      lists.length = 0;
      item = null;
    }
  }
  return top;
}

/** Opens the runbook of `code`. */
export async function showRunbook(code) {
  const body = h("div", { class: "dialog-body", tabindex: "0", role: "region", "aria-label": `Runbook of ${code}` }, "Reading.");
  showNotice(code, body);
  try {
    whole ??= await getText("console/runbooks.md");
    const lines = section(whole, code);
    replace(body, lines ? render(lines) : `There is no runbook for ${code}.`);
  } catch (error) {
    replace(body, `The runbook could not be read: ${error.message}`);
  }
}
