/** `docker plugin install` on real Docker hosts: nothing configured, a second host, the host's own view, settings. */
import { writeFile } from 'node:fs/promises';
import { CertificateAuthority } from '../support/certificate-authority.js';
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import { ManagedPlugin, managedNetwork, pluginLog } from '../support/managed-plugin.js';
import { addressIn, ping, removeContainers, runSleeper } from '../support/sand-lab.js';
import { unixRequest } from '../support/unix-http.js';
import { until } from '../support/until.js';

const API = '/run/sand/api.sock';

let lab: DockerLab;
let plugin: ManagedPlugin;
let first: DockerHost;
let second: DockerHost;

beforeAll(async () => {
  lab = await DockerLab.start();
  [first, second] = [lab.host(1), lab.host(2)];
  plugin = await ManagedPlugin.publish(lab);
}, 60_000);
afterAll(() => lab?.stop());

const api = async (host: DockerHost, method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) => {
  const headers = { 'Content-Type': 'application/json', Host: 'sand' };
  const { status, text } = await unixRequest({
    ...{ socket: host.path(API), method, path, headers },
    ...(body ? { body: JSON.stringify(body) } : {}),
  });
  return { status, body: text === '' ? undefined : JSON.parse(text) };
};

const addEndpoint = async (host: DockerHost, ns_handle_path: string) => {
  const { body } = await api(host, 'GET', '/networks');
  const [{ id: network_id }] = body.networks;
  return api(host, 'POST', '/endpoints', { network_id, activate: true, activate_params: { ns_handle_path } });
};

const namesIn = async (host: DockerHost, netns: string) => {
  const links = await host.json<{ ifname: string }[]>(['ip', '-j', 'link'], { netns });
  return links.map(({ ifname }) => ifname);
};

/** The only overlay namespace, as the host sees it. */
const overlayOn = async (host: DockerHost) =>
  `/run/sand/netns/${(await host.exec(['ls', '/run/sand/netns'])).trim()}`;

/** What the first agent prints for others. */
const joinValue = () =>
  until(async () => /ETCD_HOSTS=(sand\+tls:\S+)/.exec(await pluginLog(first))?.[1], {
    what: 'the first plugin prints what a second host needs',
  });

describe('docker plugin install', () => {
  it('needs no setting: network create and run --network work at once', async () => {
    await plugin.install(first, `SAND_ETCD_LISTEN=${first.address}`);
    await first.docker(...managedNetwork('shop'));
    await runSleeper(first, 'one', '--network', 'shop');
    await runSleeper(first, 'two', '--network', 'shop');
    await ping(first, 'one', 'two');
    expect(await pluginLog(first)).not.toMatch(/level=error|WARN/);
  });

  it('asks for what config.json says, and no more', async () => {
    const { Config } = (await first.dockerJson<[PluginInspect]>('plugin', 'inspect', 'sand-net'))[0];
    expect(Config.Linux).toMatchObject({
      Capabilities: expect.arrayContaining(['CAP_SYS_ADMIN', 'CAP_NET_ADMIN']),
      AllowAllDevices: false,
    });
    expect(Config.Linux.Capabilities).toHaveLength(2);
    expect(Config).toMatchObject({ PidHost: false, IpcHost: false, Network: { Type: 'host' } });
    expect(Config.Mounts.map(({ Source }) => Source)).toEqual(['/run', '/run']);
  });

  it('a second host joins with the value that the first one prints', async () => {
    await plugin.install(second, `ETCD_HOSTS=${await joinValue()}`);
    await second.docker(...managedNetwork('shop'));
    await runSleeper(second, 'three', '--network', 'shop');
    await ping(second, 'three', await addressIn(first, 'one', 'shop'));
    await removeContainers(second, 'three');
  });

  it('packets between containers do not pass the host’s packet filter', async () => {
    const setting = '/proc/sys/net/bridge/bridge-nf-call-iptables';
    const inOverlay = { netns: await overlayOn(first) };
    expect(await first.exec(['cat', setting], inOverlay)).toBe('0\n');
  });
});

