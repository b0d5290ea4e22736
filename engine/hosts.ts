/** The hosts of the cluster: who they are, whether they live, and what an operator does when one does not. */
import { ConflictError, NotFoundError } from '../model/errors.js';
import { HostRecord, Presence } from '../model/host-record.js';
import type { HostName, NetworkId } from '../model/scalars.js';
import { parseRecord } from '../store/table.js';
import { type Condition, readKey, readPrefix, transact, type Write } from '../store/transaction.js';
import { type GivenAway, HostRemoval, type HostRemovalDependencies } from './host-removal.js';
import type { HostState } from './hosts-seen.js';

export interface Host {
  readonly hostname: HostName;
  /** Undefined: an agent of the original, known by its endpoints alone. */
  readonly record: HostRecord | undefined;
  readonly state: HostState;
  /** Since when its presence is missing, as far as this agent knows. */
  readonly goneSince: Date | undefined;
  readonly endpoints: number;
}

export interface HostsDependencies extends HostRemovalDependencies {
  readonly host: { readonly name: HostName };
}

export class Hosts {
  readonly #deps: HostsDependencies;
  readonly #removal: HostRemoval;

  constructor(deps: HostsDependencies) {
    this.#deps = deps;
    this.#removal = new HostRemoval(deps);
  }

  /** By name; hosts of the original are known by their endpoints. */
  list(): Host[] {
    const { mirror } = this.#deps;
    const counts = new Map<HostName, number>(mirror.hosts.names().map(name => [name, 0]));
    for (const [name, endpoints] of mirror.endpointCounts()) counts.set(name, endpoints);
    return [...counts].map(([name, count]) => this.#host(name, count)).sort(byName);
  }

  /** @throws NotFoundError. */
  get(hostname: HostName): Host {
    const found = this.list().find(host => host.hostname === hostname);
    if (found) return found;
    throw new NotFoundError(`Host ${hostname} is not known; see sand-agent-cli host-list`, { hostname });
  }

  /** Whether its agent holds its presence now. False also for agents of the original, which have none. */
  isLiving(hostname: HostName): boolean {
    return this.#deps.mirror.hosts.isLiving(hostname);
  }

  #host(hostname: HostName, endpoints: number): Host {
    const { hosts } = this.#deps.mirror;
    return {
      hostname,
      record: hosts.record(hostname),
      state: hosts.state(hostname),
      goneSince: hosts.goneSince(hostname),
      endpoints,
    };
  }

  /** No new endpoints there until that ends. @throws NotFoundError: the host never registered. */
  async drain(hostname: HostName, wanted: 'on' | 'off'): Promise<Host> {
    await this.#rewrite(hostname, record => {
      const { draining_since: since = new Date().toISOString(), ...rest } = record;
      return wanted === 'on' ? { ...rest, draining_since: since } : rest;
    });
    this.#deps.log.info('host drained', { hostname, drain: wanted });
    return this.get(hostname);
  }

  /**
   * Declares a host gone: its endpoints are no neighbours any more, their addresses stay taken.
   * @throws ConflictError: it lives. NotFoundError: it never registered.
   */
  async remove(hostname: HostName): Promise<Host> {
    const change = (record: HostRecord) => ({ removed_at: new Date().toISOString(), ...record });
    await this.#rewrite(hostname, change, () => this.#gone(hostname));
    this.#deps.log.warn('host declared gone', { hostname });
    return this.get(hostname);
  }

  /**
   * Gives away all that a host held: an operator states that its machine is off.
   * @throws ConflictError: it lives. NotFoundError: nobody knows it. UnavailableError: call again, it goes on.
   */
  async removeForGood(hostname: HostName): Promise<GivenAway> {
    const { store, keys, mirror, log } = this.#deps;
    await this.#gone(hostname);
    const registered = (await readKey(store, keys.host(hostname))) !== undefined;
    if (registered) await this.remove(hostname);
    else await this.#requireTraces(hostname);
    const given = await this.#removal.giveAway(hostname);
    if (registered) {
      const writes: Write[] = [{ delete: keys.host(hostname) }, { delete: keys.presence(hostname) }];
      const result = await transact(store, { conditions: [await this.#gone(hostname)], writes });
      if (!result.committed) throw stillThere(hostname);
      mirror.applyCommit(writes, result.revision);
    }
    log.warn('host removed for good', { hostname, ...given });
    return given;
  }

  /** Of hosts declared gone, what they held in one network. */
  async clearNetwork(id: NetworkId): Promise<void> {
    for (const { hostname, state } of this.list()) {
      if (state === 'removed') await this.#removal.giveAway(hostname, id);
    }
  }

  async #requireTraces(hostname: HostName): Promise<void> {
    const { store, keys } = this.#deps;
    const traces = await Promise.all(
      [keys.nodeEndpoints(hostname), keys.nodeNetworks(hostname)].map(prefix => readPrefix(store, prefix)),
    );
    if (traces.every(({ length }) => length === 0)) this.get(hostname);
  }

  /** What must hold for a host to be gone: no presence, or one that its agent has left. */
  async #gone(hostname: HostName): Promise<Condition> {
    const { store, keys } = this.#deps;
    const entry = await readKey(store, keys.presence(hostname));
    if (entry && parseRecord(Presence, entry).left_at === undefined) throw stillThere(hostname);
    return { unchanged: keys.presence(hostname), revision: entry?.modRevision ?? 0 };
  }

  async #rewrite(
    hostname: HostName,
    change: (record: HostRecord) => HostRecord,
    provided?: () => Promise<Condition>,
  ): Promise<void> {
    const { store, keys, mirror } = this.#deps;
    const put = keys.host(hostname);
    for (;;) {
      const entry = await readKey(store, put);
      if (!entry) throw this.#unregistered(hostname);
      const writes: Write[] = [{ put, value: change(parseRecord(HostRecord, entry)) }];
      const conditions: Condition[] = [{ unchanged: put, revision: entry.modRevision }];
      if (provided) conditions.push(await provided());
      const result = await transact(store, { conditions, writes });
      if (result.committed) return mirror.applyCommit(writes, result.revision);
    }
  }

  #unregistered(hostname: HostName): Error {
    const { endpoints } = this.get(hostname);
    return new ConflictError(
      `Host ${hostname} has ${endpoints} endpoints and never registered: its agent is one of the original, whose life nobody can see. ` +
        'If its machine is off: sand-agent-cli host-remove --gone',
      { hostname },
    );
  }
}

const byName = (a: Host, b: Host) => a.hostname.localeCompare(b.hostname, 'en', { numeric: true });

const stillThere = (hostname: HostName) =>
  new ConflictError(
    `Host ${hostname} lives: its agent renews its presence. Move its containers (sand-agent-cli host-drain ${hostname} keeps new ones away) and stop its agent first`,
    { hostname },
  );
