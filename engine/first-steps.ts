/** What an agent does once, when it has begun to follow etcd: from a first look at the kernel to the last orphan. */
import { describeError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { Departed } from './departed.js';
import type { DockerEndpoints } from './docker-endpoints.js';
import type { Endpoints } from './endpoints.js';
import type { HostClaim } from './host-claim.js';
import type { KeptTeardowns } from './kept-teardowns.js';
import type { Networks } from './networks.js';
import type { Orphans } from './orphans.js';
import type { OwnPorts } from './own-ports.js';
import type { Reconciler } from './reconcile.js';
import type { TargetNames } from './target-names.js';
import type { UnusedNetworks } from './unused-networks.js';
import type { Upkeep } from './upkeep.js';

export interface FirstStepsDependencies {
  readonly claim: HostClaim;
  readonly networks: Networks;
  readonly endpoints: Endpoints;
  readonly dockerEndpoints: DockerEndpoints;
  readonly reconciler: Reconciler;
  readonly departed: Departed;
  readonly unused: UnusedNetworks;
  readonly targetNames: TargetNames;
  readonly keptTeardowns: KeptTeardowns;
  readonly orphans: Orphans;
  readonly upkeep: Upkeep;
  readonly log: Logger;
  look(): Promise<OwnPorts>;
  /** Resolves when the mirror holds the first snapshot. */
  readonly snapshot: Promise<void>;
  readonly signal: AbortSignal;
}

/** Resolves when all is as it should be, when another agent has this host's name, or at the signal. */
export async function takeFirstSteps(deps: FirstStepsDependencies): Promise<void> {
  const { claim, networks, endpoints, dockerEndpoints, reconciler, departed, unused, targetNames } = deps;
  const { keptTeardowns, orphans, upkeep, signal, log } = deps;
  const stopped = new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
  await Promise.race([deps.snapshot, stopped]);
  if (signal.aborted) return;
  const attempt = <T>(step: Promise<T>, text: string) =>
    step.catch(error => void log.error(text, { err: describeError(error) }));
  // Before anything is changed, and while etcd is asked.
  const looked = attempt(
    deps.look().then(found => found.whole()),
    'interfaces not looked at',
  );
  if (!(await claim.held())) return;
  await attempt(dockerEndpoints.inherit(), 'endpoints of the original not taken over');
  await attempt(endpoints.followVtep(), 'records keep an old VTEP address');
  await attempt(upkeep.verifier.mendRecords(), 'records of endpoints not compared');
  const ports = await looked;
  const missing = await attempt(reconciler.start(), 'kernel not compared at start');
  await departed.settle(missing ?? []);
  await targetNames.settleAll();
  reconciler.patrol.onAll(async ids => {
    await departed.settle(ids);
    await targetNames.settle();
  });
  await unused.removeAll(signal);
  await keptTeardowns.replay();
  await attempt(networks.separateVnis(), 'VNIs given twice not looked for');
  await attempt(upkeep.checkLimits(), 'limits not looked at');
  if (ports) await attempt(orphans.remove(ports), 'orphans not looked for');
}
