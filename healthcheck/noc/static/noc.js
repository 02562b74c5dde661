// Keeps the page live: panels arrive by server-sent events and are morphed in, so that only what changed is
// touched: nothing flickers, an open "Why?" stays open, the focus stays where it is.
"use strict";

const STALE_AFTER_MS = 4000;

let heardAt = performance.now();
let clockOffset = 0; // the server's clock minus ours, so that ages do not depend on a wall screen's clock

const byId = (id) => document.getElementById(id);

// ---- morphing ---------------------------------------------------------------------------------------------

function morph(from, to) {
  const wanted = [...to.childNodes];
  for (let i = 0; i < wanted.length; i += 1) {
    const old = from.childNodes[i];
    const fresh = wanted[i];
    if (!old) from.appendChild(fresh.cloneNode(true));
    else if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName) {
      from.replaceChild(fresh.cloneNode(true), old);
    } else if (old.nodeType === Node.ELEMENT_NODE) {
      morphAttributes(old, fresh);
      morph(old, fresh);
    } else if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
  }
  while (from.childNodes.length > wanted.length) from.removeChild(from.lastChild);
}

function morphAttributes(old, fresh) {
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  for (const { name } of [...old.attributes]) {
    // `open` is the reader's, `data-told` is ours.
    if (!fresh.hasAttribute(name) && name !== "open" && name !== "data-told") old.removeAttribute(name);
  }
}

function show(panel, html) {
  const body = document.querySelector(`[data-panel="${CSS.escape(panel)}"]`);
  if (!body) return;
  const parsed = new DOMParser().parseFromString(html, "text/html").body;
  morph(body, parsed);
  if (panel === "overview") announce();
}

function announce() {
  const hero = document.querySelector("[data-headline]");
  if (!hero || byId("headline").textContent === hero.dataset.headline) return;
  byId("headline").textContent = hero.dataset.headline;
  document.title = `${hero.dataset.headline} · Hotsite`;
}

// ---- time ---------------------------------------------------------------------------------------------------

function age(seconds) {
  if (seconds < 1) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min ago`;
  return `${Math.floor(seconds / 86400)} d ago`;
}

function tellAges() {
  const now = Date.now() + clockOffset;
  for (const time of document.querySelectorAll("time[data-ago]")) {
    const told = age((now - Date.parse(time.dateTime)) / 1000);
    if (time.dataset.told !== told) time.dataset.told = told;
  }
  byId("clock").textContent = new Date(now).toISOString().slice(11, 19);
}

function tellLiveness() {
  const silent = performance.now() - heardAt;
  const stale = silent > STALE_AFTER_MS;
  const banner = byId("stale");
  byId("link").dataset.link = stale ? "lost" : "live";
  byId("link-word").textContent = stale ? "not live" : "live";
  document.documentElement.classList.toggle("is-stale", stale);
  if (stale) {
    banner.textContent = `What you see is ${age(silent / 1000).replace(" ago", "")} old: ` +
      "this page hears nothing from its daemon. It tries again by itself.";
  }
  if (banner.hidden === stale) banner.hidden = !stale;
}

// ---- events -------------------------------------------------------------------------------------------------

function listen() {
  const events = new EventSource("/events");
  const heard = (at) => {
    heardAt = performance.now();
    if (at) clockOffset = Date.parse(at) - Date.now();
    tellAges();
    tellLiveness();
  };
  events.addEventListener("panel", (event) => {
    const { panel, html } = JSON.parse(event.data);
    show(panel, html);
    heard(null);
  });
  events.addEventListener("tick", (event) => heard(JSON.parse(event.data).at));
  // The browser comes back by itself, with Last-Event-ID, unless the server refused: then we do.
  events.addEventListener("error", () => {
    if (events.readyState === EventSource.CLOSED) setTimeout(listen, 2000);
  });
}

// ---- keys and buttons -----------------------------------------------------------------------------------------

function turnTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "t") turnTheme();
  else if (event.key === "w") byId("wall").click();
  else if (/^[1-9]$/.test(event.key)) {
    const panel = document.querySelectorAll(".panel")[Number(event.key) - 1];
    if (panel) {
      panel.focus();
      panel.scrollIntoView({ block: "start" });
    }
  }
}

byId("theme").hidden = false;
byId("theme").addEventListener("click", turnTheme);
document.addEventListener("keydown", onKey);
setInterval(() => { tellAges(); tellLiveness(); }, 1000);
tellAges();
listen();
