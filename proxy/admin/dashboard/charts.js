// How does a figure over time look? uPlot draws the lines; the words beside them say the same to who cannot see them.

import { el, say } from "./dom.js";

const HEIGHT = 150;
const LEAST = 120; // seconds that are shown at least
const SECONDS_BELOW = 300;
const charts = new Set();

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

const tens = (_, ticks) => ticks.map((each) => (Math.abs(Math.log10(each) % 1) < 1e-6 ? each : null));

/** Dashed lines where rules came into force, a wash where the store was away. */
function events(marks) {
  return (plot) => {
    const { ctx, bbox } = plot;
    const [from, to] = [plot.scales.x.min, plot.scales.x.max];
    ctx.save();
    ctx.fillStyle = colour("warn-wash");
    for (const [begin, end] of marks().down) {
      const left = plot.valToPos(Math.max(begin, from), "x", true);
      ctx.fillRect(left, bbox.top, plot.valToPos(Math.min(end, to), "x", true) - left, bbox.height);
    }
    ctx.textAlign = "left";
    ctx.strokeStyle = colour("soft");
    ctx.fillStyle = colour("soft");
    ctx.font = `${10 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.setLineDash([3 * devicePixelRatio, 3 * devicePixelRatio]);
    for (const at of marks().rules) {
      if (at <= from || at >= to) continue;
      const x = Math.round(plot.valToPos(at, "x", true));
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      ctx.fillText("rules", x + 4 * devicePixelRatio, bbox.top + 10 * devicePixelRatio);
    }
    ctx.restore();
  };
}

/**
 * series: [{name, kind: colour, fill: strong | light | none}], drawn in this order.
 * Returns {node, update(times, columns, latest, words)}; `latest` has the text of each series, `words` says it all.
 */
export function chart(title, series, { value, tick = value, range, log = false, incrs, marks = () => ({ rules: [], down: [] }) }) {
  const figures = series.map((each) => el("b", {}, "–"));
  const keys = series.map((each, place) => el("span", { class: `key ${each.kind}` }, each.name, " ", figures[place]));
  const box = el("div", { class: "plot", role: "img", "aria-label": title });
  const node = el("figure", { class: "panel chart" }, el("figcaption", {}, el("h2", {}, title), ...keys.reverse()), box);
  let plot = null;
  let data = null;
  let latest = series.map(() => "–");

  function values(place) {
    if (place === null || place === undefined || !data) return latest;
    return series.map((each, index) => (each.at ? each.at(data, place) : value(data[index + 1][place])));
  }

  function legend(place) {
    values(place).forEach((text, index) => say(figures[index], text));
  }

  function axis(more) {
    return {
      stroke: colour("soft"), font: "11px system-ui, sans-serif", ticks: { show: false },
      grid: { stroke: colour("line"), width: 1 }, ...more,
    };
  }

  function made() {
    return new globalThis.uPlot({
      width: box.clientWidth || 300, height: HEIGHT, legend: { show: false }, padding: [8, 4, 0, 0],
      cursor: { sync: { key: "time" }, points: { show: false }, drag: { x: false, y: false }, y: false },
      scales: { x: { time: true, range: (_, from, to) => [Math.min(from, to - LEAST), to] }, y: { range, distr: log ? 3 : 1 } },
      axes: [
        axis({ space: 46, size: 22, gap: 4, values: (self, ticks) => ticks.map((at) => new Date(at * 1000)
          .toLocaleTimeString("en-GB", {
            hour: "2-digit", minute: "2-digit", second: self.scales.x.max - self.scales.x.min < SECONDS_BELOW ? "2-digit" : undefined,
          })) }),
        axis({
          size: 62, gap: 6, space: 30, ...(incrs ? { incrs } : {}),
          ...(log ? { filter: tens, grid: { stroke: colour("line"), width: 1, filter: tens } } : {}),
          values: (_, ticks) => ticks.map((each) => (each === null ? "" : tick(each))),
        }),
      ],
      series: [{}, ...series.map((each) => ({
        stroke: each.fill === "strong" ? undefined : colour(each.kind), width: each.fill === "strong" ? 0 : 1.5,
        fill: each.fill === "strong" ? colour(each.kind) : each.fill === "light" ? colour("accent-wash") : undefined,
        points: { show: false }, spanGaps: false,
      }))],
      hooks: { drawClear: [events(marks)], setCursor: [(self) => legend(self.cursor.idx)] },
    }, data, box);
  }

  const self = {
    node,
    update(times, columns, texts, words) {
      data = [times, ...columns];
      latest = texts;
      if (!plot) plot = made();
      else plot.setData(data);
      if (plot.cursor.left === undefined || plot.cursor.left < 0) legend(null);
      if (box.getAttribute("aria-label") !== words) box.setAttribute("aria-label", words);
    },
    /** Colours or the width have changed. */
    redraw(width) {
      if (!plot) return;
      if (width) {
        plot.setSize({ width: box.clientWidth, height: HEIGHT });
      } else {
        plot.destroy();
        plot = made();
      }
    },
    close() {
      charts.delete(self);
      resized.disconnect();
      if (plot) plot.destroy();
    },
  };
  const resized = new ResizeObserver(() => self.redraw(true));
  resized.observe(box);
  charts.add(self);
  return self;
}

export function recolour() {
  for (const each of charts) each.redraw(false);
}
