import { isIPv6 } from 'node:net';
import fc from 'fast-check';
import { type IpAddress, type MacAddress, parseIpAddress } from '../../model/scalars.js';
import { EntryWriter } from '../../overlay/entries.js';
import { newAddress, parseAddress } from '../../overlay/netlink/address.js';
import { setPort } from '../../overlay/netlink/bridge.js';
import {
  attributesOf,
  ipBytes,
  ipText,
  type Message,
  macBytes,
  macText,
  messagesOf,
  nestedOf,
  textOf,
  u8Of,
  u32Of,
  Writer,
} from '../../overlay/netlink/codec.js';
import type { Request } from '../../overlay/netlink/conn.js';
import { newVxlan, parseLink } from '../../overlay/netlink/link.js';
import { PeerRecords, packPeers } from '../../overlay/peers.js';
import type { RemotePeer } from '../../overlay/types.js';

function encode(...requests: readonly Request[]): Buffer {
  const writer = new Writer();
  requests.forEach((request, i) => {
    writer.begin(request.type, request.flags, i);
    request.write(writer);
    writer.end();
  });
  return writer.bytes();
}
const only = (packet: Buffer) => [...messagesOf(packet)][0] as Message;
const hex = (text: string) => text.replaceAll(/\s/g, '');

const anyOctet = fc.nat(255);
const anyMac = fc.uint8Array({ minLength: 6, maxLength: 6 });
const anyIp = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  fc.array(fc.constantFrom(0, 0, 0, 1, 0xff), { minLength: 16, maxLength: 16 }).map(b => Uint8Array.from(b)),
);

describe('Writer and messagesOf()', () => {
  it('are inverse, whatever the lengths', () => {
    const anyAttribute = fc.tuple(fc.integer({ min: 1, max: 0x3fff }), fc.uint8Array({ maxLength: 70 }));
    const anyMessage = fc.record({
      type: fc.nat(0xffff),
      flags: fc.nat(0xffff),
      sequence: fc.nat(0xffff_ffff),
      attributes: fc.uniqueArray(anyAttribute, { maxLength: 6, selector: ([type]) => type }),
    });
    const property = fc.property(fc.array(anyMessage, { maxLength: 200 }), wanted => {
      const writer = new Writer();
      for (const { type, flags, sequence, attributes } of wanted) {
        writer.begin(type, flags, sequence);
        for (const [number, value] of attributes) writer.attribute(number, value);
        writer.end();
      }
      const found = [...messagesOf(writer.bytes())].map(({ type, flags, sequence, payload }, i) => {
        const read = attributesOf(payload, 0);
        const attributes = wanted[i]?.attributes.map(([n]) => [n, Uint8Array.from(read.get(n) ?? [])]);
        return { type, flags, sequence, attributes };
      });
      expect(found).toEqual(wanted);
    });
    fc.assert(property, { numRuns: 50 });
  });

  it('write numbers, texts and nested attributes as they are read', () => {
    const writer = new Writer();
    writer.begin(1, 2, 3);
    writer.attributeU8(1, 200).attributeU32(2, 0xffff_fffe).attributeText(3, 'sand0');
    writer.nested(4, inner => inner.attributeText(1, 'vxlan').nested(2, data => data.attributeU8(7, 1)));
    writer.end();
    const found = attributesOf(only(writer.bytes()).payload, 0);
    expect([u8Of(found.get(1)), u32Of(found.get(2)), textOf(found.get(3))]).toEqual([
      200,
      0xffff_fffe,
      'sand0',
    ]);
    expect(textOf(nestedOf(found.get(4)).get(1))).toBe('vxlan');
    expect(u8Of(nestedOf(nestedOf(found.get(4)).get(2)).get(7))).toBe(1);
  });

  it('attributesOf() and messagesOf() end at a length that does not fit, whatever the bytes', () => {
    const property = fc.property(fc.uint8Array({ maxLength: 200 }), bytes => {
      const packet = Buffer.from(bytes);
      for (const { payload } of messagesOf(packet)) attributesOf(payload, 12).get(3);
      expect(
        parseLink({ type: 16, flags: 0, sequence: 0, payload: Buffer.concat([Buffer.alloc(16), packet]) }),
      ).toBeDefined();
    });
    fc.assert(property);
  });
});

