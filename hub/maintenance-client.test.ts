import { expect, test } from 'vitest';
import { createLogger } from '../shared/logging.ts';
import { MaintenanceClient } from './maintenance-client.ts';

test('while its thread is gone and not started again, who asks is told so at once', async () => {
  // A schedule that is none ends the thread at its start.
  const settings = { lakeDir: '/nowhere', hubInstance: 'h', schedule: 'never', compactionRowsMax: 1, definitions: [], logLevel: 'silent' };
  const client = new MaintenanceClient(settings, createLogger('test', 'silent'));
  const starting = { code: 'ERR_HTTP_UNAVAILABLE' };
  await expect(client.status()).rejects.toMatchObject(starting);
  await expect(client.run()).rejects.toMatchObject(starting);
  await client.stop();
});
