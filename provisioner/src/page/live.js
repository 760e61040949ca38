'use strict';
const live = document.getElementById('live'), link = document.getElementById('link');
const old = text => { link.textContent = text; };
const lost = () => old('no connection; what is shown is old');

// Makes what stands here as it is now, and leaves alone what is the same: what somebody opened, typed,
// marked or scrolled stays, and so does the focus. What has an id is known by it.
function renew(here, now) {
  if (here.isEqualNode(now) || here.hasAttribute?.('data-own')) return;
  if (here.nodeName !== now.nodeName || here.id !== now.id) { here.replaceWith(now); return; }
  if (here.nodeType !== Node.ELEMENT_NODE) { here.data = now.data; return; }
  // A form in somebody's hand stays as it was read: the server refuses what is not so any more.
  if (here.matches('form:hover, form:focus-within')) return;
  for (const { name } of [...here.attributes])
    if (name !== 'open' && !now.hasAttribute(name)) here.removeAttribute(name);
  for (const { name, value } of now.attributes)
    if (here.getAttribute(name) !== value) here.setAttribute(name, value);
  const wanted = new Set([...now.children].map(child => child.id));
  for (const child of [...here.children]) if (child.id && !wanted.has(child.id)) child.remove();
  const known = new Map([...here.children].map(child => [child.id, child]));
  let at = here.firstChild;
  for (const child of [...now.childNodes]) {
    const mine = child.id ? known.get(child.id) : at && !at.id ? at : null;
    if (!mine) { here.insertBefore(child, at); continue; }
    while (at && at !== mine && !at.id) { const gone = at; at = at.nextSibling; gone.remove(); }
    if (at === mine) at = mine.nextSibling; else here.insertBefore(mine, at);
    renew(mine, child);
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
}

// Events of a place, while the page is looked at: a browser has few connections, and we few places.
function follow(place, opened, heard) {
  let source = null;
  const look = () => {
    if (document.hidden) { source?.close(); source = null; return; }
    if (source && source.readyState !== EventSource.CLOSED) return;
    source = new EventSource(place());
    source.onopen = opened;
    source.onerror = lost;
    for (const [kind, then] of Object.entries(heard)) source.addEventListener(kind, then);
  };
  document.addEventListener('visibilitychange', look);
  setInterval(look, 5000);
  look();
}

// Fetches the page again when something happened, at most once a second, and each ten seconds in any
// case, for what only grows older.
if (live) {
  const { mac, place } = live.dataset;
  let due = false, busy = false, last = Date.now();
  const again = async () => {
    busy = true; due = false; last = Date.now();
    try {
      const answer = await fetch(place || location.pathname + location.search);
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const now = page.getElementById('live');
      if (!answer.ok || !now) throw new Error('it is not here any more');
      const focus = document.activeElement;
      renew(live, document.adoptNode(now));
      if (focus !== document.activeElement && focus.isConnected) focus.focus({ preventScroll: true });
      old('');
    } catch { lost(); }
    busy = false;
  };
  const happened = () => { due = true; };
  const heard = { missed: happened };
  heard.timeline = event => { if (!mac || JSON.parse(event.data).mac === mac) due = true; };
  if (!mac) heard.upstream = happened;
  follow(() => '/v1/events', happened, heard);
  setInterval(() => {
    if (document.hidden || busy) return;
    if ((due && Date.now() - last > 1000) || Date.now() - last > 10000) again();
  }, 250);
}

// Appends a console's lines as they come, as text; stays at the end where that is what is looked at.
const lines = document.getElementById('lines');
if (lines) lines.scrollTop = lines.scrollHeight;
if (lines?.dataset.mac) {
  const add = (text, kind, before) => {
    const line = document.createElement('li');
    if (kind) line.className = kind;
    if (before) {
      const when = document.createElement('span');
      when.className = 'quiet'; when.textContent = before; line.append(when);
    }
    line.append(text); lines.append(line);
  };
  const line = event => {
    const line = JSON.parse(event.data);
    const end = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 40;
    if (line.missing) add(`lines are missing here: ${line.missing}`, 'gap');
    add(line.text, line.level !== null && line.level <= 3 ? 'grave' : '',
        `${(line.at_ms / 1000).toFixed(3)} ${line.source} `);
    lines.dataset.last = line.id;
    while (lines.children.length > 2000) lines.firstChild.remove();
    if (end) lines.scrollTop = lines.scrollHeight;
  };
  const { mac } = lines.dataset;
  follow(() => `/v1/machines/${mac}/console/live?after=${lines.dataset.last}`, () => old(''), { line });
}

// Puts a file's text where it can be read before it is sent.
for (const from of document.querySelectorAll('input[type=file][data-into]')) {
  from.hidden = from.disabled = false;
  from.onchange = async () => {
    if (from.files.length) document.getElementById(from.dataset.into).value = await from.files[0].text();
  };
}
