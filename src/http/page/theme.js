// Before the first paint, so that a chosen theme does not flash. The theme is the one thing that is kept.
"use strict";
(() => {
  const NAME = "greenroom.theme";
  const THEMES = ["auto", "light", "dark"];
  const root = document.documentElement;

  function kept() {
    try {
      const theme = localStorage.getItem(NAME);
      return THEMES.includes(theme) ? theme : "auto";
    } catch {
      return "auto"; // Storage can be forbidden.
    }
  }

  function show(theme) {
    root.dataset.theme = theme;
  }

  show(kept());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const name = () => (button.textContent = `Theme: ${root.dataset.theme}`);
    name();
    button.addEventListener("click", () => {
      const next = THEMES[(THEMES.indexOf(root.dataset.theme) + 1) % THEMES.length];
      show(next);
      name();
      try {
        localStorage.setItem(NAME, next);
      } catch {
        // It holds for this tab.
      }
    });
  });
})();
