import fc from 'fast-check';
import type { AddressChange } from '../../ipam/changes.js';
import { planGroup } from '../../ipam/group.js';
import type { Plan, PoolView } from '../../ipam/plan.js';
import { Pool } from '../../ipam/pool.js';
import { viewAfter } from '../../ipam/pool-view.js';
import { addressAt, parseGateway, parseRange } from '../../ipam/range.js';
import { type IpAddress, newEndpointId, newNetworkId, parseHostName } from '../../model/scalars.js';
import { Keys } from '../../store/keys.js';

const AHEAD = 8;
const GROUP = 4;
const range = parseRange('10.0.0.0/24'); // room for 15 ahead of need
const host = parseHostName('ant');
const networkId = newNetworkId();

/** One host's transactions on a contended pool, each of which comes through. */
class ContendedHost {
  view: PoolView = {
    pool: Pool.fresh(networkId, range, parseGateway(range, undefined)),
    poolRevision: 1,
    spares: new Map(),
    owners: new Map(),
    gone: new Set(),
  };
  #revision = 1;

  take(count: number): Plan {
    const owner = { kind: 'endpoint', endpoint_id: newEndpointId() } as const;
    return this.#commit(Array.from({ length: count }, () => ({ kind: 'take', address: 'lowest', owner })));
  }

  free(addresses: readonly IpAddress[]): Plan {
    return this.#commit(addresses.map(address => ({ kind: 'free', address, from: () => undefined })));
  }

  #commit(steps: readonly AddressChange['step'][]): Plan {
    const changes = steps.map((step): AddressChange => {
      return { networkId, op: `${this.#revision}`, step, endpoints: 0, writes: () => [] };
    });
    const keys = new Keys('/sand');
    const plan = planGroup(this.view, changes, {
      ...{ networkId, host, keys, ahead: AHEAD, nowMs: 0 },
      bearer: () => undefined,
    });
    this.view = viewAfter(this.view, plan, ++this.#revision);
    return plan;
  }

  get spares(): readonly IpAddress[] {
    return this.view.spares.get(host)?.addresses ?? [];
  }

  get owned(): IpAddress[] {
    return [...this.view.owners].flatMap(([address, { owner }]) => (owner ? [address] : []));
  }

  /** Those the pool has as taken, without the network's own three. */
  get taken(): IpAddress[] {
    const all = Array.from({ length: range.size - 3 }, (_, index) => addressAt(range, index + 2));
    return all.filter(address => this.view.pool.isTaken(address));
  }
}

const sorted = (addresses: readonly IpAddress[]) => [...addresses].sort();

describe('planGroup() on a contended pool', () => {
  it('writes the pool once for many addresses that are given back, and so for many that are taken', () => {
    const ant = new ContendedHost();
    const takes = Array.from({ length: 36 }, () => ant.take(1));
    const frees = takes.map(plan => ant.free([...plan.settled.values()]));
    const written = (plans: readonly Plan[]) => plans.filter(({ poolWritten }) => poolWritten).length;
    expect(written(takes)).toBe(36 / (1 + AHEAD));
    expect(written(frees)).toBeLessThanOrEqual(36 / (1 + AHEAD / 2));
  });

  it('returns the upper half of its spares when it has too many, and keeps none beside them', () => {
    const ant = new ContendedHost();
    const { settled } = ant.take(1);
    const before = ant.spares;
    expect(before).toHaveLength(AHEAD);
    const plan = ant.free([...settled.values()]);
    expect(plan.poolWritten).toBe(true);
    expect(ant.spares).toEqual(before.slice(0, AHEAD / 2));
    expect(ant.taken).toEqual(ant.spares);
  });

  it('leaves every address in one place: owned, ahead of need, or free', () => {
    const step = fc.record({ take: fc.boolean(), count: fc.integer({ min: 1, max: GROUP }), from: fc.nat() });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), steps => {
        const ant = new ContendedHost();
        for (const { take, count, from } of steps) {
          const { owned } = ant;
          if (take) ant.take(count);
          else if (owned.length > 0) ant.free(owned.slice(from % owned.length).slice(0, count));
          expect(ant.spares.length).toBeLessThanOrEqual(AHEAD);
          expect(ant.spares.filter(address => ant.owned.includes(address))).toEqual([]);
          expect(sorted(ant.taken)).toEqual(sorted([...ant.owned, ...ant.spares]));
        }
      }),
    );
  });
});
