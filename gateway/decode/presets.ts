/**
 * Topics and payloads of systems that many have: Zigbee2MQTT, ChirpStack 4 and Tasmota. A preset says which device a topic
 * is about, what of the payload is telemetry, and where its time stands; the rest is as for any JSON payload.
 *
 * What is left out is left out on purpose and named here: commands, descriptions of the system itself, identifiers and
 * units, which do not change with the measurement. Words that stand for a state (ON, OFF, online, offline) are readings of
 * 1 and 0 that keep their word as text, so that they can be aggregated.
 */
import { SluiceError } from '../../shared/errors.ts';
import { parseJson } from './json-text.ts';
import { StateWord } from './reading-writer.ts';
import { isFields, type Fields, type ShapeContext } from './shape-context.ts';

export const PRESET_NAMES = ['zigbee2mqtt', 'chirpstack', 'tasmota'] as const;
export type PresetName = (typeof PRESET_NAMES)[number];

/** `ignored`: no message of such a topic carries a reading, and why. */
export type PresetTopic = { readonly device: string; readonly kind: string } | { readonly ignored: string };

export interface PresetReadings {
  /** As the payload has it; undefined: arrival counts. */
  readonly time: unknown;
  readonly fields: Fields;
}

export interface Preset {
  readonly match: string;
  /** @param rest the topic's levels from the first one that the rule does not spell out */
  topic(rest: readonly string[]): PresetTopic;
  /** @param payload parsed JSON, or the text where it is not JSON */
  readings(kind: string, payload: unknown): PresetReadings;
}

const STATE_WORDS: Readonly<Record<string, number>> = { on: 1, off: 0, online: 1, offline: 0 };

function stateOf(value: unknown): unknown {
  if (typeof value !== 'string' || value.length > 7) return value;
  const word = value.toLowerCase();
  return Object.hasOwn(STATE_WORDS, word) ? new StateWord(STATE_WORDS[word], value) : value;
}

/** The fields without `skipped`, at every level, and with states for words. The depth is bounded when they are written. */
function telemetry(fields: Fields, skipped: ReadonlySet<string>, depth = 0): Fields {
  const kept = Object.entries(fields).filter(([key]) => !skipped.has(key));
  // fromEntries defines: an assignment to a key __proto__ would not.
  return Object.fromEntries(
    kept.map(([key, value]) => [key, isFields(value) && depth < 16 ? telemetry(value, skipped, depth + 1) : stateOf(value)]),
  );
}

function fieldsOf(payload: unknown, what: string): Fields {
  if (isFields(payload)) return payload;
  throw new SluiceError('ERR_DECODE_SHAPE', `a ${what} message is a JSON object`);
}

function availability(payload: unknown): PresetReadings {
  const state = isFields(payload) ? payload['state'] : payload;
  return { time: undefined, fields: { availability: stateOf(typeof state === 'string' ? state.trim() : state) } };
}

const ZIGBEE_SKIPPED = new Set(['update', 'update_available', 'device', 'last_seen', 'elapsed']);

const zigbee2mqtt: Preset = {
  match: 'zigbee2mqtt/#',
  topic(rest) {
    const last = rest.at(-1) ?? '';
    if (rest[0] === 'bridge') return { ignored: 'zigbee2mqtt/bridge is about Zigbee2MQTT itself' };
    const command = rest.findIndex((level, index) => index > 0 && (level === 'set' || level === 'get'));
    if (command > 0) return { ignored: `${rest[command]} is a command to the device` };
    // Friendly names may have slashes.
    if (last === 'availability' && rest.length > 1) return { device: rest.slice(0, -1).join('/'), kind: 'availability' };
    return { device: rest.join('/'), kind: 'state' };
  },
  readings(kind, payload) {
    if (kind === 'availability') return availability(payload);
    const fields = fieldsOf(payload, 'Zigbee2MQTT');
    return { time: fields['last_seen'], fields: telemetry(fields, ZIGBEE_SKIPPED) };
  },
};

/** Best of the gateways that heard an uplink. */
function strongest(receptions: readonly Fields[], key: string): number | undefined {
  const values = receptions.map((reception) => reception[key]).filter((value) => typeof value === 'number');
  return values.length === 0 ? undefined : Math.max(...values);
}

