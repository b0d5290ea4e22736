/** What a container gets of the wire: SAND's data planes, a VXLAN and a bridge made by hand, and nothing between. */
import { compile } from '../floor.js';
import { BenchLab } from '../lab.js';
import { barePaths, handMadePaths, type Path, type Place, sandPaths } from '../paths.js';
import { missing } from '../requirements.js';
import { type Figure, median, type Row, rounds, type Say, times, unjudged } from '../row.js';
import { gigabits, kiloPackets, roundTripUs, serve } from '../traffic.js';

/** Of ours, by the value of `--opt sand-dataplane`. */
const DATA_PLANES: readonly string[] = ['bridge', 'macvlan'];
const DEFAULT_DATA_PLANE = 'bridge';
const ROUNDS = 5;
const LEAST_SHARE = 0.97;
const HAND_MADE = 'VXLAN + bridge by hand';
const BARE = 'bare';
const PLACES: readonly Place[] = ['across hosts', 'on one host'];

interface Measure {
  readonly what: string;
  readonly unit: string;
  /** In each round; default: one. */
  readonly runs?: Readonly<Record<Place, number>>;
  /** Undefined: cannot be measured here. */
  run(path: Path): Promise<number | undefined>;
}

/** The one that is judged, across hosts: runs differ by an eighth, so the median is of many. */
const TCP: Measure = {
  what: 'TCP, 1 stream',
  unit: 'Gbit/s',
  runs: { 'across hosts': 6, 'on one host': 2 },
  run: path => gigabits(path, { streams: 1, seconds: 1 }),
};

const measuresWith = (roundTrips: string | undefined): Measure[] => [
  TCP,
  { what: 'TCP, 4 streams', unit: 'Gbit/s', run: path => gigabits(path, { streams: 4, seconds: 1 }) },
  { what: '64-byte packets', unit: 'k/s', run: path => kiloPackets(path, 1) },
  ...(roundTrips
    ? [{ what: 'round trip of a byte', unit: 'µs', run: (path: Path) => roundTripUs(path, roundTrips, 1) }]
    : []),
];

const rowOf = (name: string, mtu: number): Row => ({
  name,
  what: `TCP, small packets and round trips at an underlay of ${mtu}: ${DATA_PLANES.join(', ')}, by hand, bare; ${ROUNDS} rounds in turn`,
  async run(say) {
    const lacking = await missing(['iperf3']);
    if (lacking.length > 0) throw new Error(lacking.join('; '));
    await using lab = await BenchLab.start(2, { mtu });
    const program = await compile('round-trips', lab.root);
    const samples = new Samples(await makePaths(lab, mtu), measuresWith(program));
    for (const path of [...samples.paths.values()].flat()) await serve(path, program);
    for (const round of times(rounds(ROUNDS))) await samples.take(round, say);
    return figures(samples, mtu);
  },
});

export const dataPlaneRow = rowOf('data-plane', 1_500);
export const jumboRow = rowOf('data-plane-9000', 9_000);

async function makePaths(lab: BenchLab, mtu: number): Promise<Map<string, Path[]>> {
  const agents = await lab.startAgents(0, 2); // they end with the lab
  const paths = new Map<string, Path[]>();
  for (const name of DATA_PLANES) {
    const options: Record<string, string> = name === DEFAULT_DATA_PLANE ? {} : { 'sand-dataplane': name };
    paths.set(name, await sandPaths(lab, agents, { name, options }));
  }
  paths.set(HAND_MADE, await handMadePaths(lab, mtu));
  return paths.set(BARE, await barePaths(lab, mtu));
}

/** Of every way, place and measure one value a run. */
class Samples {
  readonly #values = new Map<string, number[]>();

  constructor(
    readonly paths: ReadonlyMap<string, readonly Path[]>,
    readonly measures: readonly Measure[],
  ) {}

  async take(round: number, say: Say): Promise<void> {
    for (const measure of this.measures) {
      for (const place of PLACES) {
        for (const run of times(measure.runs?.[place] ?? 1)) await this.#measure(measure, place, round + run);
      }
    }
    const latest = [...DATA_PLANES, HAND_MADE, BARE].map(way =>
      this.of(way, 'across hosts', TCP).at(-1)?.toFixed(1),
    );
    say(`round ${round + 1}: TCP across hosts ${latest.join(', ')} Gbit/s`);
  }

  /** Every way once, in an order that turns, there and back: what runs before also tells. */
  async #measure(measure: Measure, place: Place, turn: number): Promise<void> {
    const ways = [...this.paths];
    if (turn % 2 === 1) ways.reverse();
    const first = Math.floor(turn / 2) % ways.length;
    for (const [way, paths] of [...ways.slice(first), ...ways.slice(0, first)]) {
      const path = paths.find(each => each.place === place);
      const value = path && (await measure.run(path));
      if (value !== undefined) this.of(way, place, measure).push(value);
    }
  }

  of(way: string, place: Place, { what }: Measure): number[] {
    const key = `${way} ${place} ${what}`;
    const values = this.#values.get(key) ?? [];
    this.#values.set(key, values);
    return values;
  }
}

function figures(samples: Samples, mtu: number): Figure[] {
  return samples.measures.flatMap(measure =>
    PLACES.flatMap(place => DATA_PLANES.map(way => figure(samples, { measure, place, way, mtu }))),
  );
}

interface Choice {
  readonly measure: Measure;
  readonly place: Place;
  readonly way: string;
  readonly mtu: number;
}

function figure(samples: Samples, { measure, place, way, mtu }: Choice): Figure {
  const ours = samples.of(way, place, measure);
  const byHand = samples.of(HAND_MADE, place, measure);
  const ratio = median(ours.map((value, run) => value / (byHand[run] ?? Number.NaN)));
  const isJudged = measure === TCP && place === 'across hosts';
  return {
    what: `${way}: ${measure.what}, ${place}, underlay ${mtu}`,
    unit: measure.unit,
    ours: { p50: median(ours), count: ours.length },
    floor: { what: HAND_MADE, value: median(byHand) },
    beside: [{ what: BARE, value: median(samples.of(BARE, place, measure)) }],
    pairedRatio: ratio,
    note: 'ratios are medians of the runs, in each of which all have their turn',
    ...(isJudged ? { budget: `≥ ${LEAST_SHARE} × floor`, met: ratio >= LEAST_SHARE } : unjudged),
  };
}
