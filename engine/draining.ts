/** A host that is drained takes no new endpoints; those that are there stay. */
import { ConflictError } from '../model/errors.js';
import type { HostSettings } from './host.js';
import type { Mirror } from './mirror.js';

/** @throws ConflictError while this host is drained. */
export function refuseWhileDraining(mirror: Mirror, { name }: HostSettings): void {
  const since = mirror.hosts.record(name)?.draining_since;
  if (since === undefined) return;
  throw new ConflictError(
    `Host ${name} is drained since ${since} and takes no new endpoints; choose another, or end it with sand-agent-cli host-drain ${name} --off`,
    { hostname: name },
  );
}
