// How are numbers said? Short, with their unit, and honestly: what was not measured is a dash.

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });

export const DASH = "–";

export function count(value) {
  return value === null || value === undefined ? DASH : whole.format(value);
}

export function rate(value) {
  if (value === null || value === undefined) return DASH;
  return value >= 1000 ? short.format(value) : value >= 10 || value === 0 ? whole.format(value) : value.toFixed(1);
}

export function percent(share) {
  if (share === null || share === undefined) return DASH;
  const value = share * 100;
  // 99.97 is not 100: what is missing is what one looks for
  const text = value >= 99.95 && value < 100 ? "99.9" : value < 0.05 && value > 0 ? "0.1" : value.toFixed(1);
  return `${text.replace(/\.0$/, "")} %`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(value) {
  if (value === null || value === undefined) return DASH;
  let unit = 0;
  let left = value;
  while (left >= 1024 && unit < UNITS.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${unit === 0 || left >= 100 ? Math.round(left) : left.toFixed(1)} ${UNITS[unit]}`;
}

/** Seconds of one request. Below the finest bucket nobody knows more. */
export function time(seconds) {
  if (seconds === null || seconds === undefined) return DASH;
  const ms = seconds * 1000;
  if (ms <= 0.5) return "< 0.5 ms";
  if (ms < 10) return `${ms.toFixed(1)} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

export function span(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return DASH;
  for (const [unit, size] of [["d", 86400], ["h", 3600], ["min", 60]]) {
    if (seconds >= size) {
      const value = seconds / size;
      return `${value < 10 && unit !== "min" ? value.toFixed(1).replace(/\.0$/, "") : Math.floor(value)} ${unit}`;
    }
  }
  return `${Math.max(0, Math.round(seconds))} s`;
}

export function ago(unix) {
  return unix ? `${span(Date.now() / 1000 - unix)} ago` : DASH;
}

export function clock(unix) {
  return new Date(unix * 1000).toLocaleTimeString("en-GB");
}

export function moment(text) {
  const date = new Date(text);
  const today = new Date().toDateString() === date.toDateString();
  return today ? date.toLocaleTimeString("en-GB")
    : date.toLocaleString("en-GB", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
