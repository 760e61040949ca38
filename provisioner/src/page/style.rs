//! The page's style sheet and script, in the page itself.

pub(super) const STYLE: &str = "
:root {
  --back: #f6f7f9; --card: #fff; --text: #14181f; --quiet: #5a6472; --line: #dfe3e8;
  --good: #14713d; --good-back: #def3e6; --busy: #0b56a8; --busy-back: #dcebfb;
  --bad: #a3220f; --bad-back: #fde5e0; --warn: #7a4b00; --warn-back: #fdeecf;
}
@media (prefers-color-scheme: dark) {
  :root {
    --back: #0f1318; --card: #181e26; --text: #e8ecf1; --quiet: #9aa6b4; --line: #2b3440;
    --good: #7fdca4; --good-back: #123524; --busy: #8cc2ff; --busy-back: #12304f;
    --bad: #ff9c8a; --bad-back: #47180f; --warn: #f5c469; --warn-back: #40300d;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--text); font: 16px/1.45 system-ui, sans-serif; }
header { display: flex; gap: 1rem; align-items: baseline; padding: .8rem 1rem 0; max-width: 76rem; margin: auto; }
main { padding: 0 1rem 3rem; max-width: 76rem; margin: auto; }
h1 { font-size: 1.25rem; margin: 0; }
h2 { font-size: 1.1rem; margin: 1.6rem 0 .6rem; }
h3 { font-size: 1rem; margin: .8rem 0 .3rem; }
a { color: inherit; text-decoration-color: var(--quiet); text-underline-offset: .2em; }
code { font: .85em ui-monospace, monospace; }
.long { overflow-wrap: anywhere; }
.quiet { color: var(--quiet); font-weight: 400; font-size: .9rem; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .6rem; margin: 1rem 0; }
.facts.small { grid-template-columns: repeat(auto-fit, minmax(7.5rem, 1fr)); }
.fact { display: flex; flex-direction: column; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; min-width: 0; overflow-wrap: anywhere; }
.fact strong { font-size: 1.4rem; font-variant-numeric: tabular-nums; }
.small .fact strong { font-size: 1.1rem; }
.card { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem .7rem; margin: 0 0 .6rem; }
.row { display: flex; flex-wrap: wrap; gap: .1rem .8rem; align-items: baseline; }
.row h3 { margin: 0; }
.end { margin-left: auto; }
.stages { list-style: none; display: flex; flex-wrap: wrap; gap: .3rem; margin: .4rem 0 0; padding: 0; font-size: .85rem; }
.stages li { border-radius: .9rem; padding: .1rem .6rem; background: var(--good-back); color: var(--good); }
.stages li.started { background: var(--busy-back); color: var(--busy); }
.stages li.retrying { background: var(--warn-back); color: var(--warn); }
.stages li.failed { background: var(--bad-back); color: var(--bad); }
.problem { background: var(--bad-back); color: var(--bad); border-radius: .5rem; padding: .4rem .8rem; margin: .5rem 0 0; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 0 1.2rem; align-items: start; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th { text-align: left; color: var(--quiet); font-weight: 500; }
th, td { padding: .2rem .9rem .2rem 0; border-bottom: 1px solid var(--line); vertical-align: top; white-space: nowrap; }
td.text { white-space: normal; overflow-wrap: anywhere; width: 100%; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.stages .number { text-align: left; }
.when { font-variant-numeric: tabular-nums; }
tr.refused td, tr.conflict td, tr.failed td { color: var(--bad); }
tr.retrying td { color: var(--warn); }
progress { width: 100%; height: .6rem; accent-color: var(--good); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; margin: .8rem 0; }
dt { color: var(--quiet); }
dd { margin: 0; overflow-wrap: anywhere; }
nav { display: flex; gap: .9rem; }
nav a, .end a { text-decoration: none; }
nav a:hover, nav a:focus-visible { text-decoration: underline; }
header { flex-wrap: wrap; }
header form { margin: 0; }
:focus-visible { outline: 3px solid var(--busy); outline-offset: 2px; }
button, input, select { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--quiet); border-radius: .4rem; padding: .3rem .7rem; min-height: 2.4rem; }
input[type=checkbox] { min-height: 0; }
button { cursor: pointer; }
button.grave { border-color: var(--bad); color: var(--bad); }
.search { display: flex; flex-wrap: wrap; gap: .5rem 1rem; align-items: center; margin: 1rem 0 0; }
.stack { display: grid; gap: .5rem; }
.narrow { max-width: 32rem; }
.actions { display: flex; flex-wrap: wrap; gap: .5rem; margin: .8rem 0; align-items: flex-start; }
.actions form { margin: 0; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .35rem .7rem; background: var(--card); }
summary { cursor: pointer; }
.stands { border-radius: .9rem; padding: .05rem .6rem; font-size: .85rem; font-weight: 400; background: var(--busy-back); color: var(--busy); }
.stands.ready { background: var(--good-back); color: var(--good); }
.stands.pending, .stands.draining { background: var(--warn-back); color: var(--warn); }
.stands.quarantined { background: var(--bad-back); color: var(--bad); }
.stands.retired, .stands.discovered { background: var(--line); color: var(--quiet); }
.console { list-style: none; margin: .6rem 0; padding: .5rem .8rem; max-height: 32rem; overflow: auto; background: var(--card); border: 1px solid var(--line); border-radius: .5rem; font: .8rem/1.5 ui-monospace, monospace; }
.console li { overflow-wrap: anywhere; white-space: pre-wrap; }
.console .quiet { font-size: inherit; }
.console .grave { color: var(--bad); }
.console .gap { color: var(--warn); }
.changes { padding-left: 1.2rem; overflow-wrap: anywhere; }
del { color: var(--bad); } ins { color: var(--good); text-decoration: none; }
.console:empty { display: none; }
textarea { font: .85rem/1.5 ui-monospace, monospace; color: inherit; background: var(--card); border: 1px solid var(--quiet); border-radius: .4rem; padding: .5rem; width: 100%; }
@media (max-width: 34rem) {
  dl { grid-template-columns: 1fr; gap: 0; } dd { margin-bottom: .4rem; }
  .when { white-space: normal; }
  .end { margin-left: 0; }
}
";

/// Appends a console's lines as they come, as text; stays at the end where that is what is looked at.
pub(super) const CONSOLE: &str = "
const lines = document.getElementById('lines');
lines.scrollTop = lines.scrollHeight;
if (lines.dataset.mac) {
  const link = document.getElementById('link');
  const news = new EventSource(`/v1/machines/${lines.dataset.mac}/console/live?after=${lines.dataset.last}`);
  const add = (text, kind, before) => {
    const line = document.createElement('li');
    if (kind) line.className = kind;
    if (before) {
      const when = document.createElement('span');
      when.className = 'quiet'; when.textContent = before; line.append(when);
    }
    line.append(text); lines.append(line);
  };
  news.addEventListener('line', event => {
    const line = JSON.parse(event.data);
    const end = lines.scrollTop + lines.clientHeight > lines.scrollHeight - 40;
    if (line.missing) add(`lines are missing here: ${line.missing}`, 'gap');
    add(line.text, line.level !== null && line.level <= 3 ? 'grave' : '',
        `${(line.at_ms / 1000).toFixed(3)} ${line.source} `);
    while (lines.children.length > 2000) lines.firstChild.remove();
    if (end) lines.scrollTop = lines.scrollHeight;
  });
  news.onerror = () => { link.textContent = 'no connection; what is shown is old'; };
  news.onopen = () => { link.textContent = ''; };
}
";

/// Looks at the whole again when something happened, at most once a second, and each ten seconds
/// in any case, for what only grows older.
pub(super) const SCRIPT: &str = "
const live = document.getElementById('live'), link = document.getElementById('link');
let due = false, busy = false, last = 0;
async function refresh() {
  if (busy) { due = true; return; }
  busy = true; due = false; last = Date.now();
  try {
    const answer = await fetch('/live' + location.search);
    if (answer.ok) { live.innerHTML = await answer.text(); link.textContent = ''; }
  } catch { link.textContent = 'no connection; what is shown is old'; }
  busy = false;
}
const news = new EventSource('/v1/events');
for (const kind of ['timeline', 'upstream', 'missed']) news.addEventListener(kind, () => { due = true; });
news.onerror = () => { link.textContent = 'no connection; what is shown is old'; };
news.onopen = () => { link.textContent = ''; due = true; };
setInterval(() => {
  if (document.hidden) return;
  if ((due && Date.now() - last > 1000) || Date.now() - last > 10000) refresh();
}, 250);
";
