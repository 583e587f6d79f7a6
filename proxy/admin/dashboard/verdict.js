// Is it us? What is the matter in one plain sentence, the worst first.

import { span } from "./format.js";
import { column, known } from "./live.js";

/** Seconds for which the store has been away, as far as the kept minutes tell; null: it is there. */
export function storeDown() {
  const times = column("at");
  const up = column("store_up");
  let begin = null;
  for (let place = up.length - 1; place >= 0 && !up[place]; place -= 1) begin = times[place];
  return begin === null ? null : Date.now() / 1000 - begin;
}

function scope(bypass) {
  const whole = bypass.feature ? bypass.feature : "everything";
  return bypass.tenant ? `${whole} of ${bypass.tenant}` : whole;
}

const SENTENCES = {
  store() {
    const seconds = storeDown();
    const since = seconds === null ? "Store down" : `Store down for ${span(seconds)}`;
    return `${since}: every answer still right, more forwarded`;
  },
  upstream: () => "The portal API behind us fails; what is kept is served where the rules allow",
  bypass: (status) => `Caching is switched off for ${status.bypasses.map(scope).join(", ")}`,
  rules: () => "The rules file is refused; the last good rules are in force",
  purges: () => "Purges wait for the store; none of what they name is served here",
};

const ORDER = ["upstream", "store", "bypass", "rules", "purges"];

export function verdict() {
  const { status, minute } = known;
  if (!status) return { level: "unknown", head: "Waiting for the first figures", details: [] };
  const { level, faults } = status.verdict;
  const named = ORDER.filter((name) => name in faults);
  if (level === "draining") return { level, head: "Stopping: what is under way is being finished", details: [] };
  if (named.length) {
    const more = named.length > 1 ? ` (and ${named.length - 1} more)` : "";
    return { level, head: `${SENTENCES[named[0]](status)}${more}`, details: named.map((name) => faults[name]) };
  }
  const quiet = !minute || !minute.requests;
  const head = quiet ? "All well, and nothing is being asked"
    : minute.hit_ratio >= 0.5 ? "Serving from memory"
      : minute.hit_ratio >= 0.1 ? "Serving from memory in part" : "All well; almost everything is forwarded";
  const well = "The store answers, the rules are valid, the portal API responds.";
  return { level, head, details: quiet || minute.hit_ratio >= 0.1 ? [well] : [well, "Why: see Requests, the reasons by route."] };
}
