/** Bytes change on disk while a program is dead. It starts all the same, says what is gone, and goes on. */
import { copyFileSync, existsSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fetchJson, until } from '../../e2e/processes.ts';
import { filesBelow, overwrite } from '../bytes.ts';
import { hurtBatch, hurtDatabase, hurtWal } from '../journal-damage.ts';
import { Rounds } from '../random.ts';
import type { Scenario } from '../scenario.ts';
import type { System, Trial } from '../trial.ts';

interface Target {
  readonly name: string;
  readonly owner: 'gateway' | 'hub';
  /** @returns what was done; null: there is nothing to hurt yet */
  hurt(trial: Trial, system: System): string | null;
  /** While the program runs over the damage. */
  afterwards?(trial: Trial, system: System): Promise<void>;
  /** Puts back what was hurt, where nothing else can mend it. */
  restore?(trial: Trial): void;
}

interface Exceptions {
  readonly rows: readonly {
    readonly reading_count: number | null;
    readonly reason: string;
    readonly from_ts: string;
    readonly to_ts: string;
  }[];
}

interface GatewayStatus {
  readonly lanes: readonly { readonly committed: number | null }[];
}

const GO_ON_MS_MAX = 60_000;

async function committed(system: System): Promise<number> {
  const { lanes } = await fetchJson<GatewayStatus>(`${system.gateway.httpUrl}/v1/status`);
  return lanes.reduce((sum, lane) => sum + (lane.committed ?? 0), 0);
}

/** Not by a query, which may need the very file that is damaged. */
async function goesOn(trial: Trial, system: System, what: string): Promise<void> {
  const before = await committed(system);
  await until('a later position', async () => ((await committed(system)) > before ? true : null), GO_ON_MS_MAX).catch(() => {
    trial.violation(`the hub commits nothing with ${what}`);
  });
}

/** Readings of sealed batches that were hurt: each must come back as a gap with exactly this count. */
class BatchTarget implements Target {
  readonly name = 'sealed batch';
  readonly owner = 'gateway';
  readonly #hurtReadings: number[] = [];

  hurt(trial: Trial, { gateway }: System): string | null {
    const done = hurtBatch(gateway.dataDir, trial.random);
    // One that has a seq may have reached the hub whole before.
    if (done !== null && !done.hasSeq) this.#hurtReadings.push(done.readings);
    return done?.text ?? null;
  }

  async judge(trial: Trial, system: System): Promise<void> {
    const { rows } = await fetchJson<Exceptions>(`${system.hub.url}/v1/exceptions?kind=gap&limit=1000`);
    const missing = [...this.#hurtReadings];
    for (const { reason, reading_count: count, from_ts: from, to_ts: to } of rows) {
      trial.log(`gap: ${reason}, ${count ?? 'an unknown number of'} readings, ${from} to ${to}`);
      if (reason.startsWith('batch_corrupt') && count !== null && missing.includes(count)) missing.splice(missing.indexOf(count), 1);
    }
    if (missing.length > 0) trial.violation(`damaged batches of ${missing.join(', ')} readings have no gap with that count`);
  }
}

/** Is put back after a while, as from a backup: the hub says that it cannot read it, and repairs nothing (docs/guarantees.md, 8). */
function parquetTarget(table: 'readings' | 'aggregates'): Target {
  let hurt: string | null = null;
  return {
    name: `Parquet file of ${table}`,
    owner: 'hub',
    hurt(trial) {
      const files = filesBelow(path.join(trial.lab.lakeDir, table), /^part-.*\.parquet$/);
      if (files.length === 0) return null;
      hurt = trial.random.pick(files);
      copyFileSync(hurt, `${trial.lab.directory}/backup`);
      return overwrite(hurt, trial.random);
    },
    async afterwards(trial, system) {
      await goesOn(trial, system, `a damaged file of ${table}`);
      const url = `${system.hub.url}/v1/${table === 'readings' ? 'readings?from=now-24h&limit=10000' : 'aggregates?metric=temperature&window=1m&from=now-24h'}`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(30_000) });
      const text = await answer.text();
      trial.log(`${url.replace(/^.*\/v1/, '/v1')}: ${answer.status} ${text.slice(0, 160)}`);
      if (!answer.ok && !text.includes('"code":"ERR_'))
        trial.violation(`a damaged file of ${table} gives ${answer.status} without a code: ${text.slice(0, 300)}`);
    },
    restore(trial) {
      if (hurt === null || !existsSync(hurt)) return;
      copyFileSync(`${trial.lab.directory}/backup`, `${hurt}.tmp`);
      renameSync(`${hurt}.tmp`, hurt);
      hurt = null;
    },
  };
}

function newestCheckpoint(trial: Trial): string | null {
  return filesBelow(path.join(trial.lab.lakeDir, 'readings', '_delta_log'), /\.checkpoint\.parquet$/).at(-1) ?? null;
}

export const damage: Scenario = {
  name: 'damage',
  about: 'random bytes in journal, WAL, sealed batch, Parquet file, checkpoint, _last_checkpoint',
  needs: [],
  announcedLoss: true,
  control: null,
  async run(trial) {
    const batches = new BatchTarget();
    const targets: Target[] = [
      { name: 'journal database', owner: 'gateway', hurt: ({ random }, { gateway }) => hurtDatabase(gateway.dataDir, random) },
      { name: 'journal WAL', owner: 'gateway', hurt: ({ random }, { gateway }) => hurtWal(gateway.dataDir, random) },
      batches,
      {
        name: 'checkpoint',
        owner: 'hub',
        hurt(each) {
          const file = newestCheckpoint(each);
          return file === null ? null : overwrite(file, each.random);
        },
      },
      {
        name: '_last_checkpoint',
        owner: 'hub',
        hurt(each) {
          const file = path.join(each.lab.lakeDir, 'readings', '_delta_log', '_last_checkpoint');
          if (!existsSync(file)) return null;
          const text = each.random.pick([
            '',
            '{',
            'null',
            '{"version":99999999,"size":1}',
            '{"version":-1,"size":1}',
            '{"version":"x"}',
            '[1',
          ]);
          writeFileSync(file, text);
          return `replaced by '${text}'`;
        },
      },
      parquetTarget('readings'),
      parquetTarget('aggregates'),
    ];
    // Many small commits: a checkpoint comes every 100.
    const system = await trial.start({ gatewayArgs: ['--journal-seal-interval-ms', '100'], hubArgs: ['--commit-interval-ms-min', '50'] });
    const programs = { gateway: system.gateway.program, hub: system.hub.program };
    const rounds = new Rounds(targets, trial.random);
    await trial.pause(3_000);
    while (trial.goesOn) {
      const target = rounds.next();
      if (target.owner === 'gateway') {
        system.link.cut(); // or the buffer would be empty
        await trial.pause(1_000, 3_000);
      }
      const program = programs[target.owner];
      await program.kill();
      const done = target.hurt(trial, system);
      if (done !== null) trial.fault(target.name, done);
      try {
        await program.start();
      } catch (error) {
        trial.violation(`${program.name} does not start with a damaged ${target.name}: ${String(error).split('\n').slice(-2).join(' ')}`);
        await program.kill();
        target.restore?.(trial);
        await program.start();
      }
      system.link.heal();
      if (done !== null) await target.afterwards?.(trial, system);
      target.restore?.(trial);
      await trial.pause(500, 2_000);
    }
    await trial.settle(system);
    await batches.judge(trial, system);
  },
};
