/**
 * Node-RED as people build store and forward with it: what arrives from the local broker goes into an SQLite table, a loop reads
 * the oldest rows, publishes them to the centre at QoS 1 and deletes them.
 *
 * The table is in WAL mode with synchronous NORMAL, the faster of the usual settings; rows are forwarded by the thousand. The
 * flow deletes rows once they are handed to the MQTT client, before the centre has confirmed them: that is how such flows are
 * written, and a power cut in between loses them.
 */
import Database from 'better-sqlite3';
import { existsSync, mkdirSync, realpathSync, symlinkSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { freePort } from '../process-tools.ts';
import { findProgram } from './peers.ts';
import { until, type Program, type Site } from './processes.ts';

export const NODE_RED_INSTALL = 'npm install -g node-red@4 node-red-node-sqlite@1';

const FORWARD_ROWS_MAX = 1_000;
const POLL_MS = 50;

interface Flow {
  readonly edgePort: number;
  readonly centrePort: number;
  readonly dbFile: string;
}

function flowOf({ edgePort, centrePort, dbFile }: Flow): object[] {
  const broker = (id: string, port: number, clean: boolean): object => ({
    ...{ id, type: 'mqtt-broker', broker: '127.0.0.1', port: String(port), clientid: `node-red-${id}`, autoConnect: true },
    ...{ usetls: false, protocolVersion: '4', keepalive: '60', cleansession: clean },
  });
  const sql = (id: string, mode: string, statement: string, next: string[]): object => ({
    ...{ id, type: 'sqlite', z: 'flow', mydb: 'db', sqlquery: mode, sql: statement, wires: [next] },
  });
  const code = (id: string, outputs: number, func: string, wires: string[][]): object => ({
    ...{ id, type: 'function', z: 'flow', func, outputs, noerr: 0, wires },
  });
  return [
    { id: 'flow', type: 'tab', label: 'store and forward' },
    broker('edge', edgePort, false),
    broker('centre', centrePort, false),
    { id: 'db', type: 'sqlitedb', db: dbFile, mode: 'RWC' },
    { id: 'in', type: 'mqtt in', z: 'flow', topic: 'devices/#', qos: '1', datatype: 'utf8', broker: 'edge', wires: [['row']] },
    code('row', 1, 'msg.params = { $t: msg.topic, $p: msg.payload }; return msg;', [['insert']]),
    sql('insert', 'prepared', 'INSERT INTO queue(topic, payload) VALUES ($t, $p)', []),
    { id: 'start', type: 'inject', z: 'flow', props: [], repeat: '', once: true, onceDelay: 0.1, wires: [['select']] },
    sql('select', 'fixed', `SELECT id, topic, payload FROM queue ORDER BY id LIMIT ${FORWARD_ROWS_MAX}`, ['split']),
    code(
      'split',
      2,
      'const rows = msg.payload; const last = rows.length === 0 ? 0 : rows[rows.length - 1].id;' +
        'return [rows.map((row) => ({ topic: row.topic, payload: row.payload })), { params: { $last: last } }];',
      [['out'], ['delete']],
    ),
    { id: 'out', type: 'mqtt out', z: 'flow', topic: '', qos: '1', retain: '', broker: 'centre', wires: [] },
    sql('delete', 'prepared', 'DELETE FROM queue WHERE id <= $last', ['wait']),
    {
      id: 'wait',
      type: 'delay',
      z: 'flow',
      pauseType: 'delay',
      timeout: String(POLL_MS),
      timeoutUnits: 'milliseconds',
      wires: [['select']],
    },
  ];
}

/** @returns null where Node-RED or its SQLite node is not installed */
export async function startNodeRed(site: Site, ports: { edgePort: number; centrePort: number }): Promise<Program | null> {
  const command = findProgram('node-red');
  if (command === null) return null;
  const installed = path.resolve(path.dirname(realpathSync(command)), '..'); // …/node_modules/node-red/red.js;
  if (!existsSync(path.join(installed, 'node-red-node-sqlite'))) return null;
  const userDir = path.join(site.directory, 'node-red');
  mkdirSync(userDir, { recursive: true });
  symlinkSync(installed, path.join(userDir, 'node_modules'));
  const dbFile = path.join(userDir, 'queue.db');
  const db = new Database(dbFile);
  db.pragma('journal_mode = WAL');
  db.exec('CREATE TABLE queue (id INTEGER PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL, payload TEXT NOT NULL)');
  db.close();
  writeFileSync(path.join(userDir, 'flows.json'), JSON.stringify(flowOf({ ...ports, dbFile })));
  const port = await freePort();
  writeFileSync(
    path.join(userDir, 'settings.js'),
    `module.exports = { uiPort: ${port}, uiHost: '127.0.0.1', flowFile: 'flows.json', logging: { console: { level: 'error' } }, telemetry: { enabled: false } };\n`,
  );
  writeFileSync(path.join(userDir, 'package.json'), JSON.stringify({ name: 'bench', dependencies: { 'node-red-node-sqlite': '1' } }));
  const program = site.start('node-red', process.execPath, [realpathSync(command), '--userDir', userDir], { quiet: true });
  await until(
    'Node-RED to run its flow',
    async () => {
      if (program.hasEnded) throw new Error('Node-RED ended while starting');
      const flows = await fetch(`http://127.0.0.1:${port}/flows/state`).catch(() => null);
      return flows?.ok === true;
    },
    60_000,
  );
  return program;
}
