/**
 * The ids under which messages are sent to a persistent session.
 *
 * aedes counts them upwards from a random start with each connection. What the session still has under way keeps its id from an
 * earlier connection [MQTT-4.4.0-1], so a new message could get the id of an old one: the subscriber's acknowledgement of one
 * would take the other away, and at QoS 2 the second would be taken for the first sent again. Therefore ids under way are skipped.
 */

/** What of aedes' client is touched; aedes reads the next id, maybe several times, and then writes it, in one synchronous step. */
export interface IdCounter {
  _nextId: number;
}

const ID_MAX = 65_535;

export function skipIdsUnderWay(client: IdCounter, isUnderWay: (messageId: number) => boolean): void {
  let next = client._nextId;
  Object.defineProperty(client, '_nextId', {
    get(): number {
      // A queue is far shorter than there are ids.
      for (let tried = 0; tried < ID_MAX && isUnderWay(next); tried++) next = next >= ID_MAX ? 1 : next + 1;
      return next;
    },
    set(value: number) {
      next = value;
    },
  });
}
