import { createServer } from 'node:net';
import { afterEach, describe, expect, test } from 'vitest';
import { isLoopback, listen, readTls, type ListenOptions } from './listen.ts';
import { listeningInodes } from './port-owner.ts';

const servers: ReturnType<typeof createServer>[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

function options(more: Partial<ListenOptions> = {}): ListenOptions {
  const server = createServer();
  servers.push(server);
  return {
    server,
    host: '127.0.0.1',
    port: 0,
    credentialsConfigured: false,
    credentialsHint: 'create one',
    flagName: '--mqtt-port',
    what: 'MQTT',
    ...more,
  };
}

describe('listen', () => {
  test('binds to loopback without credentials and says where', async () => {
    const address = await listen(options());
    expect(address.address).toBe('127.0.0.1');
    expect(address.port).toBeGreaterThan(0);
  });

  test.each(['0.0.0.0', '::', '192.0.2.1', '127.evil.example'])('refuses %s while no credentials are configured', async (host) => {
    await expect(listen(options({ host }))).rejects.toMatchObject({ code: 'ERR_LISTEN_NO_CREDENTIALS' });
  });

  test('binds elsewhere once credentials are configured', async () => {
    const address = await listen(options({ host: '0.0.0.0', credentialsConfigured: true }));
    expect(address.port).toBeGreaterThan(0);
  });

  test('a busy port is an error that names its owner and the flag that moves it', async () => {
    const { port } = await listen(options());
    const error = await listen(options({ port })).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ code: 'ERR_LISTEN_PORT_BUSY' });
    expect((error as Error).message).toContain('--mqtt-port');
    // Elsewhere than on Linux nobody tells who it is.
    expect((error as Error).message).toContain(process.platform === 'linux' ? `process ${process.pid} (` : 'another process');
  });

  test('an address that is not of this machine is an error with the flag', async () => {
    const error = await listen(options({ host: '192.0.2.1', credentialsConfigured: true })).catch((caught: unknown) => caught);
    expect(error).toMatchObject({ code: 'ERR_LISTEN_FAILED' });
  });
});

test('loopback is known by its whole address', () => {
  expect(['127.0.0.1', '127.9.9.9', '::1', 'localhost', '::ffff:127.0.0.1'].every(isLoopback)).toBe(true);
  expect(['127.0.0.1.example', '0.0.0.0', '::', '10.0.0.1'].some(isLoopback)).toBe(false);
});

test('only listening sockets of the port count as its owners', () => {
  const table = [
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '   0: 0100007F:075B 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 111 1 0 100 0 0 10 0',
    '   1: 0100007F:075B 0100007F:9999 01 00000000:00000000 00:00000000 00000000     0        0 222 1 0 100 0 0 10 0',
    '   2: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 333 1 0 100 0 0 10 0',
  ].join('\n');
  expect(listeningInodes(table, 1883)).toEqual(['111']);
});

test('a missing TLS file is a typed error', () => {
  expect(readTls({ cert: null, key: null })).toBeNull();
  expect(() => readTls({ cert: '/nowhere/cert.pem', key: '/nowhere/key.pem' })).toThrowError(
    expect.objectContaining({ code: 'ERR_CONFIG_FILE' }),
  );
});
