/**
 * Interfaces that are made while etcd has their endpoint's transaction, as far as they can be without it: a pair, down and
 * without an address. So a lone caller waits for the longer of both, not for one after the other. Whoever has company does
 * not: callers who come together share the kernel's work, too.
 */
import type { EndpointId, IfName, NetworkId } from '../model/scalars.js';
import type { BarePort } from '../overlay/types.js';

export class BarePorts {
  readonly #ports = new Map<EndpointId, { readonly networkId: NetworkId; readonly port: BarePort }>();

  begin(networkId: NetworkId, port: BarePort): void {
    this.#ports.set(port.endpointId, { networkId, port });
  }

  /** That very one: another call for the same endpoint may have begun its own. */
  has(port: BarePort): boolean {
    return this.#ports.get(port.endpointId)?.port === port;
  }

  /** From here on it is the work of whoever finishes it, or takes it away. */
  end(id: EndpointId): void {
    this.#ports.delete(id);
  }

  /** A network stays while it has any. */
  isIn(id: NetworkId): boolean {
    for (const { networkId } of this.#ports.values()) if (networkId === id) return true;
    return false;
  }

  /** A reconcile meanwhile leaves them alone. */
  interfaces(): IfName[] {
    return [...this.#ports.values()].map(({ port }) => port.overlayVeth);
  }
}
