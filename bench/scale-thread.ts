/**
 * Stands in for the kernel's thread, and only here: two hundred agents on one machine must not have two hundred hosts'
 * interfaces. It counts what would be sent, keeps which neighbours each network would have, and says yes.
 */
import { EventEmitter } from 'node:events';
import type { NetnsPath } from '../model/scalars.js';
import type { WorkerRequest } from '../overlay/netlink/worker.js';
import { packPeers, unpackPeers } from '../overlay/peers.js';
import type { PortChange, RemotePeer, WantedNetwork } from '../overlay/types.js';

/** Messages of overlay/network.ts and repair.ts for a bridge and its VXLAN, namespaces aside. */
const MESSAGES_OF_A_NETWORK = 9;
/** One ARP and one FDB entry. */
const MESSAGES_OF_A_PEER = 2;

interface PeerChange {
  readonly set: Uint8Array;
  readonly remove: Uint8Array;
}

export class CountingThread extends EventEmitter {
  readonly #networks = new Map<NetnsPath, Uint8Array>();
  /** What a kernel would have been sent. */
  messages = 0;
  /** Full compares of one network. */
  reconciles = 0;
  /** Told of each change of neighbours, once it would be in the kernel. */
  onPeers: (change: readonly RemotePeer[]) => void = () => undefined;

  postMessage({ id, call, args }: WorkerRequest): void {
    const result = this.#answer(call, args);
    setImmediate(() => this.emit('message', { id, result }));
  }

  async terminate(): Promise<number> {
    this.removeAllListeners();
    return 0;
  }

  /** Every neighbour of every network that is here. */
  *entries(): Iterable<[NetnsPath, RemotePeer]> {
    for (const [netns, packed] of this.#networks) {
      for (const peer of unpackPeers(packed)) yield [netns, peer];
    }
  }

  get networks(): number {
    return this.#networks.size;
  }

  #answer(call: string, args: readonly unknown[]): unknown {
    const [first, second] = args;
    switch (call) {
      case 'reconcile':
        return this.#reconcile(first as WantedNetwork);
      case 'applyPeers':
        return this.#applyPeers(first as NetnsPath, second as PeerChange);
      case 'removeNetwork':
        return void this.#networks.delete(first as NetnsPath);
      case 'changePorts':
        return (second as PortChange).plug.map(({ overlayVeth }) => ({ ifName: overlayVeth }));
      case 'makeBare':
        return undefined;
      case 'listNamespaces':
        return [...this.#networks.keys()];
      case 'underlay':
        return { ifName: 'eth0', mtu: 1_500 };
      case 'inspect':
        return { repairs: [], missingPorts: [], foreign: [] };
      default:
        return [];
    }
  }

  #reconcile({ netns, peers, ports }: WantedNetwork) {
    const created = !this.#networks.has(netns);
    this.reconciles += 1;
    this.#networks.set(netns, peers);
    if (created) {
      const count = unpackPeers(peers).length * MESSAGES_OF_A_PEER;
      this.messages += MESSAGES_OF_A_NETWORK + ports.length + count;
    }
    return { created, repairs: [], missingPorts: [] };
  }

  #applyPeers(netns: NetnsPath, change: PeerChange): void {
    const [set, remove] = [unpackPeers(change.set), unpackPeers(change.remove)];
    const peers = new Map(
      unpackPeers(this.#networks.get(netns) ?? new Uint8Array()).map(peer => [peer.address, peer]),
    );
    for (const { address } of remove) peers.delete(address);
    for (const peer of set) peers.set(peer.address, peer);
    this.#networks.set(netns, packPeers([...peers.values()]));
    this.messages += (set.length + remove.length) * MESSAGES_OF_A_PEER;
    this.onPeers(set);
  }
}
