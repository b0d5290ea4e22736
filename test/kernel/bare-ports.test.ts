/** Interfaces that are made ahead of their endpoints' records: what they are, who finishes them, and who takes them away. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BarePort, PortTarget, WantedPort } from '../../overlay/types.js';
import { ApiHost } from '../support/api-host.js';
import { ON_BRIDGE } from '../support/data-plane.js';
import { startEtcd } from '../support/etcd.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import { MTU, macOf, plugOn, portTo, startHost, type TestHost, unplugFrom } from './network-fixture.js';

const OVERLAY_MAC = '06:00:00:00:00:02';

let lab: NetnsLab;
let hostNetns: TestNetns;
let container: TestNetns;

beforeEach(async () => {
  lab = await NetnsLab.open();
  [hostNetns] = await lab.hosts('h1');
  container = await lab.netns('c1');
});
afterEach(() => lab[Symbol.asyncDispose]());

const names = async (netns: TestNetns) => (await netns.links()).map(({ ifname }) => ifname).sort();

describe('makeBare()', () => {
  let host: TestHost;
  let second: WantedPort;

  beforeEach(async () => {
    host = await startHost(lab, hostNetns, 1, 'bridge');
    await host.kernel.reconcile(host.wanted());
    second = port({ kind: 'netns', path: container.path, name: 'sand0', address: '10.1.0.2/24' });
  });

  const port = (target: object): WantedPort =>
    ({ ...portTo(target as PortTarget, 2), overlayMac: OVERLAY_MAC }) as WantedPort;
  const onHost = () => port({ kind: 'host', name: 'tgt2', sandbox: undefined });
  /** Whose address, and so whose MAC, nobody knows yet. */
  const bare = (wanted: WantedPort) => ({ ...wanted, targetMac: OVERLAY_MAC }) as BarePort;
  const makeBare = (wanted: WantedPort) => host.kernel.makeBare(host.wanted(), bare(wanted));
  const plug = (wanted: WantedPort) => plugOn(host, wanted);

  async function expectWhole(netns: TestNetns, name: string): Promise<void> {
    expect(await netns.link(name)).toMatchObject({ address: macOf(2), mtu: MTU });
    const near = { master: 'br0', flags: expect.arrayContaining(['UP']) };
    expect(await host.overlay.link('sand002')).toMatchObject(near);
    expect(await host.overlay.port('sand002')).toMatchObject({ learning: false, flood: false });
    const entry = { mac: macOf(2), state: 'static' };
    expect(await host.overlay.fdb('sand002')).toContainEqual(expect.objectContaining(entry));
  }
  async function expectWholeInside(): Promise<void> {
    await expectWhole(container, 'sand0');
    expect(await container.addresses('sand0')).toEqual(['10.1.0.2/24 brd 10.1.0.255']);
    expect(await container.ping('10.1.0.1')).toBe(1);
  }

  it('makes a pair that is down at both ends, without an address and without an entry', async () => {
    await makeBare(second);
    expect(await container.addresses('sand0')).toEqual([]);
    expect(await container.link('sand0')).toMatchObject({ address: OVERLAY_MAC, mtu: MTU });
    expect((await container.link('sand0'))?.flags).not.toContain('UP');
    expect((await host.overlay.link('sand002'))?.flags).not.toContain('UP');
    const fdb = await host.overlay.fdb('sand002');
    expect(fdb.filter(({ mac }) => mac === macOf(2))).toEqual([]);
  });

  it('is finished by changePorts(), which makes no other', async () => {
    await makeBare(second);
    const { ifindex } = (await container.link('sand0')) ?? {};
    expect(await plug(second)).toEqual({ ifName: 'sand0' });
    await expectWholeInside();
    expect((await container.link('sand0'))?.ifindex).toBe(ifindex);
  });

  it('is finished in the host, for Docker to move', async () => {
    await makeBare(onHost());
    const { ifindex } = (await hostNetns.link('tgt2')) ?? {};
    expect(await plug(onHost())).toEqual({ ifName: 'tgt2' });
    await expectWhole(hostNetns, 'tgt2');
    expect(await hostNetns.link('tgt2')).toMatchObject({ ifindex });
    expect((await hostNetns.link('tgt2'))?.flags).not.toContain('UP');
  });

  it.each(['netns', 'host'])('is finished in a %s by another agent, which remembers nothing', async kind => {
    const wanted = kind === 'netns' ? second : onHost();
    await makeBare(wanted);
    await host.kernel[Symbol.asyncDispose]();
    host = await startHost(lab, hostNetns, 1, 'bridge');
    await plug(wanted);
    if (kind === 'netns') await expectWholeInside();
    else await expectWhole(hostNetns, 'tgt2');
  });

  it.each(['netns', 'host'])('is finished in a %s by a compare, when its record stands', async kind => {
    const wanted = kind === 'netns' ? second : onHost();
    await makeBare(wanted);
    const report = await host.kernel.reconcile(host.wanted({ ports: [wanted] }));
    expect(report.missingPorts).toEqual([]);
    if (kind === 'netns') await expectWholeInside();
    else await expectWhole(hostNetns, 'tgt2');
    const again = await host.kernel.reconcile(host.wanted({ ports: [wanted] }));
    expect(again).toEqual({ created: false, repairs: [], missingPorts: [] });
  });

  it('is left alone by a compare that is told of it, and removed by one that is not', async () => {
    await makeBare(second);
    const told = { ...host.wanted(), leaving: [second.overlayVeth] };
    expect((await host.kernel.reconcile(told)).repairs).toEqual([]);
    // Also when its record stands, and whoever finishes it is waiting for this compare.
    const recorded = await host.kernel.reconcile({ ...told, ports: [second] });
    expect(recorded).toEqual({ created: false, repairs: [], missingPorts: [] });
    expect(await names(container)).toEqual(['lo', 'sand0']);
    expect((await container.link('sand0'))?.flags).not.toContain('UP');
    const { repairs } = await host.kernel.reconcile(host.wanted());
    expect(repairs).toEqual(['sand002: port of no endpoint, removed']);
    await until(async () => `${await names(container)}` === 'lo', { what: 'the pair is gone' });
  });

  it.each(['netns', 'host'])('in a %s goes as any port does', async kind => {
    const wanted = kind === 'netns' ? second : onHost();
    const netns = kind === 'netns' ? container : hostNetns;
    const before = await names(netns);
    await makeBare(wanted);
    await unplugFrom(host, wanted);
    expect(await names(netns)).not.toContain(wanted.target.name);
    await until(async () => `${await names(netns)}` === `${before}`, { what: 'the pair is gone' });
    await until(async () => !(await names(host.overlay)).includes('sand002'), { what: 'its end is gone' });
  });

  it('makes nothing where the name is taken, and changePorts() finds another', async () => {
    await container.ip('link add sand0 type veth peer name theirs');
    await makeBare(second);
    expect(await names(host.overlay)).not.toContain('sand002');
    expect(await plug(second)).toEqual({ ifName: 'sand1' });
    await expectWhole(container, 'sand1');
  });

  it('makes nothing without the namespace or the network, and throws nothing', async () => {
    await makeBare(port({ kind: 'netns', path: '/nonexistent/ns', name: 'sand0', address: '10.1.0.2/24' }));
    expect(await names(host.overlay)).not.toContain('sand002');
    await host.kernel.removeNetwork(host.overlay.path as never);
    await makeBare(second);
    expect(await names(container)).toEqual(['lo']);
  });

  it('is no end of the port when its namespace is made anew under its path', async () => {
    await makeBare(second);
    await lab.removeNetns(container);
    container = await lab.netns('c1');
    expect(await plug(second)).toEqual({ ifName: 'sand0' });
    await expectWholeInside();
  });

  it.each(['netns', 'host'])('in a %s loses its bridge and gets the next one', async kind => {
    const wanted = kind === 'netns' ? second : onHost();
    await makeBare(wanted);
    await host.overlay.ip('link del br0');
    await host.kernel.reconcile({ ...host.wanted(), leaving: [wanted.overlayVeth] });
    await plug(wanted);
    if (kind === 'netns') await expectWholeInside();
    else await expectWhole(hostNetns, 'tgt2');
  });

  it('that somebody deletes meanwhile is made again', async () => {
    await makeBare(second);
    await container.ip('link del sand0');
    expect(await plug(second)).toEqual({ ifName: 'sand0' });
    await expectWholeInside();
  });
});

