/**
 * From a change on one host to the forwarding entry on another. The change is an endpoint's two keys, written to etcd
 * by the benchmark as another host's agent would; the time runs from before the transaction is sent until the kernel
 * of the agent's host says that the entry is there. Presence is heard, not polled: a child in the overlay namespace
 * listens to rtnetlink (floor.c, with the kernel's clock; `bridge monitor fdb` where no compiler is).
 */
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NetworkId } from '../model/scalars.js';
import type { StoreClient, WatchStream } from '../store/client.js';
import { transact, type Write } from '../store/transaction.js';
import { until } from '../test/support/until.js';
import { compileFloor } from './floor.js';
import { type BenchHost, BenchLab, KEYS } from './lab.js';
import { type Figure, median, numbersOf, percentile, type Row, times } from './row.js';
import { addressesOf, endpointRecord, endpointWrites, networkWrites, seed } from './seed.js';

const CHANGES = 300;
const WARM_UP = 30;
const RANGE = '10.20.0.0/20';
const OTHERS = 1_000;
const EVERY_MS = 20;
const BUDGET_MS = 5;

export const propagationRow: Row = {
  name: 'propagation',
  what: `commit → FDB entry on another host, ${CHANGES} changes, with 1 and with ${OTHERS} networks in the cluster`,
  async run(say) {
    await using lab = await BenchLab.start(1);
    await using agent = await lab.startAgent();
    const { id, writes } = networkWrites({ name: 'watched', vni: 9_999, range: RANGE });
    await seed(lab.store, writes);
    const dockerNetwork = await agent.plugin.createNetwork({ 'sand-id': id });
    await agent.plugin.attach(dockerNetwork);
    using listener = await FdbListener.open(lab.host(0), `/run/netns/sc-ns-${id}`);
    using watcher = await BareWatcher.open(lab.store);
    const figures = [await measure(lab.store, { id, listener, watcher, networks: 1 })];
    say(`writing ${OTHERS} networks`);
    const others = times(OTHERS).map(n => networkWrites({ name: `other-${n}`, vni: n + 1 }));
    await seed(
      lab.store,
      others.flatMap(({ writes: each }) => each),
    );
    await sleep(1_000); // until the agent has read them
    figures.push(await measure(lab.store, { id, listener, watcher, networks: OTHERS + 1 }));
    return figures;
  },
};

interface Scene {
  readonly id: NetworkId;
  readonly listener: FdbListener;
  readonly watcher: BareWatcher;
  readonly networks: number;
}

async function measure(store: StoreClient, { id, listener, watcher, networks }: Scene): Promise<Figure> {
  const ours: number[] = [];
  const floor: number[] = [];
  for (const [index, address] of addressesOf(RANGE, CHANGES + WARM_UP + 1).entries()) {
    if (index === 0) continue; // the address of our own endpoint
    const record = endpointRecord({
      networkId: id,
      address,
      prefixLength: 20,
      hostname: 'elsewhere',
      vtep: '10.79.0.99',
    });
    const writes = endpointWrites(record);
    const key = KEYS.networkEndpoint(id, record.id);
    const sentAt = monotonicMs();
    const seen = watcher.next(key);
    await transact(store, { conditions: [{ exists: KEYS.network(id) }], writes });
    const [presentAt, seenAt] = [await listener.added(record.target_veth_mac), await seen];
    if (index > WARM_UP) {
      ours.push(presentAt - sentAt);
      floor.push(seenAt - sentAt);
    }
    await sleep(EVERY_MS);
  }
  await removeEndpoints(store, id);
  const numbers = numbersOf(ours);
  return {
    what: `commit → FDB entry, ${networks} network${networks === 1 ? '' : 's'}`,
    unit: 'ms',
    ours: numbers,
    floor: { what: `bare watch sees it (p99 ${percentile(floor, 0.99).toFixed(2)})`, value: median(floor) },
    budget: `p99 < ${BUDGET_MS} ms`,
    met: (numbers.p99 ?? Number.POSITIVE_INFINITY) < BUDGET_MS,
    note: `timed from before the transaction is sent; entries are heard by ${listener.how}`,
  };
}

