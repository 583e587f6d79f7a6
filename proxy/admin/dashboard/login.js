// Who asks? A token, once; the sidecar answers with a cookie that no script reads, and the token is kept nowhere.

import { post } from "./api.js";
import { el, field } from "./dom.js";

export function login(done, why = "") {
  const token = el("input", { type: "password", required: true, autocomplete: "off", placeholder: "sidecache_…" });
  const problem = el("p", { class: "notice bad", role: "alert", hidden: true });
  const button = el("button", { class: "main" }, "Log in");

  async function submit(event) {
    event.preventDefault();
    button.disabled = true;
    problem.hidden = true;
    const said = token.value.trim();
    token.value = "";
    try {
      done(await post("/api/login", { token: said }));
    } catch (error) {
      problem.textContent = error.message;
      problem.hidden = false;
      token.focus();
    } finally {
      button.disabled = false;
    }
  }

  return {
    node: el("form", { class: "panel login", onsubmit: submit }, el("h1", { tabindex: "-1" }, "Log in"),
      why ? el("p", { class: "notice" }, why) : null,
      field("Token", token), problem, button,
      el("p", { class: "note" }, "A token of a viewer, an operator or an inspector: ", el("code", {}, "sidecache keygen --admin NAME ROLE"),
        " makes one. The session lasts eight hours.")),
    focus: () => token.focus(),
  };
}