describe('the host', () => {
  it('sees the API socket, and the overlay namespace with its bridge', async () => {
    expect((await api(first, 'GET', '/version')).status).toBe(200);
    expect(await namesIn(first, await overlayOn(first))).toEqual(expect.arrayContaining(['br0', 'vxlan0']));
  });

  it('has the command line, without Node: in the plugin’s own root file system', async () => {
    const id = await first.docker('plugin', 'inspect', '--format', '{{.Id}}', 'sand-net');
    const root = `${await first.docker('info', '--format', '{{.DockerRootDir}}')}/plugins/${id}/rootfs`;
    const cli = ['chroot', root, '/usr/bin/sand-agent-cli', '--api-url', 'http://127.0.0.1:9999'];
    const list = await first.exec([...cli, 'network-list']);
    expect(list).toContain('] shop (overlay');
  });

  it.each(['/run/netns/', '/var/run/netns/'])(
    'names a namespace by its own path below %s',
    async directory => {
      await first.exec(['ip', 'netns', 'add', 'job']);
      try {
        const { status, body } = await addEndpoint(first, `${directory}job`);
        expect({ status, body }).toMatchObject({ status: 201, body: { endpoint: { active: true } } });
        expect(await namesIn(first, '/run/netns/job')).toContain('sand0');
        expect((await api(first, 'DELETE', `/endpoints/${body.endpoint.id}`)).status).toBe(204);
        expect(await namesIn(first, '/run/netns/job')).not.toContain('sand0');
      } finally {
        await first.exec(['ip', 'netns', 'del', 'job']);
      }
    },
  );

  it.each(['/proc/1/ns/net', '/run/../proc/1/ns/net', '/tmp/x'])(
    'is told why %s is out of reach',
    async path => {
      const { status, body } = await addEndpoint(first, path);
      expect({ status, ...body }).toMatchObject({
        status: 400,
        error: expect.stringContaining('ip netns attach'),
      });
    },
  );
});

describe('what is wrong', () => {
  const set = async (host: DockerHost, ...settings: string[]) => {
    await host.docker('plugin', 'disable', '--force', 'sand-net');
    await host.docker('plugin', 'set', 'sand-net', ...settings);
    await host.docker('plugin', 'enable', 'sand-net');
  };

  it.each([
    ['PEER_IP=none', 'PEER_IP'],
    ['HTTP_TLS_CERT=/tls/none.pem', 'HTTP_TLS_CERT'],
    ['HTTP_PORT=0', 'HTTP_PORT'],
  ])('in %s is answered, and the plugin stays enabled until it is set right', async (setting, name) => {
    await set(second, setting);
    const { stderr, ms } = await second.dockerFails(...managedNetwork('other'));
    expect(stderr).toContain(name);
    expect(ms).toBeLessThan(5_000);
    await set(second, `${name}=`);
    await second.docker(...managedNetwork('other'));
    await second.docker('network', 'rm', 'other');
  });

  it('in a TLS file is answered until the file is there, in the directory that tls.source names', async () => {
    const directory = `${second.root}/tls`;
    await second.exec(['mkdir', '-p', directory]);
    await set(second, `tls.source=${directory}`, 'ETCD_CACERT=/tls/ca.pem', 'ETCD_HOSTS=https://10.78.0.1:2');
    expect((await second.dockerFails(...managedNetwork('other'))).stderr).toContain('ETCD_CACERT');
    await writeFile(`${directory}/ca.pem`, (await CertificateAuthority.create()).ca);
    const served = async () => (await api(second, 'GET', '/version')).status === 200;
    await until(served, { what: 'the agent starts by itself', timeoutMs: 8_000 });
  });
});

interface PluginInspect {
  readonly Config: {
    readonly Linux: { readonly Capabilities: string[] };
    readonly Mounts: readonly { readonly Source: string }[];
  };
}
