// Runs before anything is drawn: the light or dark that was chosen, so that a dark page does not flash white.
"use strict";
(() => {
  const chosen = localStorage.getItem("mantine-color-scheme-value") || "auto";
  const dark = chosen === "dark" || (chosen === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.setAttribute("data-mantine-color-scheme", dark ? "dark" : "light");
})();
