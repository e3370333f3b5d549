/** The commands `decode` and `tail`. */
import { systemClock } from '../../shared/clock.ts';
import { withConfig, type Command } from '../../shared/cli.ts';
import { SluiceError } from '../../shared/errors.ts';
import { gatewayConfigSchema, type GatewayConfig } from '../config.ts';
import { followMessages } from './live.ts';
import { decodeOffline } from './offline.ts';
import { renderLive, renderOffline } from './render.ts';

function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

async function readInput(bytesMax: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let total = 0;
  for await (const chunk of process.stdin as AsyncIterable<Buffer>) {
    total += chunk.length;
    if (total > bytesMax)
      throw new SluiceError('ERR_BROKER_PACKET_TOO_LARGE', `the payload has more than ${bytesMax} bytes (mqtt.packetBytesMax)`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

/** Where the gateway with this configuration listens, seen from its own machine. */
function localUrl({ http }: GatewayConfig): string {
  const host =
    http.host === '0.0.0.0' ? '127.0.0.1' : http.host === '::' ? '[::1]' : http.host.includes(':') ? `[${http.host}]` : http.host;
  return `${http.tls.cert === null ? 'http' : 'https'}://${host}:${http.port}`;
}

export function tailCommands(program: Command): void {
  const decode = program
    .command('decode')
    .description('shows what the topic rules make of a payload (standard input); exit code 1 unless all of it becomes readings')
    .requiredOption('--topic <topic>', 'topic that the payload would arrive on')
    .option('--json', 'one JSON object', false);
  const configOfDecode = withConfig(decode, 'gateway', gatewayConfigSchema);
  decode.action(async () => {
    const config = configOfDecode(process.env);
    const { topic, json } = decode.opts<{ topic: string; json: boolean }>();
    const payload = await readInput(config.mqtt.packetBytesMax);
    const seen = decodeOffline(config.topics, topic, payload, systemClock.nowUs());
    print(json ? JSON.stringify(seen) : renderOffline(seen));
    const fine = (seen.outcome === 'taken' || seen.outcome === 'ignored') && seen.readings.every((reading) => reading.quarantined === null);
    process.exitCode = fine ? 0 : 1;
  });

  const tail = program
    .command('tail')
    .description('shows messages as they arrive at a running gateway, with their rule, readings, or why they are refused')
    .option('--url <url>', 'HTTP address of the gateway (default: the one that the configuration says)')
    .option('--topic <filter>', 'only these topics; + and # as in a subscription', '#')
    .option('--token <token>', 'NAME:SECRET, for a gateway on another machine')
    .option('--json', 'one JSON object per line', false);
  const configOfTail = withConfig(tail, 'gateway', gatewayConfigSchema);
  tail.action(async () => {
    const options = tail.opts<{ url?: string; topic: string; token?: string; json: boolean }>();
    const abort = new AbortController();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGPIPE'] as const) process.once(signal, () => abort.abort());
    process.stdout.once('error', () => abort.abort()); // `tail | head` has read enough
    await followMessages({
      url: options.url ?? localUrl(configOfTail(process.env)),
      filter: options.topic,
      token: options.token ?? null,
      signal: abort.signal,
      onMessage: (message) => print(options.json ? JSON.stringify(message) : renderLive(message)),
      onLeftOut: (count) => print(options.json ? JSON.stringify({ left_out: count }) : `           … ${count} more messages, not shown`),
    });
  });
}
