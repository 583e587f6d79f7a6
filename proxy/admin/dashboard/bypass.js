// Switch caching off for a while, for one feature, one tenant or everything; it comes back by itself.

import { post } from "./api.js";
import { choice, el, field, replace, tell } from "./dom.js";
import { span } from "./format.js";
import { known } from "./live.js";

const TIMES = [["5m", "5 minutes"], ["15m", "15 minutes"], ["1h", "1 hour"], ["4h", "4 hours"], ["24h", "24 hours"]];

function scope(each) {
  return `${each.feature || "everything"}${each.tenant ? ` of ${each.tenant}` : ""}`;
}

export function bypassDialog(session, given = {}) {
  const own = session.actor.tenant;
  const features = known.status && known.status.features ? known.status.features.map((each) => each.feature) : [];
  const feature = el("input", { type: "text", list: "bypass-known", value: given.feature || "", placeholder: "all features", autocomplete: "off" });
  const tenant = el("input", { type: "text", value: given.tenant || own || "", placeholder: "all tenants", autocomplete: "off", readOnly: own !== null });
  const time = choice(TIMES);
  time.value = "15m";
  const reason = el("input", { type: "text", autocomplete: "off", placeholder: session.reasons ? "required" : "for the audit log" });
  const problem = el("p", { class: "notice bad", role: "alert", hidden: true });
  const sure = el("input", { type: "checkbox", required: true });
  const active = el("div");

  async function send(fields, done) {
    problem.hidden = true;
    try {
      const told = await post("/api/cache/bypass", fields);
      list(told.bypasses);
      tell(done);
      return true;
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      return false;
    }
  }

  function list(bypasses) {
    replace(active, bypasses.length ? el("ul", { class: "steps" }, bypasses.map((each) => el("li", {},
      `${scope(each)}, for another ${span(each.until - Date.now() / 1000)}, by ${each.by}${each.reason ? `: ${each.reason}` : ""} `,
      el("button", {
        type: "button", "aria-label": `Cache ${scope(each)} again`,
        onclick: () => send({ state: "off", feature: each.feature, tenant: each.tenant }, `${scope(each)} is cached again.`),
      }, "Cache again")))) : el("p", { class: "note" }, "Caching is on everywhere."));
  }

  async function submit(event) {
    event.preventDefault();
    const fields = {
      state: "on", for: time.value, feature: feature.value.trim() || null, tenant: tenant.value.trim() || null,
      reason: reason.value.trim() || null,
    };
    if (await send(fields, `Caching of ${scope(fields)} is off; it comes back by itself.`)) dialog.close();
  }

  const dialog = el("dialog", { "aria-labelledby": "bypass-title", onclose: () => dialog.remove() },
    el("form", { method: "dialog", onsubmit: submit },
      el("h2", { id: "bypass-title" }, "Bypass the cache"), active,
      el("div", { class: "row" }, field("Feature", feature), field("Tenant", tenant), field("For", time)),
      el("datalist", { id: "bypass-known" }, features.map((name) => el("option", { value: name }))),
      field("Reason", reason),
      el("p", { class: "note" }, "Reads go to the portal API meanwhile, and writes purge as ever. It holds in this sidecar; others are switched by themselves."),
      el("label", { class: "check" }, sure, "The portal API can take the load"), problem,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Close"),
        el("button", { type: "submit", class: "danger" }, "Bypass"))));
  list((known.status && known.status.bypasses) || []);
  document.body.append(dialog);
  dialog.showModal();
  feature.focus();
}
