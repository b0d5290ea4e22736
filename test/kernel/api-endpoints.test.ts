import { symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import request from 'supertest';
import { ApiServer } from '../../api/server.js';
import { newEndpointId, parseIfName, parseNetnsPath, parseNetworkId } from '../../model/scalars.js';
import { ApiHost, VERSION } from '../support/api-host.js';
import { type EtcdCluster, startEtcd } from '../support/etcd.js';
import { mkfifoSync } from '../support/fifo.js';
import { HungMount } from '../support/hung-mount.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';

let etcd: EtcdCluster;
let lab: NetnsLab;
let ant: ApiHost;
let bee: ApiHost;
let antNetns: TestNetns;
let prefix = '';
let tests = 0;

beforeAll(async () => {
  etcd = await startEtcd();
});
afterAll(() => etcd.stop());

beforeEach(async () => {
  prefix = `/endpoints-${++tests}`;
  lab = await NetnsLab.open();
  const [first, second] = await lab.hosts('ant', 'bee');
  antNetns = first;
  const plan = { hosts: etcd.hosts, prefix };
  ant = lab.own(await ApiHost.open({ ...plan, name: 'ant', netns: first, vtep: '10.99.0.1' }));
  bee = lab.own(await ApiHost.open({ ...plan, name: 'bee', netns: second, vtep: '10.99.0.2' }));
});
afterEach(() => lab[Symbol.asyncDispose]());

const poolBits = async (network: string) =>
  JSON.parse((await etcd.entries(`${prefix}/ipalloc/${network}`)).values().next().value ?? '{}').bit_set;
const names = async (netns: TestNetns) => (await netns.links()).map(({ ifname }) => ifname).sort();

describe('POST /endpoints with activation', () => {
  it('puts sand0 into the namespace, addressed and up, and answers the record', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    const { status, body } = await ant.endpoint(id, container.path);
    expect(status).toBe(201);
    expect(body.endpoint).toMatchObject({
      network_id: id,
      hostname: 'ant',
      host_ip: '10.99.0.1',
      target_netns_path: container.path,
      target_veth_name: 'sand0',
      target_veth_mac: '02:84:0a:00:00:02',
      target_veth_ip: '10.0.0.2/24',
      active: true,
    });
    expect(await container.addresses('sand0')).toEqual(['10.0.0.2/24 brd 10.0.0.255']);
    expect(await container.link('sand0')).toMatchObject({
      address: '02:84:0a:00:00:02',
      flags: expect.arrayContaining(['UP', 'LOWER_UP']),
    });
    expect(
      [...(await etcd.entries(`${prefix}/node-endpoints/ant/`)).values()].map(text => JSON.parse(text)),
    ).toEqual([body.endpoint]);
  });

  it('connects endpoints of two hosts at once', async () => {
    const { id } = await ant.network();
    const [one, two] = [await lab.netns('one'), await lab.netns('two')];
    expect((await ant.endpoint(id, one.path)).status).toBe(201);
    expect((await bee.endpoint(id, two.path)).body.endpoint.target_veth_ip).toBe('10.0.0.3/24');
    await until(async () => (await one.ping('10.0.0.3')) === 1, { what: 'one reaches two' });
    expect(await two.ping('10.0.0.2', { count: 3 })).toBe(3);
  });

  it('names the second interface of a namespace sand1', async () => {
    const [red, blue] = [await ant.network(), await ant.network({ ip_range: '10.1.0.0/24' })];
    const container = await lab.netns('one');
    await ant.endpoint(red.id, container.path);
    expect((await ant.endpoint(blue.id, container.path)).body.endpoint.target_veth_name).toBe('sand1');
    expect(await names(container)).toEqual(['lo', 'sand0', 'sand1']);
  });

  it('leaves a sand0 alone that is none of ours, and records the name that was free', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    await container.ip('link add sand0 type veth peer name theirs');
    const made = await Promise.all([ant.endpoint(id, container.path), ant.endpoint(id, container.path)]);
    const wanted = ['sand1', 'sand2'];
    expect(made.map(({ body }) => body.endpoint.target_veth_name).sort()).toEqual(wanted);
    const stored = [...(await etcd.entries(`${prefix}/node-endpoints/ant/`)).values()];
    expect(stored.map(text => JSON.parse(text).target_veth_name).sort()).toEqual(wanted);
    expect(await names(container)).toEqual(['lo', 'sand0', ...wanted, 'theirs']);
  });

  it('records the names that ten racing endpoints of one namespace got', async () => {
    const networks = await Promise.all(
      Array.from({ length: 10 }, (_, n) => ant.network({ ip_range: `10.${n}.0.0/24` })),
    );
    const container = await lab.netns('one');
    const made = await Promise.all(networks.map(({ id }) => ant.endpoint(id, container.path)));
    const wanted = Array.from({ length: 10 }, (_, n) => `sand${n}`).sort();
    expect(made.map(({ body }) => body.endpoint.target_veth_name).sort()).toEqual(wanted);
    for (const { body } of made) {
      const { target_veth_name, target_veth_ip } = body.endpoint;
      expect(await container.addresses(target_veth_name)).toEqual([expect.stringContaining(target_veth_ip)]);
    }
    const stored = [...(await etcd.entries(`${prefix}/node-endpoints/ant/`)).values()].map(text =>
      JSON.parse(text),
    );
    expect(stored.map(({ target_veth_name }) => target_veth_name).sort()).toEqual(wanted);
  });

  /** A record whose interface is to be made, and a queue before the kernel. */
  const recorded = async (networkId: string) => {
    const { endpoints, options } = ant.host.engine;
    const netns = parseNetnsPath((await lab.netns('one')).path);
    const purpose = { kind: 'netns', netns, ifName: parseIfName('sand0') } as const;
    const record = await endpoints.create({
      ...{ id: newEndpointId(), networkId: parseNetworkId(networkId), purpose },
      address: undefined,
      mac: undefined,
    });
    const queue = Array.from({ length: 300 }, () => options.kernel.underlay(options.host.vtep));
    return { endpoints, record, queue: Promise.all(queue) };
  };

  it('is refused when its network is removed before the kernel has got to it', async () => {
    const { id } = await ant.network();
    const { endpoints, record, queue } = await recorded(id);
    const refused = expect(endpoints.plug(record)).rejects.toMatchObject({ kind: 'not-found' });
    await ant.api.delete(`/networks/${id}?force=true`);
    await refused;
    await queue;
  });

  it('is refused in the same way while etcd has not confirmed yet that it is removed', async () => {
    const { id } = await ant.network();
    const { endpoints, record, queue } = await recorded(id);
    const refused = expect(endpoints.plug(record)).rejects.toMatchObject({ kind: 'not-found' });
    etcd.pause();
    try {
      const joining = async () => ant.host.engine.reconciler.ports.isJoining(record.network_id, record.id);
      await until(joining, { what: 'its interface is about to be made', everyMs: 1 });
      const removed = endpoints.remove(record.id);
      await refused;
      etcd.resume();
      await removed;
    } finally {
      etcd.resume();
    }
    await queue;
    expect((await ant.api.get(`/endpoints?network_id=${id}`)).body.endpoints).toEqual([]);
  });

  it('gives the address and the MAC that are asked for, and refuses taken ones with 409', async () => {
    const { id } = await ant.network();
    const [one, two] = [await lab.netns('one'), await lab.netns('two')];
    const wish = { ipv4_address: '10.0.0.7/24', mac_address: '02:00:00:00:00:AA' };
    const made = await ant.endpoint(id, one.path, wish);
    expect(made.body.endpoint).toMatchObject({
      target_veth_ip: '10.0.0.7/24',
      target_veth_mac: '02:00:00:00:00:aa',
    });
    expect((await one.link('sand0'))?.address).toBe('02:00:00:00:00:aa');
    for (const taken of [
      { ipv4_address: '10.0.0.7' },
      { mac_address: '02:00:00:00:00:aa' },
      { ipv4_address: '10.0.0.1' },
    ]) {
      const { status, body } = await ant.endpoint(id, two.path, taken);
      expect([status, body.code]).toEqual([409, 'conflict']);
    }
    expect(await names(two)).toEqual(['lo']);
  });

  it('takes what the CLI of the original sends', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    const { status } = await ant.api
      .post('/endpoints')
      .set('Content-Type', '')
      .send(
        JSON.stringify({
          network_id: id,
          activate: true,
          activate_params: { ns_handle_path: container.path, set_addr: false, move_veth: false },
          ipv4_address: '',
          mac_address: '',
        }),
      );
    expect(status).toBe(201);
    expect(await container.addresses('sand0')).toHaveLength(1);
  });

  it('takes everything back when the interface cannot be made', async () => {
    const { id, ns_handle_path } = await ant.network();
    const fresh = await poolBits(id);
    // Somebody else's VXLAN has the VNI in the host's namespace.
    const [{ vxlan_vni }] = (await ant.api.get('/networks')).body.networks;
    await antNetns.ip(`link add other type vxlan id ${vxlan_vni} dstport 4789 local 10.99.0.1`);
    const container = await lab.netns('one');
    const { status, body } = await ant.endpoint(id, container.path);
    expect([status, body.code]).toEqual([409, 'conflict']);
    expect(body.error).toContain(`VNI ${vxlan_vni}`);
    expect(await names(container)).toEqual(['lo']);
    expect(await etcd.keys(`${prefix}/node-endpoints/`)).toEqual([]);
    expect(await etcd.keys(`${prefix}/address-owners/`)).toEqual([]);
    expect(await poolBits(id)).toBe(fresh);
    expect(ns_handle_path).toContain(id);
  });
});

