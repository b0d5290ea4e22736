/** Traffic between the two ends of a path, measured by iperf3 and round-trips.c. */
import { availableParallelism } from 'node:os';
import { until } from '../test/support/until.js';
import type { Path, Spot } from './paths.js';

const IPERF_PORT = 5201;
const ROUND_TRIP_PORT = 5300;
const READY_MS = 5_000;
const PATIENCE_MS = 30_000;

/** Servers at the far end; they end with the lab. @param roundTrips the compiled program, where there is one */
export async function serve({ server }: Path, roundTrips: string | undefined): Promise<void> {
  start(server, ['iperf3', '--server', '--port', String(IPERF_PORT)]);
  await listens(server, IPERF_PORT);
  if (!roundTrips) return;
  start(server, [roundTrips, 'serve', String(ROUND_TRIP_PORT)]);
  await listens(server, ROUND_TRIP_PORT);
}

const inside = ({ netns }: Spot) => (netns === undefined ? {} : { netns });

function start(server: Spot, argv: readonly string[]): void {
  server.namespaces.spawn(argv, { stdio: 'ignore', ...inside(server) }).unref();
}

async function listens(server: Spot, port: number): Promise<void> {
  const listening = async () =>
    (await server.namespaces.exec(['ss', '-Hltn'], inside(server))).includes(`:${port} `);
  await until(listening, { timeoutMs: READY_MS, what: `port ${port} is listened on` });
}

interface IperfEnd {
  readonly end: {
    readonly sum_received: { readonly bits_per_second: number };
    readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number };
  };
}

function iperf({ client, address }: Path, flags: readonly string[]): Promise<IperfEnd> {
  const argv = ['iperf3', '--client', address, '--port', String(IPERF_PORT), '--json', ...flags];
  return client.namespaces.json<IperfEnd>(argv, { ...inside(client), timeoutMs: PATIENCE_MS });
}

/**
 * Received in a second. Of one stream each end has a processor of its own: where the scheduler puts both makes runs of the
 * same path differ by half.
 */
export async function gigabits(
  path: Path,
  { streams, seconds }: { readonly streams: number; readonly seconds: number },
): Promise<number> {
  const pinned = streams === 1 && availableParallelism() > 1 ? ['--affinity', '0,1'] : [];
  const { end } = await iperf(path, ['--parallel', String(streams), '--time', String(seconds), ...pinned]);
  return end.sum_received.bits_per_second / 1e9;
}

/** Thousands of UDP packets with 64 bytes that arrive in a second, when as many are sent as can be. */
export async function kiloPackets(path: Path, seconds: number): Promise<number> {
  const { end } = await iperf(path, ['--udp', '--length', '64', '--bitrate', '0', '--time', String(seconds)]);
  return (end.sum.packets - end.sum.lost_packets) / end.sum.seconds / 1_000;
}

/** Microseconds, the median of one run. */
export async function roundTripUs(
  { client, address }: Path,
  program: string,
  seconds: number,
): Promise<number> {
  const argv = [program, 'ask', address, String(ROUND_TRIP_PORT), String(seconds)];
  const text = await client.namespaces.exec(argv, { ...inside(client), timeoutMs: PATIENCE_MS });
  return Number(text.trim().split(' ')[2]) / 1_000;
}
