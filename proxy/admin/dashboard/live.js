// What is known now? One stream of the sidecar, kept here for every view; nothing is asked for while nobody looks.

import { get } from "./api.js";

const ROWS = 300;
const REQUESTS = 1000;
const UNSEEN = 60_000; // milliseconds after which a hidden page lets go of the stream
const FRAMES = 8000; // without a frame for so long the figures are old

export const known = {
  status: null, minute: null, total: null, columns: [], rows: [], requests: [], more: 0,
  connected: false, at: 0, why: "",
  fresh: [], // the requests of the last frame
  generation: 0, // grows when all of it came anew
};

const watchers = new Set();
let source = null;
let retry = 0;
let delay = 1000;
let hiding = 0;
let wanted = false;
let onEnd = () => {};

/** `call` after every change; returns how to stop. */
export function watch(call) {
  watchers.add(call);
  return () => watchers.delete(call);
}

export function start(whenSessionEnds) {
  onEnd = whenSessionEnds;
  wanted = true;
  open();
}

export function stop() {
  wanted = false;
  close();
}

function changed() {
  for (const call of [...watchers]) call(known);
}

function close() {
  clearTimeout(retry);
  if (source) source.close();
  source = null;
}

function open() {
  close();
  if (!wanted) return;
  source = new EventSource("/api/live");
  source.addEventListener("past", ({ data }) => past(JSON.parse(data)));
  source.addEventListener("now", ({ data }) => now(JSON.parse(data)));
  source.addEventListener("end", ({ data }) => {
    if (JSON.parse(data).why === "session") {
      stop();
      onEnd();
    } else {
      lost("The sidecar is stopping.");
    }
  });
  source.onerror = () => {
    lost("");
    ask();
  };
}

/** Why is there no stream? */
async function ask() {
  try {
    const { actor } = await get("/api/session");
    if (actor === null && wanted) {
      stop();
      onEnd();
    } else if (!known.connected) {
      known.why = "The sidecar gives no stream: it is stopping, or too many dashboards are open.";
    }
  } catch {
    known.why = "The sidecar does not answer.";
  }
  changed();
}

function lost(why) {
  close();
  known.connected = false;
  known.why = why;
  retry = setTimeout(open, delay);
  delay = Math.min(delay * 2, 10_000);
  changed();
}

function past(told) {
  known.columns = told.columns || [];
  known.rows = told.rows || [];
  known.requests = told.requests.reverse();
  known.generation += 1;
}

function now(told) {
  delay = 1000;
  known.connected = true;
  known.why = "";
  known.at = Date.now();
  known.status = told.status;
  known.minute = told.minute || null;
  known.total = told.total || null;
  for (const row of told.row || []) {
    if (!known.rows.length || row[0] > known.rows[known.rows.length - 1][0]) known.rows.push(row);
  }
  if (known.rows.length > ROWS) known.rows.splice(0, known.rows.length - ROWS);
  const had = new Set(known.requests.slice(0, 200).map((each) => each.id));
  known.fresh = told.requests.filter((each) => !had.has(each.id)).reverse();
  known.more = told.more;
  known.requests.unshift(...known.fresh);
  known.requests.length = Math.min(known.requests.length, REQUESTS);
  changed();
}

/** The column of this name, over all rows. */
export function column(name) {
  const place = known.columns.indexOf(name);
  return place < 0 ? [] : known.rows.map((row) => row[place]);
}

document.addEventListener("visibilitychange", () => {
  clearTimeout(hiding);
  if (document.hidden) hiding = setTimeout(close, UNSEEN);
  else if (wanted && !source) open();
});

setInterval(() => {
  if (wanted && source && known.connected && Date.now() - known.at > FRAMES) lost("");
  else if (!known.connected) changed();
}, 2000);
