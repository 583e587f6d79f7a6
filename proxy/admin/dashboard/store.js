// Is the store well? Its state, its breaker, what was asked of it, and the memory in front of it.

import { badge, el, facts, lead, panel, replace, table } from "./dom.js";
import { bytes, count, percent, span } from "./format.js";
import { known } from "./live.js";
import { storeDown } from "./verdict.js";

const BREAKER = {
  closed: ["closed", "every request may ask the store", "ok"],
  open: ["open", "no request asks the store; a probe does, every few seconds", "bad"],
  "half-open": ["half-open", "a probe is on its way", "warn"],
  none: ["none", "the store is in this process", ""],
};

function about(store, pending) {
  const [word, meaning, kind] = BREAKER[store.breaker] || [store.breaker, "", ""];
  const down = storeDown();
  return facts([
    ["Kind", store.kind], ["State", badge(store.healthy ? "answers" : "does not answer", store.healthy ? "ok" : "bad")],
    ["Breaker", [badge(word, kind), ` ${meaning}`]], ["Away for", down === null ? null : span(down)],
    ["Says", store.error], ["Operations", store.operations === undefined ? null : count(store.operations)],
    ["Failed", store.operations === undefined ? null : `${count(store.failed)} (${percent(store.operations ? store.failed / store.operations : 0)})`],
    ["Not tried", store.not_tried === undefined ? null : `${count(store.not_tried)}, while the breaker was open`],
    ["Purges that wait", `${count(pending)}${pending ? ": none of what they name is served here" : ""}`],
  ].map(([name, value]) => [name, value]));
}

function memory(first) {
  if (!first) return el("p", { class: "empty" }, "These figures are of all tenants together, and your token is of one.");
  return [
    el("meter", { max: first.max_bytes, value: first.bytes, high: first.max_bytes * 0.95, "aria-label": "Memory in use" }),
    facts([
      ["In use", `${bytes(first.bytes)} of ${bytes(first.max_bytes)}`], ["Entries", count(first.entries)],
      ["Made room", `${count(first.evictions)} entries, for others`],
      ["Refused records", `${count(first.rejected_records)} of the store were not what was asked for`],
    ]),
  ];
}

function calls() {
  return table("Operations of the store by kind", [
    { title: "Operation", head: true, cell: (row) => row.kind },
    { title: "Times", kind: "number", cell: (row) => count(row.count) },
    { title: "Failed", kind: "number", cell: (row) => count(row.failed) },
    { title: "On average", kind: "number", cell: (row) => (row.count ? `${((row.seconds / row.count) * 1000).toFixed(2)} ms` : "") },
  ], "The store is in this process, or nothing was asked of it yet.");
}

export function store() {
  const state = el("div");
  const room = el("div", { class: "view" });
  const kinds = calls();
  let before = "";
  return {
    node: el("div", { class: "view" }, lead("Store", "Is the store well, and what happens while it is not?"),
      el("div", { class: "columns" }, panel("Store and breaker", state), panel("Memory of this sidecar", room)),
      panel("Operations", kinds.node),
      el("p", { class: "note" }, "While the store is away every answer is still right: requests are answered from memory where that is certain, and forwarded where it is not.")),
    update() {
      const { status } = known;
      if (!status) return;
      const now = JSON.stringify([status.store, status.purges_pending, status.first_tier]);
      if (now === before) return;
      before = now;
      replace(state, about(status.store, status.purges_pending));
      replace(room, memory(status.first_tier));
      kinds.fill(status.store.calls || []);
    },
  };
}
