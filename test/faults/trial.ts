/**
 * One run of one scenario: a system of real processes with a fleet that keeps a ledger, the faults that were done to it,
 * and at the end the verdict.
 *
 * A verdict is conservation (every acknowledged reading is in the lake once, or in an exception where the scenario announces
 * losses; every aggregate right: `sluice-sim verify`) and liveness (after the faults a fresh reading arrives in the lake, and
 * the devices get their outstanding acknowledgements).
 */
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Link } from '../e2e/link.ts';
import { fetchJson, Lab, until, type GatewayProgram, type Program } from '../e2e/processes.ts';
import { parseReport, type Report } from '../e2e/report.ts';
import { EarlyAckProxy } from './early-ack.ts';
import { SeededRandom } from './random.ts';
import type { Scenario } from './scenario.ts';
import type { Finding } from './finding.ts';

/** A start may take so long on a machine that is busy; then the scenario fails. How long the slowest took is in its figures. */
const START_MS_MAX = 180_000;
/** Liveness: a fresh reading that takes longer than this after the last fault did not arrive. */
const RECOVERY_MS_MAX = 120_000;
const CONTROL_RECOVERY_MS_MAX = 20_000;
/** What the hub still lacks so long after everything was acknowledged is lost. */
const VERIFY_WAIT_SECONDS = 60;
/** In a control the loss is expected: waiting for what will never come has an end. */
const CONTROL_WAIT_SECONDS = 6;
const DRAIN_SECONDS = 90;
const PROBE_POLL_MS = 100;
/** Of each kind of violation. */
const EXAMPLES_MAX = 5;
const MESSAGES_BEFORE_FAULTS = 40;

export interface SystemOptions {
  readonly devices?: number;
  readonly messagesPerSecond?: number;
  readonly fleetArgs?: readonly string[];
  readonly hubArgs?: readonly string[];
  readonly hubEnv?: NodeJS.ProcessEnv;
  readonly gatewayArgs?: readonly string[];
  readonly gatewayEnv?: NodeJS.ProcessEnv;
  /** The devices talk to a gateway that acknowledges on receipt. */
  readonly acknowledgeOnReceipt?: boolean;
}

/** A hub, a gateway behind a link that can be hurt, a fleet. */
export interface System {
  readonly hub: { readonly program: Program; readonly url: string; readonly port: number };
  readonly link: Link;
  readonly gateway: GatewayProgram;
  readonly fleet: Program;
}

/** Figures of all ledgers of a trial together. */
export interface Figures {
  acknowledged: number;
  found: number;
  accountedFor: number;
  lost: number;
  duplicated: number;
  altered: number;
  wrong: number;
}

export interface JudgeRules {
  /** Default: the scenario's. */
  readonly announcedLoss?: boolean;
  /** Failures that verify reports and that are right here. */
  readonly allow?: (failure: string) => boolean;
}

export interface TrialResult {
  readonly scenario: string;
  readonly isControl: boolean;
  readonly seed: number;
  readonly elapsedMs: number;
  readonly faults: Readonly<Record<string, number>>;
  readonly figures: Figures;
  /** From the end of the faults until a fresh reading was in the lake; null: it was not measured. */
  readonly recoveryMs: number | null;
  readonly measures: Readonly<Record<string, number | string>>;
  readonly violations: readonly string[];
}

export interface TrialOptions {
  readonly scenario: Scenario;
  readonly isControl: boolean;
  readonly seed: number;
  readonly minutes: number;
  /** Of a scenario that is counted: the faults end with this one, if their time has not ended before. */
  readonly faultsMax?: number;
  readonly log: (line: string) => void;
  /** Ends the trial without a verdict, and with nothing left of it. */
  readonly signal?: AbortSignal;
}

/** What `sluice-sim run --json` prints, as far as the lab looks at it. */
interface FleetSummary {
  readonly drained: boolean;
  readonly messagesInDoubt: number;
  readonly ackLatencyMs: { readonly p99: number | null };
}

