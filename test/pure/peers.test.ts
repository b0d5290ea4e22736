import fc from 'fast-check';
import { ipText, macText } from '../../overlay/netlink/codec.js';
import { PeerRecords, packPeers, unpackPeers } from '../../overlay/peers.js';

const anyIp = fc
  .oneof(fc.uint8Array({ minLength: 4, maxLength: 4 }), fc.uint8Array({ minLength: 16, maxLength: 16 }))
  .map(ipText);
const anyPeer = fc.record({
  address: anyIp,
  mac: fc.uint8Array({ minLength: 6, maxLength: 6 }).map(macText),
  vtep: anyIp,
});
/** Hosts are few: VTEPs repeat. */
const anyPeers = fc.oneof(
  fc.array(anyPeer),
  fc
    .tuple(fc.array(anyPeer, { maxLength: 50 }), fc.array(anyIp, { minLength: 1, maxLength: 2 }))
    .map(([peers, vteps]) =>
      peers.map((peer, i) => ({ ...peer, vtep: vteps[i % vteps.length] ?? peer.vtep })),
    ),
);

describe('packPeers() and unpackPeers()', () => {
  it('are inverse for both families', () => {
    fc.assert(fc.property(anyPeers, peers => expect(unpackPeers(packPeers(peers))).toEqual(peers)));
  });
  it('have nothing for nobody', () => {
    expect(packPeers([])).toEqual(new Uint8Array());
    expect(unpackPeers(new Uint8Array())).toEqual([]);
  });
});

describe('PeerRecords', () => {
  it('reads each peer, and picks some, in any buffer', () => {
    const property = fc.property(anyPeers, fc.nat(7), (peers, shift) => {
      const packed = packPeers(peers);
      const moved = new Uint8Array(packed.length + shift).subarray(shift);
      moved.set(packed);
      const records = new PeerRecords(moved);
      expect(records.count).toBe(peers.length);
      const even = peers.flatMap((_, n) => (n % 2 ? [] : [n]));
      const picked = records.pick(even);
      expect(even.map((_, n) => picked.peer(n))).toEqual(even.map(n => peers[n]));
      for (const [n, { address, vtep }] of peers.entries()) {
        expect(records.peer(n)).toEqual(peers[n]);
        expect(records.addressLength(n)).toBe(address.includes(':') ? 4 : 1);
        expect(records.vtepLength(n)).toBe(vtep.includes(':') ? 4 : 1);
      }
    });
    fc.assert(property);
  });
});
