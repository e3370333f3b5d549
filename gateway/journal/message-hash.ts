/**
 * A 53-bit hash of topic and payload: tells the redelivery of a message from another message that reuses its id.
 *
 * Two 32-bit lanes of multiply and rotate over four bytes a step (the mixing of MurmurHash3). Not cryptographic: a device
 * that forges a collision for its own client id harms only its own message.
 */
export function messageHash(topic: string, payload: Uint8Array): number {
  let a = 0x9e3779b9 ^ payload.length;
  let b = 0x85ebca6b ^ topic.length;
  for (let index = 0; index < topic.length; index++) {
    const unit = topic.charCodeAt(index);
    a = Math.imul(a ^ unit, 0xcc9e2d51);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b ^ unit, 0x1b873593);
    b = (b << 17) | (b >>> 15);
  }
  const whole = payload.length & ~3;
  let index = 0;
  for (; index < whole; index += 4) {
    const word = payload[index] | (payload[index + 1] << 8) | (payload[index + 2] << 16) | (payload[index + 3] << 24);
    a = Math.imul(a ^ word, 0xcc9e2d51);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b ^ Math.imul(word, 0x38b34ae5), 0x1b873593);
    b = (b << 17) | (b >>> 15);
  }
  for (; index < payload.length; index++) {
    a = Math.imul(a ^ payload[index], 0xcc9e2d51);
    a = (a << 13) | (a >>> 19);
    b = Math.imul(b ^ payload[index], 0x1b873593);
    b = (b << 17) | (b >>> 15);
  }
  a = avalanche(a ^ b);
  b = avalanche(b + a);
  return (b >>> 11) * 0x100000000 + (a >>> 0);
}

function avalanche(word: number): number {
  let mixed = word;
  mixed = Math.imul(mixed ^ (mixed >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return mixed ^ (mixed >>> 16);
}
