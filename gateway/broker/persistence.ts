/** The part of aedes-persistence 11 that is replaced or wrapped; aedes looks its methods up at each call. */
import type { Readable } from 'node:stream';

export interface StoredPacket {
  readonly cmd?: string;
  readonly topic: string;
  readonly payload: Buffer | string;
  readonly qos: number;
  readonly messageId?: number;
  readonly brokerId: string;
  readonly brokerCounter: number;
}

export interface OutgoingUpdate {
  readonly cmd?: string;
  readonly messageId?: number;
  readonly brokerId?: string;
  readonly brokerCounter?: number;
  readonly payload?: Buffer | string;
  /** Goes on where the packet would have been written. */
  readonly writeCallback?: () => void;
}

export interface ClientRef {
  readonly id: string;
}

interface Subscription {
  readonly topic: string;
  readonly qos: number;
}

export interface Persistence {
  storeRetained(packet: StoredPacket): Promise<unknown>;
  createRetainedStreamCombi(filters: readonly string[]): Readable;
  addSubscriptions(client: ClientRef, subscriptions: readonly Subscription[]): Promise<unknown>;
  removeSubscriptions(client: ClientRef, filters: readonly string[]): Promise<unknown>;
  cleanSubscriptions(client: ClientRef): Promise<unknown>;
  subscriptionsByClient(client: ClientRef): Promise<readonly unknown[]>;
  subscriptionsByTopic(topic: string): Promise<readonly unknown[]>;
  outgoingEnqueue(subscription: { readonly clientId: string }, packet: StoredPacket): Promise<unknown>;
  outgoingEnqueueCombi(subscriptions: readonly { readonly clientId: string }[], packet: StoredPacket): Promise<unknown>;
  outgoingUpdate(client: ClientRef, packet: OutgoingUpdate): Promise<unknown>;
  outgoingClearMessageId(client: ClientRef, packet: { readonly messageId?: number }): Promise<unknown>;
  outgoingStream(client: ClientRef): Readable;
  incomingGetPacket(client: ClientRef, packet: StoredPacket): Promise<unknown>;
  incomingDelPacket(client: ClientRef, packet: StoredPacket): Promise<unknown>;
}