function lorawan(payload: Fields): Fields {
  const heard: unknown[] = Array.isArray(payload['rxInfo']) ? payload['rxInfo'] : [];
  const receptions = heard.filter(isFields);
  const { dr, fCnt, fPort } = payload as { dr?: unknown; fCnt?: unknown; fPort?: unknown };
  const frequency = isFields(payload['txInfo']) ? payload['txInfo']['frequency'] : undefined;
  return {
    rssi: strongest(receptions, 'rssi'),
    snr: strongest(receptions, 'snr'),
    gateways: receptions.length === 0 ? undefined : receptions.length,
    dr,
    f_cnt: fCnt,
    f_port: fPort,
    frequency,
  };
}

const NOTHING_SKIPPED: ReadonlySet<string> = new Set();
const CHIRPSTACK_STATUS_SKIPPED = new Set(['deduplicationId', 'time', 'deviceInfo']);

const chirpstack: Preset = {
  match: 'application/#',
  topic(rest) {
    const at = rest.indexOf('device');
    const [devEui, event, kind] = at < 0 ? [] : rest.slice(at + 1);
    if (devEui === undefined || event !== 'event') return { ignored: 'not an event of a device' };
    if (kind !== 'up' && kind !== 'status') return { ignored: `${kind ?? 'such'} events carry no reading; up and status do` };
    return { device: devEui, kind };
  },
  readings(kind, payload) {
    const fields = fieldsOf(payload, 'ChirpStack');
    const time = fields['time'];
    if (kind === 'status') return { time, fields: { status: telemetry(fields, CHIRPSTACK_STATUS_SKIPPED) } };
    const { object, data } = fields as { object?: unknown; data?: unknown };
    // Without a codec in ChirpStack there are only bytes: they are kept as they came, in base64.
    const decoded = isFields(object) ? telemetry(object, NOTHING_SKIPPED) : { data };
    return { time, fields: { ...decoded, lora: lorawan(fields) } };
  },
};

const TASMOTA_SKIPPED = new Set(['Time', 'Epoch', 'TempUnit', 'PressureUnit', 'SpeedUnit', 'TotalStartTime', 'Id', 'BSSId', 'SSId']);
const HAS_ZONE = /(?:[Zz]|[+-]\d\d:?\d\d)$/;

const tasmota: Preset = {
  match: 'tele/#',
  topic(rest) {
    const kind = rest.at(-1) ?? '';
    if (!['SENSOR', 'STATE', 'LWT'].includes(kind)) return { ignored: 'SENSOR, STATE and LWT carry readings' };
    // The prefix may stand before or behind the device (FullTopic).
    return {
      device: rest
        .slice(0, -1)
        .filter((level) => level !== 'tele')
        .join('/'),
      kind,
    };
  },
  readings(kind, payload) {
    if (kind === 'LWT') return availability(payload);
    const fields = fieldsOf(payload, 'Tasmota');
    const { Time: time, Epoch: epoch } = fields as { Time?: unknown; Epoch?: unknown };
    // By default Time is local and does not say of which zone: then arrival is nearer to the truth than a guess.
    const zoned = typeof time === 'string' && HAS_ZONE.test(time) ? time : undefined;
    return { time: epoch ?? zoned, fields: telemetry(fields, TASMOTA_SKIPPED) };
  },
};

export const PRESETS: Readonly<Record<PresetName, Preset>> = { zigbee2mqtt, chirpstack, tasmota };

/** The preset that a topic looks made for; null: none. */
export function suggestPreset(topic: string): PresetName | null {
  if (topic.startsWith('zigbee2mqtt/')) return 'zigbee2mqtt';
  if (/^application\/[^/]+\/device\//.test(topic)) return 'chirpstack';
  if (/^tele\/.+\/(?:SENSOR|STATE|LWT)$/.test(topic)) return 'tasmota';
  return null;
}

/** @throws SluiceError ERR_DECODE_*: nothing of the message can be used */
export function decodePreset(context: ShapeContext, preset: Preset, kind: string, payload: Buffer): void {
  const { writer, scope, time } = context;
  if (scope === null) throw new SluiceError('ERR_DECODE_DEVICE', 'the topic names no device');
  // Availability may be a bare word.
  const first = payload[0];
  const bare = first !== 0x7b && first !== 0x5b && first !== 0x22;
  const { time: stamp, fields } = preset.readings(kind, bare ? payload.toString('utf8', 0, 1_024) : parseJson(payload));
  const timeUs = time.read(stamp);
  for (const key of Object.keys(fields)) writer.field(scope, scope.root, key, timeUs, fields[key], 1);
}
