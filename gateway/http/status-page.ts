/** The gateway's page: one file, no network but its own `/v1/status`, for a phone beside the machine. */
export const STATUS_PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice gateway</title>
<style>
:root { color-scheme: light dark; --line: color-mix(in srgb, currentColor 18%, transparent); --dim: color-mix(in srgb, currentColor 62%, transparent); --good: #1a7f4b; --bad: #c0392b; --warn: #b7791f; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff6b5e; --warn: #e5b454; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; font: 1rem/1.45 system-ui, sans-serif; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; align-items: baseline; }
h1 { font-size: 1.3rem; margin: 0; } h2 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
#state { font-weight: 600; } .good { color: var(--good); } .bad { color: var(--bad); } .warn { color: var(--warn); }
.dim { color: var(--dim); } .tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10rem, 1fr)); gap: .75rem; margin-top: 1rem; }
.tile { border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; } .tile b { display: block; font-size: 1.35rem; font-variant-numeric: tabular-nums; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; } th, td { text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 500; color: var(--dim); } td.n { font-variant-numeric: tabular-nums; } code { font-size: .9em; overflow-wrap: anywhere; }
</style>
</head>
<body>
<header><h1>Sluice gateway</h1><span id="state" role="status">…</span><span id="who" class="dim"></span></header>
<div class="tiles" id="tiles"></div>
<h2>Lanes</h2><div class="scroll"><table><thead><tr><th>lane</th><th>state</th><th>assigned</th><th>received</th><th>committed</th></tr></thead><tbody id="lanes"></tbody></table></div>
<h2>Topics that no rule takes</h2><p id="nounmatched" class="dim">none</p><div class="scroll"><table><tbody id="unmatched"></tbody></table></div>
<h2>Details</h2><div class="scroll"><table><tbody id="details"></tbody></table></div>
<script>
'use strict';
const number = new Intl.NumberFormat('en');
const element = (id) => document.getElementById(id);
function bytes(value) { let unit = 0; while (value >= 1000 && unit < 4) { value /= 1000; unit++; } return (unit === 0 ? value : value.toFixed(1)) + ' ' + ['B', 'kB', 'MB', 'GB', 'TB'][unit]; }
function ago(us, nowUs) { if (us === null) return '–'; const s = Math.max(0, (nowUs - us) / 1e6); return s < 90 ? s.toFixed(0) + ' s' : s < 5400 ? (s / 60).toFixed(0) + ' min' : s < 172800 ? (s / 3600).toFixed(1) + ' h' : (s / 86400).toFixed(1) + ' d'; }
function row(cells, tag) { const tr = document.createElement('tr'); for (const cell of cells) { const td = document.createElement(tag || 'td'); if (typeof cell === 'number') td.className = 'n'; td.textContent = typeof cell === 'number' ? number.format(cell) : cell; tr.append(td); } return tr; }
function tile(label, value) { const div = document.createElement('div'); div.className = 'tile'; const b = document.createElement('b'); b.textContent = value; const span = document.createElement('span'); span.className = 'dim'; span.textContent = label; div.append(b, span); return div; }
let before = null;
function show(s) {
  const now = s.time_us;
  const rate = before === null ? null : (s.ingest.readings - before.ingest.readings) / ((now - before.time_us) / 1e6);
  before = s;
  const up = s.uplink;
  const words = up === null ? ['buffer only, no hub configured', 'warn'] : up.status === 'connected' ? ['connected to the hub', 'good'] : up.status === 'wrong_lake' ? ['refuses the hub: another lake', 'bad'] : ['no connection to the hub', 'bad'];
  if (!s.journal.accepting) { words[0] = 'buffer full: takes nothing'; words[1] = 'bad'; }
  element('state').textContent = words[0]; element('state').className = words[1];
  element('who').textContent = (up && up.gateway ? up.gateway + ' · ' : '') + s.version;
  element('tiles').replaceChildren(
    tile('readings per second', rate === null ? '…' : number.format(Math.round(rate))),
    tile('waiting for the hub', number.format(s.backlog.readings)),
    tile('oldest of them', ago(s.backlog.oldest_us, now)),
    tile('buffer', bytes(s.journal.used_bytes) + ' of ' + bytes(s.journal.allowed_bytes)),
    tile('last commit at the hub', up === null ? '–' : ago(up.last_committed_us, now)),
    tile('MQTT connections', number.format(s.broker.connections)),
    tile('exceptions waiting', number.format(s.exceptions.waiting)));
  element('lanes').replaceChildren(...s.lanes.map((lane) => row([lane.lane + ' ' + lane.epoch.slice(0, 8), lane.state, lane.assigned, lane.received === null ? '–' : lane.received, lane.committed === null ? '–' : lane.committed])));
  element('nounmatched').hidden = s.unmatched_topics.length > 0;
  element('unmatched').replaceChildren(...s.unmatched_topics.map((topic) => row([topic.example, topic.messages, '{ match: ' + JSON.stringify(topic.suggested_match) + ' }'])));
  const details = [['clock', s.clock.state], ['series', number.format(s.series.count) + ' of ' + number.format(s.series.max)], ['messages', number.format(s.ingest.messages)], ['dead letters', number.format(s.ingest.dead_letters)], ['values that became exceptions', number.format(s.ingest.problems)], ['redeliveries recognised', number.format(s.ingest.redeliveries)], ['refused', number.format(s.ingest.refused)], ['lake', s.lake_id || '–'], ['last uplink error', up && up.last_error ? up.last_error.message : '–']];
  element('details').replaceChildren(...details.map((pair) => row(pair)));
}
async function refresh() {
  try { const response = await fetch('v1/status', { cache: 'no-store' }); if (!response.ok) throw new Error('HTTP ' + response.status); show(await response.json()); }
  catch (error) { element('state').textContent = 'gateway does not answer (' + error.message + ')'; element('state').className = 'bad'; before = null; }
  setTimeout(refresh, 2000);
}
refresh();
</script>
</body>
</html>
`;