async function messagesOf(gateway: GatewayProgram): Promise<number> {
  const status = await fetchJson<{ readonly ingest: { readonly messages: number } }>(`${gateway.httpUrl}/v1/status`);
  return status.ingest.messages;
}

export class Trial {
  readonly lab = new Lab(START_MS_MAX);
  readonly random: SeededRandom;
  readonly isControl: boolean;
  readonly minutes: number;
  readonly seed: number;
  readonly #options: TrialOptions;
  readonly #startedMs = performance.now();
  readonly #closers: (() => Promise<void> | void)[] = [];
  readonly #faults = new Map<string, number>();
  readonly #measures: Record<string, number | string> = {};
  readonly #violations: string[] = [];
  readonly #figures: Figures = { acknowledged: 0, found: 0, accountedFor: 0, lost: 0, duplicated: 0, altered: 0, wrong: 0 };
  #endMs = Infinity;
  #faultCount = 0;
  #system: System | null = null;
  #probes = 0;
  #recoveryMs: number | null = null;

  constructor(options: TrialOptions) {
    this.#options = options;
    this.isControl = options.isControl;
    this.minutes = options.minutes;
    this.seed = options.seed;
    this.random = new SeededRandom(options.seed);
  }

  log(line: string): void {
    this.#options.log(line);
  }

  /** Counts and tells of a fault. */
  fault(name: string, detail = ''): void {
    this.#faults.set(name, (this.#faults.get(name) ?? 0) + 1);
    this.#faultCount++;
    this.log(`fault: ${name}${detail === '' ? '' : ` ${detail}`}`);
  }

  violation(text: string): void {
    this.#violations.push(text);
    this.log(`${this.isControl ? 'reported, as it has to be' : 'VIOLATION'}: ${text}`);
  }

  measure(name: string, value: number | string): void {
    this.#measures[name] = value;
  }

  /** Runs when the trial ends, last first. */
  onClose(closer: () => Promise<void> | void): void {
    this.#closers.push(closer);
  }

  /** true while faults are to be injected; the time starts with the first system. */
  get goesOn(): boolean {
    return performance.now() < this.#endMs && this.#faultCount < (this.#options.faultsMax ?? Infinity);
  }

  /** What was prepared until now takes nothing of the time. */
  faultsBegin(): void {
    this.#endMs = performance.now() + this.minutes * 60_000;
  }

  pause(fromMs: number, toMs = fromMs): Promise<void> {
    return sleep(this.random.between(fromMs, toMs));
  }

  async start(options: SystemOptions = {}): Promise<System> {
    const hub = await this.lab.hub(options.hubArgs, options.hubEnv);
    const link = await Link.to(hub.port);
    this.onClose(() => link.close());
    const gateway = await this.lab.gateway(
      'gw-1',
      `http://127.0.0.1:${link.port}`,
      ['--uplink-watchdog-ms', '4000', ...(options.gatewayArgs ?? [])],
      options.gatewayEnv,
    );
    let { mqttPort } = gateway;
    if (options.acknowledgeOnReceipt === true) {
      const proxy = await EarlyAckProxy.to(mqttPort);
      this.onClose(() => proxy.close());
      mqttPort = proxy.port;
    }
    const fleet = this.fleet('fleet', mqttPort, options);
    // Faults before anything flows would hurt nobody.
    const flows = async (): Promise<true | null> => ((await messagesOf(gateway)) >= MESSAGES_BEFORE_FAULTS ? true : null);
    await until('the fleet to send', flows, START_MS_MAX);
    this.faultsBegin();
    this.#system = { hub, link, gateway, fleet };
    return this.#system;
  }

  /** A fleet that runs until it is told to end. Its devices and its ledger are called after it. */
  fleet(name: string, mqttPort: number, options: SystemOptions = {}, env: NodeJS.ProcessEnv = {}): Program {
    const args = {
      name,
      devices: options.devices ?? 40,
      rate: options.messagesPerSecond ?? 1,
      seed: this.seed,
      qos: '0,7,3',
      duration: 0,
      'drain-timeout': DRAIN_SECONDS,
    };
    const flags = Object.entries(args).flatMap(([flag, value]) => [`--${flag}`, String(value)]);
    return this.lab.fleet(this.ledger(name), [mqttPort], [...flags, '--json', ...(options.fleetArgs ?? [])], env);
  }

