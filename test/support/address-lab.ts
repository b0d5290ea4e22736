import type { IpAddress, NetworkId } from '../../model/scalars.js';
import { AddressAgent, bitsFor, readPool } from './address-agent.js';
import { type EtcdCluster, startEtcd } from './etcd.js';

export const ip = (text: string) => text as IpAddress;

/** An etcd for a file's tests, with a prefix and agents of its own for each test. */
export class AddressLab {
  #etcd: EtcdCluster | undefined;
  #tests = 0;
  agents: AddressAgent[] = [];

  /** Registers what comes before and after the tests of the file that calls it. */
  static open(): AddressLab {
    const lab = new AddressLab();
    beforeAll(async () => {
      lab.#etcd = await startEtcd();
    });
    beforeEach(() => {
      lab.#tests += 1;
    });
    afterEach(() => lab.disposeAgents());
    afterAll(() => lab.etcd.stop());
    return lab;
  }

  get etcd(): EtcdCluster {
    if (!this.#etcd) throw new Error('etcd runs from beforeAll on');
    return this.#etcd;
  }

  get prefix(): string {
    return `/sand-${this.#tests}`;
  }

  agent(name = `host-${this.agents.length}`, hosts: readonly string[] = this.etcd.hosts): AddressAgent {
    const made = new AddressAgent(hosts, this.prefix, name);
    this.agents.push(made);
    return made;
  }

  async disposeAgents(): Promise<void> {
    await Promise.all(this.agents.splice(0).map(agent => agent[Symbol.asyncDispose]()));
  }

  /**
   * When all is quiet and spares are given back, the bits are the ends, the gateway and the owners: none lost, none
   * left. Gives the owners' addresses.
   */
  async expectConsistent(id: NetworkId, cidr: string): Promise<readonly IpAddress[]> {
    const { keys } = this.agents[0] ?? this.agent();
    await Promise.all(this.agents.map(({ addresses }) => addresses[Symbol.asyncDispose]()));
    const { taken, owners, spares } = await readPool(this.etcd, keys, id);
    expect(spares).toEqual([]);
    expect(taken).toEqual(bitsFor(cidr, owners));
    return owners;
  }
}
