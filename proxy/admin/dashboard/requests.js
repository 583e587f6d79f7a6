// What just happened, and why? The last requests as they come, and the reasons of all since the start.

import { get, paced } from "./api.js";
import { badge, choice, el, field, lead, panel, replace, say, table } from "./dom.js";
import { ago, clock, count, time } from "./format.js";
import { known } from "./live.js";

const SHOWN = 200;
const REASONS_EVERY = 6000;

const RESULTS = { hit: "hit", miss: "missed", pass: "passed" };

function requestTable(explain) {
  return table("The last requests, the newest first", [
    { title: "Time", kind: "time", cell: (row) => clock(row.at) },
    {
      title: "Request", kind: "request", cell: (row) => el("button", {
        type: "button", class: "plain", title: "Explain this request", onclick: () => explain(row),
      }, row.request),
    },
    { title: "Outcome", cell: (row) => badge(RESULTS[row.result] || row.result, row.result) },
    { title: "Reason", cell: (row) => el("span", { title: row.said }, row.reason) },
    { title: "Status", kind: "number", cell: (row) => row.status },
    { title: "Feature", cell: (row) => row.feature || "" },
    { title: "Tenant", cell: (row) => row.tenant || "" },
    { title: "Took", kind: "number", cell: (row) => time(row.ms / 1000) },
  ], "No request yet. Hits that repeat are only counted.", { tall: true });
}

export function reasonTable() {
  return table("Reasons by route since the start, the most frequent first", [
    { title: "Reason", head: true, cell: (row) => badge(row.reason) },
    { title: "Route", kind: "request", cell: (row) => row.route },
    { title: "Times", kind: "number", cell: (row) => count(row.count) },
    { title: "Last", kind: "time", cell: (row) => ago(row.last_at) },
    { title: "The edit of rules.yaml that helps", kind: "words", cell: (row) => (row.edit ? el("code", {}, row.edit) : "") },
  ], "Nothing has been forwarded yet.");
}

function filters(changed) {
  const text = el("input", { type: "search", placeholder: "part of a request, tenant, feature", oninput: changed });
  const result = choice([["", "all"], ["hit", "hits"], ["miss", "missed"], ["pass", "passed"]], { onchange: changed });
  const reason = choice([["", "all"]], { onchange: changed });
  const reasons = new Set();
  return {
    nodes: [field("Contains", text, "wide"), field("Outcome", result), field("Reason", reason)],
    /** Reasons that were seen can be chosen. */
    learn(rows) {
      for (const row of rows) {
        if (reasons.has(row.reason)) continue;
        reasons.add(row.reason);
        reason.append(el("option", { value: row.reason }, row.reason));
      }
    },
    lets(row) {
      const wanted = text.value.trim().toLowerCase();
      return (!result.value || row.result === result.value) && (!reason.value || row.reason === reason.value) && (
        !wanted || `${row.request} ${row.tenant || ""} ${row.feature || ""}`.toLowerCase().includes(wanted));
    },
  };
}

export function requests({ open, session }) {
  const shown = requestTable((row) => open("explain", {
    request: row.request, tenant: row.tenant || "", row,
  }));
  const chosen = filters(() => refill());
  const note = el("p", { class: "note" });
  let paused = false;
  let missed = 0;
  let generation = -1;
  const pause = el("button", { type: "button", "aria-pressed": "false", onclick: toggle }, "Pause");
  const reasons = reasonTable();
  const whole = session.actor.tenant === null;
  const node = el("div", { class: "view" }, lead("Requests", "What just happened, and why?"),
    el("div", { class: "panel" }, el("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
      chosen.nodes, pause), note, shown.node),
    whole ? panel("Why requests were not answered from memory", reasons.node) : null);

  function refill() {
    shown.body.replaceChildren();
    shown.prepend(known.requests.filter(chosen.lets).slice(0, SHOWN), SHOWN);
  }

  function toggle() {
    paused = !paused;
    missed = 0;
    pause.setAttribute("aria-pressed", String(paused));
    replace(pause, paused ? "Go on" : "Pause");
    if (!paused) refill();
    words();
  }

  function words() {
    const role = session.may.includes("inspector") ? "" : " Your role sees routes; paths are for inspectors.";
    say(note, paused ? `Paused; ${count(missed)} came since.`
      : `Hits that repeat, and more than ten a second, are counted and not listed. Queries are never kept.${role}`);
  }

  const askReasons = paced(REASONS_EVERY, () => get("/api/cache/top", { by: "reasons", limit: 50 })
    .then(({ top }) => reasons.fill(top), (error) => reasons.say(error.message)));
  return {
    node,
    update() {
      if (generation !== known.generation) {
        generation = known.generation;
        chosen.learn(known.requests);
        if (!paused) refill();
      } else if (paused) {
        missed += known.fresh.length;
      } else {
        chosen.learn(known.fresh);
        const rows = known.fresh.filter(chosen.lets);
        if (rows.length) shown.prepend(rows, SHOWN);
      }
      words();
      if (whole) askReasons();
    },
  };
}
