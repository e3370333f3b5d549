/**
 * What the broker keeps beside readings: retained messages, and the subscriptions and queues of persistent sessions.
 *
 * Constraints: a change rides in the transaction of the group that it came with, so that a message and what it means for
 * subscribers are durable together, in one fsync. Changes name rows by key and may be applied again. The rows are read once, at
 * the start; afterwards the broker has them in memory and bounds them there.
 *
 * Layout: `retained` by topic; `subscription` by client and filter; `outgoing` by an id that the broker counts upwards.
 * A crash leaves the changes of the groups that were committed.
 */
import type { Statements } from './statements.ts';

export interface RetainedRow {
  readonly topic: string;
  readonly qos: number;
  readonly payload: Uint8Array;
}

export interface SubscriptionRow {
  readonly client: string;
  readonly filter: string;
  readonly qos: number;
}

/** A message on its way to a session. */
export interface OutgoingRow {
  readonly id: number;
  readonly client: string;
  readonly topic: string;
  readonly qos: number;
  readonly payload: Uint8Array;
  /** QoS 2: under this id the subscriber may have it already; null: it was not sent. */
  readonly messageId: number | null;
  /** QoS 2: 1 once the subscriber has said that it has it (PUBREC). */
  readonly released: number;
}

export interface StoredSessions {
  readonly retained: readonly RetainedRow[];
  readonly subscriptions: readonly SubscriptionRow[];
  /** In the order of their ids. */
  readonly outgoing: readonly OutgoingRow[];
}

export const NO_SESSIONS: StoredSessions = { retained: [], subscriptions: [], outgoing: [] };

export type SessionChange =
  /** No payload: the topic retains nothing any more. Payloads must own their memory: they cross to another thread. */
  | { readonly kind: 'retain'; readonly topic: string; readonly qos: number; readonly payload: Uint8Array }
  | { readonly kind: 'subscribe'; readonly client: string; readonly filter: string; readonly qos: number }
  | { readonly kind: 'unsubscribe'; readonly client: string; readonly filter: string }
  | {
      readonly kind: 'queue';
      readonly id: number;
      readonly client: string;
      readonly topic: string;
      readonly qos: number;
      readonly payload: Uint8Array;
    }
  | { readonly kind: 'sent'; readonly id: number; readonly messageId: number }
  | { readonly kind: 'released'; readonly id: number }
  | { readonly kind: 'unqueue'; readonly id: number }
  /** Ends the session: its subscriptions and its queue. */
  | { readonly kind: 'forget'; readonly client: string };

/** Estimate of what a change takes, in memory and on disk. */
export function changeBytes(change: SessionChange): number {
  switch (change.kind) {
    case 'retain':
      return 64 + change.topic.length + change.payload.length;
    case 'queue':
      return 64 + change.client.length + change.topic.length + change.payload.length;
    case 'subscribe':
      return 64 + change.client.length + change.filter.length;
    default:
      return 64;
  }
}

/** Inside the caller's transaction. */
export function applyChange(sql: Statements, change: SessionChange): void {
  switch (change.kind) {
    case 'retain':
      if (change.payload.length === 0) sql.deleteRetained.run(change.topic);
      else sql.setRetained.run(change.topic, change.qos, change.payload);
      break;
    case 'subscribe':
      sql.setSubscription.run(change.client, change.filter, change.qos);
      break;
    case 'unsubscribe':
      sql.deleteSubscription.run(change.client, change.filter);
      break;
    case 'queue':
      sql.insertOutgoing.run(change.id, change.client, change.topic, change.qos, change.payload, null, 0);
      break;
    case 'sent':
      sql.setOutgoingSent.run(change.messageId, change.id);
      break;
    case 'released':
      sql.setOutgoingReleased.run(change.id);
      break;
    case 'unqueue':
      sql.deleteOutgoing.run(change.id);
      break;
    case 'forget':
      sql.deleteSubscriptions.run(change.client);
      sql.deleteOutgoingOf.run(change.client);
      break;
  }
}

export function readSessions(sql: Statements): StoredSessions {
  return { retained: sql.retained.all(), subscriptions: sql.subscriptions.all(), outgoing: sql.outgoing.all() };
}
