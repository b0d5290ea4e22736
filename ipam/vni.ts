/**
 * VXLAN network identifiers. A new network claims the lowest VNI that it knows to be free, by a key of its own per
 * VNI: two of our agents cannot claim one. Agents of the original know no such key; what they took at the same
 * moment shows when the network's record comes back through the follower, and then the younger network moves on.
 */
import { ExhaustedError } from '../model/errors.js';
import { FewPerKey } from '../model/few-per-key.js';
import type { NetworkId, Vni } from '../model/scalars.js';

/** Which networks bear which VNI, as the mirror has seen it. */
export class VniMap {
  readonly #bearers = new FewPerKey<Vni, NetworkId>();
  /** Below it every VNI is borne: choosing stays flat, whatever the number of networks. */
  #lowest = 1;

  add(vni: Vni, network: NetworkId): void {
    this.#bearers.add(vni, network);
  }

  remove(vni: Vni, network: NetworkId): void {
    if (this.#bearers.remove(vni, network)) this.#lowest = Math.min(this.#lowest, vni);
  }

  bearersOf(vni: Vni): ReadonlySet<NetworkId> {
    return this.#bearers.of(vni);
  }

  /**
   * The `n`th free VNI (0: the lowest) that `refused` does not hold.
   * @throws ExhaustedError when there is none up to `max`.
   */
  free(max: number, refused: ReadonlySet<number>, n = 0): Vni {
    while (this.#bearers.has(this.#lowest as Vni)) this.#lowest += 1;
    let left = n;
    for (let vni = this.#lowest; vni <= max; vni += 1) {
      if (this.#bearers.has(vni as Vni) || refused.has(vni)) continue;
      if (left === 0) return vni as Vni;
      left -= 1;
    }
    throw new ExhaustedError(`Every VNI from 1 to ${max} is taken; delete networks or raise MAX_VNI`, {
      max,
    });
  }
}
