// Elements from data. All text goes in as text, so whatever a tenant calls an avatar stays a name.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element: h("a", {href, onclick}, "text", other). */
export function h(tag, properties = {}, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** An SVG element. */
export function svg(tag, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

export const byId = (id) => document.getElementById(id);

/** Sets a text only where it differs: an unchanged page does no layout. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets or removes an attribute, only where it differs. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, String(value));
  }
}

/**
 * Brings `parent`'s children in line with `items`, keeping the element of each key, and with it focus and selection.
 * `make(item)` gives {element, update(item)}.
 */
export function keyed(parent, known, items, keyOf, make) {
  const wanted = new Set(items.map(keyOf));
  for (const [key, view] of known) {
    if (!wanted.has(key)) {
      view.element.remove();
      known.delete(key);
    }
  }
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    let view = known.get(key);
    if (!view) known.set(key, (view = make(item)));
    view.update(item);
    if (view.element === place) place = place.nextSibling;
    else parent.insertBefore(view.element, place);
  }
}

/** Replaces what an element holds. */
export function replace(element, ...children) {
  element.replaceChildren(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
}

/**
 * Shows a modal dialog with its title, in the place of the one before it.
 *
 * Each is an element of its own: a browser tells that one closed in a later task, when the next may be open already,
 * and an answer must be taken for no other question.
 */
export function showDialog(title, ...children) {
  const dialog = h("dialog", { id: "dialog", "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), children);
  byId("dialog").close();
  byId("dialog").replaceWith(dialog);
  dialog.showModal();
  return dialog;
}

/** Shows a dialog that asks nothing: it is read, and closed. */
export function showNotice(title, ...children) {
  const close = h("button", { type: "button", class: "primary", autofocus: true, onclick: () => dialog.close() }, "Close");
  const dialog = showDialog(title, children, h("div", { class: "dialog-end" }, close));
}

/** Runs `task` at most once at a time and at most every `gap()` ms; calls in between are one call afterwards. */
export function throttled(task, gap) {
  let running = false;
  let again = false;
  async function run() {
    if (running) {
      again = true;
      return;
    }
    running = true;
    try {
      await task();
    } finally {
      setTimeout(() => {
        running = false;
        if (again) {
          again = false;
          run();
        }
      }, gap());
    }
  }
  return run;
}
