"""What do events look like in a page? One that shows them as they come, through a sidecar in front of the portal."""

from aiohttp import web

routes = web.RouteTableDef()

_POLICY = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; connect-src 'self'"


@routes.get("/_demo/live")
async def page(request: web.Request) -> web.Response:
    return web.Response(text=_PAGE, content_type="text/html", headers={"Content-Security-Policy": _POLICY})


@routes.get("/_demo/live.js")
async def script(request: web.Request) -> web.Response:
    return web.Response(text=_SCRIPT, content_type="text/javascript", headers={"Cache-Control": "no-cache"})


_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Live applications</title>
<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem}
button{font:inherit;padding:.3rem .8rem}li{font-variant-numeric:tabular-nums}</style>
<h1>Live applications</h1>
<p>Whoever may read applications hears of new ones here, without loading anything again. Close this page, submit some in
another one, and come back: they are waiting. <code>?org=globex</code> is the other organisation.</p>
<p><button id="apply">Submit an application</button></p>
<p id="state" role="status">connecting ...</p>
<ol id="events" aria-live="polite"></ol>
<script src="/.sidecache/events.js"></script>
<script src="/_demo/live.js"></script>
</html>
"""

_SCRIPT = """const org = new URLSearchParams(location.search).get('org') === 'globex' ? 'globex' : 'acme';
const [state, events, apply] = ['state', 'events', 'apply'].map((id) => document.getElementById(id));
const token = async () => (await (await fetch('/_demo/' + org)).text()).trim().replace('Authorization: Bearer ', '');

const submit = async () => {
  const headers = {Authorization: 'Bearer ' + await token(), 'Content-Type': 'application/json'};
  const {items: [job]} = await (await fetch('/api/jobs?status=open&per_page=1', {headers})).json();
  const body = JSON.stringify({candidate: 'Sam Doe', email: 'sam@example.com'});
  const answer = await fetch(`/api/jobs/${job.id}/applications`, {method: 'POST', headers, body});
  if (!answer.ok) state.textContent = 'not submitted: ' + answer.status;
};
apply.addEventListener('click', submit);

if (!window.sidecacheEvents) {
  state.textContent = 'Open this page through the sidecar: the portal alone has no events.';
} else {
  sidecacheEvents((event, data) => {
    if (event === 'hello') {
      state.textContent = data.recovered ? `connected, ${data.missed} missed` : 'connected; some may be missing';
    } else if (event === 'application.submitted') {
      const item = document.createElement('li');
      item.textContent = `${data.application} for ${data.job}`;
      events.append(item);
    }
  }, {topics: 'application.*', token});
}
"""
