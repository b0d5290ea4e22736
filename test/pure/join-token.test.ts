import fc from 'fast-check';
import { InvalidError } from '../../model/errors.js';
import { encodeJoinToken, parseEtcdHosts } from '../../store/join-token.js';

/** PEM as every tool writes it, made here so that the module is not its own judge. */
function pem(label: string, bytes: Uint8Array): string {
  const lines =
    Buffer.from(bytes)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return [`-----BEGIN ${label}-----`, ...lines, `-----END ${label}-----`, ''].join('\n');
}

const tls = {
  ca: pem('CERTIFICATE', Buffer.alloc(400, 1)),
  cert: pem('CERTIFICATE', Buffer.alloc(410, 2)),
  key: pem('PRIVATE KEY', Buffer.alloc(138, 3)),
};
const token = encodeJoinToken('10.0.0.5:2379', tls);

const refusal = (value: string): InvalidError => {
  try {
    parseEtcdHosts(value);
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidError);
    return error as InvalidError;
  }
  throw new Error(`Taken: ${value}`);
};

describe('parseEtcdHosts()', () => {
  it.each([
    ['10.0.0.5', ['10.0.0.5:2379']],
    ['etcd-1.lan:4001', ['etcd-1.lan:4001']],
    ['http://a:2379,b:2379', ['http://a:2379', 'http://b:2379']],
    ['https://a:2379,b', ['https://a:2379', 'https://b:2379']],
    ['https://a,https://b/', ['https://a:2379', 'https://b:2379']],
    [' a , b ', ['a:2379', 'b:2379']],
    ['https://[fd00::5]', ['https://[fd00::5]:2379']],
    ['[fd00::5]:4001', ['[fd00::5]:4001']],
    ['unix:/run/etcd/client.sock:0', ['unix:/run/etcd/client.sock:0']],
    ['unix:///run/etcd.sock', ['unix:/run/etcd.sock']],
  ])('%j is %j', (value, hosts) => {
    expect(parseEtcdHosts(value)).toEqual({ hosts });
  });

  it.each([
    '',
    ',',
    'a,',
    'https://',
    'a:0',
    'a:65536',
    'a:b',
    'a b',
    'fd00::5',
    '[10.0.0.5]:2379',
    '10.0.0.256',
    'a/path',
    'user@a',
    'ftp://a',
    'http://a,https://b',
    'a,https://b',
    'https://a,unix:/run/etcd.sock',
    'unix:etcd.sock',
    'unix:',
  ])('%j is refused and the field named', value => {
    expect(refusal(value).facts).toMatchObject({ field: 'ETCD_HOSTS' });
  });
});

describe('a join token', () => {
  it('is one word that a shell leaves alone, and short enough for an environment variable', () => {
    expect(token).toMatch(/^sand\+tls:\/\/10\.0\.0\.5:2379\/[A-Za-z0-9_-]+$/);
    expect(token.length).toBeLessThan(2_000);
  });

  it('gives back the address and the certificates that it was made of', () => {
    expect(parseEtcdHosts(token)).toEqual({ hosts: ['https://10.0.0.5:2379'], tls });
  });

  const der = fc.uint8Array({ minLength: 1, maxLength: 2_000 });
  const host = fc.oneof(
    fc.ipV4(),
    fc
      .ipV6()
      .filter(text => !text.includes('.'))
      .map(text => `[${text}]`),
  );
  it('encodeJoinToken() and parseEtcdHosts() are inverse', () => {
    fc.assert(
      fc.property(host, fc.integer({ min: 1, max: 65_535 }), der, der, der, (name, port, ca, cert, key) => {
        const given = {
          ca: pem('CERTIFICATE', ca),
          cert: pem('CERTIFICATE', cert),
          key: pem('PRIVATE KEY', key),
        };
        const value = encodeJoinToken(`${name}:${port}`, given);
        expect(parseEtcdHosts(value)).toEqual({ hosts: [`https://${name}:${port}`], tls: given });
      }),
    );
  });

  it('is refused wherever it is cut off', () => {
    for (let length = 'sand+tls://'.length; length < token.length; length += 1)
      refusal(token.slice(0, length));
  });

  it.each([
    ['more behind it', `${token}AAAA`],
    ['another path', `${token}/x`],
    ['no certificates', 'sand+tls://10.0.0.5:2379/'],
    ['a blank inside', `${token.slice(0, 200)} ${token.slice(200)}`],
  ])('is refused with %s', (_, value) => {
    refusal(value);
  });

  it('is not shown by the error, as it holds a private key', () => {
    const error = refusal(token.slice(0, -8));
    const key = token.slice(-40, -20);
    expect(`${error.message}${JSON.stringify(error.facts)}`).not.toContain(key);
  });
});
