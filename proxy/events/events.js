// sidecacheEvents((event, data, id) => ..., {topics, token}): the events of sidecache. All tabs share one stream.
// event 'hello': a stream begins. data.recovered === false: something may be missing, load anew. Returns a stop.
((base) => {
  window.sidecacheEvents = (on, {topics = '', token, url = base + 'events'} = {}) => {
    const name = `${url} ${topics}`, tabs = new BroadcastChannel(name), end = new AbortController(), {signal} = end;
    let wait = 3000;
    const note = ([event, data, id]) => {
      if (id) localStorage[name] = id;
      if (event) on(event, data, id);
    };
    tabs.onmessage = ({data}) => note(data);
    const block = (text) => {
      const said = {};
      for (const line of text.split('\n')) {
        const [, key, value] = line.match(/^(\w+): (.*)/) || [];
        if (key) said[key] = value;
      }
      wait = +said.retry || wait;
      const told = [said.event, said.data && JSON.parse(said.data), said.id];
      tabs.postMessage(told);
      note(told);
    };
    const read = async () => {
      const headers = {};
      if (token) headers.Authorization = `Bearer ${await token()}`;
      if (localStorage[name]) headers['Last-Event-ID'] = localStorage[name];
      const query = topics && `?topics=${encodeURIComponent(topics)}`;
      const answer = await fetch(url + query, {headers, signal, credentials: 'include'});
      if (!answer.ok) return void (wait = 1e3 * (answer.headers.get('Retry-After') || 10));
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ''; ;) {
        const {value, done} = await reader.read();
        if (done) return;
        const blocks = (rest + value).split('\n\n');
        rest = blocks.pop();
        blocks.forEach(block);
      }
    };
    const lead = async () => {
      for (;;) {
        await read().catch(() => 0);
        if (signal.aborted) return;
        await new Promise((go) => setTimeout(go, wait));
      }
    };
    navigator.locks ? navigator.locks.request(name, {signal}, lead).catch(() => 0) : lead();
    return () => end.abort(tabs.close());
  };
})(new URL('.', document.currentScript.src));
