// How does the page make its elements? Every text goes in as a text: nothing that is shown can become markup.

/** el("p", {class: "note", onclick: f, "aria-live": "polite"}, "text", node, ...) */
export function el(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export function replace(parent, ...children) {
  parent.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

/** Set a text only where it differs: screen readers hear of changes, not of every tick. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** A message for a moment, read aloud as well. */
export function tell(text) {
  const line = el("p", {}, text);
  document.getElementById("said").replaceChildren(line);
  setTimeout(() => line.remove(), 7000);
}

export function panel(title, ...children) {
  return el("section", { class: "panel" }, el("header", {}, el("h2", {}, title)), ...children);
}

export function lead(title, question) {
  return el("div", { class: "lead" }, el("h1", { tabindex: "-1" }, title), el("p", {}, question));
}

export function badge(text, kind = "") {
  return el("span", { class: `badge ${kind}` }, text);
}

/** A bar beside a number that says the same, so it is for the eyes only. */
export function bar(share) {
  return el("progress", { class: "bar", max: 1, value: Math.max(0, Math.min(1, share || 0)), "aria-hidden": "true" });
}

export function facts(pairs) {
  const kept = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return el("dl", { class: "facts" }, kept.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
}

/**
 * A table that scrolls within itself where the page is narrow.
 * `tall`: it scrolls downwards within itself as well, under its head.
 * columns: [{title, cell: (row) => text or node, kind: class of the cell, head: true for what names the row}]
 */
export function table(caption, columns, empty, { tall = false } = {}) {
  const body = el("tbody");
  const head = el("tr", {}, columns.map((each) => el("th", { scope: "col", class: each.kind || "" }, each.title)));
  const none = el("p", { class: "empty" }, empty);
  const whole = el("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": caption, hidden: true },
    el("table", {}, el("caption", { class: "hidden" }, caption), el("thead", {}, head), body));
  const line = (row) => el("tr", {}, columns.map((each) =>
    el(each.head ? "th" : "td", { class: each.kind || "", scope: each.head ? "row" : null }, each.cell(row))));
  const shown = (rows) => {
    whole.hidden = rows === 0;
    none.hidden = rows !== 0;
  };
  let before = null;
  return {
    node: el("div", {}, whole, none),
    body,
    line,
    /** Show these rows; what is the same as before stays, and keeps the focus. */
    fill(rows) {
      const now = JSON.stringify(rows);
      if (now === before) return;
      before = now;
      body.replaceChildren(...rows.map(line));
      shown(rows.length);
    },
    say(text) {
      none.textContent = text;
      before = null;
      body.replaceChildren();
      shown(0);
    },
    /** New rows on top, the oldest beyond `most` gone. */
    prepend(rows, most) {
      before = null;
      body.prepend(...rows.map(line));
      while (body.rows.length > most) body.lastChild.remove();
      shown(body.rows.length);
    },
  };
}

let fields = 0;

/** A control and its label, which are no parts of each other: the name of the one is only the text of the other. */
export function field(label, input, kind = "") {
  fields += 1;
  input.id = `field-${fields}`;
  return el("div", { class: `field ${kind}` }, el("label", { for: input.id }, label), input);
}

export function choice(options, properties = {}) {
  return el("select", properties, options.map(([value, text]) => el("option", { value }, text)));
}
