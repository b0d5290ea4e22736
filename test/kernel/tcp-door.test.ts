import { run } from '../support/command.js';

/** A door in a namespace of its own, without IPv6: says where it listens and what it logs as an error. */
const SCRIPT = `
  const { TcpDoor } = await import(process.argv[1]);
  const { connect } = await import('node:net');
  const errors = [];
  const log = { debug() {}, info() {}, warn() {}, error: text => errors.push(text) };
  const attach = server => server.on('request', (_, response) => response.end('served'));
  const door = TcpDoor.open({ door: 'test', port: 9999, addresses: process.argv[2], tls: undefined, log, attach });
  const answer = await (async () => {
    for (let tries = 0; ; tries += 1) {
      try { return await (await fetch('http://127.0.0.1:9999/')).text(); }
      catch (error) { if (tries > 100) throw error; await new Promise(resolve => setTimeout(resolve, 10)); }
    }
  })();
  console.log(JSON.stringify({ answer, addresses: door.listening.map(({ address }) => address), errors }));
  await door[Symbol.asyncDispose]();
`;
const DOOR = new URL('../../listen/tcp-door.js', import.meta.url).href;

describe('TcpDoor on a machine without IPv6', () => {
  it.each([
    ['loopback', /^127\.0\.0\.1$/],
    ['all', /^(::|0\.0\.0\.0)$/],
  ])('listens on %s all the same, and complains of nothing', async (addresses, expected) => {
    const prepare = 'sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && ip link set lo up';
    const node = `exec "$0" --input-type=module -e "$1" "$2" "$3"`;
    const argv = [process.execPath, SCRIPT, DOOR, addresses];
    const { stdout, stderr } = await run(['unshare', '--net', 'sh', '-c', `${prepare} && ${node}`, ...argv]);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toEqual({
      answer: 'served',
      addresses: [expect.stringMatching(expected)],
      errors: [],
    });
  });
});
