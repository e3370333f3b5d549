/**
 * QoS 2 ids between PUBLISH and PUBREL are durable in the journal: aedes' memory forgets them in a crash, the journal does not, and
 * PUBCOMP waits until the journal has released the id.
 */
import type { JournalWriter } from '../journal/journal-api.ts';
import type { Persistence } from './persistence.ts';

export function keepQos2Ids(memory: Persistence, journal: JournalWriter, isRedelivered: (packet: object) => boolean): void {
  const get = memory.incomingGetPacket.bind(memory);
  const del = memory.incomingDelPacket.bind(memory);
  // aedes asks this for a PUBLISH (is it a duplicate?) and for a PUBREL (is there something to release?). The journal
  // knows the id of every PUBLISH by then, its own included, so only the gate can tell a redelivery.
  memory.incomingGetPacket = (client, packet) =>
    get(client, packet).catch((error: unknown) => {
      const known = packet.cmd === 'publish' ? isRedelivered(packet) : journal.qos2Open(client.id, packet.messageId as number);
      if (known) return packet;
      throw error;
    });
  memory.incomingDelPacket = async (client, packet) => {
    const messageId = packet.messageId as number;
    await del(client, packet).catch(() => undefined); // after a restart only the journal has it
    if (!journal.qos2Open(client.id, messageId)) return;
    await new Promise<void>((resolve, reject) => {
      journal.qos2Release(client.id, messageId, (error) => (error === null ? resolve() : reject(error)));
    });
  };
}
