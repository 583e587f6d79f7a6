// How does the page ask? The same endpoints as the commands; a refusal is an error with the words of the port.

export class Refused extends Error {
  constructor(status, detail, field) {
    super(field ? `${field}: ${detail}` : detail);
    this.status = status;
    this.field = field;
  }
}

let onLoggedOut = () => {};

/** What happens when a session has ended. */
export function whenLoggedOut(call) {
  onLoggedOut = call;
}

async function ask(method, path, fields) {
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers: fields === undefined ? {} : { "Content-Type": "application/json" },
      body: fields === undefined ? undefined : JSON.stringify(fields),
      cache: "no-store",
      redirect: "error",
    });
  } catch {
    throw new Refused(0, "The sidecar does not answer.");
  }
  const told = await answer.json().catch(() => ({}));
  // a refused purge still says why in a problem document, a refused rules file in an ordinary one
  if (!answer.ok && !(answer.status === 422 && "problems" in told)) {
    if (answer.status === 401 && path !== "/api/login") onLoggedOut();
    throw new Refused(answer.status, told.detail || `The sidecar answered ${answer.status}.`, told.field);
  }
  return told;
}

/**
 * A call that may be made at every tick and asks only when `least` milliseconds have passed, and fifty times what the
 * last answer took: whoever looks must not cost more than a fiftieth of the sidecar's time.
 */
export function paced(least, call) {
  let due = 0;
  return async () => {
    if (Date.now() < due) return;
    due = Infinity;
    const begun = Date.now();
    await call();
    due = Date.now() + Math.max(least, 50 * (Date.now() - begun));
  };
}

export function get(path, query = {}) {
  const said = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value != null));
  return ask("GET", said.size ? `${path}?${said}` : path);
}

export function post(path, fields) {
  return ask("POST", path, fields);
}

export function remove(path, fields) {
  return ask("DELETE", path, fields);
}
