// What is on the page? One view at a time, the actions of who looks, and whether the figures are of now.

import { get, post, whenLoggedOut } from "./api.js";
import { audit } from "./audit.js";
import { bypassDialog } from "./bypass.js";
import { recolour } from "./charts.js";
import { el, replace, say } from "./dom.js";
import { explain } from "./explain.js";
import { features } from "./features.js";
import { span } from "./format.js";
import { keys } from "./keys.js";
import * as live from "./live.js";
import { login } from "./login.js";
import { overview } from "./overview.js";
import { purgeDialog } from "./purge.js";
import { requests } from "./requests.js";
import { rules } from "./rules.js";
import { store } from "./store.js";
import { tenants } from "./tenants.js";
import { verdict } from "./verdict.js";

const VIEWS = [
  ["overview", "Overview", overview, "viewer"], ["requests", "Requests", requests, "viewer"],
  ["explain", "Explain", explain, "viewer"], ["features", "Features", features, "viewer"],
  ["tenants", "Tenants", tenants, "viewer"], ["store", "Store", store, "viewer"], ["rules", "Rules", rules, "viewer"],
  ["keys", "Keys", keys, "inspector"], ["audit", "Audit", audit, "inspector"],
];
const THEMES = ["system", "light", "dark"];

const main = document.getElementById("main");
const pulse = document.getElementById("pulse");
let session = null;
let view = null;
let given = {};

const context = {
  get session() { return session; },
  open(name, values) {
    given = values;
    if (location.hash === `#${name}`) show();
    else location.hash = name;
  },
  purge: (values) => purgeDialog(session, values),
  bypass: (values) => bypassDialog(session, values),
};

function allowed() {
  return VIEWS.filter(([, , , role]) => session.may.includes(role));
}

function show({ focus = true } = {}) {
  if (!session || !session.actor) return;
  const wanted = location.hash.slice(1);
  const [name, title, make] = allowed().find(([each]) => each === wanted) || allowed()[0];
  if (view && view.close) view.close();
  view = make(context, given);
  given = {};
  replace(main, view.node);
  document.title = `${title} · sidecache`;
  for (const link of document.querySelectorAll("#views a")) {
    if (link.hash === `#${name}`) {
      link.setAttribute("aria-current", "page");
      link.parentNode.parentNode.parentNode.scrollLeft = link.offsetLeft - 60;
    } else {
      link.removeAttribute("aria-current");
    }
  }
  if (view.update) view.update(live.known);
  if (focus) main.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function beat() {
  const { connected, at, why } = live.known;
  const state = connected ? "on" : at || why ? "lost" : "";
  pulse.className = `pulse ${state}`;
  say(pulse, connected ? verdict().level === "ok" ? "live" : `live, ${verdict().level}`
    : at ? `${why || "No connection."} As it was ${span((Date.now() - at) / 1000)} ago; trying again.` : why || "connecting …");
}

function themeButton() {
  const button = el("button", { type: "button", onclick: () => set(THEMES[(THEMES.indexOf(now()) + 1) % THEMES.length]) });
  const now = () => localStorage.getItem("theme") || "system";
  function set(theme) {
    if (theme === "system") {
      localStorage.removeItem("theme");
      document.documentElement.removeAttribute("data-theme");
    } else {
      localStorage.setItem("theme", theme);
      document.documentElement.setAttribute("data-theme", theme);
    }
    say(button, `Theme: ${theme}`);
    recolour();
  }
  set(now());
  return button;
}

const theme = themeButton();

function frame() {
  const nav = document.getElementById("views");
  const inside = session && session.actor;
  replace(nav, inside ? el("ul", {}, allowed().map(([name, title]) => el("li", {}, el("a", { href: `#${name}` }, title)))) : []);
  const operates = inside && session.may.includes("operator");
  replace(document.getElementById("actions"),
    operates ? el("button", { type: "button", onclick: () => context.purge({}) }, "Purge …") : null,
    operates ? el("button", { type: "button", onclick: () => context.bypass({}) }, "Bypass …") : null, theme,
    inside ? el("span", { class: "who" }, session.actor.role
      ? `${session.actor.name}, ${session.actor.role}${session.actor.tenant ? ` of ${session.actor.tenant}` : ""}` : `${session.profile}, this machine`) : null,
    inside && session.actor.role ? el("button", { type: "button", onclick: leave }, "Log out") : null);
}

async function leave() {
  live.stop();
  await post("/api/logout", {}).catch(() => {});
  ask("");
}

function ask(why) {
  live.stop();
  session = null;
  if (view && view.close) view.close();
  view = login((told) => enter(told), why);
  frame();
  replace(main, view.node);
  document.title = "Log in · sidecache";
  say(pulse, "");
  pulse.className = "pulse";
  view.focus();
}

function enter(told) {
  session = told;
  frame();
  show({ focus: false });
  live.start(() => ask("Your session has ended."));
}

async function begin() {
  try {
    const told = await get("/api/session");
    if (told.actor) enter(told);
    else ask("");
  } catch (error) {
    replace(main, el("p", { class: "notice bad", role: "alert" }, `${error.message} Trying again.`));
    setTimeout(begin, 3000);
  }
}

addEventListener("hashchange", () => show());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
whenLoggedOut(() => { if (session) ask("Your session has ended."); });
live.watch((known) => {
  beat();
  if (session && view && view.update) view.update(known);
});
begin();