describe('ns_handle_path', () => {
  const wrong = () => {
    const at = (name: string) => join(lab.directory, name);
    writeFileSync(at('plain'), '');
    symlinkSync('/etc/passwd', at('link'));
    symlinkSync(at('loop'), at('loop'));
    mkfifoSync(at('fifo'));
    return [at('plain'), at('link'), at('loop'), at('fifo'), at('nothing'), `${at('plain')}/below`];
  };
  const others = [
    '/proc/self/ns/mnt',
    '/proc/self/ns/pid',
    '/dev/zero',
    '/dev/tty',
    '/',
    '/proc/self/mem',
    '/proc/1/ns/../../../etc',
  ];

  it('refuses all that is no network namespace with 400 and the reason, and opens nothing else', async () => {
    const { id } = await ant.network();
    const before = await etcd.keys(prefix);
    for (const path of [...wrong(), ...others]) {
      const { status, body } = await ant.endpoint(id, path);
      expect([path, status, body.code]).toEqual([path, 400, 'invalid']);
      expect(body.error).toContain(`ns_handle_path ${path}`);
    }
    expect(await etcd.keys(prefix)).toEqual(before);
  });

  it('on a file system that hangs is refused with 503, and nobody else waits for it', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    await using hung = await HungMount.at(join(lab.directory, 'hung'));
    const inside = [ant.endpoint(id, hung.file), ant.endpoint(id, hung.file)].map(each =>
      each.then(all => all),
    );
    expect((await ant.endpoint(id, container.path)).status).toBe(201);
    for (const { status, body } of await Promise.all(inside)) {
      expect([status, body.code]).toEqual([503, 'unavailable']);
      expect(body.error).toContain(`${hung.file} is on a file system that does not answer`);
    }
    const { body } = await ant.api.get(`/endpoints?network_id=${id}`);
    expect(body.endpoints).toHaveLength(1);
  });

  it('may be a link to a namespace, or that of a process', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    const link = join(lab.directory, 'link');
    symlinkSync(container.path, link);
    expect((await ant.endpoint(id, link)).status).toBe(201);
    expect(await names(container)).toEqual(['lo', 'sand0']);
  });
});

