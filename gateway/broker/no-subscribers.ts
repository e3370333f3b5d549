/**
 * A gateway mostly has no subscribers. aedes spends about a third of its time per QoS 1 message (measured) on finding
 * that nobody wants it: two tries of topics, a packet of its own, promises. While nobody subscribes, that is left out.
 */

interface Message {
  readonly topic: string;
  readonly retain?: boolean;
}

type Notify = (...args: never[]) => void;
type Done = (error?: Error) => void;

/** The part of mqemitter 7 that is watched. */
interface Emitter {
  on(topic: string, notify: Notify, done?: () => void): unknown;
  removeListener(topic: string, notify: Notify, done?: () => void): unknown;
}

/** The part of aedes 1.2 that is wrapped. */
export interface PublishingBroker {
  readonly mq: Emitter;
  readonly closed: boolean;
  publish(message: Message, client: unknown, done?: Done): void;
}

/** The broker's own messages to itself. */
const SYSTEM_TOPICS = '$SYS/';

/**
 * Changes the broker in place, once it has registered its own listeners (they hear system topics only).
 *
 * @param hasSessions whether a session, its client present or not, has subscriptions to be queued for
 * @returns whether anybody, present or not, subscribes to anything
 */
export function skipWithoutSubscribers(broker: PublishingBroker, hasSessions: () => boolean): () => boolean {
  const { mq } = broker;
  // Topic and function, as a set: taking one away twice does no harm, which a count would not survive.
  const listeners = new Map<string, Set<Notify>>();
  const on = mq.on.bind(mq);
  const removeListener = mq.removeListener.bind(mq);
  const publish = broker.publish.bind(broker);
  mq.on = (topic, notify, done) => {
    const ofTopic = listeners.get(topic);
    if (ofTopic === undefined) listeners.set(topic, new Set([notify]));
    else ofTopic.add(notify);
    return on(topic, notify, done);
  };
  mq.removeListener = (topic, notify, done) => {
    const ofTopic = listeners.get(topic);
    ofTopic?.delete(notify);
    if (ofTopic?.size === 0) listeners.delete(topic);
    return removeListener(topic, notify, done);
  };
  const hasSubscribers = (): boolean => listeners.size > 0 || hasSessions();
  broker.publish = (message, client, done) => {
    const wanted = message.retain === true || hasSubscribers() || broker.closed || message.topic.startsWith(SYSTEM_TOPICS);
    if (wanted || typeof client === 'function') publish(message, client, done);
    else done?.();
  };
  return hasSubscribers;
}
