/** Hosts of one cluster in this process, each with its API at an address of the loopback and one port for all. */
import { createServer } from 'node:net';
import { join } from 'node:path';
import { ApiServer } from '../../api/server.js';
import type { EndpointRecord, Network } from '../../model/records.js';
import type { HostName, IpAddress, NetworkId } from '../../model/scalars.js';
import { Kernel } from '../../overlay/kernel.js';
import { type EtcdCluster, startEtcd } from './etcd.js';
import { LogBook } from './log-book.js';
import { NetnsLab, type TestNetns } from './netns.js';
import { NetworkHost } from './network-host.js';
import { RawClient } from './raw-client.js';
import { Targets } from './target-ports.js';

export const PREFIX = '/connect';

export interface ConnectHost {
  readonly name: string;
  /** Address of its API. */
  readonly api: string;
  readonly socketPath: string;
  readonly host: NetworkHost;
  readonly log: LogBook;
  server: ApiServer;
}

export class ConnectLab implements AsyncDisposable {
  readonly port: number;
  readonly netns: NetnsLab;
  readonly etcd: EtcdCluster;
  readonly #stop: AsyncDisposable[] = [];

  private constructor(port: number, netns: NetnsLab, etcd: EtcdCluster) {
    this.port = port;
    this.netns = netns;
    this.etcd = etcd;
  }

  static async open(): Promise<ConnectLab> {
    const netns = await NetnsLab.open();
    try {
      return new ConnectLab(await freePort(), netns, await startEtcd({ members: 1 }));
    } catch (error) {
      await netns[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** Hosts a, b, … on one wire. */
  async hosts<const N extends readonly string[]>(...names: N): Promise<{ [K in keyof N]: ConnectHost }> {
    const wires = await this.netns.hosts(...names);
    const hosts: ConnectHost[] = [];
    for (const [index, name] of names.entries()) {
      hosts.push(await this.#start(name, index + 1, wires[index] as TestNetns));
    }
    return hosts as { [K in keyof N]: ConnectHost };
  }

  async #start(name: string, number: number, wire: TestNetns): Promise<ConnectHost> {
    const kernel = this.netns.own(await Kernel.start({ log: new LogBook(), hostNetns: wire.path }));
    const api = `127.0.1.${number}`;
    const plan = { hosts: this.etcd.hosts, prefix: PREFIX, name, kernel };
    const host = await NetworkHost.open({ ...plan, vtep: `10.99.0.${number}`, apiHostname: api });
    this.#stop.push(host);
    const socketPath = join(this.netns.directory, `${name}.sock`);
    const log = new LogBook();
    const server = await this.serve(host, { api, socketPath, log });
    const started = { name, api, socketPath, host, log, server };
    this.#stop.push({ [Symbol.asyncDispose]: () => started.server[Symbol.asyncDispose]() });
    return started;
  }

  serve(host: NetworkHost, at: Pick<ConnectHost, 'api' | 'socketPath' | 'log'>): Promise<ApiServer> {
    const { api: listen, socketPath, log } = at;
    return ApiServer.listen(host.engine, {
      port: this.port,
      listen,
      socketPath,
      tls: undefined,
      version: 'v1',
      log,
    });
  }

  /** A namespace with an endpoint in the network, and its address. */
  async container(on: ConnectHost, { record }: Network, name: string, address?: string) {
    const netns = await this.netns.netns(name);
    const endpoint = await on.host.engine.netnsEndpoints.create({
      networkId: record.id,
      netns: netns.path,
      address: address as IpAddress | undefined,
      mac: undefined,
    });
    return { netns, endpoint, ip: endpoint.target_veth_ip.split('/')[0] ?? '' };
  }

  async targets(netns: TestNetns): Promise<Targets> {
    return this.netns.own(await Targets.start(['nsenter', `--net=${netns.path}`, '--']));
  }

  /** Over TCP. */
  dial(to: ConnectHost): RawClient {
    return RawClient.to({ host: to.api, port: this.port });
  }

  /** Writes an endpoint of a host that the test invents. */
  async invent(
    network: NetworkId,
    endpoint: EndpointRecord,
    change: { hostname: string; api_hostname: string },
  ) {
    const record = { ...endpoint, ...change, hostname: change.hostname as HostName };
    await this.etcd.ctl('put', `${PREFIX}/network-endpoints/${network}/${record.id}`, JSON.stringify(record));
  }

  /** Goes on past errors, and reports them. */
  async [Symbol.asyncDispose](): Promise<void> {
    const ends = [...this.#stop.reverse(), this.netns, { [Symbol.asyncDispose]: () => this.etcd.stop() }];
    const errors: unknown[] = [];
    for (const end of ends) {
      await Promise.resolve(end[Symbol.asyncDispose]()).catch(error => void errors.push(error));
    }
    if (errors.length > 0) throw new AggregateError(errors, errors.map(String).join('; '));
  }
}

/** One that is free now, on every address. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer().once('error', reject);
    server.listen(0, () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address ? address.port : 0));
    });
  });
}