describe('a passive endpoint', () => {
  it('holds an address and has no interface', async () => {
    const { id, ns_handle_path } = await ant.network();
    const { status, body } = await ant.endpoint(id);
    expect(status).toBe(201);
    expect(body.endpoint).toMatchObject({
      active: false,
      target_netns_path: '',
      target_veth_ip: '10.0.0.2/24',
    });
    expect((await ant.endpoint(id)).body.endpoint.target_veth_ip).toBe('10.0.0.3/24');
    expect(ns_handle_path).toContain(id);
    expect((await ant.api.delete(`/endpoints/${body.endpoint.id}`)).status).toBe(204);
    expect((await ant.endpoint(id)).body.endpoint.target_veth_ip).toBe('10.0.0.2/24');
  });
});

describe('GET /endpoints', () => {
  it('lists by network, by host, by both and without a filter; an empty one is none', async () => {
    const [red, blue] = [await ant.network(), await ant.network()];
    const made = async (host: ApiHost, network: { id: string }) =>
      (await host.endpoint(network.id)).body.endpoint.id;
    const [a, b, c] = [await made(ant, red), await made(bee, red), await made(bee, blue)];
    const list = async (query: string) =>
      (await ant.api.get(`/endpoints${query}`)).body.endpoints.map(({ id }: { id: string }) => id).sort();
    expect(await list('')).toEqual([a, b, c].sort());
    expect(await list('?network_id=&hostname=')).toEqual([a, b, c].sort());
    expect(await list(`?network_id=${red.id}`)).toEqual([a, b].sort());
    expect(await list('?hostname=bee')).toEqual([b, c].sort());
    expect(await list(`?network_id=${red.id}&hostname=bee`)).toEqual([b]);
    expect(await list('?hostname=nobody')).toEqual([]);
  });

  it('leaves a broken record out, and the others in', async () => {
    const { id } = await ant.network();
    await ant.endpoint(id);
    await etcd.ctl('put', `${prefix}/network-endpoints/${id}/6ffc3990-b212-47f2-a5d1-2afe7526e548`, '{"id":');
    expect((await ant.api.get('/endpoints')).body.endpoints).toHaveLength(1);
  });
});

