/**
 * `npm run faults`: real processes, hurt on purpose from a seed, and the ledger's verdict (docs/faults.md).
 *
 * Exit 0: no violation, and every negative control was seen to lose. 1: otherwise. 2: wrong usage. 130: stopped; nothing is left behind.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { missing } from './needs.ts';
import { isInOwnNamespace, NAMESPACE_ENV } from './packet-filter.ts';
import { SCENARIOS } from './scenarios/all.ts';
import type { Scenario } from './scenario.ts';
import { runTrial, type TrialResult } from './trial.ts';
import { formatTable, verdictOf, type ScenarioVerdict } from './verdict.ts';

/** Counted faults end in time as well. */
const COUNTED_MINUTES_MAX = 60;
/** What is broken on purpose shows soon, or the control is none. */
const CONTROL_MINUTES_MAX = 1;

const USAGE = `npm run faults [-- options]
  --scenario NAME   only this one (again for more)
  --seed N          repeats the faults of a run (default: from the clock, printed)
  --minutes M       how long each scenario is hurt (default 1); its control for a minute at most
  --faults N        ${SCENARIOS.filter(({ isCounted }) => isCounted)
    .map(({ name }) => name)
    .join(', ')}: until N faults were done, within --minutes (default then ${COUNTED_MINUTES_MAX})
  --no-control      without the negative controls
  --json FILE       writes the verdicts as JSON
  --quiet           only the table
  --list            the scenarios`;

function fail(text: string): never {
  process.stderr.write(`${text}\n${USAGE}\n`);
  process.exit(2);
}

function readArguments() {
  try {
    return parseArgs({
      options: {
        scenario: { type: 'string', multiple: true, default: [] },
        seed: { type: 'string', default: String(Date.now() % 1_000_000) },
        minutes: { type: 'string' },
        faults: { type: 'string' },
        'no-control': { type: 'boolean', default: false },
        json: { type: 'string' },
        quiet: { type: 'boolean', default: false },
        list: { type: 'boolean', default: false },
        help: { type: 'boolean', default: false },
      },
    }).values;
  } catch (error) {
    return fail(error instanceof Error ? error.message : String(error));
  }
}

const flags = readArguments();
const seed = Number(flags.seed);
const minutes = Number(flags.minutes ?? '1');
const faultsMax = flags.faults === undefined ? null : Number(flags.faults);
if (!Number.isInteger(seed) || seed < 0 || seed > 0xffffffff) fail(`--seed ${flags.seed}: expected a whole number below 2^32`);
if (!Number.isFinite(minutes) || minutes <= 0 || minutes > 1_440) fail(`--minutes ${flags.minutes}: expected minutes, at most 1440`);
if (faultsMax !== null && (!Number.isInteger(faultsMax) || faultsMax < 1))
  fail(`--faults ${flags.faults}: expected a whole number from 1 on`);
const unknown = flags.scenario.filter((name) => !SCENARIOS.some((scenario) => scenario.name === name));
if (unknown.length > 0)
  fail(`no scenario '${unknown.join("', '")}'; there are ${SCENARIOS.map(({ name }) => name).join(', ')} (--list says what they do)`);
if (flags.help) {
  process.stdout.write(`${USAGE}\n`);
  process.exit(0);
}
if (flags.list) {
  for (const { name, about, control } of SCENARIOS)
    process.stdout.write(`${name.padEnd(10)} ${about}${control === null ? '' : `; control: ${control.about}`}\n`);
  process.exit(0);
}

const startedMs = performance.now();
const wanted = SCENARIOS.filter(({ name }) => flags.scenario.length === 0 || flags.scenario.includes(name));
const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort(new Error(`stopped by ${signal}`)));

/** What is going to happen, and what cannot. */
function announce(): void {
  const say = (line: string): void => void process.stdout.write(`${line}\n`);
  say(`seed ${seed}: ${wanted.map(({ name }) => name).join(', ')}`);
  for (const { name, needs, control, wantsNamespace } of wanted) {
    const skipped = missing(needs);
    if (skipped !== null) say(`${name} is skipped: it needs ${skipped}`);
    const controlSkipped = control === null || skipped !== null || flags['no-control'] ? null : missing(control.needs);
    if (controlSkipped !== null) say(`the control of ${name} is skipped: it needs ${controlSkipped}`);
    const noPackets = wantsNamespace === true && !isInOwnNamespace() ? missing(['network namespaces with nftables']) : null;
    if (noPackets !== null) say(`${name} runs without loss of real packets: that needs ${noPackets}`);
  }
}