describe('POST /endpoints while etcd is silent', () => {
  let ant: ApiHost;
  let network = '';
  let etcd: Awaited<ReturnType<typeof startEtcd>>;

  beforeEach(async () => {
    etcd = await startEtcd();
    ant = await ApiHost.open({
      ...{ hosts: etcd.hosts, prefix: '/bare' },
      ...{ name: 'ant', netns: hostNetns, vtep: '10.99.0.1' },
    });
    network = (await ant.network()).id;
    await ant.endpoint(network, (await lab.netns('keeper')).path);
  });
  afterEach(async () => {
    await ant[Symbol.asyncDispose]();
    await etcd.stop();
  });

  /** supertest sends when somebody waits for the answer. */
  const asked = (wish: object = {}) => ant.endpoint(network, container.path, wish).then(answer => answer);

  /** What was begun, once it is there; with macvlans nothing is. */
  const untilBegun = async () => {
    if (!ON_BRIDGE) return;
    await until(async () => (await names(container)).includes('sand0'), { what: 'a bare sand0' });
    expect(await container.addresses('sand0')).toEqual([]);
    expect((await container.link('sand0'))?.flags).not.toContain('UP');
  };

  it('has its interface begun, survives a compare, and is whole when etcd has answered', async () => {
    etcd.pause();
    const made = asked();
    await untilBegun();
    await ant.host.engine.reconciler.reconcile(network as never);
    const { ifindex } = (await container.link('sand0')) ?? {};
    etcd.resume();
    expect((await made).status).toBe(201);
    const wanted = { address: '02:84:0a:00:00:03', ...(ON_BRIDGE ? { ifindex } : {}) };
    expect(await container.link('sand0')).toMatchObject(wanted);
    expect(await container.addresses('sand0')).toEqual(['10.0.0.3/24 brd 10.0.0.255']);
    expect(await container.ping('10.0.0.2')).toBe(1);
  });

  it('keeps its network here when the last other endpoint goes meanwhile', async () => {
    const [{ id: keeper = '' } = {}] = (await ant.api.get('/endpoints')).body.endpoints;
    etcd.pause();
    const made = asked();
    await untilBegun();
    const removed = ant.api.delete(`/endpoints/${keeper}`).then(answer => answer);
    await sleep(1_000); // the network would be gone after 400 ms
    const { ifindex } = (await container.link('sand0')) ?? {};
    etcd.resume();
    expect([(await made).status, (await removed).status]).toEqual([201, 204]);
    if (ON_BRIDGE) expect(await container.link('sand0')).toMatchObject({ ifindex });
    expect(await container.ping('10.0.0.1')).toBe(1);
  });

  it('leaves nothing in the container when it is refused', async () => {
    etcd.pause();
    const refused = asked();
    await untilBegun();
    expect((await refused).status).toBe(503);
    expect(await names(container)).not.toContain('sand0');
    etcd.resume();
    await until(async () => `${await names(container)}` === 'lo', { what: 'nothing is left' });
    await until(async () => (await ant.api.get('/endpoints')).body.endpoints.length === 1, {
      what: 'its record is gone',
    });
  });

  it('makes nothing ahead for an address that may be refused', async () => {
    etcd.pause();
    const made = asked({ ipv4_address: '10.0.0.9' });
    await sleep(300); // what is begun is there within 10 ms
    expect(await names(container)).toEqual(['lo']);
    etcd.resume();
    expect((await made).status).toBe(201);
  });
});