describe('DELETE /endpoints', () => {
  it('takes interface, record and address away, and with the last one the overlay namespace', async () => {
    const { id } = await ant.network();
    const fresh = await poolBits(id);
    const container = await lab.netns('one');
    const { body } = await ant.endpoint(id, container.path);
    expect((await ant.api.delete(`/endpoints/${body.endpoint.id}`)).status).toBe(204);
    expect((await container.links()).some(({ ifname }) => ifname.startsWith('sand'))).toBe(false);
    expect(await poolBits(id)).toBe(fresh);
    expect(await etcd.keys(`${prefix}/node`)).toEqual([]);
    const overlay = join(ant.host.directory, 'netns', `sc-ns-${id}`);
    await until(async () => (await lab.overlay('x').run('test', '-e', overlay)).status !== 0, {
      what: 'no overlay',
    });
    expect((await ant.api.delete(`/endpoints/${body.endpoint.id}`)).status).toBe(404);
  });

  it('of another host is refused with 409 that names it', async () => {
    const { id } = await ant.network();
    const { body } = await bee.endpoint(id);
    const refused = await ant.api.delete(`/endpoints/${body.endpoint.id}`);
    expect([refused.status, refused.body.details.hostname]).toEqual([409, 'bee']);
    expect((await bee.api.delete(`/endpoints/${body.endpoint.id}`)).status).toBe(204);
  });
});

describe('DELETE /networks', () => {
  it('refuses a network with endpoints; ?force=true removes those of this host first', async () => {
    const { id } = await ant.network({ name: 'shop' });
    const container = await lab.netns('one');
    await ant.endpoint(id, container.path);
    const refused = await ant.api.delete('/networks/shop');
    expect([refused.status, refused.body.details.hosts]).toEqual([409, ['ant']]);
    expect((await ant.api.delete('/networks/shop?force=true')).status).toBe(204);
    expect(await etcd.keys(prefix)).toEqual([]);
    await until(async () => (await names(container)).join() === 'lo', { what: 'the interface is gone' });
  });

  it('?force=true leaves a network whose endpoints are on another host', async () => {
    const { id } = await ant.network();
    await bee.endpoint(id);
    const refused = await ant.api.delete(`/networks/${id}?force=true`);
    expect([refused.status, refused.body.details.hosts]).toEqual([409, ['bee']]);
  });
});

describe('over the unix socket', () => {
  it('an endpoint is made, listed and deleted', async () => {
    const socketPath = join(lab.directory, 'api.sock');
    const { engine, log } = ant.host;
    const options = { port: 0, listen: undefined, tls: undefined, socketPath, version: VERSION, log };
    lab.own(await ApiServer.listen(engine, options));
    const api = request(`http+unix://${encodeURIComponent(socketPath)}`);
    const { id } = (await api.post('/networks').send({})).body.network;
    const container = await lab.netns('one');
    const wish = { network_id: id, activate: true, activate_params: { ns_handle_path: container.path } };
    const made = await api.post('/endpoints').send(wish);
    expect(made.status).toBe(201);
    expect(await names(container)).toEqual(['lo', 'sand0']);
    expect((await api.get('/endpoints?hostname=ant')).body.endpoints).toEqual([made.body.endpoint]);
    expect((await api.delete(`/endpoints/${made.body.endpoint.id}`)).status).toBe(204);
    expect((await api.delete(`/networks/${id}`)).status).toBe(204);
  });
});

describe('the reconcile', () => {
  it('makes an interface again that somebody deleted', async () => {
    const { id } = await ant.network();
    const container = await lab.netns('one');
    await ant.endpoint(id, container.path);
    await container.ip('link delete sand0');
    await ant.host.engine.reconciler.reconcile(id as never);
    expect(await container.addresses('sand0')).toEqual(['10.0.0.2/24 brd 10.0.0.255']);
    expect((await ant.api.get('/status')).body.status.reconcile.repairs).toBe(1);
  });
});
