/**
 * One endpoint after the other over the HTTP API, with its interface in a namespace; first in a cluster that has
 * nothing else, then in 100 networks, and in networks that have many endpoints already.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { ApiClient } from '../api-client.js';
import { BARE_REMOVAL, openBareEndpoint } from '../bare.js';
import { type KernelFloor, openFloor } from '../floor.js';
import { BenchLab, makeTargets } from '../lab.js';
import { type Figure, median, numbersOf, type Row, rounds, timed, times } from '../row.js';
import { populate } from '../seed.js';
import { byFresh, FRESH, PAUSE_MS, REMOVED_MS, WARM_UP } from '../warm.js';

const COUNT = 120;
const COUNT_IN_TURN = 60;
const FIRST_IN_TURN = 3; // not counted: in places that nobody has used yet
const NETWORKS = 100;
const SIZES = [10, 1_000, 10_000];
const RANGE = '10.64.0.0/18'; // the same for every size: a pool of a larger range is a larger value
const FLAT = 1.2;

export const endpointRow: Row = {
  name: 'endpoint',
  what: `create + activate and delete over the API, one caller with pauses, after ${WARM_UP} without; 1 and ${NETWORKS} networks, ${SIZES.join(', ')} endpoints`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    const api = agent.api();
    const [netns = '', keeper = ''] = await makeTargets(lab.host(0), 2);
    const alone = new Place('1 network', [await api.createNetwork({ name: 'alone' })], {
      api,
      netns,
      keeper,
    });
    const figures = await measureAlone(lab, alone);
    say(`making ${NETWORKS} networks, and some with up to ${SIZES.at(-1)} endpoints`);
    const many: string[] = [];
    for (const index of times(NETWORKS)) many.push(await api.createNetwork({ name: `many-${index}` }));
    const places = [new Place(`${NETWORKS} networks in turn`, many, { api, netns, keeper })];
    for (const [index, endpoints] of SIZES.entries()) {
      const id = await populate(lab.store, {
        name: `size-${endpoints}`,
        vni: 5_000 + index,
        range: RANGE,
        endpoints,
      });
      places.push(new Place(`a network with ${endpoints} endpoints`, [id], { api, netns, keeper }));
    }
    for (const place of places) await place.keepNetworks();
    say('these in turn');
    await measureInTurn(places);
    api.close();
    return [...figures, ...inTurn(places)];
  },
};

interface PlaceParts {
  readonly api: ApiClient;
  readonly netns: string;
  /** Namespace of endpoints that stay: a first endpoint of a network has a row of its own. */
  readonly keeper: string;
}

/** Milliseconds of every call. */
interface Durations {
  readonly create: readonly number[];
  readonly remove: readonly number[];
}

/** Where endpoints are made, and how long that took. */
class Place {
  readonly create: number[] = [];
  readonly remove: number[] = [];
  #next = 0;

  constructor(
    readonly what: string,
    readonly networks: readonly string[],
    readonly parts: PlaceParts,
  ) {}

  async keepNetworks(): Promise<void> {
    for (const network of this.networks) await this.parts.api.attach(network, this.parts.keeper);
  }

  async cycle(pauseMs = PAUSE_MS): Promise<void> {
    const { api, netns } = this.parts;
    const network = this.networks[this.#next++ % this.networks.length] ?? '';
    await sleep(pauseMs);
    const startedAt = performance.now();
    const { id } = await api.attach(network, netns);
    this.create.push(performance.now() - startedAt);
    await sleep(pauseMs);
    this.remove.push(await timed(() => api.deleteEndpoint(id)));
  }

  /** Answers what it forgets. */
  forget(): Durations {
    return { create: this.create.splice(0), remove: this.remove.splice(0) };
  }
}

/** With both floors, each after the same pause: a processor that has slept is slower for everybody. */
async function measureAlone(lab: BenchLab, place: Place): Promise<Figure[]> {
  await using floor = await openFloor(lab.host(0));
  const bare = await openBareEndpoint(lab.store, 'netns');
  await place.keepNetworks();
  for (const _ of times(FRESH)) await place.cycle();
  const fresh = place.forget();
  for (const _ of times(WARM_UP)) {
    await place.cycle(0);
    await bare.make();
    await floor.attached(1);
    await bare.remove();
  }
  await sleep(REMOVED_MS);
  place.forget();
  const transaction: number[] = [];
  const removal: number[] = [];
  const kernel: number[] = [];
  for (const _ of times(rounds(COUNT))) {
    await place.cycle();
    await sleep(PAUSE_MS);
    transaction.push(await timed(() => bare.make()));
    kernel.push(...(await floor.attached(1)));
    await sleep(PAUSE_MS);
    removal.push(await timed(() => bare.remove()));
  }
  const floors = { etcd: median(transaction), kernel: median(kernel), removal: median(removal) };
  return alone({ place, fresh }, floor, floors);
}

function alone(
  { place, fresh }: { readonly place: Place; readonly fresh: Durations },
  { label, judges }: KernelFloor,
  { etcd, kernel, removal }: { readonly etcd: number; readonly kernel: number; readonly removal: number },
): Figure[] {
  const { what, ...samples } = place;
  const create = numbersOf(samples.create);
  const remove = numbersOf(samples.remove);
  const value = etcd + kernel;
  return [
    {
      what: `create + activate, ${what}`,
      unit: 'ms',
      ours: create,
      floor: { what: `etcd ${etcd.toFixed(2)} + ${label} ${kernel.toFixed(2)}`, value },
      budget: 'p50 ≤ 2 × floor',
      met: judges ? create.p50 <= 2 * value : undefined,
      note: byFresh('create + activate', fresh.create),
    },
    {
      what: `delete, ${what}`,
      unit: 'ms',
      ours: remove,
      floor: { what: BARE_REMOVAL, value: removal },
      budget: 'p50 ≤ 3 ms',
      met: remove.p50 <= 3,
      note: byFresh('delete', fresh.remove),
    },
  ];
}

async function measureInTurn(places: readonly Place[]): Promise<void> {
  for (const _ of times(FIRST_IN_TURN)) for (const place of places) await place.cycle();
  for (const place of places) place.forget();
  for (const _ of times(rounds(COUNT_IN_TURN))) for (const place of places) await place.cycle();
}

/** All were measured in turn, so the network with the fewest endpoints is the floor of the others. */
function inTurn(places: readonly Place[]): Figure[] {
  const smallest = places.find(({ what }) => what.includes(` ${SIZES[0]} `)) ?? places[0];
  return (['create', 'remove'] as const).flatMap(key =>
    places.map(place => {
      const ours = numbersOf(place[key]);
      const value = median(smallest?.[key] ?? []);
      const what = `${key === 'create' ? 'create + activate' : 'delete'}, ${place.what}`;
      if (place === smallest) return { what, unit: 'ms', ours, budget: '', met: undefined };
      const floor = { what: smallest?.what ?? '', value };
      return {
        what,
        unit: 'ms',
        ours,
        floor,
        budget: `flat: ≤ ${FLAT} × that`,
        met: ours.p50 <= FLAT * value,
      };
    }),
  );
}
