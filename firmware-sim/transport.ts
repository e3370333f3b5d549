/**
 * The MQTT connection of one device: the home of MQTT.js in the simulator.
 *
 * A real device keeps what was not acknowledged and sends it again with DUP after a reconnect [MQTT-4.4.0-1]. MQTT.js 5
 * does the first (clean: false, its outgoing store) but not the second: it sends the stored packet unchanged, DUP = 0
 * [MQTT-3.3.1-1], so the gateway would have to take it for a new message. RedeliveryStore sets the flag.
 *
 * After a reconnect MQTT.js re-sends one message at a time, each after the ack of the one before, and reports `connect`
 * only then; meanwhile `ready` is false and new messages wait with the fleet.
 */
import { connect, Store, type IClientOptions, type MqttClient } from 'mqtt';
import { errorMessage } from '../shared/errors.ts';

export interface DeviceLinkOptions {
  readonly url: string;
  readonly clientId: string;
  readonly username: string | null;
  readonly password: string | null;
  readonly keepaliveSeconds: number;
  readonly reconnectDelayMs: number;
  readonly connectTimeoutMs: number;
}

export interface DeviceLinkEvents {
  /** The connection is up and everything from before has been sent again. */
  readonly onReady: () => void;
  /** Something went wrong (refused, reset, wrong password); the link goes on trying. */
  readonly onTrouble: (reason: string) => void;
}

export interface DeviceLink {
  readonly ready: boolean;
  /** How often the connection came up. */
  readonly connects: number;
  /**
   * Sends while `ready`. `done` is called once: after PUBACK (QoS 1), PUBCOMP (QoS 2) or the write (QoS 0); with an error
   * where that will never be known.
   */
  publish(topic: string, payload: Buffer, qos: 0 | 1 | 2, done: (error: Error | null) => void): void;
  /** Cuts the socket as a lost radio link does: without DISCONNECT. It reconnects. */
  cut(): void;
  close(): Promise<void>;
}

type StoredPacket = Parameters<Store['put']>[0];

/** What stands in the outgoing store has been tried once, so whenever it is taken out it is sent again. */
class RedeliveryStore extends Store {
  override put(packet: StoredPacket, done: Parameters<Store['put']>[1]): this {
    return super.put(packet.cmd === 'publish' ? { ...packet, dup: true } : packet, done);
  }
}

class MqttDeviceLink implements DeviceLink {
  readonly #client: MqttClient;
  #ready = false;
  #connects = 0;

  constructor(options: DeviceLinkOptions, events: DeviceLinkEvents) {
    const clientOptions: IClientOptions = {
      clientId: options.clientId,
      clean: false,
      protocolVersion: 4,
      outgoingStore: new RedeliveryStore(),
      keepalive: options.keepaliveSeconds, // MQTT.js: seconds
      reconnectPeriod: options.reconnectDelayMs, // MQTT.js: milliseconds
      connectTimeout: options.connectTimeoutMs, // MQTT.js: milliseconds
      // A gateway that is starting refuses with a CONNACK code; giving up on the first would lose the device for the run.
      reconnectOnConnackError: true,
      queueQoSZero: false,
      ...(options.username === null ? {} : { username: options.username }),
      ...(options.password === null ? {} : { password: options.password }),
    };
    this.#client = connect(options.url, clientOptions);
    this.#client.on('connect', () => {
      this.#ready = true;
      this.#connects++;
      events.onReady();
    });
    this.#client.on('close', () => {
      this.#ready = false;
    });
    this.#client.on('error', (error) => events.onTrouble(errorMessage(error)));
  }

  get ready(): boolean {
    return this.#ready && this.#client.connected;
  }

  get connects(): number {
    return this.#connects;
  }

  publish(topic: string, payload: Buffer, qos: 0 | 1 | 2, done: (error: Error | null) => void): void {
    this.#client.publish(topic, payload, { qos }, (error) => done(error ?? null));
  }

  cut(): void {
    this.#ready = false;
    this.#client.stream.destroy();
  }

  close(): Promise<void> {
    // Waiting for outstanding acks is the fleet's drain; here they are given up (`force` where there are any).
    const outstanding = Object.keys(this.#client.outgoing).length > 0 || !this.#client.connected;
    return new Promise((resolve) => {
      this.#client.end(outstanding, () => resolve());
    });
  }
}

export function openDeviceLink(options: DeviceLinkOptions, events: DeviceLinkEvents): DeviceLink {
  return new MqttDeviceLink(options, events);
}
