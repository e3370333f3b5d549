/**
 * The page's program, as text: it runs in the browser, without a build and without anything from elsewhere. All that it shows
 * is set as text, never as markup; fields that this gateway does not have are left out.
 */
export const PAGE_SCRIPT = String.raw`
'use strict';
const POLL_MS = 2000, DEVICES_EVERY = 2, POINTS_MAX = 90, RATE_WINDOW_S = 60, MESSAGES_MAX = 50, ROWS_MAX = 100, CLOCK_OFF_US = 2e6;
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });
const short = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const value = new Intl.NumberFormat('en', { maximumSignificantDigits: 7 });
const $ = (id) => document.getElementById(id);
const has = (field) => field !== undefined && field !== null;
let before = null, rates = [], polls = 0, stream = null;
const history = new Map(), open = new Map();

function bytes(count) {
  let unit = 0, rest = count;
  while (rest >= 1000 && unit < 4) { rest /= 1000; unit++; }
  return short.format(rest) + ' ' + ['B', 'kB', 'MB', 'GB', 'TB'][unit];
}
function span(seconds) {
  if (seconds < 90) return whole.format(seconds) + ' s';
  if (seconds < 5400) return whole.format(seconds / 60) + ' min';
  if (seconds < 172800) return short.format(seconds / 3600) + ' h';
  return short.format(seconds / 86400) + ' days';
}
function plural(count, word) { return whole.format(count) + ' ' + word + (count === 1 ? '' : 's'); }
function ago(us, nowUs) { return has(us) && us > 0 ? span(Math.max(0, (nowUs - us) / 1e6)) + ' ago' : 'never'; }
function stamp(us) { return new Date(us / 1000).toLocaleString(); }
function make(tag, text, className) {
  const node = document.createElement(tag);
  if (has(text)) node.textContent = text;
  if (className) node.className = className;
  return node;
}
function row(cells, tag) {
  const tr = make('tr');
  for (const cell of cells) {
    const td = cell instanceof Node ? make('td') : make('td', typeof cell === 'number' ? whole.format(cell) : cell, typeof cell === 'number' ? 'n' : 'wrap');
    if (cell instanceof Node) td.append(cell);
    tr.append(td);
  }
  return tr;
}
function numeric(text) { const td = make('td', text, 'n'); return td; }
function pairs(list, rows) {
  list.replaceChildren(...rows.filter((pair) => has(pair[1])).flatMap(([name, text, className]) => [make('dt', name), make('dd', text, className)]));
}
function setText(node, text) { if (node.textContent !== text) node.textContent = text; }
function show(id, visible) { $(id).hidden = !visible; }
function bar(node, ratio) {
  const share = Math.min(1, Math.max(0, ratio));
  node.firstElementChild.style.width = (share * 100).toFixed(1) + '%';
  node.className = 'bar' + (share > 0.95 ? ' is-bad' : share > 0.8 ? ' is-warn' : '');
}

function verdict(s, now) {
  const waiting = s.backlog.readings === 0 ? 'Nothing waits here.' : (s.backlog.readings === 1 ? '1 reading is' : whole.format(s.backlog.readings) + ' readings are') + ' safe here' + (has(s.backlog.oldest_us) ? ', the oldest for ' + span((now - s.backlog.oldest_us) / 1e6) + '.' : '.');
  const up = s.uplink;
  if (!s.journal.accepting) return ['bad', 'The buffer is full', 'New readings are refused; devices that can keep them.'];
  if (s.clock.state !== 'known') return ['warn', 'The clock is not known', 'Readings are kept and sent once the time is known. ' + waiting];
  if (up === null) return ['warn', 'No hub is configured', waiting];
  if (up.status === 'connected') {
    const late = has(s.backlog.oldest_us) && now - s.backlog.oldest_us > 120e6;
    return late ? ['warn', 'Connected, catching up', waiting] : ['good', 'Connected to the hub', has(up.last_committed_us) && up.last_committed_us > 0 ? 'Last commit ' + ago(up.last_committed_us, now) + '. ' + waiting : waiting];
  }
  if (up.status === 'wrong_lake') return ['bad', 'The hub serves another lake', 'Nothing is sent until an operator says so. ' + waiting];
  if (up.status === 'connecting' && !has(up.last_error)) return ['warn', 'Connecting to the hub', waiting];
  return ['bad', 'No connection to the hub', waiting];
}
function showState(s, now) {
  const [level, title, text] = verdict(s, now);
  $('state').className = 'is-' + level;
  setText($('state-title'), title);
  setText($('state-text'), text);
}
function showRate(s) {
  if (before !== null && s.time_us > before.time_us && s.ingest.readings >= before.ingest.readings) {
    rates.push((s.ingest.readings - before.ingest.readings) / ((s.time_us - before.time_us) / 1e6));
    rates = rates.slice(-POINTS_MAX);
  }
  before = s;
  const last = rates.slice(-3);
  setText($('rate'), last.length === 0 ? '…' : short.format(last.reduce((sum, rate) => sum + rate, 0) / last.length));
  if (rates.length < 2) return;
  const top = Math.max(...rates, 1e-9);
  $('rate-line').setAttribute('d', rates.map((rate, index) => (index === 0 ? 'M' : 'L') + (100 - ((rates.length - 1 - index) * 100) / (POINTS_MAX - 1)).toFixed(2) + ' ' + (30 - (rate / top) * 28).toFixed(2)).join(''));
}
function showTiles(s, now) {
  showRate(s);
  setText($('backlog'), whole.format(s.backlog.readings));
  setText($('backlog-note'), has(s.backlog.bytes) && s.backlog.readings > 0 ? 'wait for the hub, ' + bytes(s.backlog.bytes) : 'wait for the hub');
  const used = s.journal.used_bytes / Math.max(1, s.journal.allowed_bytes);
  setText($('buffer'), short.format(used * 100) + ' %');
  setText($('buffer-note'), 'of the buffer, ' + bytes(s.journal.allowed_bytes));
  bar($('buffer-bar'), used);
}
function showUplink(s, now) {
  const up = s.uplink;
  pairs($('uplink'), up === null ? [['hub', 'none is configured: readings stay here']] : [
    ['connection', up.status.replaceAll('_', ' '), up.status === 'connected' ? 'good' : 'bad'],
    ['next try', up.status !== 'connected' && has(up.retry_in_ms) ? 'in ' + span(up.retry_in_ms / 1000) : null],
    ['gateway', up.gateway], ['hub version', up.hub_version], ['lake', s.lake_id],
    ['last commit', ago(up.last_committed_us, now)],
    ['sent', whole.format(up.batches_sent) + (up.batches_sent === 1 ? ' batch, ' : ' batches, ') + bytes(up.bytes_sent)],
    ['reconnects', whole.format(up.reconnects)],
    ['old data beside new', has(up.backfill_bytes_per_second_max) ? 'at most ' + bytes(up.backfill_bytes_per_second_max) + ' per second' : null],
  ]);
  $('lanes').replaceChildren(...s.lanes.map((lane) => {
    const waiting = Math.max(0, lane.assigned - (has(lane.committed) ? lane.committed : lane.base - 1));
    const tr = row([lane.lane + ' ' + lane.epoch.slice(0, 6), lane.state.replaceAll('_', ' ')]);
    tr.append(numeric(whole.format(waiting)), numeric(has(lane.in_flight_bytes) ? bytes(lane.in_flight_bytes) : '–'));
    return tr;
  }));
  show('lanes-table', s.lanes.length > 0);
}
function showBuffer(s, now) {
  const j = s.journal;
  pairs($('buffer-list'), [
    ['used', bytes(j.used_bytes) + ' of ' + bytes(j.allowed_bytes)],
    ['policy when full', j.policy],
    ['batches', whole.format(j.batches) + ' sealed, and ' + plural(j.unsealed_readings, 'reading') + ' not sealed'],
    ['not offered yet', has(j.unassigned) && j.unassigned.batches > 0 ? plural(j.unassigned.readings, 'reading') + ', ' + bytes(j.unassigned.bytes) : null],
    ['thinned', has(j.unassigned) && j.unassigned.thinned_batches > 0 ? whole.format(j.unassigned.thinned_batches) + ' of the batches' : null, 'warn'],
    ['commit to disk', has(j.commit_ms_mean) ? short.format(j.commit_ms_mean) + ' ms on average, ' + short.format(j.commit_ms_max) + ' ms at most' : null],
    ['exceptions on their way', whole.format(s.exceptions.waiting)],
    ['series', whole.format(s.series.count) + ' of ' + whole.format(s.series.max)],
  ]);
  const losses = s.exceptions.losses || [];
  $('losses').replaceChildren(...losses.map((loss) => row([String(loss.reason).replaceAll('_', ' '), loss.readings])));
  show('losses-table', losses.length > 0);
  show('no-losses', losses.length === 0);
}
function signed(us) { const s = us / 1e6; return (s < 0 ? '−' : '+') + (Math.abs(s) < 1 ? short.format(Math.abs(us) / 1000) + ' ms' : span(Math.abs(s))); }
function showClock(s, now) {
  const c = s.clock, ntp = c.ntp;
  pairs($('clock'), [
    ['state', c.state, c.state === 'known' ? 'good' : 'warn'],
    ['time', stamp(has(c.wall_us) ? c.wall_us : now)],
    ['vouched for by', c.source],
    ['NTP', !has(ntp) ? null : typeof ntp === 'object' ? Object.entries(ntp).filter((pair) => has(pair[1]) && typeof pair[1] !== 'object').map((pair) => pair[0].replaceAll(/[_A-Z]/g, (c2) => (c2 === '_' ? ' ' : ' ' + c2.toLowerCase())) + ' ' + pair[1]).join(', ') : String(ntp)],
    ['machine against hub', has(c.hub) && has(c.hub.ahead_us) ? signed(c.hub.ahead_us) + ' ± ' + short.format(c.hub.uncertainty_us / 1000) + ' ms' : null],
    ['steps', has(c.steps) ? whole.format(c.steps.forward) + ' forward, ' + whole.format(c.steps.back) + ' back' : null],
    ['this browser', signed(Date.now() * 1000 - now) + ' against the gateway'],
  ]);
  const off = (c.devices || []).filter((device) => Math.abs(device.ahead_us) > CLOCK_OFF_US).slice(0, 10);
  $('clock-devices').replaceChildren(...off.map((device) => {
    const tr = row([device.device]);
    tr.append(numeric(signed(device.ahead_us) + (device.applied_us ? ', corrected' : '')));
    return tr;
  }));
  show('clock-devices-table', off.length > 0);
  const events = (c.events || []).slice(-5).reverse();
  $('clock-events').replaceChildren(...events.map((event) => {
    const tr = row([ago(event.at_us, now), String(event.kind).replaceAll(/[_-]/g, ' ') + (has(event.source) ? ', ' + event.source : '')]);
    tr.append(numeric(event.step_us ? signed(event.step_us) : '–'));
    return tr;
  }));
  show('clock-events-table', events.length > 0);
}
function showFlash(f) {
  show('flash-card', has(f));
  if (!has(f)) return;
  const day = f.bytes_per_day, max = f.bytes_per_day_max;
  pairs($('flash'), [
    ['disk', has(f.device) ? f.device + (f.is_card ? ' (card)' : '') : null],
    ['this gateway writes', has(day) ? bytes(day) + ' per day' : null],
    ['per reading', has(f.bytes_per_reading) ? short.format(f.bytes_per_reading) + ' bytes' : null],
    ['all programs', has(f.disk_bytes_per_day) ? bytes(f.disk_bytes_per_day) + ' per day' : null],
    ['budget', has(max) && max > 0 ? bytes(max) + ' per day' : 'none'],
    ['acks wait', has(f.delay_ms) && f.delay_ms > 0 ? 'up to ' + whole.format(f.delay_ms) + ' ms, to keep the budget' : null],
    ['life at this rate', has(f.life_years) ? (f.life_years > 100 ? 'more than 100 years' : short.format(f.life_years) + ' years') : null],
    ['worn', has(f.worn_ratio) ? short.format(f.worn_ratio * 100) + ' %' : null],
  ]);
  const usable = has(day) && has(max) && max > 0;
  show('flash-bar', usable);
  if (usable) bar($('flash-bar'), day / max);
}
function showSources(s, now) {
  const sources = s.sources || [];
  $('sources').replaceChildren(...sources.map((source) => {
    const li = make('li');
    const fine = source.state === 'connected' || source.state === 'watching' || source.state === 'reading';
    li.append(make('b', source.name + ' '), make('span', source.state + (has(source.since_us) && source.kind === 'mqtt' ? ' since ' + span((now - source.since_us) / 1e6) : ''), fine ? 'good' : 'warn'));
    const words = source.kind === 'mqtt'
      ? plural(source.messages, 'message') + ', ' + whole.format(source.in_flight) + ' wait for their commit'
      : plural(source.files_done, 'file') + ' done, ' + whole.format(source.files_failed) + ' failed, ' + whole.format(source.files_waiting) + ' there';
    li.append(make('div', words, 'dim small'));
    if (has(source.file)) {
      const progress = make('div', null, 'bar');
      progress.append(make('i'));
      bar(progress, source.file.bytes_read / Math.max(1, source.file.bytes));
      li.append(make('div', source.file.name + ', ' + whole.format(source.file.rows) + ' rows', 'small'), progress);
    }
    if (has(source.last_error)) li.append(make('div', source.last_error, 'small ' + (fine ? 'dim' : 'bad')));
    return li;
  }));
  show('sources-card', sources.length > 0);
  pairs($('broker'), [
    ['MQTT connections', whole.format(s.broker.connections)],
    ['received', plural(s.ingest.messages, 'message') + ', ' + plural(s.ingest.readings, 'reading')],
    ['repeated and known', s.ingest.redeliveries > 0 ? whole.format(s.ingest.redeliveries) : null],
    ['refused', s.ingest.refused > 0 ? whole.format(s.ingest.refused) : null, 'bad'],
    ['wrong credentials', s.broker.authentications_failed > 0 ? whole.format(s.broker.authentications_failed) : null, 'warn'],
  ]);
}
function showProblems(s, now) {
  const items = [];
  const up = s.uplink;
  if (up !== null && has(up.last_error)) items.push({ title: 'to the hub', text: up.last_error.message, code: up.last_error.code, us: up.last_error.at_us });
  for (const problem of s.recent_problems || []) items.push({ title: problem.topic + (problem.count > 1 ? ', ' + whole.format(problem.count) + ' times' : ''), text: problem.message, code: problem.code, us: problem.last_us });
  items.sort((a, b) => b.us - a.us);
  $('problems').replaceChildren(...items.slice(0, 20).map((item) => {
    const li = make('li'), head = make('div');
    head.append(make('b', item.title + ' '), make('span', ago(item.us, now), 'dim small'));
    const code = make('div', null, 'small');
    code.append(make('code', item.code, 'dim'));
    li.append(head, make('div', item.text, 'small'), code);
    return li;
  }));
  show('no-problems', items.length === 0);
  const unmatched = s.unmatched_topics || [];
  $('unmatched').replaceChildren(...unmatched.slice(0, 20).map((topic) => {
    const li = make('li'), rule = make('div', 'a rule for it: ', 'small dim');
    rule.append(make('code', has(topic.suggested_preset) ? '{ preset: ' + topic.suggested_preset + ' }' : '{ match: ' + JSON.stringify(topic.suggested_match) + ' }'));
    li.append(make('b', topic.example + ' '), make('span', plural(topic.messages, 'message'), 'dim small'), rule);
    return li;
  }));
  show('unmatched-card', unmatched.length > 0);
}
function showStatus(s) {
  const now = s.time_us, up = s.uplink;
  setText($('who'), up !== null && has(up.gateway) ? up.gateway : 'Sluice gateway');
  document.title = (up !== null && has(up.gateway) ? up.gateway + ' · ' : '') + 'Sluice gateway';
  showState(s, now);
  showTiles(s, now);
  showUplink(s, now);
  showBuffer(s, now);
  showClock(s, now);
  showFlash(s.flash);
  showSources(s, now);
  showProblems(s, now);
  setText($('version'), 'Sluice ' + s.version + ', up for ' + span(s.uptime_seconds) + ', epoch ' + s.epoch.slice(0, 8));
}

function perMinute(device, nowUs) {
  let points = history.get(device.device);
  if (!points) history.set(device.device, (points = []));
  points.push([nowUs, device.readings]);
  while (points.length > 2 && nowUs - points[0][0] > RATE_WINDOW_S * 1e6) points.shift();
  const [[fromUs, from]] = points;
  return nowUs - fromUs < 3e6 ? null : ((device.readings - from) / ((nowUs - fromUs) / 1e6)) * 60;
}
function seriesTable(answer) {
  const table = make('table', null, 'small'), body = make('tbody');
  for (const series of answer.series.slice(0, ROWS_MAX)) {
    const tags = has(series.tags) ? ' {' + Object.entries(series.tags).map((pair) => pair.join('=')).join(', ') + '}' : '';
    const tr = make('tr');
    tr.append(make('td', series.metric + tags, 'wrap'), numeric(series.last_value === null ? 'text' : value.format(series.last_value)), numeric(ago(series.last_us, answer.time_us)));
    body.append(tr);
  }
  table.append(body);
  return table;
}
async function fill(device, cell) {
  try { cell.replaceChildren(seriesTable(await get('v1/devices?device=' + encodeURIComponent(device)))); }
  catch (error) { cell.textContent = 'not known: ' + error.message; }
}
function toggle(device) {
  if (open.has(device)) open.delete(device);
  else {
    const cell = make('td', '…');
    cell.colSpan = 4;
    open.set(device, cell);
    fill(device, cell);
  }
  showDevices();
}
let devices = null;
const buttons = new Map();
function deviceButton(name) {
  let button = buttons.get(name);
  if (!button) {
    button = make('button', name, 'name');
    button.type = 'button';
    button.addEventListener('click', () => toggle(name));
    buttons.set(name, button);
  }
  button.setAttribute('aria-expanded', String(open.has(name)));
  return button;
}
function showDevices() {
  if (devices === null) return;
  const wanted = $('search').value.trim().toLowerCase();
  const found = devices.devices.filter((device) => device.device.toLowerCase().includes(wanted));
  // Rows that jump while somebody reads them are of no use: by name.
  const shown = found.slice(0, ROWS_MAX).sort((a, b) => a.device.localeCompare(b.device, 'en', { numeric: true }));
  const rows = [];
  for (const device of shown) {
    const tr = make('tr'), name = make('td');
    name.append(deviceButton(device.device));
    const silentS = (devices.time_us - device.last_us) / 1e6;
    tr.append(name, numeric(device.perMinute === null ? '…' : short.format(device.perMinute)), make('td', whole.format(device.series), 'n roomy'), make('td', span(Math.max(0, silentS)), 'n' + (silentS > 300 ? ' warn' : '')));
    rows.push(tr);
    if (open.has(device.device)) {
      const detail = make('tr', null, 'detail');
      detail.append(open.get(device.device));
      rows.push(detail);
    }
  }
  const focused = document.activeElement;
  $('devices').replaceChildren(...rows);
  if (focused instanceof HTMLElement && focused.isConnected) focused.focus({ preventScroll: true });
  const more = found.length - shown.length + Math.max(0, devices.count - devices.devices.length);
  setText($('devices-note'), devices.count === 0 ? 'Nothing has come since the start.' : more > 0 ? whole.format(more) + ' more; the list has those that sent last' : '');
  show('devices-table', shown.length > 0);
  show('search', devices.count > 8);
}
function takeDevices(answer) {
  for (const device of answer.devices) device.perMinute = perMinute(device, answer.time_us);
  if (history.size > 2000) history.clear();
  if (buttons.size > 2000) buttons.clear();
  devices = answer;
  const active = answer.devices.filter((device) => answer.time_us - device.last_us < 300e6).length;
  setText($('active'), whole.format(active));
  setText($('active-note'), 'devices in 5 min, of ' + whole.format(answer.count));
  showDevices();
  for (const [device, cell] of open) fill(device, cell);
}

async function get(path) {
  const response = await fetch(path, { cache: 'no-store' });
  if (response.ok) return response.json();
  const problem = await response.json().catch(() => null);
  throw new Error(problem !== null && has(problem.detail) ? problem.detail : 'HTTP ' + response.status);
}
async function refresh() {
  if (document.hidden) return;
  try {
    showStatus(await get('v1/status'));
    if (polls++ % DEVICES_EVERY === 0) {
      try { takeDevices(await get('v1/devices')); }
      catch (error) { setText($('devices-note'), error.message); }
    }
  } catch (error) {
    $('state').className = 'is-bad';
    setText($('state-title'), 'The gateway does not answer');
    setText($('state-text'), error.message + '. What is below is from before.');
    before = null;
  }
}
function showMessage(message) {
  const li = make('li'), head = make('div');
  const fine = ['taken', 'ignored', 'redelivery'].includes(message.outcome);
  head.append(make('span', message.time.slice(11, 19) + ' ', 'dim'), make('b', message.topic + ' '), make('span', message.outcome.replaceAll('_', ' '), fine ? 'good' : 'bad'));
  const names = new Set(message.readings.map((reading) => reading.device));
  const readings = message.readings.slice(0, 8).map((reading) => (names.size > 1 ? reading.device + ' ' : '') + reading.metric + ' ' + (reading.value === null ? JSON.stringify(reading.text) : value.format(reading.value)));
  if (message.reading_count > 8) readings.push(message.reading_count - 8 + ' more');
  li.append(head);
  if (readings.length > 0) li.append(make('div', readings.join(' · '), 'wrap'));
  for (const problem of message.problems.slice(0, 4)) li.append(make('div', problem.message, 'bad'), make('div', problem.advice, 'dim'));
  if (has(message.hint)) li.append(make('div', message.hint, 'dim'));
  $('messages').prepend(li);
  while ($('messages').childElementCount > MESSAGES_MAX) $('messages').lastElementChild.remove();
}
function watch() {
  if (stream !== null) {
    stream.close();
    stream = null;
    setText($('watch'), 'Watch');
    setText($('watch-note'), '');
    return;
  }
  stream = new EventSource('v1/messages');
  let leftOut = 0;
  setText($('watch'), 'Stop');
  setText($('watch-note'), 'waiting for messages …');
  stream.addEventListener('message', (event) => { showMessage(JSON.parse(event.data)); if (leftOut === 0) setText($('watch-note'), ''); });
  stream.addEventListener('left_out', (event) => { leftOut += JSON.parse(event.data).count; setText($('watch-note'), whole.format(leftOut) + ' messages more came than are shown'); });
  stream.addEventListener('error', () => setText($('watch-note'), 'the connection broke; it is tried again'));
}
$('search').addEventListener('input', showDevices);
$('watch').addEventListener('click', watch);
document.addEventListener('visibilitychange', () => { if (!document.hidden) { before = null; refresh(); } });
setInterval(refresh, POLL_MS);
refresh();
`;
