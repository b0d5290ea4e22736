import { connectPath, parseConnect } from '../../api/connect-request.js';
import { InvalidError } from '../../model/errors.js';

const ID = '6ffc3990-b212-47f2-a5d1-2afe7526e548';

/** The field that the refusal names. */
function refusedField(url: string): unknown {
  try {
    return parseConnect(url);
  } catch (error) {
    if (!(error instanceof InvalidError)) throw error;
    const { field } = error.facts;
    return error.message.includes(String(field)) || field === 'path' ? field : error.message;
  }
}

describe('parseConnect()', () => {
  it.each([
    [`/networks/${ID}?ip=10.0.0.2&port=80`, { network: ID, ip: '10.0.0.2', port: 80 }],
    [`/networks/${ID}?port=65535&ip=10.0.0.2`, { network: ID, ip: '10.0.0.2', port: 65_535 }],
    ['/networks/shop?ip=10.0.0.2&port=1', { network: 'shop', ip: '10.0.0.2', port: 1 }],
    ['/networks/my%20shop?ip=10%2E0.0.2&port=1', { network: 'my shop', ip: '10.0.0.2', port: 1 }],
    ['/networks/a%2Fb?ip=10.0.0.2&port=1', { network: 'a/b', ip: '10.0.0.2', port: 1 }],
  ])('reads %s', (url, wanted) => {
    expect(parseConnect(url)).toEqual(wanted);
  });

  it.each([
    ['path', ''],
    ['path', '*'],
    ['path', 'host:443'],
    ['path', '[::1]:443'],
    ['path', 'HTTP/1.1'],
    ['path', '?ip=10.0.0.2&port=80'],
    ['path', '/networks?ip=10.0.0.2&port=80'],
    ['path', '/networks/?ip=10.0.0.2&port=80'],
    ['path', '/networks/a/b?ip=10.0.0.2&port=80'],
    ['path', '//networks/a?ip=10.0.0.2&port=80'],
    ['path', '/networks/../networks/a?ip=10.0.0.2&port=80'],
    ['path', '/endpoints/a?ip=10.0.0.2&port=80'],
    ['path', 'http://host/networks/a?ip=10.0.0.2&port=80'],
    ['path', '/networks/%zz?ip=10.0.0.2&port=80'],
    ['path', '/networks/%ff?ip=10.0.0.2&port=80'],
    ['ip', '/networks/a'],
    ['ip', '/networks/a?port=80'],
    ['ip', '/networks/a?ip=&port=80'],
    ['ip', '/networks/a?ip=10.0.0.2&ip=10.0.0.2&port=80'],
    ['ip', '/networks/a?ip=10.0.0&port=80'],
    ['ip', '/networks/a?ip=10.0.0.256&port=80'],
    ['ip', '/networks/a?ip=010.0.0.2&port=80'],
    ['ip', '/networks/a?ip=10.0.0.2/24&port=80'],
    ['ip', '/networks/a?ip=%2010.0.0.2&port=80'],
    ['ip', '/networks/a?ip=fd00::1&port=80'],
    ['ip', '/networks/a?ip=::ffff:10.0.0.2&port=80'],
    ['ip', '/networks/a?ip=localhost&port=80'],
    ['ip', '/networks/a?ip=167772162&port=80'],
    ['port', '/networks/a?ip=10.0.0.2'],
    ['port', '/networks/a?ip=10.0.0.2&port='],
    ['port', '/networks/a?ip=10.0.0.2&port=80&port=81'],
    ['port', '/networks/a?ip=10.0.0.2&port=0'],
    ['port', '/networks/a?ip=10.0.0.2&port=65536'],
    ['port', '/networks/a?ip=10.0.0.2&port=99999999999'],
    ['port', '/networks/a?ip=10.0.0.2&port=-1'],
    ['port', '/networks/a?ip=10.0.0.2&port=%2B80'],
    ['port', '/networks/a?ip=10.0.0.2&port=8e1'],
    ['port', '/networks/a?ip=10.0.0.2&port=0x50'],
    ['port', '/networks/a?ip=10.0.0.2&port=080'],
    ['port', '/networks/a?ip=10.0.0.2&port=80.0'],
    ['port', '/networks/a?ip=10.0.0.2&port=http'],
    ['port', '/networks/a?ip=10.0.0.2&port=80?x'],
    ['Port', '/networks/a?ip=10.0.0.2&port=80&Port=80'],
    ['host', '/networks/a?ip=10.0.0.2&port=80&host=b'],
    ['__proto__', '/networks/a?ip=10.0.0.2&port=80&__proto__=x'],
  ])('refuses with the field %s: %s', (field, url) => {
    expect(refusedField(url)).toBe(field);
  });
});

it.each(['shop', 'my shop', 'a/b', 'ü?&#', '%41'])('connectPath() is read back with network %j', network => {
  const request = { network, ip: '10.0.0.2', port: 80 } as ReturnType<typeof parseConnect>;
  expect(parseConnect(connectPath(request))).toEqual(request);
});
