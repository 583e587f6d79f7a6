// New applications as they come, how many are unread, and figures that change while one looks at them.
const org = new URLSearchParams(location.search).get('org') === 'globex' ? 'globex' : 'acme';
const at = (id) => document.getElementById(id);
const made = (id) => at(id).content.firstElementChild.cloneNode(true);
const clock = (time) => new Date(time).toLocaleTimeString([], {hour12: false});
const token = async () => (await (await fetch(`/_demo/${org}`)).text()).trim().replace('Authorization: Bearer ', '');
const ask = async (path, more = {}) => {
  const headers = {Authorization: `Bearer ${await token()}`, 'Content-Type': 'application/json'};
  return fetch(path, {cache: 'no-store', ...more, headers});
};
const MOST_SHOWN = 50, MOST_ROWS = 5;

const say = (text, kind = '') => Object.assign(at('state'), {textContent: text, className: kind});

// Events

let missed = 0;
const show = ({application, job, at: time}) => {
  const item = made('event'), [name, where, when] = item.children;
  name.textContent = application;
  where.textContent = `for ${job}`;
  when.textContent = clock(time ?? Date.now());
  if (missed-- > 0) item.className = 'missed';
  at('events').prepend(item);
  at('events').children[MOST_SHOWN]?.remove();
  at('none').hidden = true;
};

const unread = async () => {
  const answer = await ask('/.sidecache/events/unread?topics=application.*');
  if (!answer.ok) return;
  const {count, oldest} = await answer.json();
  at('unread').textContent = count ?? '?';
  at('since').textContent = oldest ? `since ${clock(oldest * 1000)}` : '';
  document.title = count ? `(${count}) Live portal` : 'Live portal';
};

// Reports

const reports = new Map();  // by name: its article, and what it is counted by

const bars = (series) => {
  const most = Math.max(1, ...series.map(([, count]) => count));
  return series.map(([, count]) => {
    const bar = document.createElement('i');
    bar.style.height = `${(100 * count) / most}%`;
    return bar;
  });
};

const row = ({value, count, unique}) => {
  const line = document.createElement('tr');
  for (const text of [value, count, unique]) if (text !== undefined) line.insertCell().textContent = text;
  return line;
};

const number = (name, count, asOf) => {
  const {article} = reports.get(name);
  article.querySelector('strong').textContent = count;
  article.querySelector('time').textContent = `as of ${clock(asOf)}`;
};

const details = async (name) => {
  const {article, by} = reports.get(name), path = `/.sidecache/reports/${name}`;
  const [minutes, values] = await Promise.all([
    ask(`${path}?bucket=minute`), by ? ask(`${path}?by=${by}&limit=${MOST_ROWS}`) : null,
  ]);
  if (minutes.ok) {
    const {series, count} = await minutes.json(), chart = article.querySelector('.bars');
    chart.replaceChildren(...bars(series));
    chart.setAttribute('aria-label', `${count} in the last hour, by minute`);
  }
  if (values?.ok) article.querySelector('tbody').replaceChildren(...(await values.json()).rows.map(row));
};

const whole = async (name) => {  // at the beginning, and when figures may have passed unheard
  const hours = await ask(`/.sidecache/reports/${name}`);
  if (!hours.ok) return;
  const {series, as_of} = await hours.json();
  number(name, series.at(-1)[1], as_of);
  await details(name);
};

const begin = async () => {
  const answer = await ask('/.sidecache/reports');
  if (!answer.ok) {
    Object.assign(at('refused'), {hidden: false, textContent: (await answer.json()).detail});
    return;
  }
  for (const {name, by, unique, counts} of (await answer.json()).reports) {
    const article = made('report');
    article.id = `report-${name}`;
    article.querySelector('h3').textContent = name;
    article.title = counts.join(', ');
    article.querySelector('th').textContent = by ?? '';
    article.querySelector('table').hidden = !by;
    if (!unique) article.querySelector('thead th:last-child').remove();
    reports.set(name, {article, by});
    at('reports').append(article);
  }
};

// Both, as they come

let noted;
const on = (event, data) => {
  if (event === 'hello') {
    missed = data.missed ?? 0;
    say(data.recovered ? `connected, ${missed} missed` : 'connected; some may be missing', data.recovered ? '' : 'gap');
    unread();
    [...reports.keys()].forEach(whole);
  } else if (event === 'application.submitted') {
    show(data);
    clearTimeout(noted);
    noted = setTimeout(unread, 6000);  // how far one has read is noted every five seconds
  } else if (event === 'metrics' && reports.has(data.report)) {
    number(data.report, data.count, data.as_of);
    details(data.report);
  }
};

let stop = null, away = null;
const pause = (off) => {
  at('pause').setAttribute('aria-pressed', off);
  if (off) {
    stop();
    say('paused: what comes now waits', 'waiting');
    away = setInterval(unread, 2000);
  } else {
    clearInterval(away);
    stop = sidecacheEvents(on, {topics: 'application.*,metrics', token});
  }
};

const submit = async () => {
  const {items: [job]} = await (await ask('/api/jobs?status=open&per_page=1')).json();
  const body = JSON.stringify({candidate: 'Sam Doe', email: 'sam@example.com'});
  const answer = await ask(`/api/jobs/${job.id}/applications`, {method: 'POST', body});
  if (!answer.ok) say(`not submitted: ${answer.status}`, 'gap');
};

const look = async () => {
  const {items} = await (await ask('/api/jobs?per_page=5')).json();
  await Promise.all(items.map(({id}) => ask(`/api/jobs/${id}`)));
};

document.querySelector(`[data-org=${org}]`).setAttribute('aria-current', 'page');
at('apply').addEventListener('click', submit);
at('look').addEventListener('click', look);
at('pause').addEventListener('click', () => pause(at('pause').getAttribute('aria-pressed') !== 'true'));
if (!window.sidecacheEvents) {
  say('Open this page through the sidecar: the portal alone has no events.', 'gap');
} else {
  begin().then(() => pause(false));
}
