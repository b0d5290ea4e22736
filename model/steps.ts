/**
 * The steps by which this process changes the world outside: a transaction of etcd, a batch of netlink, a mount, a line
 * on disk. Each is told when it is done, so that a tool or a test can be there between any two of them
 * (docs/decisions/0016). Without a subscriber it costs one comparison.
 */
import { channel } from 'node:diagnostics_channel';

/** What a subscriber of the channel `sand.steps` is given. */
export interface Step {
  readonly place: 'etcd' | 'kernel' | 'disk';
  /** In a few words, such as `txn`, `mount` or `link add sand0`. */
  readonly what: string;
}

export const STEPS = 'sand.steps';
const steps = channel(STEPS);

/** Says that a step is done. Subscribers are called before this returns. */
export function stepped(place: Step['place'], what: string): void {
  if (steps.hasSubscribers) steps.publish({ place, what } satisfies Step);
}
