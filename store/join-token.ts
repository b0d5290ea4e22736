/**
 * ETCD_HOSTS in its forms: a list of hosts, or one value that holds address, CA and client certificate together, so
 * that a second host, which may be a Docker plugin without files, needs nothing else.
 */
import { isIP } from 'node:net';
import { InvalidError } from '../model/errors.js';
import type { StoreTls } from './client.js';

export interface EtcdAddress {
  readonly hosts: readonly string[];
  readonly tls?: StoreTls;
}

const ETCD_PORT = 2379; // etcd's own default for clients
const TOKEN_SCHEME = 'sand+tls://';
const LABELS = ['CERTIFICATE', 'CERTIFICATE', 'PRIVATE KEY'] as const;

const refuse = (text: string) => new InvalidError(`ETCD_HOSTS ${text}`, { field: 'ETCD_HOSTS' });

const derOf = (pem: string) => Buffer.from(pem.replace(/-----[^-]+-----|\s/g, ''), 'base64');
const pemOf = (der: Buffer, label: string) =>
  `-----BEGIN ${label}-----\n${(der.toString('base64').match(/.{1,64}/g) ?? []).join('\n')}\n-----END ${label}-----\n`;

/** The value for a second host. It holds a client key: a password to the cluster. */
export function encodeJoinToken(host: string, tls: Required<StoreTls>): string {
  const parts = [tls.ca, tls.cert, tls.key].map(derOf);
  // Each part behind its length in two bytes.
  const packed = parts.flatMap(part => [Buffer.from([part.length >> 8, part.length & 0xff]), part]);
  return `${TOKEN_SCHEME}${host}/${Buffer.concat(packed).toString('base64url')}`;
}

function decodeJoinToken(value: string): EtcdAddress {
  const [host = '', text = '', ...more] = value.slice(TOKEN_SCHEME.length).split('/');
  const packed = Buffer.from(text, 'base64url');
  // Node skips what is no base64: compare with what it took.
  if (packed.toString('base64url') !== text)
    throw refuse('is no whole join value: copy the whole line that the first host prints');
  const parts: Buffer[] = [];
  for (let at = 0; at + 2 <= packed.length; ) {
    const length = packed.readUInt16BE(at);
    parts.push(packed.subarray(at + 2, at + 2 + length));
    at += 2 + length;
    if (at > packed.length) throw refuse('is cut short: copy the whole line that the first host prints');
  }
  if (more.length > 0 || parts.length !== LABELS.length || parts.some(part => part.length === 0)) {
    throw refuse('is no whole join value: copy the whole line that the first host prints');
  }
  const [ca = '', cert = '', key = ''] = parts.map((part, i) => pemOf(part, LABELS[i] ?? ''));
  return { hosts: [hostOf(host, 'https://')], tls: { ca, cert, key } };
}

/**
 * `http://a:2379,b:2379` (a scheme may stand only on the first and holds for all), unix sockets as etcd3 dials them, or
 * a join value. @throws InvalidError.
 */
export function parseEtcdHosts(value: string): EtcdAddress {
  if (value.startsWith(TOKEN_SCHEME)) return decodeJoinToken(value);
  const items = value.split(',').map(item => item.trim());
  if (items.every(item => item.startsWith('unix:'))) return { hosts: items.map(socketOf) };
  const [, scheme = ''] = /^([a-z+]+:\/\/)/.exec(items[0] ?? '') ?? [];
  if (!['', 'http://', 'https://'].includes(scheme))
    throw refuse(`has the scheme ${scheme}; it takes http:// and https://`);
  const hosts = items.map(item => hostOf(item.startsWith(scheme) ? item.slice(scheme.length) : item, scheme));
  return { hosts };
}

/** `unix:/path` and `unix:///path` name the same socket. */
function socketOf(item: string): string {
  const path = item.slice('unix:'.length).replace(/^\/\/(?=\/)/, '');
  if (!/^\/[^/]/.test(path))
    throw refuse(`has the socket ${JSON.stringify(item)}; it takes an absolute path`);
  return `unix:${path}`;
}

function hostOf(text: string, scheme: string): string {
  const [, name = '', port = String(ETCD_PORT)] =
    /^(\[[0-9a-fA-F:]+\]|[A-Za-z0-9._-]+)(?::(\d+))?\/?$/.exec(text) ?? [];
  const address = name.replace(/^\[|\]$/g, '');
  // Digits and dots that are no address are a slip of the keyboard, never a name.
  const known = isIP(address) !== 0 || (/[A-Za-z0-9]/.test(name) && !/^[\d.]+$/.test(name));
  if (!known || Number(port) < 1 || Number(port) > 65_535) {
    throw refuse(
      `has the item ${JSON.stringify(text.slice(0, 80).replace(/^.*@/, '…@'))}; an item is a host with a port, such as 10.0.0.5:2379`,
    );
  }
  return `${scheme}${name}:${Number(port)}`;
}
