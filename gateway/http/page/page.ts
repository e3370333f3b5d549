/**
 * The gateway's page: what it does right now, for a phone beside the machine. One answer, read-only, nothing from elsewhere;
 * its data are `/v1/status`, `/v1/devices` and `/v1/messages`.
 */
import { createHash } from 'node:crypto';
import { PAGE_SCRIPT } from './script.ts';
import { PAGE_STYLE } from './style.ts';

function card(id: string, title: string, content: string): string {
  return `<section class="card" id="${id}-card" aria-labelledby="${id}-title"><h2 id="${id}-title">${title}</h2>${content}</section>`;
}

const DEVICES = card(
  'devices',
  'Devices',
  `<input id="search" type="search" aria-label="Find a device" placeholder="Find a device" autocomplete="off" hidden>
<div class="scroll" tabindex="0" role="region" aria-labelledby="devices-title"><table id="devices-table" hidden><thead><tr><th scope="col">device</th><th scope="col" class="n">per min</th><th scope="col" class="n roomy">series</th><th scope="col" class="n">silent for</th></tr></thead><tbody id="devices"></tbody></table></div>
<p id="devices-note" class="dim small scroll-note"></p>`,
);

const MESSAGES = `<section class="card last" aria-labelledby="messages-title"><div class="heading"><h2 id="messages-title">Messages as they come</h2><button id="watch" type="button">Watch</button></div>
<p id="watch-note" class="dim small scroll-note" role="status"></p><div class="scroll" tabindex="0" role="region" aria-labelledby="messages-title"><ul id="messages"></ul></div></section>`;

const UPLINK = card(
  'uplink',
  'To the hub',
  `<dl id="uplink"></dl>
<table id="lanes-table" hidden><caption class="small">Lanes: ordered sequences of batches</caption><thead><tr><th scope="col">lane</th><th scope="col">state</th><th scope="col" class="n">not committed</th><th scope="col" class="n">in flight</th></tr></thead><tbody id="lanes"></tbody></table>`,
);

const BUFFER = card(
  'journal',
  'Buffer and gaps',
  `<dl id="buffer-list"></dl>
<table id="losses-table" hidden><caption class="small">Readings that became gaps, since this journal exists</caption><thead><tr><th scope="col">why</th><th scope="col" class="n">readings</th></tr></thead><tbody id="losses"></tbody></table>
<p id="no-losses" class="dim small">No reading became a gap.</p>`,
);

const CLOCK = card(
  'clock',
  'Clock',
  `<dl id="clock"></dl>
<table id="clock-devices-table" hidden><caption class="small">Devices whose clocks are off</caption><thead><tr><th scope="col">device</th><th scope="col" class="n">ahead by</th></tr></thead><tbody id="clock-devices"></tbody></table>
<table id="clock-events-table" hidden><caption class="small">Last events of the clock</caption><thead><tr><th scope="col">when</th><th scope="col">what</th><th scope="col" class="n">step</th></tr></thead><tbody id="clock-events"></tbody></table>`,
);

const PROBLEMS = card('problems', 'Last errors', '<p id="no-problems" class="dim small">None.</p><ul id="problems"></ul>');

const BODY = `<div class="frame">
<header><h1 id="who">Sluice gateway</h1></header>
<main>
<div id="state" role="status"><span class="dot" aria-hidden="true"></span><div><b id="state-title">…</b><span id="state-text"></span></div></div>
<div class="tiles">
<div class="tile wide"><b id="rate">…</b><span class="dim">readings per second</span><svg viewBox="0 0 100 32" preserveAspectRatio="none" aria-hidden="true"><path id="rate-line" d=""/></svg></div>
<div class="tile"><b id="active">…</b><span class="dim" id="active-note">devices</span></div>
<div class="tile"><b id="backlog">…</b><span class="dim" id="backlog-note">wait for the hub</span></div>
<div class="tile wide-phone"><b id="buffer">…</b><span class="dim" id="buffer-note">of the buffer</span><div class="bar" id="buffer-bar"><i></i></div></div>
</div>
<div class="cards">
<div class="column">${DEVICES}${card('unmatched', 'Topics that no rule takes', '<ul id="unmatched"></ul>')}${MESSAGES}</div>
<div class="column">${PROBLEMS}${UPLINK}${BUFFER}${CLOCK}${card('flash', 'Flash', '<dl id="flash"></dl><div class="bar" id="flash-bar" hidden><i></i></div>')}${card('sources', 'Sources', '<ul id="sources"></ul>')}${card('broker', 'Arrivals', '<dl id="broker"></dl>')}</div>
</div>
</main>
<footer class="dim small"><span id="version"></span></footer>
<noscript><p>This page needs JavaScript; <a href="v1/status">the same figures as JSON</a> do not.</p></noscript>
</div>`;

export const PAGE = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice gateway</title>
<link rel="icon" href="data:,">
<style>${PAGE_STYLE}</style>
</head>
<body>
${BODY}
<script>${PAGE_SCRIPT}</script>
</body>
</html>
`;

function hashOf(text: string): string {
  return `'sha256-${createHash('sha256').update(text).digest('base64')}'`;
}

/** The page's own script and style, and nothing else; it may talk to this gateway alone, and no other page may frame it. */
export const PAGE_HEADERS: Readonly<Record<string, string>> = {
  'content-security-policy': [
    "default-src 'none'",
    `script-src ${hashOf(PAGE_SCRIPT)}`,
    // Bars have their width as a property, which needs no style attribute.
    `style-src ${hashOf(PAGE_STYLE)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
};
