// Which feature gains? Hits, requests and memory of each.

import { bar, el, lead, table } from "./dom.js";
import { bytes, count, percent } from "./format.js";
import { known } from "./live.js";

export function features({ session, purge, bypass }) {
  const operates = session.may.includes("operator");
  const shown = table("Features, the most asked first", [
    { title: "Feature", head: true, cell: (row) => row.feature },
    { title: "From memory", kind: "number", cell: (row) => percent(row.hit_ratio) },
    { title: "", cell: (row) => bar(row.hit_ratio) },
    { title: "Requests", kind: "number", cell: (row) => count(row.requests) },
    { title: "Hits", kind: "number", cell: (row) => count(row.hits) },
    { title: "Entries", kind: "number", cell: (row) => count(row.entries) },
    { title: "Memory", kind: "number", cell: (row) => bytes(row.bytes) },
    ...(operates ? [{
      title: "", kind: "number", cell: (row) => [
        el("button", { type: "button", "aria-label": `Purge ${row.feature}`, onclick: () => purge({ feature: row.feature }) }, "Purge"), " ",
        el("button", { type: "button", "aria-label": `Bypass ${row.feature}`, onclick: () => bypass({ feature: row.feature }) }, "Bypass"),
      ],
    }] : []),
  ], "No feature has been asked for yet.");
  return {
    node: el("div", { class: "view" }, lead("Features", "Which feature gains, and which does not?"),
      el("div", { class: "panel" }, shown.node)),
    update() {
      if (!known.status) return;
      if (known.status.features) shown.fill(known.status.features);
      else shown.say("These figures are of all tenants together, and your token is of one.");
    },
  };
}
