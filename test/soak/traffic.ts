/** Pings between all hosts in the steady network, from the first minute to the last. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import type { SoakCluster } from './cluster.js';

interface Member {
  readonly netns: TestNetns;
  readonly address: string;
}

const EVERY_SECONDS = '0.05';

export class Traffic implements AsyncDisposable {
  readonly #pings: readonly { readonly child: ChildProcess; readonly said: string[] }[];

  private constructor(members: readonly Member[]) {
    this.#pings = members.map(({ netns }, i) => {
      const { address = '' } = members[(i + 1) % members.length] ?? {};
      const argv = [`--net=${netns.path}`, '--', 'ping', '-q', '-n', '-i', EVERY_SECONDS, address];
      const child = spawn('nsenter', argv, { stdio: ['ignore', 'pipe', 'ignore'] });
      const said: string[] = [];
      child.stdout?.setEncoding('utf8').on('data', text => said.push(text));
      return { child, said };
    });
  }

  /** One endpoint on each host, each pinging the next one's. */
  static async start(cluster: SoakCluster, network: string): Promise<Traffic> {
    const members: Member[] = [];
    for (const host of cluster.hosts) {
      const netns = await cluster.netns();
      const wish = { network_id: network, activate: true, activate_params: { ns_handle_path: netns.path } };
      const { status, text } = await host.api('POST', '/endpoints', wish);
      if (status !== 201) throw new Error(`POST /endpoints: ${status} ${text}`);
      members.push({ netns, address: JSON.parse(text).endpoint.target_veth_ip.split('/')[0] });
    }
    for (const [i, { netns }] of members.entries()) {
      const { address = '' } = members[(i + 1) % members.length] ?? {};
      await until(async () => (await netns.ping(address)) === 1, { what: `${address} answers` });
    }
    return new Traffic(members);
  }

  /** Ends the pings. Their own words: `1200 packets transmitted, 1200 received`. */
  async end(): Promise<{ readonly sent: number; readonly lost: number }> {
    let [sent, lost] = [0, 0];
    for (const { child, said } of this.#pings) {
      const ended = once(child, 'close');
      child.kill('SIGINT');
      await ended;
      const [, transmitted, received] = /(\d+) packets transmitted, (\d+) received/.exec(said.join('')) ?? [];
      sent += Number(transmitted);
      // The last one may be under way.
      lost += Math.max(Number(transmitted) - Number(received) - 1, 0);
    }
    return { sent, lost };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { child } of this.#pings) child.kill('SIGKILL');
  }
}