/** One line for people; everything is in the JSON. */
function summary({ elapsedMs, faults, figures, recoveryMs, measures }: TrialResult): string {
  const { acknowledged, lost, accountedFor, duplicated, altered, wrong } = figures;
  const count = Object.values(faults).reduce((sum, each) => sum + each, 0);
  const parts = [
    `${count} faults in ${Math.round(elapsedMs / 1000)} s`,
    `${acknowledged} acknowledged, ${lost} lost, ${accountedFor} announced, ${duplicated} duplicated, ${altered + wrong} wrong`,
    ...(recoveryMs === null ? [] : [`recovered in ${(recoveryMs / 1000).toFixed(1)} s`]),
    ...Object.entries(measures).map(([name, value]) => `${name} ${value}`),
  ];
  return parts.join('; ');
}

async function runScenario(scenario: Scenario): Promise<ScenarioVerdict> {
  const attempt = async (isControl: boolean): Promise<Awaited<ReturnType<typeof runTrial>>> => {
    const title = `${scenario.name}${isControl ? ' (control)' : ''}`;
    const log = (line: string): void => {
      if (!flags.quiet) process.stdout.write(`${((performance.now() - startedMs) / 1000).toFixed(1).padStart(7)} ${title}: ${line}\n`);
    };
    const isCounted = faultsMax !== null && scenario.isCounted === true;
    const minutesMax = isCounted ? Number(flags.minutes ?? COUNTED_MINUTES_MAX) : minutes;
    const result = await runTrial({
      ...{ scenario, isControl, seed, log, signal: stop.signal },
      ...(isCounted ? { faultsMax } : {}),
      minutes: isControl ? Math.min(minutesMax, CONTROL_MINUTES_MAX) : minutesMax,
    });
    log(summary(result));
    return result;
  };
  const skipped = missing(scenario.needs);
  if (skipped !== null) return verdictOf(scenario.name, null, `needs ${skipped}`, null, null);
  const trial = await attempt(false);
  if (scenario.control === null || flags['no-control']) return verdictOf(scenario.name, trial, null, null, null);
  const controlSkipped = missing(scenario.control.needs);
  if (controlSkipped !== null) return verdictOf(scenario.name, trial, null, null, `needs ${controlSkipped}`);
  return verdictOf(scenario.name, trial, null, await attempt(true), null);
}

/** The same command for one scenario, in a network namespace in which there is nobody else. */
async function runInNamespace(scenario: Scenario): Promise<ScenarioVerdict> {
  const directory = mkdtempSync(path.join(tmpdir(), 'sluice-faults-'));
  const json = path.join(directory, 'verdict.json');
  try {
    const again = [process.argv[1], '--scenario', scenario.name, '--seed', String(seed), '--json', json];
    for (const flag of ['minutes', 'faults'] as const) if (flags[flag] !== undefined) again.push(`--${flag}`, flags[flag]);
    for (const flag of ['quiet', 'no-control'] as const) if (flags[flag]) again.push(`--${flag}`);
    const child = spawn('unshare', ['--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', process.execPath, ...again], {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, [NAMESPACE_ENV]: '1' },
    });
    const code = await new Promise((resolve) => child.once('close', resolve));
    stop.signal.throwIfAborted();
    if (!existsSync(json))
      return { ...verdictOf(scenario.name, null, `it ended with ${String(code)} and without a verdict`, null, null), ok: false };
    const { verdicts } = JSON.parse(readFileSync(json, 'utf8')) as { verdicts: readonly [ScenarioVerdict] };
    return verdicts[0];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const verdicts: ScenarioVerdict[] = [];
if (!isInOwnNamespace() && !flags.quiet) announce();
try {
  for (const scenario of wanted) {
    const isApart = scenario.wantsNamespace === true && !isInOwnNamespace() && missing(['network namespaces with nftables']) === null;
    verdicts.push(await (isApart ? runInNamespace(scenario) : runScenario(scenario)));
  }
} catch (error) {
  if (!stop.signal.aborted) throw error;
}
if (!isInOwnNamespace() && verdicts.length > 0) {
  const again = flags.scenario.map((name) => `--scenario ${name} `).join('');
  const isTimed = faultsMax === null || flags.minutes !== undefined;
  const howLong = [...(isTimed ? [`--minutes ${minutes}`] : []), ...(faultsMax === null ? [] : [`--faults ${faultsMax}`])].join(' ');
  process.stdout.write(`\n${formatTable(verdicts)}\n\nagain: npm run faults -- ${again}--seed ${seed} ${howLong}\n`);
  for (const { scenario, trial } of verdicts)
    for (const violation of trial?.violations ?? []) process.stdout.write(`${scenario}: ${violation.split('\n')[0]}\n`);
}
if (flags.json !== undefined) writeFileSync(flags.json, `${JSON.stringify({ seed, minutes, faultsMax, verdicts }, null, 2)}\n`);
if (stop.signal.aborted) {
  process.stderr.write(`${(stop.signal.reason as Error).message}: ${verdicts.length} of ${wanted.length} scenarios have a verdict\n`);
  // What the trial that was stopped still waits for is nobody's business any more.
  process.exit(130);
}
process.exitCode = verdicts.every(({ ok }) => ok) ? 0 : 1;
