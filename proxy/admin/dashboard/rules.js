// Did the deploy do it? The rules in force, since when, what is wrong with the file, and the routes.

import { get, post } from "./api.js";
import { badge, el, facts, lead, panel, replace, table, tell } from "./dom.js";
import { ago, span } from "./format.js";
import { known } from "./live.js";

function listed(problems) {
  return table("Problems of the rules file", [
    { title: "", cell: (row) => badge(row.severity, row.severity) },
    { title: "Place", kind: "mono", cell: (row) => `${row.line}:${row.column}` },
    { title: "Where", kind: "request", cell: (row) => row.path },
    { title: "What", kind: "words", cell: (row) => row.message },
  ], "The file is valid and in force.");
}

function routes() {
  return table("Routes of the rules in force", [
    { title: "Route", kind: "request", cell: (row) => row.route },
    { title: "Kind", cell: (row) => row.kind },
    { title: "Feature", cell: (row) => row.feature },
    { title: "Scope", cell: (row) => row.scope },
    { title: "TTL", kind: "number", cell: (row) => (row.kind !== "read" ? "" : row.ttl === "origin" ? "origin" : span(row.ttl)) },
    { title: "", cell: (row) => (row.sensitive ? badge("sensitive", "warn") : "") },
    { title: "Line", kind: "number", cell: (row) => row.line },
  ], "The rules have no route: everything is passed through.");
}

export function rules({ session }) {
  const state = el("div");
  const problems = listed();
  const all = routes();
  const widening = el("div");
  const trouble = el("p", { class: "notice bad", role: "alert", hidden: true });
  let before = "";

  async function load() {
    trouble.hidden = true;
    try {
      show(await get("/api/rules"));
    } catch (error) {
      trouble.textContent = error.message;
      trouble.hidden = false;
    }
  }

  function show(told) {
    replace(state, facts([
      ["State", told.problems.length ? badge("the file is refused; the rules before are in force", "bad") : badge("in force", "ok")],
      ["Last reload", `${new Date(told.loaded_at * 1000).toLocaleString("en-GB")} (${ago(told.loaded_at)})`],
      ["Digest", el("code", {}, told.digest)], ["File", el("code", {}, told.file)],
    ]));
    const mayAccept = told.widening && session.may.includes("inspector") && session.actor.tenant === null;
    replace(widening, told.widening ? el("p", { class: "notice warn" }, "The file waits: it would share more than the rules in force. ",
      mayAccept ? el("button", { type: "button", onclick: () => askToAccept(told.widening) }, "Accept …") : "An inspector may accept it.") : []);
    problems.fill([...told.problems, ...told.warnings]);
    if (told.routes) all.fill(told.routes);
  }

  async function reload(button) {
    button.disabled = true;
    try {
      const told = await post("/api/rules/reload", {});
      show(told);
      tell(told.valid ? "The file is in force." : "The file is refused; the rules before stay in force.");
    } catch (error) {
      tell(error.message);
    } finally {
      button.disabled = false;
    }
  }

  /** A file that would let callers share more than before waits until somebody says that this is meant. */
  function askToAccept(digest) {
    const trouble_ = el("p", { class: "notice bad", role: "alert", hidden: true });
    const dialog = el("dialog", { "aria-labelledby": "widen-title", onclose: () => dialog.remove() },
      el("h2", { id: "widen-title" }, "Accept that more is shared"),
      el("p", {}, "The file lets callers share what they do not share now. Ask whoever wrote it; it is audited."),
      el("p", {}, "Its digest: ", el("code", {}, digest)), trouble_,
      el("div", { class: "buttons" }, el("button", { type: "button", onclick: () => dialog.close() }, "Cancel"),
        el("button", { type: "button", class: "danger", onclick: async () => {
          try {
            show(await post("/api/rules/reload", { "accept-widening": digest }));
            dialog.close();
          } catch (error) {
            trouble_.textContent = error.message;
            trouble_.hidden = false;
          }
        } }, "Accept")));
    document.body.append(dialog);
    dialog.showModal();
  }

  const button = el("button", { type: "button", onclick: () => reload(button) }, "Reload the file");
  const head = panel("In force", state, widening, trouble);
  if (session.may.includes("operator") && session.actor.tenant === null) head.firstChild.append(button);
  return {
    node: el("div", { class: "view" }, lead("Rules", "Did the deploy do it? What is in force, and since when?"), head,
      panel("Problems and warnings", problems.node), panel("Routes", all.node)),
    update() {
      if (!known.status) return;
      const { digest, loaded_at: at, problems: wrong } = known.status.rules;
      const now = JSON.stringify([digest, at, wrong]);
      if (now === before) return;
      before = now;
      load();
    },
  };
}
