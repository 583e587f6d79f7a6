// Purge it: what is meant is asked of the sidecar first, shown, and confirmed before anything goes.

import { remove } from "./api.js";
import { choice, el, field, replace, tell } from "./dom.js";
import { known } from "./live.js";

const KINDS = [
  ["tags", "Tags", "jobs:77, jobs:list"], ["path", "A path", "/api/jobs/77"], ["feature", "A feature", "jobs"],
  ["keys", "A key", "tenant:org_acme:jobs:77"], ["tenant", "All of a tenant", ""], ["everything", "Everything", ""],
];

/** given: {tags | path | feature | keys | tenant: what to begin with} */
export function purgeDialog(session, given = {}) {
  const own = session.actor.tenant;
  const begin = KINDS.map(([kind]) => kind).find((kind) => kind in given) || "tags";
  const kind = choice(KINDS.filter(([name]) => own === null || name !== "everything").map(([name, text]) => [name, text]), { onchange: changed });
  const what = el("input", { type: "text", autocomplete: "off", spellcheck: "false", list: "purge-known", oninput: changed });
  const whatField = field("What", what, "wide");
  const tenant = el("input", { type: "text", autocomplete: "off", placeholder: "org_acme", oninput: changed });
  const tenantField = field("Tenant", tenant);
  const soft = el("input", { type: "checkbox", onchange: changed });
  const reason = el("input", { type: "text", autocomplete: "off", placeholder: session.reasons ? "required" : "for the audit log" });
  const confirm = el("input", { type: "text", autocomplete: "off", spellcheck: "false", oninput: ready });
  const confirmLabel = el("span");
  const confirmField = field(confirmLabel, confirm);
  const preview = el("div", { class: "notice", "aria-live": "polite", hidden: true });
  const problem = el("p", { class: "notice bad", role: "alert", hidden: true });
  const look = el("button", { type: "submit", class: "main" }, "Look what it means");
  const go = el("button", { type: "button", class: "danger", hidden: true, onclick: () => send(false) }, "Purge");
  let needed = null;

  kind.value = begin;
  what.value = begin === "tenant" ? "" : given[begin] || "";
  tenant.value = given.tenant || own || "";
  if (own !== null) tenant.readOnly = true;

  function filter() {
    const text = what.value.trim();
    const listed = text.split(",").map((each) => each.trim()).filter(Boolean);
    const said = {
      tags: { tags: listed }, path: { path: text }, feature: { feature: text }, keys: { keys: [text] }, tenant: {},
      everything: { everything: true },
    }[kind.value];
    const named = ["keys", "everything"].includes(kind.value) ? "" : tenant.value.trim();
    return { ...said, ...(named ? { tenant: named } : {}), soft: soft.checked };
  }

  function changed() {
    const [, , hint] = KINDS.find(([name]) => name === kind.value);
    what.placeholder = hint;
    whatField.hidden = ["tenant", "everything"].includes(kind.value);
    tenantField.hidden = ["keys", "everything"].includes(kind.value);
    preview.hidden = confirmField.hidden = go.hidden = true;
    look.hidden = false;
    problem.hidden = true;
  }

  function ready() {
    go.disabled = needed !== null && confirm.value !== needed;
  }

  function looked(told) {
    needed = told.confirm;
    confirm.value = "";
    replace(preview, el("p", {}, soft.checked ? "Would be marked as stale:" : "Would be purged:"),
      el("ul", {}, told.purge.map((each) => el("li", {}, el("code", {}, each.tags.map((tag) => (tag === "*" ? "everything" : tag)).join(", ")),
        ` of ${each.tenant || "all tenants, or public"}`))),
      el("p", { class: "note" }, `${told.sample.entries} ${told.sample.of}.`));
    replace(confirmLabel, "So much goes at once: type ", el("code", {}, needed || ""), " to confirm");
    confirmField.hidden = needed === null;
    preview.hidden = go.hidden = false;
    look.hidden = true;
    ready();
    (needed === null ? go : confirm).focus();
  }

  async function send(dry) {
    problem.hidden = true;
    look.disabled = go.disabled = true;
    try {
      const told = await remove("/api/cache/invalidate", {
        ...filter(), "dry-run": dry, reason: reason.value.trim() || null, confirm: dry ? null : needed,
      });
      if (dry) {
        looked(told);
      } else {
        dialog.close();
        tell(told.accepted ? (soft.checked ? "Marked as stale." : "Purged: none of it is served any more.")
          : "Purged here; the store has not accepted it yet, and it is repeated until it does.");
      }
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      ready();
    } finally {
      look.disabled = false;
    }
  }

  const names = known.status && known.status.features ? known.status.features.map((each) => each.feature) : [];
  const dialog = el("dialog", { "aria-labelledby": "purge-title", onclose: () => dialog.remove() },
    el("form", { method: "dialog", onsubmit: (event) => { event.preventDefault(); if (go.hidden) send(true); else if (!go.disabled) send(false); } },
      el("h2", { id: "purge-title" }, "Purge"),
      el("div", { class: "row" }, field("Kind", kind), tenantField), whatField,
      el("datalist", { id: "purge-known" }, names.map((name) => el("option", { value: name }))),
      el("label", { class: "check" }, soft, "Only mark as stale: served while one request refreshes it"),
      field("Reason", reason), preview, confirmField, problem,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"), look, go)));
  document.body.append(dialog);
  changed();
  dialog.showModal();
  (whatField.hidden ? tenant : what).focus();
}
