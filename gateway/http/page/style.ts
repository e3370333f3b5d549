/** Light and dark by the system, one column on a phone, contrast of text at least 4.5:1 in both. */
export const PAGE_STYLE = `
:root {
  color-scheme: light dark;
  --ground: #f4f6f7; --card: #ffffff; --ink: #14212b; --dim: #51606c; --line: #d7dee3; --track: #e4e9ec;
  --good: #0a7a4a; --good-ground: #e0f4ea; --warn: #8a5a00; --warn-ground: #fdf1d6; --bad: #b3261e; --bad-ground: #fce4e2; --accent: #0b6a88;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #0f1519; --card: #182026; --ink: #e6edf1; --dim: #9db0bd; --line: #2c3840; --track: #2a353d;
    --good: #56d39b; --good-ground: #12301f; --warn: #f0c15a; --warn-ground: #352a10; --bad: #ff8a80; --bad-ground: #3b1a18; --accent: #63c3e4;
  }
}
* { box-sizing: border-box; }
[hidden] { display: none !important; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 1rem/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.frame { max-width: 72rem; margin: 0 auto; padding: 1rem; padding-bottom: 3rem; }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .15rem .75rem; margin-bottom: .75rem; }
h1 { font-size: 1.2rem; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1rem; margin: 0 0 .6rem; }
.dim { color: var(--dim); } .small { font-size: .875rem; }
.good { color: var(--good); } .warn { color: var(--warn); } .bad { color: var(--bad); }
#state { display: flex; gap: .75rem; align-items: flex-start; padding: .85rem 1rem; border-radius: .75rem; margin-bottom: .75rem; background: var(--card); border: 1px solid var(--line); }
#state b { display: block; font-size: 1.1rem; }
#state .dot { flex: none; width: .8rem; height: .8rem; margin-top: .4rem; border-radius: 50%; background: var(--dim); }
#state.is-good { background: var(--good-ground); } #state.is-good .dot { background: var(--good); }
#state.is-warn { background: var(--warn-ground); } #state.is-warn .dot { background: var(--warn); border-radius: 0; transform: rotate(45deg); }
#state.is-bad { background: var(--bad-ground); } #state.is-bad .dot { background: var(--bad); border-radius: .15rem; }
.tiles { display: grid; grid-template-columns: repeat(2, 1fr); gap: .6rem; margin-bottom: .75rem; }
.tile, .card { overflow-wrap: anywhere; background: var(--card); border: 1px solid var(--line); border-radius: .75rem; padding: .8rem 1rem; min-width: 0; }
.tile b { display: block; font-size: 1.4rem; line-height: 1.25; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.tile span { display: block; }
.tile svg { display: block; width: 100%; height: 2rem; margin-top: .35rem; overflow: visible; }
.tile path { fill: none; stroke: var(--accent); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round; }
.tile.wide, .tile.wide-phone { grid-column: 1 / -1; }
.bar { height: .45rem; border-radius: .25rem; background: var(--track); margin-top: .5rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--accent); border-radius: inherit; }
.bar.is-warn i { background: var(--warn); } .bar.is-bad i { background: var(--bad); }
.cards { display: grid; gap: .75rem; grid-template-columns: minmax(0, 1fr); }
dl { display: grid; grid-template-columns: minmax(8rem, auto) minmax(0, 1fr); gap: .3rem .9rem; margin: 0; }
dt { color: var(--dim); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
table { border-collapse: collapse; width: 100%; }
caption { text-align: left; color: var(--dim); padding: .6rem 0 .2rem; }
th { font-weight: 500; color: var(--dim); text-align: left; font-size: .875rem; white-space: nowrap; }
th, td { padding: .4rem .6rem .4rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
td:last-child, th:last-child { padding-right: 0; }
tr:last-child > td { border-bottom: 0; }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
td.wrap { overflow-wrap: anywhere; }
code { font: .875em/1.4 ui-monospace, "Cascadia Mono", Menlo, monospace; overflow-wrap: anywhere; }
ul { list-style: none; margin: 0; padding: 0; } li { padding: .5rem 0; border-bottom: 1px solid var(--line); } li:last-child { border-bottom: 0; }
input, button { font: inherit; color: inherit; }
input[type=search] { width: 100%; padding: .55rem .75rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--ground); margin-bottom: .4rem; }
button { cursor: pointer; background: none; border: 1px solid var(--line); border-radius: .5rem; padding: .5rem .8rem; }
button.name { border: 0; border-radius: .25rem; padding: .3rem 0; margin: -.3rem 0; text-align: left; color: var(--accent); overflow-wrap: anywhere; width: 100%; }
button.name::before { content: "\\25b8"; display: inline-block; width: 1.1em; } button.name[aria-expanded=true]::before { content: "\\25be"; }
tr.detail > td { background: var(--ground); padding: .2rem .75rem; }
tr.detail td { padding-left: 0; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.heading { display: flex; align-items: center; justify-content: space-between; gap: 1rem; margin-bottom: .4rem; } .heading h2 { margin: 0; }
#messages li { font-size: .875rem; }
.scroll { max-height: 28rem; overflow-y: auto; overscroll-behavior: contain; scrollbar-width: thin; }
.scroll thead th { position: sticky; top: 0; background: var(--card); }
.scroll-note { margin: .4rem 0 0; } .scroll-note:empty { display: none; }
footer { margin-top: 1rem; }
@media (max-width: 29.99rem) { .roomy { display: none; } }
@media (min-width: 44rem) {
  .tiles { grid-template-columns: repeat(5, minmax(0, 1fr)); } .tile.wide { grid-column: span 2; } .tile.wide-phone { grid-column: auto; }
}
@media (min-width: 60rem) {
  .cards { grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); align-items: start; }
  .column { display: grid; gap: .75rem; grid-template-columns: minmax(0, 1fr); }
}
@media (max-width: 59.99rem) { .column { display: contents; } .last { order: 1; } .scroll { max-height: 22rem; } }
`;
