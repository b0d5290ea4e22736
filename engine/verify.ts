/** What differs on this host from what should be, without touching anything; and its repair, as far as it is ours. */
import { describeError } from '../model/errors.js';
import { type EndpointId, isNetworkId, type NetworkId } from '../model/scalars.js';
import { unhurried } from '../model/unhurried.js';
import { auditAddresses } from './address-audit.js';
import type { Difference } from './difference.js';
import { Gc, type GcDependencies } from './gc.js';
import { netnsOf } from './host.js';
import { nearLimits, readLimits, sizesOf, usageText } from './limits.js';
import { OwnPorts } from './own-ports.js';
import { mendPool } from './pool-mending.js';
import type { Reconciler } from './reconcile.js';
import { RecordPairs } from './record-pairs.js';
import { readTruth, type Truth } from './truth.js';
import { auditTruth } from './truth-audit.js';

export interface VerifierDependencies extends GcDependencies {
  readonly reconciler: Reconciler;
}

export interface RepairReport {
  /** What was done, a line each. */
  readonly done: readonly string[];
  /** What is left for somebody to decide. */
  readonly left: readonly Difference[];
}

export class Verifier {
  readonly #deps: VerifierDependencies;

  constructor(deps: VerifierDependencies) {
    this.#deps = deps;
  }

  /** @throws UnavailableError. KernelError. */
  async verify(): Promise<Difference[]> {
    const { store, keys, isGone } = this.#deps;
    const truth = await readTruth(store, keys);
    const context = { nowMs: Date.now(), isGone };
    const addresses: Difference[] = [];
    await unhurried(truth.networks.values(), network => {
      for (const { fault, networkId, address, text } of auditAddresses(network, context)) {
        const whole = `${address} of network ${networkId}: ${text}`;
        addresses.push({ area: 'addresses', kind: fault, text: whole, networkId, address });
      }
    });
    const limits = nearLimits(sizesOf(this.#deps.mirror), await readLimits()).map((usage): Difference => {
      return { area: 'limits', kind: 'near-limit', text: usageText(usage) };
    });
    return [...(await auditTruth(truth)), ...addresses, ...(await this.#kernelDifferences()), ...limits];
  }

  /** Of this host's running endpoints; before anything is compared with them. @throws UnavailableError. */
  mendRecords(): Promise<string[]> {
    return new RecordPairs(this.#deps).mend();
  }

  /** Never touches what is not this host's, or what an agent of the original may be about to use. @throws UnavailableError. */
  async repair(): Promise<RepairReport> {
    const { store, keys } = this.#deps;
    const done = [
      ...(await this.mendRecords()),
      ...(await this.#reconcile()),
      ...(await this.#takeClearBits(await readTruth(store, keys))),
    ];
    for (const { finding, outcome } of await new Gc(this.#deps).collect('own-host')) {
      if (outcome.state !== 'returned') continue;
      done.push(`address ${finding.address} of network ${finding.networkId} returned: ${finding.text}`);
    }
    return { done, left: await this.verify() };
  }

  async #kernelDifferences(): Promise<Difference[]> {
    const { reconciler, host } = this.#deps;
    const found = await this.#unknownNamespaces();
    for (const [id, { repairs, missingPorts, foreign }] of await reconciler.inspectAll()) {
      const where = `in ${netnsOf(host, id)}`;
      const at = { area: 'kernel', networkId: id } as const;
      for (const text of repairs) found.push({ ...at, kind: 'kernel-differs', text: `${text} ${where}` });
      for (const text of foreign) found.push({ ...at, kind: 'foreign', text: `${text} ${where}` });
      for (const endpointId of missingPorts) {
        if (this.#isToBeJoined(endpointId)) continue;
        const text = `endpoint ${endpointId} has no interface ${where}`;
        found.push({ ...at, kind: 'no-port', text, endpointId });
      }
    }
    return found;
  }

  /** Docker joins an endpoint after it made it. */
  #isToBeJoined(id: EndpointId): boolean {
    const record = this.#deps.mirror.localEndpoint(id);
    return record?.docker !== undefined && record.target_netns_path === '';
  }

  async #unknownNamespaces(): Promise<Difference[]> {
    const { mirror, host } = this.#deps;
    const ports = await OwnPorts.look(this.#deps);
    const found: Difference[] = [];
    for (const id of await this.#networksHere()) {
      if (mirror.network(id)) continue;
      const names = [...(await ports.of(id)).present].join(', ') || 'no ports';
      const text = `namespace ${netnsOf(host, id)} is of a network that etcd does not know; left alone: ${names}`;
      found.push({ area: 'kernel', networkId: id, kind: 'unknown-namespace', text });
    }
    return found;
  }

  /** Those with a local endpoint, and those with a namespace. */
  async #networksHere(): Promise<Set<NetworkId>> {
    const { kernel, mirror, host } = this.#deps;
    const ids = new Set(mirror.localEndpoints().map(({ network_id }) => network_id));
    for (const path of await kernel.listNamespaces(host.netnsPath, host.netnsPrefix)) {
      const id = path.slice(path.lastIndexOf('/') + 1 + host.netnsPrefix.length);
      if (isNetworkId(id)) ids.add(id);
    }
    return ids;
  }

  async #reconcile(): Promise<string[]> {
    const { mirror, reconciler, log } = this.#deps;
    const before = reconciler.book.count;
    for (const id of await this.#networksHere()) {
      if (!mirror.network(id)) continue;
      await reconciler.reconcile(id).catch(error => {
        log.error('network not repaired', { network_id: id, err: describeError(error) });
      });
    }
    const count = reconciler.book.count - before;
    return count > 0 ? [`kernel: ${count} differences mended; the agent's log names them`] : [];
  }

  async #takeClearBits(truth: Truth): Promise<string[]> {
    const done: string[] = [];
    await unhurried(truth.networks.values(), async network => {
      const clear = auditAddresses(network, { nowMs: Date.now(), isGone: this.#deps.isGone })
        .filter(({ fault }) => fault === 'bit-clear')
        .map(({ address }) => address);
      if (clear.length === 0) return;
      const change = { free: [], take: clear, endSparesOf: [] };
      if (!(await mendPool(this.#deps, network, truth.revision, change))) return;
      done.push(`network ${network.id}: ${clear.join(', ')} in use, taken in the pool again`);
    });
    return done;
  }
}
