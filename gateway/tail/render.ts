/** A seen message as lines of a terminal. What devices send is shown without its control characters. */
import type { SeenMessage, SeenReading } from './seen-message.ts';

const OUTCOMES: Readonly<Record<SeenMessage['outcome'], string>> = {
  taken: 'taken',
  partly: 'taken in part',
  dead_letter: 'not usable: kept as a dead letter',
  refused: 'refused: the sender is told, nothing is kept',
  ignored: 'taken without a reading',
  unmatched: 'no rule matches: delivered to subscribers, not stored',
  redelivery: 'a redelivery of what is durable already',
  held: 'held: the journal takes nothing at the moment',
};

function plain(text: string): string {
  return text.replace(/\p{Control}/gu, ' ');
}

function valueText({ value, text }: SeenReading): string {
  if (value === null) return JSON.stringify(plain(text ?? ''));
  return text === null ? String(value) : `${value} (${plain(text)})`;
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = rows.reduce<number[]>((known, row) => row.map((cell, index) => Math.max(known[index] ?? 0, cell.length)), []);
  return rows.map((row) => `    ${row.map((cell, index) => cell.padEnd(widths[index])).join('  ')}`.trimEnd());
}

/** Everything below the heading line: readings, what more there is, reasons and advice. */
function details(message: SeenMessage): string[] {
  const lines = table(
    message.readings.map((reading) => [
      plain(reading.device),
      plain(reading.metric) +
        (reading.tags === null
          ? ''
          : `{${Object.entries(reading.tags)
              .map(([key, tag]) => `${key}=${tag}`)
              .join(',')}}`),
      valueText(reading),
      reading.time ?? 'time of arrival',
      reading.quarantined === null ? '' : `quarantined: ${reading.quarantined}`,
    ]),
  );
  if (message.reading_count > message.readings.length) lines.push(`    … ${message.reading_count - message.readings.length} more readings`);
  let advised = '';
  for (const { code, message: text, device, metric, advice } of message.problems) {
    const where = [device, metric].filter((name) => name !== null).join(' ');
    lines.push(`  ! ${code}${where === '' ? '' : ` ${plain(where)}`}: ${plain(text)}`);
    if (advice !== advised) lines.push(`    → ${advice}`);
    advised = advice;
  }
  if (message.problem_count > message.problems.length) lines.push(`  ! … ${message.problem_count - message.problems.length} more`);
  if (message.hint !== null) lines.push(`    → ${message.hint}`);
  return lines;
}

/** For `tail`: one line for the message, its parts below. */
export function renderLive(message: SeenMessage): string {
  const { time, source, topic, client, bytes, rule, outcome } = message;
  const from = client === null ? source : `${source} ${plain(client)}`;
  const heading = `${time.slice(11, 23)}  ${plain(topic)}  ${bytes} B  ${from}  ${rule === null ? '' : `[${rule}] `}${OUTCOMES[outcome]}`;
  const payload = message.problems.length > 0 && message.payload !== null ? [`    ${plain(message.payload).slice(0, 200)}`] : [];
  return [heading, ...details(message), ...payload].join('\n');
}

/** For `decode`: what the rules make of one payload. */
export function renderOffline(message: SeenMessage): string {
  return [
    `topic     ${plain(message.topic)}`,
    `rule      ${message.rule ?? 'none'}`,
    `outcome   ${OUTCOMES[message.outcome]}`,
    `readings  ${message.reading_count}`,
    ...details(message),
  ].join('\n');
}
