/** Whether this agent may serve under its host name, decided from what etcd holds of it. Pure. */
import { ConflictError } from '../model/errors.js';
import type { HostRecord, Presence } from '../model/host-record.js';
import type { HostName } from '../model/scalars.js';
import type { Identity } from './identity.js';

export type ClaimDecision =
  | { readonly kind: 'claim' }
  | { readonly kind: 'refused'; readonly reason: ConflictError };

/** A claim that stands, as this agent remembers it. */
export interface Held {
  readonly revision: number;
}

/**
 * The first claim of a process takes the name over from its own identity: that process has crashed, or is a clone. A
 * process that was overtaken so waits for the newer one to end.
 */
export function decideClaim(
  hostname: HostName,
  self: Identity,
  found: Presence | undefined,
  round: 'first' | 'again',
): ClaimDecision {
  if (!found || found.left_at !== undefined || found.instance === self.instance) return { kind: 'claim' };
  if (found.identity !== self.id) return { kind: 'refused', reason: nameTaken(hostname, self, found) };
  return round === 'first' ? { kind: 'claim' } : { kind: 'refused', reason: cloned(hostname, found) };
}

/** What a change of the presence key means for an agent that holds it. */
export function decideHeld(
  hostname: HostName,
  self: Identity,
  held: Held,
  now: { readonly record: Presence; readonly revision: number } | undefined,
): 'held' | 'lost' | ConflictError {
  if (now?.revision === held.revision) return 'held';
  const decision = decideClaim(hostname, self, now?.record, 'again');
  return decision.kind === 'claim' ? 'lost' : decision.reason;
}

const facts = (hostname: HostName, { identity, vtep }: Presence) => ({ hostname, identity, vtep });

const nameTaken = (hostname: HostName, self: Identity, holder: Presence) =>
  new ConflictError(
    `Host name ${hostname} is held by another agent (VTEP ${holder.vtep}, identity ${holder.identity}; this one is ` +
      `${self.id}): give one of the two another PEER_HOSTNAME, or stop the other; this one takes over when that is gone`,
    facts(hostname, holder),
  );

const cloned = (hostname: HostName, holder: Presence) =>
  new ConflictError(
    `Host name ${hostname} was taken over by a newer agent of the same identity ${holder.identity} (VTEP ${holder.vtep}): ` +
      'one state directory is a copy of the other; delete the file identity in the copy and give it another PEER_HOSTNAME',
    facts(hostname, holder),
  );

/** What the host's record says after a claim; the mark of a removal ends with it. */
export function recordAfterClaim(
  before: HostRecord | undefined,
  own: Pick<HostRecord, 'hostname' | 'identity' | 'vtep' | 'api_hostname' | 'version'>,
  now: Date,
): HostRecord {
  const same = before?.identity === own.identity ? before : undefined;
  return {
    ...own,
    since: same?.since ?? now.toISOString(),
    // A machine that was reinstalled under the name is still the one that an operator drained.
    ...(before?.draining_since === undefined ? {} : { draining_since: before.draining_since }),
  };
}