/** All endpoints that the benchmark wrote: the same addresses come again in the next round. */
async function removeEndpoints(store: StoreClient, id: NetworkId): Promise<void> {
  const { kvs } = await store.range({
    key: Buffer.from(KEYS.networkEndpoints(id)),
    range_end: Buffer.from(`${KEYS.networkEndpoints(id)}~`),
  });
  const records = kvs.map(({ value }) => JSON.parse(value.toString()));
  const strangers = records.filter(({ hostname }) => hostname === 'elsewhere');
  const writes: Write[] = strangers.flatMap(record =>
    endpointWrites(record).flatMap(write => ('put' in write ? [{ delete: write.put }] : [])),
  );
  await seed(store, writes);
  await sleep(1_000); // until the agent has removed their entries
}

const monotonicMs = () => Number(process.hrtime.bigint()) / 1e6;

/** Hears of forwarding entries in one namespace. */
class FdbListener implements Disposable {
  readonly #added = new Map<string, number>();
  readonly #waiting = new Map<string, (at: number) => void>();

  private constructor(
    readonly how: string,
    readonly end: () => void,
  ) {}

  static async open(host: BenchHost, netns: string): Promise<FdbListener> {
    const program = await compileFloor(host.root);
    const argv = program ? [program, 'monitor'] : ['bridge', 'monitor', 'fdb'];
    const child = host.namespaces.spawn(argv, { stdio: ['ignore', 'pipe', 'inherit'], netns });
    const how = program ? 'an rtnetlink listener' : 'bridge monitor';
    const listener = new FdbListener(how, () => child.kill('SIGKILL'));
    if (!child.stdout) throw new Error('The listener has no output');
    let ready = !program;
    createInterface({ input: child.stdout }).on('line', line => {
      if (line === 'ready') ready = true;
      else listener.#heard(line);
    });
    await until(() => ready, { what: 'the rtnetlink listener listens', everyMs: 5 });
    if (!program) await sleep(300); // it does not say when it listens
    return listener;
  }

  /** When the entry of that MAC came, on CLOCK_MONOTONIC in milliseconds. */
  added(mac: string): Promise<number> {
    const at = this.#added.get(mac);
    if (at !== undefined) return Promise.resolve(at);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`No entry of ${mac} after 5 s`)), 5_000);
      this.#waiting.set(mac, time => {
        clearTimeout(timer);
        resolve(time);
      });
    });
  }

  #heard(line: string): void {
    const [, time = '', verb = '', exactMac = ''] = /^(\d+) (add|del) (\S+)$/.exec(line) ?? [];
    const [, deleted = '', plainMac = ''] = /^(Deleted )?(\S+) dev vxlan0/.exec(line) ?? [];
    const mac = exactMac || plainMac;
    if (verb === 'del' || deleted !== '') return void this.#added.delete(mac);
    const at = time === '' ? monotonicMs() : Number(time) / 1e6;
    this.#added.set(mac, at);
    this.#waiting.get(mac)?.(at);
    this.#waiting.delete(mac);
  }

  [Symbol.dispose](): void {
    this.end();
  }
}

/** A watch with nothing behind it: what etcd and its client library take of the way. */
class BareWatcher implements Disposable {
  readonly #seen = new Map<string, (at: number) => void>();
  readonly #stream: WatchStream;

  private constructor(stream: WatchStream) {
    this.#stream = stream;
    stream.on('data', ({ events }) => {
      const at = monotonicMs();
      for (const { kv } of events ?? []) this.#seen.get(kv.key.toString())?.(at);
    });
    stream.on('error', () => undefined);
  }

  static async open(store: StoreClient): Promise<BareWatcher> {
    const stream = await store.openWatch();
    const watcher = new BareWatcher(stream);
    const key = Buffer.from(KEYS.followed);
    stream.write({ create_request: { key, range_end: Buffer.from(`${KEYS.followed}~`) } });
    return watcher;
  }

  next(key: string): Promise<number> {
    return new Promise(resolve => this.#seen.set(key, resolve));
  }

  [Symbol.dispose](): void {
    this.#stream.cancel();
  }
}
