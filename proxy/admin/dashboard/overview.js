// Is it us? The verdict, the figures of the last minute, how they went, and who is behind them.

import { get, paced } from "./api.js";
import { chart } from "./charts.js";
import { badge, bar, el, panel, replace, say, table } from "./dom.js";
import { bytes, count, percent, rate, span, time } from "./format.js";
import { column, known } from "./live.js";
import { verdict } from "./verdict.js";

const REASONS_EVERY = 10_000; // milliseconds

function tile(name) {
  const figure = el("dd", { class: "figure" });
  const more = el("dd", { class: "more" });
  return { node: el("div", {}, el("dt", {}, name), figure, more), figure, more };
}

function show(tile_, text, more) {
  const [, number, unit] = /^(.*\d|–|< [\d.]+)(?:\s+(\D+))?$/.exec(text) || [null, text, ""];
  if (tile_.figure.dataset.text !== text) {
    tile_.figure.dataset.text = text;
    replace(tile_.figure, number, unit ? el("small", {}, unit) : null);
  }
  say(tile_.more, more);
}

function marks() {
  const times = column("at");
  const up = column("store_up");
  const down = [];
  up.forEach((value, place) => {
    if (value) return;
    const last = down[down.length - 1];
    if (last && last[1] === times[place]) last[1] = times[place + 1] || times[place] + 2;
    else down.push([times[place], times[place + 1] || times[place] + 2]);
  });
  return { down, rules: [...new Set(column("rules_loaded_at"))] };
}

function shareOf(hits, misses, passes) {
  const total = hits + misses + passes;
  return total ? hits / total : null;
}

function makeCharts() {
  const perSecond = (value) => `${rate(value)}/s`;
  return {
    share: chart("Answered from memory", [{ name: "hits", kind: "hit", fill: "light" }], {
      value: percent, range: () => [0, 1], incrs: [0.25, 0.5], marks,
    }),
    throughput: chart("Requests", [
      { name: "passed", kind: "pass", fill: "strong", at: (data, place) => perSecond(data[1][place] - data[2][place]) },
      { name: "missed", kind: "miss", fill: "strong", at: (data, place) => perSecond(data[2][place] - data[3][place]) },
      { name: "hits", kind: "hit", fill: "strong" },
    ], { value: perSecond, tick: rate, range: (_, __, most) => [0, Math.max(1, most * 1.15)], marks }),
    latency: chart("Latency", [
      { name: "p99", kind: "high", fill: "none" }, { name: "p95", kind: "soft", fill: "none" },
      { name: "p50", kind: "hit", fill: "none" },
    ], {
      value: time, tick: (seconds) => `${seconds * 1000} ms`, log: true, marks,
      range: (_, least, most) => [Math.min(0.0005, (least || 0.0005) / 1.2), Math.max(0.1, (most || 0.1) * 1.2)],
    }),
    saved: chart("Bytes saved", [{ name: "saved", kind: "hit", fill: "light" }], {
      value: (value) => `${bytes(value)}/s`, tick: bytes, marks, range: (_, __, most) => [0, Math.max(1024, most * 1.15)],
      incrs: [10, 20, 30, 40].flatMap((power) => [1, 2, 4, 8, 16, 32, 64, 128, 256, 512].map((each) => each * 2 ** (power - 10))),
    }),
  };
}

function draw(charts) {
  const times = column("at");
  if (!times.length) return;
  const [hits, misses, passes] = ["hits", "misses", "passes"].map(column);
  const shares = times.map((_, place) => shareOf(hits[place], misses[place], passes[place]));
  const missed = hits.map((value, place) => value + misses[place]);
  const all = missed.map((value, place) => value + passes[place]);
  const [p50, p95, p99] = ["p50", "p95", "p99"].map(column);
  const saved = column("saved");
  const last = times.length - 1;
  const minute = known.minute;
  charts.share.update(times, [shares], [percent(shares[last])],
    `Share of requests answered from memory: ${percent(minute.hit_ratio)} in the last minute.`);
  charts.throughput.update(times, [all, missed, hits],
    [passes, misses, hits].map((each) => `${rate(each[last])}/s`),
    `Requests: ${rate(minute.rate)} per second in the last minute.`);
  charts.latency.update(times, [p99, p95, p50], [p99, p95, p50].map((each) => time(each[last])),
    `Latency in the last minute: half within ${time(minute.p50)}, 95 % within ${time(minute.p95)}, 99 % within ${time(minute.p99)}.`);
  charts.saved.update(times, [saved], [`${bytes(saved[last])}/s`],
    `Bytes answered from memory: ${bytes(minute.saved)} in the last minute.`);
}

