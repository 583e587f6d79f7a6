// What is kept? Keys page by page: ten thousand of them are a hundred pages, not one long list.

import { get } from "./api.js";
import { badge, choice, el, facts, field, lead, replace, table } from "./dom.js";
import { ago, bytes, count, span } from "./format.js";

const PAGE = 100;

function about(entry) {
  if (entry.rejected) return [["Key", el("code", {}, entry.key)], ["Not used", `its record in the store is refused: ${entry.rejected}`]];
  return [
    ["Key", el("code", {}, entry.key)], ["Request", el("code", {}, entry.request)], ["Tier", entry.tier],
    ["Tenant", entry.tenant || "(public)"], ["Status", entry.status], ["Size", bytes(entry.size)],
    ["Stored", ago(entry.stored_at)], ["State", entry.fresh ? badge(`fresh for ${span(entry.ttl)}`, "ok") : badge("stale", "warn")],
    ["Tags", entry.tags.map((tag) => [el("code", {}, tag), " "]).flat()], ["Varies by", entry.vary.join(", ")],
    ["Encrypted", entry.encrypted_in_store ? "in the store" : "no"], ["Sensitive", entry.sensitive ? "yes: accesses are audited" : "no"],
    ...Object.entries(entry.head).map(([name, value]) => [name, el("code", {}, value)]),
  ];
}

function entryDialog(key, tier, { session, purge }) {
  const body = el("div", {}, el("p", { class: "empty" }, "Asking …"));
  const dialog = el("dialog", { class: "wide", "aria-labelledby": "entry-title", onclose: () => dialog.remove() },
    el("h2", { id: "entry-title" }, "Entry"), body,
    el("div", { class: "buttons" },
      session.may.includes("operator") ? el("button", { type: "button", onclick: () => { dialog.close(); purge({ keys: key }); } }, "Purge …") : null,
      el("button", { type: "button", class: "main", onclick: () => dialog.close() }, "Close")));
  document.body.append(dialog);
  dialog.showModal();
  get("/api/cache/entry", { key, tier }).then((entry) => replace(body, facts(about(entry))), (error) => replace(body, el("p", { class: "notice bad", role: "alert" }, error.message)));
}

export function keys(context) {
  const tenant = el("input", { type: "text", placeholder: "all", autocomplete: "off", value: context.session.actor.tenant || "" });
  const prefix = el("input", { type: "text", placeholder: "tenant:org_acme:jobs:", autocomplete: "off", spellcheck: "false" });
  const shown = table("Keys", [
    { title: "Key", kind: "key-name", cell: (row) => el("button", { type: "button", class: "plain", onclick: () => entryDialog(row, tier.value, context) }, row) },
  ], "No key here begins so.", { tall: true });
  const tier = choice([["memory", "memory of this sidecar"], ["store", "the store, of all sidecars"]], { onchange: () => begin() });
  const where = el("span", { class: "note", "aria-live": "polite" });
  const back = el("button", { type: "button", onclick: () => { cursors.pop(); load(); } }, "Previous page");
  const next = el("button", { type: "button", onclick: () => { cursors.push(following); load(); } }, "Next page");
  let cursors = [null]; // of the pages up to this one
  let following = null;
  let asked = 0;

  async function load() {
    const number = ++asked;
    back.disabled = next.disabled = true;
    try {
      const told = await get("/api/cache/keys", { tenant: tenant.value.trim(), prefix: prefix.value.trim(), tier: tier.value, limit: PAGE, cursor: cursors[cursors.length - 1] });
      if (number !== asked) return; // another page was asked for meanwhile
      following = told.next;
      if (told.error) shown.say(`The store does not answer: ${told.error}`);
      else shown.fill(told.keys);
      const more = following ? ", and there are more" : "";
      where.textContent = told.keys.length ? `page ${count(cursors.length)}: ${count(told.keys.length)} keys${more}; ${told.of}` : "";
    } catch (error) {
      if (number !== asked) return;
      following = null;
      shown.say(error.message);
      where.textContent = "";
    }
    back.disabled = cursors.length === 1;
    next.disabled = following === null;
  }

  function begin() {
    cursors = [null];
    load();
  }

  begin();
  return {
    node: el("div", { class: "view" }, lead("Keys", "What is kept, and until when?"),
      el("div", { class: "panel view" },
        el("form", { class: "filters", onsubmit: (event) => { event.preventDefault(); begin(); } },
          field("Tier", tier), field("Tenant", tenant), field("Begins with", prefix, "wide"), el("button", {}, "List")),
        shown.node, el("div", { class: "buttons" }, where, back, next))),
  };
}
