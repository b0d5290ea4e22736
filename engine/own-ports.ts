/**
 * What this host's kernel still has of a network, whatever the records say: before an address is given back, a
 * container that runs with it must be ruled out.
 */
import type { EndpointId, IfName, NetworkId } from '../model/scalars.js';
import { someAtOnce } from '../model/some-at-once.js';
import { CALLS_AT_ONCE, type Kernel } from '../overlay/kernel.js';
import { type HostSettings, netnsOf, overlayVethOf } from './host.js';
import type { Mirror } from './mirror.js';
import { portOf } from './wanted.js';

export interface OwnPortsDependencies {
  readonly kernel: Kernel;
  readonly mirror: Mirror;
  readonly host: HostSettings;
}

/** Ports of one network on this host. */
export interface NetworkPorts {
  readonly present: ReadonlySet<IfName>;
  /** Of no record: which address they have is not known. */
  readonly strangers: readonly IfName[];
}

const NONE: NetworkPorts = { present: new Set(), strangers: [] };

export class OwnPorts {
  readonly #deps: OwnPortsDependencies;
  readonly #namespaces: ReadonlySet<string>;
  readonly #known = new Map<NetworkId, NetworkPorts>();

  private constructor(deps: OwnPortsDependencies, namespaces: ReadonlySet<string>) {
    this.#deps = deps;
    this.#namespaces = namespaces;
  }

  /** One look: each network is read once. */
  static async look(deps: OwnPortsDependencies): Promise<OwnPorts> {
    const { kernel, host } = deps;
    return new OwnPorts(deps, new Set(await kernel.listNamespaces(host.netnsPath, host.netnsPrefix)));
  }

  /** Reads all of it now: the kernel is about to change. */
  async whole(): Promise<this> {
    const { mirror } = this.#deps;
    await someAtOnce(mirror.networks(), CALLS_AT_ONCE, ({ record }) => this.of(record.id));
    return this;
  }

  hasNamespace(id: NetworkId): boolean {
    return this.#namespaces.has(netnsOf(this.#deps.host, id));
  }

  async of(id: NetworkId): Promise<NetworkPorts> {
    if (!this.hasNamespace(id)) return NONE;
    const known = this.#known.get(id) ?? (await this.#read(id));
    this.#known.set(id, known);
    return known;
  }

  async #read(id: NetworkId): Promise<NetworkPorts> {
    const { kernel, mirror, host } = this.#deps;
    const present = new Set(await kernel.listPorts(netnsOf(host, id)));
    const ours = new Set(mirror.localEndpoints(id).map(record => portOf(record).overlayVeth));
    return { present, strangers: [...present].filter(port => !ours.has(port)) };
  }
}

/** The port that may bear an address held for an endpoint, or for nobody knows whom. */
export function portThatMayBear(ports: NetworkPorts, endpoint: EndpointId | undefined): IfName | undefined {
  const veth = endpoint && overlayVethOf(endpoint);
  if (veth && ports.present.has(veth)) return veth;
  // A name of ours tells its endpoint; one that an agent of the original gave tells nothing.
  return ports.strangers.find(port => endpoint === undefined || port.length !== veth?.length);
}
