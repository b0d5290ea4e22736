import { type PeerList, PeerTable } from '../../engine/peer-table.js';
import type { Peer } from '../../model/records.js';
import {
  type EndpointId,
  newEndpointId,
  newNetworkId,
  parseHostName,
  parseIpAddress,
  parseMacAddress,
} from '../../model/scalars.js';
import { unpackPeers } from '../../overlay/peers.js';

const any = <T>(list: readonly T[]) => list[Math.floor(Math.random() * list.length)] as T;
const times = <T>(count: number, make: (n: number) => T) => Array.from({ length: count }, (_, n) => make(n));

// Few addresses, so that many are borne twice; IPv6 among them, which stand elsewhere.
const ADDRESSES = [
  ...times(12, n => `10.0.0.${n + 2}`),
  '255.255.255.255',
  '0.0.0.0',
  'fd00::1',
  'fd00::2',
].map(text => parseIpAddress(text));
const HOSTS = times(5, n => parseHostName(`host-${n}`));
const VTEPS = ['192.0.2.1', '192.0.2.2', 'fd00::9'].map(text => parseIpAddress(text));
const MACS = times(200, n => parseMacAddress(`02:84:ff:00:00:${n.toString(16).padStart(2, '0')}`));

interface Known {
  readonly peer: Peer;
  readonly created: number;
  readonly modified: number;
}

const randomPeer = (endpointId: EndpointId): Peer => ({
  endpointId,
  address: any(ADDRESSES),
  mac: any(MACS),
  hostname: any(HOSTS),
  vtep: any(VTEPS),
});

/** The same in maps: slow and plain. */
class Model {
  readonly lists = new Map<PeerList, Map<EndpointId, Known>>();

  bearers(list: PeerList, address: Peer['address']): Known[] {
    const all = [...(this.lists.get(list)?.values() ?? [])].filter(({ peer }) => peer.address === address);
    return all.sort((a, b) => a.created - b.created || (a.peer.endpointId < b.peer.endpointId ? -1 : 1));
  }
}

function compare(table: PeerTable, model: Model): void {
  const counts = new Map<string, number>();
  for (const [list, known] of model.lists) {
    expect([...table.peers(list)]).toEqual([...known.values()].map(({ peer }) => peer));
    expect(list.size).toBe(known.size);
    for (const address of ADDRESSES) {
      const [bearer] = model.bearers(list, address);
      expect(table.bearer(list, address)).toEqual(bearer?.peer);
      expect(table.bornAt(list, address)).toBe(bearer?.created);
    }
    const rightful = [...known.values()].filter(each => model.bearers(list, each.peer.address)[0] === each);
    const isWanted = (hostname: Peer['hostname']) => hostname !== HOSTS[0];
    const wanted = rightful.map(({ peer }) => peer).filter(({ hostname }) => isWanted(hostname));
    const packed = unpackPeers(table.packRightful(list, isWanted));
    expect(packed).toEqual(wanted.map(({ address, mac, vtep }) => ({ address, mac, vtep })));
    for (const { peer, modified } of known.values()) {
      expect(table.revisionOf(table.find(list, peer.endpointId))).toBe(modified);
      counts.set(peer.hostname, (counts.get(peer.hostname) ?? 0) + 1);
    }
  }
  expect(new Map(table.countsByHost())).toEqual(counts);
}

describe('PeerTable', () => {
  it.each(times(10, n => n))('is what plain maps are, after any changes (round %d)', () => {
    const table = new PeerTable();
    const model = new Model();
    const lists = times(3, () => table.openList(newNetworkId()));
    for (const list of lists) model.lists.set(list, new Map());
    const ids = times(150, newEndpointId);
    for (let revision = 1; revision <= 600; revision++) {
      const [list, id] = [any(lists), any(ids)];
      const known = model.lists.get(list) as Map<EndpointId, Known>;
      const row = table.find(list, id);
      expect(row !== undefined).toBe(known.has(id));
      const before = known.get(id);
      if (row !== undefined && Math.random() < 0.45) {
        const shared = model.bearers(list, (before as Known).peer.address).length > 1;
        expect(table.remove(list, row)).toBe(shared);
        known.delete(id);
      } else {
        const peer = randomPeer(id);
        const created = before && Math.random() < 0.5 ? 0 : revision;
        const wasShared = before && model.bearers(list, before.peer.address).length > 1;
        known.set(id, { peer, created: created || (before?.created ?? 0), modified: revision });
        const isShared = model.bearers(list, peer.address).length > 1;
        const left = before && before.peer.address !== peer.address && wasShared;
        expect(table.put(list, peer, { row, created, modified: revision })).toBe(isShared || left === true);
      }
      if (revision % 60 === 0) compare(table, model);
    }
  });

  it('tells what was not seen and is not newer, also of rows that were used before', () => {
    const table = new PeerTable();
    const network = newNetworkId();
    const list = table.openList(network);
    const ids = times(200, newEndpointId);
    const put = (id: EndpointId, modified: number) =>
      table.put(list, randomPeer(id), { row: table.find(list, id), created: modified, modified });
    ids.forEach((id, n) => void put(id, n + 1));
    for (const id of ids.slice(0, 50)) table.remove(list, table.find(list, id) as number);
    table.forgetSeen();
    for (const id of ids.slice(50, 100)) table.see(table.find(list, id) as number);
    for (const id of ids.slice(0, 10)) put(id, 5);
    const unseen = [...table.unseen(190)].map(({ endpoint }) => endpoint);
    expect(new Set(unseen)).toEqual(new Set(ids.slice(100, 190)));
    expect([...table.unseen(190)].every(each => each.network === network)).toBe(true);
  });

  it('finds an endpoint of any network, and takes the number of a list that was closed', () => {
    const table = new PeerTable();
    const [first, second] = [table.openList(newNetworkId()), table.openList(newNetworkId())];
    const peer = randomPeer(newEndpointId());
    table.put(second, peer, { row: undefined, created: 1, modified: 1 });
    expect(table.findAnywhere(peer.endpointId)).toEqual(peer);
    expect(table.find(first, peer.endpointId)).toBeUndefined();
    expect(table.hasPeerOn(second, peer.hostname)).toBe(true);
    expect(table.hasPeerOn(first, peer.hostname)).toBe(false);
    table.closeList(first);
    expect(table.openList(newNetworkId()).number).toBe(first.number);
  });
});
