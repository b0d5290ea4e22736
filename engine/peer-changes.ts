/** Remote endpoints that came, changed or went since the kernel was told, network by network. */
import type { Peer } from '../model/records.js';
import type { EndpointId, NetworkId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import { packPeers } from '../overlay/peers.js';
import { type HostSettings, netnsOf } from './host.js';
import type { Mirror, MirrorEvent } from './mirror.js';
import { remotePeersOf } from './wanted.js';

type PeerEvent = Extract<MirrorEvent, { kind: 'peer' }>;

export class PeerChanges {
  readonly #mirror: Mirror;
  readonly #kernel: Kernel;
  readonly #host: HostSettings;
  readonly #changes = new Map<NetworkId, Map<EndpointId, Pick<PeerEvent, 'before' | 'after'>>>();

  constructor(mirror: Mirror, kernel: Kernel, host: HostSettings) {
    this.#mirror = mirror;
    this.#kernel = kernel;
    this.#host = host;
  }

  /** True for the first change of a network since they were taken: then somebody has to come for them. */
  note({ networkId, before, after }: PeerEvent): boolean {
    const endpoint = (after ?? before)?.endpointId;
    if (endpoint === undefined) return false;
    const known = this.#changes.get(networkId);
    const changes = known ?? new Map<EndpointId, Pick<PeerEvent, 'before' | 'after'>>();
    changes.set(endpoint, { before: changes.get(endpoint)?.before ?? before, after });
    this.#changes.set(networkId, changes);
    return known === undefined;
  }

  /** A full compare has seen to them. */
  drop(id: NetworkId): void {
    this.#changes.delete(id);
  }

  /** Tells the kernel of them. @throws KernelError. */
  async apply(id: NetworkId): Promise<void> {
    const { set, remove } = this.#take(id);
    if (set.length + remove.length === 0) return;
    const { name } = this.#host;
    await this.#kernel.applyPeers(netnsOf(this.#host, id), {
      set: packPeers(remotePeersOf(set, name)),
      remove: packPeers(remotePeersOf(remove, name)),
    });
  }

  /** What the kernel has to be told; nothing stays. */
  #take(id: NetworkId): { readonly set: Peer[]; readonly remove: Peer[] } {
    const [set, remove]: [Peer[], Peer[]] = [[], []];
    for (const { before, after } of this.#changes.get(id)?.values() ?? []) {
      if (after && !this.#mirror.hosts.isCutOff(after.hostname)) set.push(after);
      // A newer endpoint may bear the address already: replacing it is one step, without a gap.
      const bearer = before && this.#mirror.bearerOf(id, before.address);
      const isLocal = bearer !== undefined && this.#mirror.localEndpoint(bearer.endpointId) !== undefined;
      if (before && (!bearer || isLocal)) remove.push(before);
    }
    this.#changes.delete(id);
    return { set, remove };
  }
}
