/** Ports that wait for their turn with the kernel: callers who arrive while a network is busy share one batch. */
import { KernelError } from '../model/errors.js';
import type { Network } from '../model/records.js';
import type { IfName, NetworkId } from '../model/scalars.js';
import type { BarePort, WantedPort } from '../overlay/types.js';

type Waiting<Result, Item> = Item & { resolve(result: Result): void; reject(error: unknown): void };
export type WaitingPlug = Waiting<IfName, { readonly network: Network; readonly port: WantedPort }>;
export type WaitingUnplug = Waiting<void, { readonly port: BarePort }>;

export interface PortWork {
  readonly plugs: WaitingPlug[];
  readonly unplugs: WaitingUnplug[];
}

export class PortQueue {
  readonly #work = new Map<NetworkId, PortWork>();
  readonly #begin: (id: NetworkId) => void;

  /** `begin` is called once for each batch; it is to `take` the batch when the network's turn has come. */
  constructor(begin: (id: NetworkId) => void) {
    this.#begin = begin;
  }

  plug(network: Network, port: WantedPort): Promise<IfName> {
    const { plugs } = this.#of(network.record.id);
    return new Promise((resolve, reject) => plugs.push({ network, port, resolve, reject }));
  }

  unplug(id: NetworkId, port: BarePort): Promise<void> {
    const { plugs, unplugs } = this.#of(id);
    overtake(plugs, port);
    return new Promise((resolve, reject) => unplugs.push({ port, resolve, reject }));
  }

  take(id: NetworkId): PortWork {
    const work = this.#work.get(id) ?? { plugs: [], unplugs: [] };
    this.#work.delete(id);
    return work;
  }

  #of(id: NetworkId): PortWork {
    const known = this.#work.get(id);
    if (known) return known;
    const work: PortWork = { plugs: [], unplugs: [] };
    this.#work.set(id, work);
    this.#begin(id);
    return work;
  }
}

/** In one batch what goes is before what comes: a port that goes before it was made is not made any more. */
function overtake(plugs: WaitingPlug[], { endpointId }: BarePort): void {
  const at = plugs.findIndex(({ port }) => port.endpointId === endpointId);
  const [overtaken] = at < 0 ? [] : plugs.splice(at, 1);
  overtaken?.reject(
    new KernelError(`Endpoint ${endpointId} was removed before its interface was made`, {
      endpoint_id: endpointId,
    }),
  );
}
