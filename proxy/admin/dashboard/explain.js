// Why is this stale, why is it not cached? The rules' word on one request, what is kept now, and what has touched it.

import { post } from "./api.js";
import { badge, el, facts, field, lead, panel, replace } from "./dom.js";
import { ago, bytes, count, span } from "./format.js";

const OWN_PLACE = new Set(["request", "verdict", "stored", "variants", "writes_without_a_rule", "reasons_of_this_route",
  "purges_that_touched_it"]);

const DURATIONS = new Set(["ttl", "grace", "if_error"]);

function plain(value) {
  if (Array.isArray(value)) return value.map(plain).join(", ");
  if (value !== null && typeof value === "object") return Object.entries(value).map(([name, each]) => `${name} ${plain(each)}`).join(", ");
  return value === true ? "yes" : value === false ? "no" : String(value);
}

function kept(entry) {
  return facts([
    ["key", el("code", {}, entry.key)], ["stored", `${ago(entry.stored_at)}, by ${entry.request}`],
    ["fresh", entry.fresh ? `for another ${span(entry.ttl)}` : "no more"],
    ["served stale", `until ${new Date(entry.stale_until * 1000).toLocaleTimeString("en-GB")}`],
    ["status and size", `${entry.status}, ${bytes(entry.size)}`], ["tags", entry.tags.join(", ")],
  ]);
}

function steps(lines) {
  return el("ul", { class: "steps" }, lines.map((line) => el("li", {}, line)));
}

function edit(each) {
  return each.edit ? [el("br"), "rules.yaml: ", el("code", {}, each.edit)] : [];
}

function answer(told) {
  const entries = told.stored ? [told.stored] : told.variants || [];
  const purges = told.purges_that_touched_it || [];
  const writes = told.writes_without_a_rule || [];
  const reasons = told.reasons_of_this_route || [];
  const headline = told.cache === "bypass" || !told.verdict ? `forwarded, not looked up: ${told.because || "no-rule"}` : told.verdict;
  return [
    el("section", { class: "panel", "aria-label": "Answer" },
      el("p", { class: "answer" }, `The same now: ${headline}`), el("p", { class: "note" }, el("code", {}, told.request))),
    el("div", { class: "columns" },
      panel("What the rules say", facts(Object.entries(told).filter(([name]) => !OWN_PLACE.has(name))
        .map(([name, value]) => [name.replaceAll("_", " "), DURATIONS.has(name) && Number.isFinite(value) ? span(value) : plain(value)]))),
      panel("What is kept", entries.length ? entries.map(kept) : el("p", { class: "empty" }, "Nothing, in this process or the store."))),
    el("div", { class: "columns" },
      panel("Purges that touched it", purges.length ? steps(purges.map((each) =>
        [`${ago(each.at)} by ${each.by}: `, el("code", {}, each.tags.join(", ")), each.soft ? " (only marked as stale)" : "",
          each.accepted ? "" : " (waits for the store)"])) : el("p", { class: "empty" }, "None that is remembered.")),
      panel("Writes near it that no rule knows", writes.length ? steps(writes.map((each) =>
        [el("code", {}, each.route), ` ${count(each.count)} times, last ${ago(each.last_at)}`, ...edit(each)]))
        : el("p", { class: "empty" }, "None: what changes it is known to the rules, as far as was seen.")),
      panel("What became of this route's requests", reasons.length ? steps(reasons.map((each) =>
        [badge(each.reason), ` ${count(each.count)} times, last ${ago(each.last_at)}`, ...edit(each)]))
        : el("p", { class: "empty" }, "Nothing but hits, or nothing at all."))),
  ];
}

export function explain({ session }, given = {}) {
  const request = el("input", { type: "text", required: true, value: given.request || "", placeholder: "GET /api/jobs/77",
    spellcheck: "false", autocomplete: "off" });
  const tenant = el("input", { type: "text", value: given.tenant || session.actor.tenant || "", placeholder: "org_acme", autocomplete: "off" });
  const user = el("input", { type: "text", placeholder: "the token's sub", autocomplete: "off" });
  const permissions = el("input", { type: "text", placeholder: "read:jobs, read:applications", autocomplete: "off" });
  const host = el("input", { type: "text", placeholder: "as clients write it", autocomplete: "off" });
  const problem = el("p", { class: "notice bad", role: "alert", hidden: true });
  const told = el("div", { class: "view", "aria-live": "polite" });

  /** What became of the request one has come from, which had all permissions that its route asks for. */
  const { row } = given;
  const guessed = el("p", { class: "note", hidden: true }, "Permissions are guessed: those that the route asks for.");
  const happened = row ? el("p", {}, `At ${new Date(row.at * 1000).toLocaleTimeString("en-GB")} it was `,
    badge({ hit: "a hit", miss: "missed", pass: "passed" }[row.result], row.result), ` for `, el("strong", {}, row.reason),
    `, status ${row.status}: `, el("code", {}, row.said)) : null;

  async function run() {
    problem.hidden = true;
    const line = request.value.trim();
    const caller = {};
    if (tenant.value.trim()) caller.org_id = tenant.value.trim();
    if (user.value.trim()) caller.sub = user.value.trim();
    const listed = permissions.value.split(",").map((each) => each.trim()).filter(Boolean);
    if (listed.length) caller.permissions = listed;
    if (host.value.trim()) caller.headers = { Host: host.value.trim() };
    try {
      const found = await post("/api/cache/explain", {
        request: line.includes(" ") ? line : `GET ${line}`, as: Object.keys(caller).length ? caller : null,
      });
      if (row && row.result !== "pass" && found.because === "permission" && found.requires && !listed.length) {
        permissions.value = [found.requires].flat().join(", ");
        guessed.hidden = false;
        await run();
        return;
      }
      replace(told, ...answer(found));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      replace(told);
    }
  }

  const form = el("form", { class: "panel view", onsubmit: (event) => { event.preventDefault(); run(); } },
    el("div", { class: "filters" }, field("Request", request, "wide"), field("Tenant", tenant), field("User", user),
      field("Permissions", permissions, "wide"), field("Host", host), el("button", { class: "main" }, "Explain")),
    happened, guessed,
    row && !row.plain ? el("p", { class: "note" }, "This is the route: put the path that was asked for in its place. Paths are for inspectors, those of sensitive features for nobody.") : null,
    problem);
  if (row && row.plain) run();
  return { node: el("div", { class: "view" }, lead("Explain", "Why is this stale, why is it not cached?"), form, told) };
}
