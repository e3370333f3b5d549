/**
 * Stop with a full buffer, start the next version: nothing is lost. There is one schema so far, so the step up is a restart
 * of the same version; the step back is real: a journal and a lake of a later version are refused and left as they are.
 */
import Database from 'better-sqlite3';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import type { Program } from '../../e2e/processes.ts';
import type { Scenario } from '../scenario.ts';
import type { Trial } from '../trial.ts';

const LATER_SCHEMA = 99;
const LATER_PROTOCOL = { protocol: { minReaderVersion: 99, minWriterVersion: 99 } };

function setSchema(file: string, version: number): void {
  const db = new Database(file);
  try {
    db.pragma(`user_version = ${version}`);
    db.prepare("UPDATE meta SET value = ? WHERE key = 'schema'").run(String(version));
  } finally {
    db.close();
  }
}

function schemaOf(file: string): number {
  const db = new Database(file, { readonly: true });
  try {
    return db.pragma('user_version', { simple: true }) as number;
  } finally {
    db.close();
  }
}

/** A program that is not the right one for its data ends, says why, and touches nothing. */
async function mustRefuse(trial: Trial, program: Program, code: string): Promise<void> {
  try {
    await program.start();
    trial.violation(`${program.name} started on data of a later version`);
  } catch {
    if (!program.log.includes(code)) trial.violation(`${program.name} refused without ${code}:\n${program.log.slice(-1_000)}`);
  }
  await program.kill();
}

function contentHash(directory: string): string {
  const hash = createHash('sha256');
  for (const name of readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort()) hash.update(name);
  return hash.digest('hex');
}

/** The journal as a later version would leave it. */
async function refuseJournal(trial: Trial, program: Program, file: string): Promise<void> {
  const known = schemaOf(file);
  setSchema(file, LATER_SCHEMA);
  const before = readFileSync(file);
  await mustRefuse(trial, program, 'ERR_JOURNAL_VERSION');
  if (!readFileSync(file).equals(before)) trial.violation('the journal of a later version was changed');
  setSchema(file, known);
  trial.fault('gateway of an older version');
}

/** The lake as a later writer would leave it. */
async function refuseLake(trial: Trial, program: Program): Promise<void> {
  const log = path.join(trial.lab.lakeDir, 'readings', '_delta_log');
  const newest =
    readdirSync(log)
      .filter((name) => /^\d{20}\.json$/.test(name))
      .sort()
      .at(-1) ?? '';
  const entry = path.join(log, `${String(Number(newest.slice(0, 20)) + 1).padStart(20, '0')}.json`);
  writeFileSync(entry, `${JSON.stringify({ commitInfo: { timestamp: Date.now() } })}\n${JSON.stringify(LATER_PROTOCOL)}\n`);
  const before = contentHash(path.join(trial.lab.lakeDir, 'readings'));
  await mustRefuse(trial, program, 'ERR_LAKE_PROTOCOL');
  if (contentHash(path.join(trial.lab.lakeDir, 'readings')) !== before) trial.violation('the lake of a later version was changed');
  rmSync(entry);
  trial.fault('hub of an older version');
}

export const upgrade: Scenario = {
  name: 'upgrade',
  about: 'restart with a full buffer; data of a later version is refused and left alone',
  needs: [],
  announcedLoss: false,
  isCounted: true,
  control: null,
  async run(trial) {
    const system = await trial.start();
    const { gateway, hub, link } = system;
    const journal = path.join(gateway.dataDir, 'journal', 'journal.db');
    do {
      link.cut();
      await trial.pause(2_000, 6_000);
      const code = await gateway.program.stop();
      if (code !== 0) trial.violation(`the gateway stopped with ${code}:\n${gateway.program.log.slice(-1_000)}`);
      await refuseJournal(trial, gateway.program, journal);
      await gateway.program.start();
      trial.fault('gateway restarted with a buffer');
      link.heal();
      await trial.pause(1_000, 3_000);
      const hubCode = await hub.program.stop();
      if (hubCode !== 0) trial.violation(`the hub stopped with ${hubCode}:\n${hub.program.log.slice(-1_000)}`);
      await refuseLake(trial, hub.program);
      await hub.program.start();
      trial.fault('hub restarted');
      await trial.pause(500, 2_000);
    } while (trial.goesOn);
    await trial.settle(system);
  },
};
