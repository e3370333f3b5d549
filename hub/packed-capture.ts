import { packPartials, type SentPartials } from '../shared/window/packed-partials.ts';

/** A capture for another thread. */
export function packed<T extends { readonly tail: readonly SentPartials[] }>(capture: T): T {
  return { ...capture, tail: capture.tail.map((one) => ('buffer' in one ? one : packPartials(one))) };
}
