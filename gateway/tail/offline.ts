/** `sluice-gateway decode`: what the rules would make of a payload, with the running gateway's own code and nothing stored. */
import { Decoder } from '../decode/decoder.ts';
import type { TopicRule } from '../decode/topic-rules.ts';
import { BoundedSeriesRegistry } from '../journal/registry.ts';
import { SeenBuilder, unmatchedHint, type SeenMessage } from './seen-message.ts';

/** @param arrivalUs against which the event times are judged */
export function decodeOffline(rules: readonly TopicRule[], topic: string, payload: Buffer, arrivalUs: number): SeenMessage {
  const series = new BoundedSeriesRegistry();
  const decoder = new Decoder(rules, series);
  const plan = decoder.plan(topic);
  const rule = plan?.match ?? null;
  const seen = new SeenBuilder({ source: 'decode', topic, client: null, payload, rule, arrivalUs }, series);
  if (plan === null) return seen.finish('unmatched', null, unmatchedHint(topic));
  try {
    decoder.decode(plan, payload, seen, { arrivalUs, onlyDevice: null });
    return seen.finish(plan.ignored === null ? null : 'ignored', null, plan.ignored);
  } catch (error) {
    return seen.finish('dead_letter', error);
  }
}
