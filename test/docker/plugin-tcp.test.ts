import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { AgentProcess, pluginCall } from '../support/agent-process.js';
import { CertificateAuthority, writePem } from '../support/certificate-authority.js';
import type { DockerHost } from '../support/docker-host.js';
import { DockerLab } from '../support/docker-lab.js';
import type { EtcdCluster } from '../support/etcd.js';
import { addressIn, createNamed, ping, removeContainers, runSleeper } from '../support/sand-lab.js';

const SPEC = '/etc/docker/plugins/sand.json';
const SOCKET = '/run/docker/plugins/sand.sock';
const PORT = 9998;

/** A call as dockerd makes it, by a program on that host; its answer as text, empty when the line is ended. */
const CALLER = `
  const { connect } = require('node:net');
  const socket = connect(Number(process.argv[2]), process.argv[1]);
  socket.on('error', () => undefined).pipe(process.stdout);
  socket.end('POST /Plugin.Activate HTTP/1.1\\r\\nHost:\\r\\nConnection: close\\r\\nContent-Length: 0\\r\\n\\r\\n');
`;
const activate = (from: DockerHost, address: string) =>
  from.exec([process.execPath, '-e', CALLER, address, String(PORT)]);

describe('the Docker driver on TCP', () => {
  let lab: DockerLab;
  let etcd: EtcdCluster;
  let host: DockerHost;
  let agent: AgentProcess;
  beforeAll(async () => {
    lab = await DockerLab.start({ hosts: 2 });
    etcd = await lab.startEtcd();
    host = lab.host(1);
  });
  afterAll(() => lab?.stop());

  /** An agent whose socket dockerd does not see, as after a move from the original while dockerd runs on. */
  async function startAgent(env: Readonly<Record<string, string>>): Promise<void> {
    if (agent?.running) await agent.stop();
    const own = {
      ETCD_HOSTS: etcd.hosts.join(),
      PEER_IP: host.address,
      SAND_STATE_DIR: join(host.root, 'state'),
    };
    agent = await AgentProcess.start(host, { env: { ...own, ENABLE_DOCKER_PLUGIN: 'true', ...env } });
    expect((await pluginCall(host, 'Plugin.Activate')).status).toBe(200);
    await rm(host.path(SOCKET));
  }

  /** What the original wrote there. */
  async function writeSpec(spec: object): Promise<string> {
    await mkdir(join(host.path(SPEC), '..'), { recursive: true });
    const text = JSON.stringify({ Name: 'sand', ...spec });
    await writeFile(host.path(SPEC), text);
    return text;
  }

  async function useNetwork(name: string): Promise<void> {
    await createNamed(host, name);
    await Promise.all(['one', 'two'].map(each => runSleeper(host, each, `--network=${name}`)));
    await ping(host, 'one', await addressIn(host, 'two', name));
    await removeContainers(host, 'one', 'two');
    await host.docker('network', 'rm', name);
  }

  it('serves a dockerd that knows the original’s address, and leaves sand.json alone', async () => {
    const text = await writeSpec({ Addr: `http://${host.address}:${PORT}` });
    await startAgent({});
    await useNetwork('plain');
    expect(await readFile(host.path(SPEC), 'utf8')).toBe(text);
  });

  it('without TLS answers this host alone, on every address of it', async () => {
    for (const address of [host.address, '127.0.0.1', '127.0.1.1']) {
      expect(await activate(host, address)).toContain('"NetworkDriver"');
    }
    expect(await activate(lab.host(2), host.address)).toBe('');
    expect(await agent.log()).toMatch(
      new RegExp(`TCP caller from elsewhere refused .*peer=\\S*${lab.host(2).address}`),
    );
  });

  it('with TLS serves a dockerd that shows a certificate, and nobody else', async () => {
    const authority = await CertificateAuthority.create();
    const hosts = [host.address];
    const server = await authority.issue({ name: host.name, hosts });
    const { ca, cert, key } = await writePem(host.root, 'server', { ca: authority.ca, ...server });
    const docker = await authority.issue({ name: 'docker' });
    const files = await writePem(host.root, 'docker', { ca: authority.ca, ...docker });
    await startAgent({ HTTP_TLS_CA: ca, HTTP_TLS_CERT: cert, HTTP_TLS_KEY: key });
    const text = await writeSpec({
      Addr: `https://${host.address}:${PORT}`,
      TLSConfig: { InsecureSkipVerify: false, CAFile: files.ca, CertFile: files.cert, KeyFile: files.key },
    });
    await host.restartDockerd();
    await useNetwork('secret');
    expect(await activate(host, host.address)).not.toContain('NetworkDriver');
    expect(await readFile(host.path(SPEC), 'utf8')).toBe(text);
  });

  it('is not there unless it is asked for', async () => {
    await startAgent({ ENABLE_DOCKER_PLUGIN: 'false' });
    expect(await activate(host, host.address)).toBe('');
    expect(await agent.log()).not.toContain(`port=${PORT}`);
  });
});
