/**
 * Who listens on a TCP port of this machine: read from /proc, best effort, null where it is not Linux or not visible.
 */
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';

export interface PortOwner {
  readonly pid: number;
  readonly command: string;
}

const STATE_LISTEN = '0A'; // include/net/tcp_states.h
const COMMAND_CHARS_MAX = 120;

/** Inodes of the sockets that listen on the port, whatever address they have. */
export function listeningInodes(procNetTcp: string, port: number): string[] {
  const wanted = port.toString(16).toUpperCase().padStart(4, '0');
  const inodes: string[] = [];
  for (const line of procNetTcp.split('\n').slice(1)) {
    const columns = line.trim().split(/\s+/);
    if (columns[1]?.split(':')[1] === wanted && columns[3] === STATE_LISTEN && columns[9] !== undefined) inodes.push(columns[9]);
  }
  return inodes;
}

function quietly<T>(read: () => T, otherwise: T): T {
  try {
    return read();
  } catch {
    return otherwise; // processes come and go, and those of other users do not show: the answer is a hint for a person
  }
}

export function findPortOwner(port: number): PortOwner | null {
  const tables = ['/proc/net/tcp', '/proc/net/tcp6'].map((file) => quietly(() => readFileSync(file, 'utf8'), ''));
  const wanted = new Set(tables.flatMap((table) => listeningInodes(table, port)).map((inode) => `socket:[${inode}]`));
  if (wanted.size === 0) return null;
  for (const pid of quietly(() => readdirSync('/proc'), []).filter((name) => /^\d+$/.test(name))) {
    for (const fd of quietly(() => readdirSync(`/proc/${pid}/fd`), [])) {
      if (!wanted.has(quietly(() => readlinkSync(`/proc/${pid}/fd/${fd}`), ''))) continue;
      const command = quietly(() => readFileSync(`/proc/${pid}/cmdline`, 'utf8'), '')
        .split('\0')
        .join(' ')
        .trim();
      return { pid: Number(pid), command: command.slice(0, COMMAND_CHARS_MAX) };
    }
  }
  return null;
}
