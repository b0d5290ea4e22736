import type { DataPlane } from '../../model/data-plane.js';
import type { NetnsPath } from '../../model/scalars.js';
import { TEST_DATA_PLANE } from '../support/data-plane.js';
import { NetnsLab, type TestNetns } from '../support/netns.js';
import { until } from '../support/until.js';
import { peerAt, plugOn, portIn, startHost, type TestHost, unplugFrom } from './network-fixture.js';

const QUIET_MS = 1_500; // a listener is asked every 250 ms, settings every second, what was retired goes after 100 ms

let lab: NetnsLab;
let host: TestHost;
let container: TestNetns;
let told: NetnsPath[];

/** A host with a container in the network, when it has become quiet. */
async function open(dataPlane: DataPlane): Promise<void> {
  lab = await NetnsLab.open();
  const [netns] = await lab.hosts('h1');
  host = await startHost(lab, netns, 1, dataPlane);
  container = await lab.netns('c2');
  const wanted = host.wanted({ ports: [portIn(container, 2)], peers: [peerAt('10.99.0.9', 9)] });
  await host.kernel.reconcile(wanted);
  await plugOn(host, portIn(container, 2));
  // What the kernel tells a moment later asks for a compare, as the engine makes it.
  await new Promise(resolve => setTimeout(resolve, QUIET_MS));
  await host.kernel.reconcile(wanted);
  told = [];
  host.kernel.onChange(path => told.push(path));
}
afterEach(() => lab[Symbol.asyncDispose]());

const isTold = () => until(() => told.length > 0, { what: 'the change is told', timeoutMs: 2_000 });

// A macvlan that goes is told as a change of the VXLAN, which is compared once more.
describe('onChange() on a bridge', () => {
  beforeEach(() => open('bridge'));

  it('says nothing of what we take out of use and delete a moment later', async () => {
    await unplugFrom(host, portIn(container, 2));
    await until(async () => (await container.link('sand0')) === undefined, { what: 'the interface is gone' });
    await new Promise(resolve => setTimeout(resolve, QUIET_MS));
    expect(told).toEqual([]);
  });
});

describe('onChange()', () => {
  beforeEach(() => open(TEST_DATA_PLANE));

  it('tells of a link of ours that somebody else deletes', async () => {
    await host.overlay.ip('link del vxlan0');
    await isTold();
    expect(new Set(told)).toEqual(new Set([host.overlay.path]));
  });

  it('tells of an entry that somebody else deletes', async () => {
    await host.overlay.bridge('fdb del 02:84:0a:01:00:09 dev vxlan0 dst 10.99.0.9 self');
    await isTold();
  });

  it('tells of link-local addresses that somebody switches on, before they are out of trial', async () => {
    await host.overlay.exec('sysctl', '-qw', 'net.ipv6.conf.all.addr_gen_mode=0');
    await isTold();
  });

  it('says nothing while nobody does anything', async () => {
    await new Promise(resolve => setTimeout(resolve, QUIET_MS));
    expect(told).toEqual([]);
  });
});
