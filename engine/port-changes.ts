/** Ports that come and go: a known small difference, told to the kernel directly and in batches. */
import { KernelError } from '../model/errors.js';
import { LEGACY_MTU, mtuOf, type Network } from '../model/records.js';
import type { IfName, NetworkId } from '../model/scalars.js';
import type { Kernel } from '../overlay/kernel.js';
import type { BarePort, OverlayPlace, PortChange, WantedPort } from '../overlay/types.js';
import type { BarePorts } from './bare-ports.js';
import { type HostSettings, netnsOf } from './host.js';
import { PortQueue, type WaitingPlug } from './port-queue.js';

export interface PortChangesDependencies {
  readonly kernel: Kernel;
  readonly host: HostSettings;
  readonly bare: BarePorts;
  /** One change of a network at a time. */
  inTurn(id: NetworkId, work: () => Promise<void>): Promise<void>;
  /**
   * Sets the network up where it is not yet.
   * @throws ConflictError: the underlay is too small. NotFoundError: the VTEP address is nobody's. UnavailableError. KernelError.
   */
  prepare(network: Network): Promise<void>;
  /** Makes the network whole again. */
  repair(id: NetworkId): Promise<unknown>;
  /** Told after the kernel was. */
  changed(id: NetworkId): void;
}

export class PortChanges {
  readonly #deps: PortChangesDependencies;
  readonly #queue: PortQueue;

  constructor(deps: PortChangesDependencies) {
    this.#deps = deps;
    this.#queue = new PortQueue(id => void deps.inTurn(id, () => this.#carryOut(id)));
  }

  plug(network: Network, port: WantedPort): Promise<IfName> {
    return this.#queue.plug(network, port);
  }

  unplug(id: NetworkId, port: BarePort): Promise<void> {
    this.#deps.bare.end(port.endpointId);
    return this.#queue.unplug(id, port);
  }

  /** A port whose record is on its way to etcd: what fails here is done, and told, by its `plug`. */
  makeBare(network: Network, port: BarePort): void {
    const { kernel, host, bare, inTurn, changed } = this.#deps;
    const { id } = network.record;
    const place = { netns: netnsOf(host, id), mtu: mtuOf(network) };
    bare.begin(id, port);
    void inTurn(id, async () => {
      if (!bare.has(port)) return;
      await kernel.makeBare(place, port);
      changed(id);
    }).catch(() => undefined);
  }

  async #carryOut(id: NetworkId): Promise<void> {
    const { plugs: asked, unplugs } = this.#queue.take(id);
    const plugs = await this.#prepared(asked);
    const change = { plug: plugs.map(({ port }) => port), unplug: unplugs.map(({ port }) => port) };
    for (const { endpointId } of change.plug) this.#deps.bare.end(endpointId);
    const overlay = {
      netns: netnsOf(this.#deps.host, id),
      mtu: plugs[0] ? mtuOf(plugs[0].network) : LEGACY_MTU,
    };
    try {
      const plugged = await this.#tryTwice(id, overlay, change);
      plugs.forEach(({ resolve, reject }, i) => {
        const result = plugged[i];
        if (result && 'ifName' in result) resolve(result.ifName);
        else reject(result?.error ?? new KernelError('The kernel worker gave no answer'));
      });
      for (const { resolve } of unplugs) resolve();
    } catch (error) {
      for (const { reject } of [...plugs, ...unplugs]) reject(error);
    }
    this.#deps.changed(id);
  }

  /** Those whose network is there now; the others are refused. */
  async #prepared(plugs: WaitingPlug[]): Promise<WaitingPlug[]> {
    const [first] = plugs;
    if (!first) return plugs;
    try {
      await this.#deps.prepare(first.network);
      return plugs;
    } catch (error) {
      for (const { reject } of plugs) reject(error);
      return [];
    }
  }

  async #tryTwice(id: NetworkId, overlay: OverlayPlace, change: PortChange) {
    const { kernel, repair } = this.#deps;
    try {
      return await kernel.changePorts(overlay, change);
    } catch (error) {
      if (!(error instanceof KernelError) || change.plug.length === 0) throw error;
      // Somebody damaged the network under us: repair it, then once more.
      await repair(id);
      return kernel.changePorts(overlay, change);
    }
  }
}
