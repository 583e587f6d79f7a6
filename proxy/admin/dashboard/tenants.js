// Whose tenant fills the memory? Bytes, entries and what went to the portal API, by tenant.

import { get, paced } from "./api.js";
import { bar, el, lead, table } from "./dom.js";
import { bytes, count, percent } from "./format.js";

const EVERY = 4000;

export function tenants({ session, purge, bypass }) {
  const operates = session.may.includes("operator");
  const shown = table("Tenants, by the memory they hold", [
    { title: "Tenant", head: true, cell: (row) => row.tenant || "(public: shared by all)" },
    { title: "Memory", kind: "number", cell: (row) => bytes(row.bytes) },
    { title: "Share", kind: "number", cell: (row) => percent(row.share) },
    { title: "", cell: (row) => bar(row.share) },
    { title: "Entries", kind: "number", cell: (row) => count(row.entries) },
    { title: "Requests", kind: "number", cell: (row) => count(row.requests) },
    { title: "From memory", kind: "number", cell: (row) => percent(row.hit_ratio) },
    { title: "Forwarded", kind: "number", cell: (row) => count(row.upstream_requests) },
    ...(operates ? [{
      title: "", kind: "number", cell: (row) => (row.tenant ? [
        el("button", { type: "button", "aria-label": `Purge all of ${row.tenant}`, onclick: () => purge({ tenant: row.tenant }) }, "Purge"), " ",
        el("button", { type: "button", "aria-label": `Bypass ${row.tenant}`, onclick: () => bypass({ tenant: row.tenant }) }, "Bypass"),
      ] : ""),
    }] : []),
  ], "Nothing is kept yet.");
  const ask = paced(EVERY, () => get("/api/cache/top", { by: "tenants", limit: 100 })
    .then(({ top }) => shown.fill(top), (error) => shown.say(error.message)));
  return {
    node: el("div", { class: "view" }, lead("Tenants", "Whose tenant fills the memory?"),
      el("div", { class: "panel" }, shown.node),
      el("p", { class: "note" }, "The first hundred, since the start of this sidecar. Requests are counted for as long as a tenant is active.")),
    update: ask,
  };
}