  ledger(name: string): string {
    return path.join(this.lab.directory, `${name}.ledger.json`);
  }

  /** After the last fault: everything must be alive, a fresh reading must arrive, all devices get their acknowledgements, and the ledger is judged. */
  async settle(system: System): Promise<void> {
    const { hub, gateway, fleet } = system;
    for (const program of [hub.program, gateway.program])
      if (!program.isRunning) this.violation(`${program.name} has ended:\n${program.log}`);
    this.log('no more faults: waiting for a fresh reading in the lake, then for the devices to get their acknowledgements');
    await this.recovered(gateway.httpUrl, hub.url);
    await this.endFleet(fleet);
    this.#system = null;
    this.log('verifying every acknowledged reading and every aggregate');
    await this.judge('fleet', hub.url);
  }

  /** The scenario broke off: what has happened until then is judged all the same, with both programs given one more chance to start. */
  async salvage(): Promise<void> {
    const system = this.#system;
    if (system === null) return;
    this.log('judging what happened until then');
    for (const { program } of [system.hub, system.gateway]) {
      program.signal('SIGCONT');
      if (program.isRunning) await program.ready();
      else await program.start();
    }
    system.link.heal();
    await this.settle(system);
  }

  /** Waits until a reading that is sent now is in the lake. */
  async recovered(gatewayUrl: string, hubUrl: string): Promise<void> {
    const startMs = performance.now();
    const timeoutMs = this.isControl ? CONTROL_RECOVERY_MS_MAX : RECOVERY_MS_MAX;
    const ok = await this.arrives(gatewayUrl, hubUrl, timeoutMs);
    if (ok) this.#recoveryMs = Math.max(this.#recoveryMs ?? 0, performance.now() - startMs);
    else this.violation(`no fresh reading arrived within ${timeoutMs / 1000} s after the last fault`);
  }

  /** Sends one reading, again until it is acknowledged, and waits for it. @returns whether it arrived */
  async arrives(gatewayUrl: string, hubUrl: string, timeoutMs: number): Promise<boolean> {
    const device = `probe-${++this.#probes}`;
    const endMs = performance.now() + timeoutMs;
    let sent = false;
    while (performance.now() < endMs) {
      try {
        if (!sent) {
          const answer = await fetch(`${gatewayUrl}/v1/readings?device=${device}`, {
            method: 'POST',
            headers: { 'content-type': 'application/json', 'idempotency-key': device },
            body: '{"fresh":1}',
            signal: AbortSignal.timeout(10_000),
          });
          sent = answer.ok;
        }
        const { rows } = await fetchJson<{ rows: readonly unknown[] }>(`${hubUrl}/v1/readings?device=${device}&from=now-24h`);
        if (rows.length > 0) return true;
      } catch {
        // starting, full or cut off: that is what the time is for
      }
      await sleep(PROBE_POLL_MS);
    }
    return false;
  }

  /** No further message becomes due; the outstanding ones must be acknowledged. */
  async endFleet(fleet: Program): Promise<void> {
    const code = await fleet.end('SIGINT');
    const line = fleet.log
      .split('\n')
      .reverse()
      .find((text) => text.startsWith('{"devices"'));
    if (code !== 0 || line === undefined) throw new Error(`the fleet ended with ${code}:\n${fleet.log}`);
    const summary = JSON.parse(line) as FleetSummary;
    this.measure('ack p99 ms', Math.round(summary.ackLatencyMs.p99 ?? 0));
    if (!summary.drained) this.violation(`${summary.messagesInDoubt} messages were not acknowledged ${DRAIN_SECONDS} s after the faults`);
  }

