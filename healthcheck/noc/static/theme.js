// Runs before the first paint, so that a chosen theme does not flash.
"use strict";
(() => {
  const asked = document.documentElement.dataset.theme;
  const kept = asked || localStorage.getItem("theme");
  if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
})();
