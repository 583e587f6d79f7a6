// Who did this? The last lines of the audit log and the last purges, those of writes included.

import { get, paced } from "./api.js";
import { badge, choice, el, field, lead, panel, table } from "./dom.js";
import { ago, moment } from "./format.js";

const EVERY = 5000;

const KINDS = { done: "ok", pending: "warn", refused: "bad", denied: "bad", 401: "bad", 403: "bad" };

function target(line) {
  return Object.entries(line.target).filter(([, value]) => value !== null && value !== false)
    .map(([name, value]) => (name === "tags" || name === "request" ? String(value) : `${name} ${value}`)).join(", ");
}

export function audit({ session }) {
  const since = choice([["1h", "last hour"], ["24h", "last day"], ["7d", "last week"], ["", "all"]], { onchange: () => load() });
  const tenant = el("input", { type: "text", placeholder: "all", value: session.actor.tenant || "", autocomplete: "off" });
  const actor = el("input", { type: "text", placeholder: "all", autocomplete: "off" });
  const event = choice([["", "all"], ...["purge", "event", "bypass-on", "bypass-off", "denied", "tenant-conflict", "login",
    "logout", "rules-reload", "rules-write", "rules-widen", "sensitive-access", "sensitive-entry", "rollup"].map((name) => [name, name])], { onchange: () => load() });
  const lines = table("Audit lines, the newest first", [
    { title: "Time", kind: "time", cell: (row) => moment(row.time) },
    { title: "Event", head: true, cell: (row) => row.event },
    { title: "Who", cell: (row) => (row.actor ? `${row.actor.name}${row.actor.role ? ` (${row.actor.role})` : ""}` : "") },
    { title: "From", kind: "mono", cell: (row) => (row.actor ? row.actor.peer : "") },
    { title: "Tenant", cell: (row) => row.tenant || "" },
    { title: "What", kind: "request", cell: target },
    { title: "Result", cell: (row) => badge(row.result, KINDS[row.result] || "") },
    { title: "Reason", kind: "words", cell: (row) => row.reason || "" },
  ], "Nothing of this kind in this time.", { tall: true });
  const purges = table("Purges, the newest first", [
    { title: "When", kind: "time", cell: (row) => ago(row.at) },
    { title: "By", kind: "request", cell: (row) => row.by },
    { title: "Tenant", cell: (row) => row.tenant || "(all, or public)" },
    { title: "Tags", kind: "request", cell: (row) => row.tags.join(", ") },
    { title: "", cell: (row) => [row.soft ? badge("soft") : null, row.accepted ? null : badge("waits for the store", "warn")].filter(Boolean) },
  ], "Nothing was purged in this time.", { tall: true });
  const unwritten = el("p", { class: "notice warn", hidden: true });
  const of = el("span", { class: "note" });
  const newest = el("button", { type: "button", disabled: true, onclick: () => load() }, "Newest lines");
  const older = el("button", { type: "button", disabled: true, onclick: () => load(following) }, "Older lines");
  let following = null;
  let at = null; // the cursor of what is shown; null: the newest

  async function load(cursor = null) {
    at = cursor;
    try {
      const told = await get("/api/audit", { since: since.value, tenant: tenant.value.trim(), actor: actor.value.trim(), event: event.value, limit: 100, cursor });
      following = told.next;
      older.disabled = !following;
      newest.disabled = cursor === null;
      of.textContent = told.of;
      lines.fill(told.lines);
      if (cursor === null) purges.fill(told.purges);
      unwritten.hidden = !told.unwritten;
      unwritten.textContent = `${told.unwritten} lines could not be written: look for audit-unwritten in the log.`;
    } catch (error) {
      lines.say(error.message);
      purges.say(error.message);
    }
  }

  return {
    node: el("div", { class: "view" }, lead("Audit", "Who did this?"),
      el("div", { class: "panel view" },
        el("form", { class: "filters", onsubmit: (submitted) => { submitted.preventDefault(); load(); } },
          field("Since", since), field("Event", event), field("Tenant", tenant), field("Who", actor), el("button", {}, "Filter")),
        unwritten, lines.node, el("div", { class: "buttons" }, of, newest, older)),
      panel("Purges, those of writes included", purges.node)),
    update: paced(EVERY, () => (at === null ? load() : null)),
  };
}