  /** `sluice-sim verify`, as a user runs it. Adds its figures to the trial's. */
  async judge(fleetName: string, hubUrl: string, rules: JudgeRules = {}): Promise<Report> {
    const { announcedLoss = this.#options.scenario.announcedLoss, allow = () => false } = rules;
    const wait = String(this.isControl ? CONTROL_WAIT_SECONDS : VERIFY_WAIT_SECONDS);
    const startMs = performance.now();
    const { stdout, stderr } = await this.lab.tryRun('firmware-sim/main.js', [
      'verify',
      '--ledger',
      this.ledger(fleetName),
      '--hub',
      hubUrl,
      '--lake',
      this.lab.lakeDir,
      '--wait',
      wait,
      '--json',
    ]);
    if (!stdout.startsWith('{')) throw new Error(`verify gave no report:\n${stdout}\n${stderr}`);
    const report = parseReport(stdout);
    this.measure(`verify s (${fleetName})`, Math.round((performance.now() - startMs) / 100) / 10);
    const { readings } = report;
    const figures = this.#figures;
    figures.acknowledged += readings.acked;
    figures.found += readings.found;
    figures.accountedFor += readings.accountedFor;
    figures.lost += readings.lost;
    figures.duplicated += readings.duplicated;
    figures.altered += readings.altered;
    figures.wrong += report.windows.reduce((sum, window) => sum + window.wrong, 0);
    for (const failure of report.failures) if (!allow(failure)) this.violation(failure);
    for (const what of ['lost', 'duplicated', 'altered', 'wrong aggregate'])
      for (const example of report.examples.filter((text) => text.startsWith(what)).slice(0, EXAMPLES_MAX)) this.log(`  ${example}`);
    if (!announcedLoss && readings.accountedFor > 0)
      this.violation(`${readings.accountedFor} acknowledged readings of ${fleetName} are only accounted for: none should be`);
    return report;
  }

  /** What was looked for one by one beside the fleet's readings: it counts as they do. */
  found(finding: Finding): void {
    const figures = this.#figures;
    figures.acknowledged += finding.due;
    figures.found += finding.found;
    figures.lost += finding.lost;
    figures.duplicated += finding.duplicated;
    figures.wrong += finding.invented;
    if (finding.again > 0) this.#measures['came again at QoS 1'] = Number(this.#measures['came again at QoS 1'] ?? 0) + finding.again;
    if (finding.lost + finding.duplicated + finding.invented > 0) this.violation(finding.examples.join('\n  '));
  }

  result(): TrialResult {
    for (const { name, slowestStartMs } of this.lab.programs)
      if (slowestStartMs > 0) this.#measures[`${name} slowest start s`] = Math.round(slowestStartMs / 100) / 10;
    return {
      scenario: this.#options.scenario.name,
      isControl: this.isControl,
      seed: this.seed,
      elapsedMs: Math.round(performance.now() - this.#startedMs),
      faults: Object.fromEntries(this.#faults),
      figures: this.#figures,
      recoveryMs: this.#recoveryMs === null ? null : Math.round(this.#recoveryMs),
      measures: this.#measures,
      violations: this.#violations,
    };
  }

  /** Ends all processes and removes what they left. */
  async close(): Promise<void> {
    for (const program of this.lab.programs) program.isOver = true;
    await this.lab.killAll();
    for (const closer of this.#closers.splice(0).reverse()) await closer();
    await this.lab.close();
  }
}

/**
 * Runs a scenario once. What it throws is a violation like any other: a lab that cannot tell did not see that all is well.
 *
 * @throws the signal's reason, when it ended the trial
 */
export async function runTrial(options: TrialOptions): Promise<TrialResult> {
  const { signal } = options;
  const trial = new Trial(options);
  const aborted = new Promise<never>((_resolve, reject) => signal?.addEventListener('abort', () => reject(signal.reason as Error)));
  const judged = async (): Promise<void> => {
    try {
      await options.scenario.run(trial);
    } catch (error) {
      if (signal?.aborted === true) return;
      trial.violation(`the trial broke off: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      trial.log(trial.lab.logs());
      await trial.salvage().catch((why: unknown) => trial.violation(`no verdict: ${why instanceof Error ? why.message : String(why)}`));
    }
  };
  try {
    await Promise.race([judged(), aborted]);
  } finally {
    await trial.close();
  }
  return trial.result();
}