function showTiles(tiles) {
  const { minute, total, status } = known;
  if (!minute) return;
  show(tiles.share, percent(minute.hit_ratio), `${count(minute.hits)} of ${count(minute.requests)} in the last minute`);
  show(tiles.rate, `${rate(minute.rate)} /s`,
    `${count(minute.misses)} missed, ${count(minute.passes)} passed, ${count(minute.failed)} failed`);
  show(tiles.latency, time(minute.p95), `p50 ${time(minute.p50)}, p99 ${time(minute.p99)}; forwarded p95 ${time(minute.other_p95)}`);
  show(tiles.saved, bytes(total.saved), `since the start; ${bytes(minute.saved)} in the last minute`);
  const first = status.first_tier;
  show(tiles.memory, percent(first.bytes / first.max_bytes),
    `${bytes(first.bytes)} of ${bytes(first.max_bytes)}, ${count(first.entries)} entries`);
}

function tops() {
  const reasons = table("Why requests were not answered from memory, the most frequent first", [
    { title: "Reason", cell: (row) => badge(row.reason) },
    { title: "Route", kind: "request", cell: (row) => row.route },
    { title: "Times", kind: "number", cell: (row) => count(row.count) },
  ], "Nothing has been forwarded yet.");
  const features = table("The most asked features", [
    { title: "Feature", head: true, cell: (row) => row.feature },
    { title: "Hits", kind: "number", cell: (row) => percent(row.hit_ratio) },
    { title: "", cell: (row) => bar(row.hit_ratio) },
    { title: "Requests", kind: "number", cell: (row) => count(row.requests) },
  ], "No feature has been asked for yet.");
  const tenants = table("The tenants that hold the most memory", [
    { title: "Tenant", head: true, cell: (row) => row.tenant || "(public)" },
    { title: "Bytes", kind: "number", cell: (row) => bytes(row.bytes) },
    { title: "", cell: (row) => bar(row.share) },
    { title: "Entries", kind: "number", cell: (row) => count(row.entries) },
  ], "Nothing is kept yet.");
  const linked = (title, part, view) => {
    const made = panel(title, part.node);
    made.firstChild.append(el("a", { href: `#${view}`, "aria-label": `${title}: all` }, "all"));
    return made;
  };
  return {
    node: el("div", { class: "columns" }, linked("Not from memory, and why", reasons, "requests"),
      linked("Features", features, "features"), linked("Memory by tenant", tenants, "tenants")),
    reasons, features, tenants,
  };
}

export function overview() {
  const head = el("h1", { tabindex: "-1" }, "Waiting for the first figures");
  const details = el("ul");
  const about = el("p");
  const box = el("section", { class: "panel verdict unknown", "aria-label": "Verdict" },
    el("div", { "aria-live": "polite", "aria-atomic": "true" }, head), details, about);
  const tiles = {
    share: tile("Answered from memory"), rate: tile("Requests"), latency: tile("Latency, 95 of 100 within"),
    saved: tile("Bytes saved"), memory: tile("Memory in use"),
  };
  const charts = makeCharts();
  const below = tops();
  const oneTenant = el("p", { class: "notice" }, "Figures are of all tenants together, and your token is of one: see Tenants.");
  const node = el("div", { class: "view" }, box, oneTenant,
    el("dl", { class: "tiles" }, Object.values(tiles).map((each) => each.node)),
    el("div", { class: "columns charts" }, Object.values(charts).map((each) => each.node)), below.node);
  const parts = [...node.children].slice(2);
  const reasons = paced(REASONS_EVERY, () => get("/api/cache/top", { by: "reasons", limit: 5 })
    .then(({ top }) => below.reasons.fill(top), (error) => below.reasons.say(error.message)));

  return {
    node,
    update() {
      const { level, head: text, details: lines } = verdict();
      box.className = `panel verdict ${level}`;
      say(head, `${text}.`);
      if (details.dataset.lines !== String(lines)) {
        details.dataset.lines = String(lines);
        replace(details, lines.map((line) => el("li", {}, line)));
      }
      const { status, minute } = known;
      if (!status) return;
      const workers = status.processes > 1 ? `${status.processes} workers, up` : "Up";
      say(about, `${workers} for ${span(status.uptime)}; rules ${status.rules.digest.slice(0, 12)}, in force for ${span(Date.now() / 1000 - status.rules.loaded_at)}.`);
      oneTenant.hidden = minute !== null;
      for (const each of parts) each.hidden = minute === null;
      if (minute === null) return;
      showTiles(tiles);
      draw(charts);
      below.features.fill((status.features || []).slice(0, 5));
      below.tenants.fill(status.tenants.slice(0, 5));
      reasons();
    },
    close() {
      for (const each of Object.values(charts)) each.close();
    },
  };
}