describe('ipBytes() and ipText()', () => {
  it('are inverse', () => {
    fc.assert(fc.property(anyIp, bytes => expect(new Uint8Array(ipBytes(ipText(bytes)))).toEqual(bytes)));
  });

  it('give the canonical text', () => {
    fc.assert(fc.property(anyIp, bytes => expect(parseIpAddress(ipText(bytes))).toBe(ipText(bytes))));
  });

  it.each([
    ['0.0.0.0', '00000000'],
    ['10.1.0.255', '0a0100ff'],
    ['255.255.255.255', 'ffffffff'],
    ['::', '00000000000000000000000000000000'],
    ['::1', '00000000000000000000000000000001'],
    ['fd00::', 'fd000000000000000000000000000000'],
    ['fd00::5:0:0:1', 'fd000000000000000005000000000001'],
    ['1:2:3:4:5:6:7:8', '00010002000300040005000600070008'],
  ])('%s is %s', (text, bytes) => {
    expect(ipBytes(text as IpAddress).toString('hex')).toBe(bytes);
    expect(isIPv6(text) ? 16 : 4).toBe(ipBytes(text as IpAddress).length);
  });
});

describe('macBytes() and macText()', () => {
  it('are inverse', () => {
    fc.assert(fc.property(anyMac, bytes => expect(new Uint8Array(macBytes(macText(bytes)))).toEqual(bytes)));
  });
  it('read capitals', () => {
    expect(macBytes('02:AB:cD:Ef:09:90' as MacAddress).toString('hex')).toBe('02abcdef0990');
  });
});

describe('EntryWriter', () => {
  const bytesOf = (peer: object) => {
    const writer = new EntryWriter(new PeerRecords(packPeers([peer as RemotePeer])), 3);
    writer.arp(0, 7);
    writer.fdb(0, 8);
    return Buffer.from(writer.bytes()).toString('hex');
  };
  const mac = '02:84:0a:01:00:09';

  it('writes both entries of an IPv4 peer as struct ndmsg and attributes, the last with NLM_F_ACK', () => {
    expect(bytesOf({ address: '10.1.0.9', mac, vtep: '10.99.0.2' })).toBe(
      hex(`30000000 1c00 0105 07000000 00000000  02000000 03000000 8000 00 00
           0800 0100 0a010009  0a00 0200 02840a010009 0000
           30000000 1c00 0505 08000000 00000000  07000000 03000000 8000 02 00
           0800 0100 0a630002  0a00 0200 02840a010009 0000`),
    );
  });

  it('writes both entries of an IPv6 peer', () => {
    expect(bytesOf({ address: 'fd00::9', mac, vtep: 'fd99::2' })).toBe(
      hex(`3c000000 1c00 0105 07000000 00000000  0a000000 03000000 8000 00 00
           1400 0100 fd000000000000000000000000000009  0a00 0200 02840a010009 0000
           3c000000 1c00 0505 08000000 00000000  07000000 03000000 8000 02 00
           1400 0100 fd990000000000000000000000000002  0a00 0200 02840a010009 0000`),
    );
  });
});

describe('newAddress()', () => {
  it('writes the address with its broadcast', () => {
    expect(encode(newAddress(5, '10.1.0.9/24' as never)).toString('hex')).toBe(
      hex(`30000000 1400 0005 00000000 00000000  02 18 00 00 05000000
           0800 0200 0a010009  0800 0100 0a010009  0800 0400 0a0100ff`),
    );
  });
});

describe('parse functions', () => {
  it('parseLink() reads what newVxlan() asks for', () => {
    const place = { netns: 9, index: 3, master: 2, mtu: 1450 };
    const settings = { vni: 4242, local: '10.99.0.1' as IpAddress, port: 4789, udpChecksum: false };
    expect(parseLink(only(encode(newVxlan('vxlan0' as never, place, settings))))).toMatchObject({
      index: 3,
      name: 'vxlan0',
      kind: 'vxlan',
      mtu: 1450,
      master: 2,
      up: true,
      vxlan: { vni: 4242, local: '10.99.0.1', port: 4789, learning: false, proxy: true },
    });
  });

  it.each([true, false])('parseLink() reads what setPort() asks for, flooding %s', unicastFlood => {
    const link = parseLink(only(encode(setPort({ index: 4 }, unicastFlood))));
    expect(link).toMatchObject({ index: 4, port: { learning: false, unicastFlood } });
  });

  it('parseAddress() reads what newAddress() asks for', () => {
    const property = fc.property(anyIp, fc.nat(32), anyOctet, (ip, length, index) => {
      const address = `${ipText(ip)}/${length}` as never;
      expect(parseAddress(only(encode(newAddress(index, address))))).toEqual({ index, address });
    });
    fc.assert(property);
  });
});
