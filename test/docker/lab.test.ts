import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { AgentProcess, pluginCall } from '../support/agent-process.js';
import { DockerLab } from '../support/docker-lab.js';
import { startEtcd } from '../support/etcd.js';
import { differences, snapshot, untilNothingLeft } from '../support/leftovers.js';
import { type Claim, processesOf } from '../support/sweep.js';
import { until } from '../support/until.js';

/** Everything on the machine that bears a lab's name. */
async function tracesOf(claim: Claim): Promise<string[]> {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
  const names = [...(claim.namespaces ?? []), ...(claim.cgroups ?? [])];
  return [
    ...(await processesOf(claim)).map(pid => `process ${pid}`),
    ...(claim.directories ?? []).filter(existsSync),
    ...names.map(name => `/run/netns/${name}`).filter(existsSync),
    ...names.flatMap(name => mounts.filter(line => line.includes(name))),
    ...cgroupsOf(names),
  ];
}

function cgroupsOf(names: readonly string[]): string[] {
  const roots = ['/sys/fs/cgroup', ...readdirSync('/sys/fs/cgroup').map(each => `/sys/fs/cgroup/${each}`)];
  return roots.flatMap(root => names.map(name => join(root, name))).filter(existsSync);
}

/** A plugin that answers everything, in the agent's place; with the word `broken` it ends at once. */
const STAND_IN = `
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:http';
if (process.argv.includes('broken')) throw new Error('no such setting');
process.on('SIGTERM', () => { console.log('bye'); process.exit(7); });
createServer((request, response) => {
  let body = '';
  request.on('data', chunk => { body += chunk; });
  request.on('end', () => response.end(JSON.stringify({ Implements: [], url: request.url, body, headers: request.rawHeaders })));
}).listen('/run/docker/plugins/sand.sock');
console.log('hello', process.env.ETCD_HOSTS, process.argv.slice(2));
`;

describe('DockerLab', () => {
  let lab: DockerLab;
  beforeAll(async () => {
    lab = await DockerLab.start({ hosts: 2 });
  });
  afterAll(() => lab?.stop());

  it('docker() runs containers on both hosts at once', async () => {
    const said = await Promise.all(
      lab.hosts.map(host => host.docker('run', '--rm', 'busybox', 'echo', 'hi')),
    );
    expect(said).toEqual(['hi', 'hi']);
  });

  it('hosts have names, addresses and engines of their own', async () => {
    const names = await Promise.all(lab.hosts.map(host => host.exec(['hostname'])));
    expect(names.map(name => name.trim())).toEqual(lab.hosts.map(host => host.name));
    expect(lab.hosts.map(host => host.address)).toEqual(['10.78.0.11', '10.78.0.12']);
    const engines = await Promise.all(lab.hosts.map(host => host.docker('info', '--format', '{{.ID}}')));
    expect(new Set(engines).size).toBe(2);
  });

  it('hosts reach each other, and tcpdump() sees it', async () => {
    await using capture = await lab.host(2).tcpdump({ interface: 'eth0', filter: 'icmp' });
    await lab.host(1).exec(['ping', '-c', '1', '-W', '2', lab.host(2).address]);
    await until(() => capture.lines.length >= 2, { what: 'request and reply are captured' });
    expect(await capture.stop()).toEqual([
      expect.stringContaining('10.78.0.11 > 10.78.0.12: ICMP echo request'),
      expect.stringContaining('10.78.0.12 > 10.78.0.11: ICMP echo reply'),
    ]);
  });

  it('setCable() parts a host from the others and joins it again', async () => {
    const ping = ['ping', '-c', '1', '-W', '1', lab.host(2).address];
    await lab.setCable(2, 'down');
    expect((await lab.host(1).run(ping)).status).not.toBe(0);
    await lab.setCable(2, 'up');
    await until(() => lab.host(1).exec(ping), { what: 'host 2 answers again' });
  });

  it('dockerFails() gives text, status and time', async () => {
    const failure = await lab.host(1).dockerFails('network', 'rm', 'nobody');
    expect(failure).toEqual({ stderr: expect.stringContaining('nobody'), status: 1, ms: expect.any(Number) });
    await expect(lab.host(1).dockerFails('version')).rejects.toThrow('must fail and succeeds');
  });

  it('restartDockerd() with live-restore keeps containers', async () => {
    const host = lab.host(2);
    await host.restartDockerd(['--live-restore']);
    const id = await host.docker('run', '--detach', 'busybox', 'sleep', '1000');
    await host.restartDockerd(undefined, 'SIGKILL');
    expect(await host.docker('ps', '--quiet', '--no-trunc')).toBe(id);
    await host.docker('rm', '--force', id);
    await host.restartDockerd([]);
    expect(await host.dockerdLog()).toContain('Daemon has completed initialization');
  });

  it('startEtcd() serves every host; keys() and get() read it', async () => {
    await using etcd = await lab.startEtcd();
    for (const host of lab.hosts) {
      const put = ['etcdctl', '--endpoints', etcd.hosts.join(), 'put', `/lab/${host.name}`, host.address];
      await host.exec(put, { env: { ETCDCTL_API: '3' } });
    }
    expect(await etcd.keys('/lab/')).toEqual(lab.hosts.map(host => `/lab/${host.name}`));
    expect(await etcd.get(`/lab/${lab.host(2).name}`)).toBe('10.78.0.12');
    expect(await etcd.get('/lab/nobody')).toBeUndefined();
  });

  it('snapshot() shows what is left of a container, and of an etcd key', async () => {
    const host = lab.host(1);
    await using etcd = await lab.startEtcd();
    const before = await snapshot(host, { etcd });
    const id = await host.docker('run', '--detach', 'busybox', 'sleep', '1000');
    await host.exec(['ip', 'netns', 'add', 'stray']);
    await etcd.ctl('put', '/stray', '1');
    const found = differences(before, await snapshot(host, { etcd }));
    expect(found).toEqual([
      expect.stringMatching(/^links: \+ veth/),
      'namespaces: + /run/netns/stray',
      expect.stringMatching(/^mounts: \+ \/run\/docker\/netns\//),
      'mounts: + /run/netns/stray',
      'keys: + /stray',
    ]);
    await host.docker('rm', '--force', id);
    await host.exec(['ip', 'netns', 'delete', 'stray']);
    await expect(untilNothingLeft(host, before, { etcd, timeoutMs: 500 })).rejects.toThrow('keys: + /stray');
    await etcd.ctl('del', '/stray');
    await untilNothingLeft(host, before, { etcd });
  });

  describe('AgentProcess', () => {
    let main: string;
    beforeAll(async () => {
      main = join(lab.root, 'stand-in.mjs');
      await writeFile(main, STAND_IN);
    });

    it('start() waits for the plugin socket; pluginCall() speaks as dockerd does; stop() tells how it ended', async () => {
      const env = { ETCD_HOSTS: 'http://10.78.0.1:2379' };
      await using agent = await AgentProcess.start(lab.host(1), {
        main,
        env,
        flags: ['--peer-ip', '10.78.0.11'],
      });
      const answer = await pluginCall(lab.host(1), 'NetworkDriver.Join', { NetworkID: 'n' });
      expect(answer).toMatchObject({
        status: 200,
        body: { url: '/NetworkDriver.Join', body: '{"NetworkID":"n"}' },
      });
      const { headers } = answer.body as { headers: string[] };
      const header = (name: string) => headers[headers.indexOf(name) + 1];
      expect(header('Accept')).toBe('application/vnd.docker.plugins.v1.2+json');
      expect(header('Host')).toBe('');
      expect(headers).not.toContain('Content-Type');
      expect((await pluginCall(lab.host(1), 'Plugin.Activate')).body).toMatchObject({ body: '' });
      expect((await pluginCall(lab.host(1), 'X.Y', '{no json')).body).toMatchObject({ body: '{no json' });
      expect(await agent.stop()).toEqual({ ms: expect.any(Number), code: 7, signal: null });
      expect(await agent.log()).toBe("hello http://10.78.0.1:2379 [ '--peer-ip', '10.78.0.11' ]\nbye\n");
    });

    it('kill() leaves a stale socket, over which the next one starts', async () => {
      const agent = await AgentProcess.start(lab.host(1), { main });
      expect(await agent.kill()).toMatchObject({ code: null, signal: 'SIGKILL' });
      await expect(pluginCall(lab.host(1), 'Plugin.Activate')).rejects.toThrow('ECONNREFUSED');
      await using next = await AgentProcess.start(lab.host(1), { main });
      expect(next.running).toBe(true);
    });

    it('start() fails at once with the log of an agent that ends', async () => {
      const start = AgentProcess.start(lab.host(1), { main, flags: ['broken'] });
      await expect(start).rejects.toThrow('no such setting');
    });
  });
});

describe('startEtcd()', () => {
  it('of three members serves without one, and the member comes back with its data', async () => {
    await using etcd = await startEtcd({ members: 3 });
    await etcd.kill(0);
    await until(() => etcd.ctl('put', '/a', '1'), { what: 'two members serve', timeoutMs: 10_000 });
    await etcd.restart(0);
    expect(await etcd.get('/a')).toBe('1');
    expect((await etcd.log(0)).match(/starting an etcd server|restarting local member/g)).toHaveLength(3);
  });

  it('pause() makes it silent, resume() brings it back, restart() keeps data and address', async () => {
    await using etcd = await startEtcd();
    await etcd.ctl('put', '/a', '1');
    etcd.pause();
    await expect(etcd.ctl('--command-timeout=300ms', 'get', '/a')).rejects.toThrow('deadline exceeded');
    etcd.resume();
    expect(await etcd.get('/a')).toBe('1');
    const { hosts } = etcd;
    await etcd.restart();
    expect(etcd.hosts).toEqual(hosts);
    expect(await etcd.entries()).toEqual(new Map([['/a', '1']]));
  });
});

describe('what a lab leaves on the machine', () => {
  it('is nothing after stop(), with containers running', async () => {
    const lab = await DockerLab.start({ hosts: 1 });
    await lab.startEtcd();
    await lab.host(1).docker('run', '--detach', '--pid=host', '--net=none', 'busybox', 'sleep', '1000');
    const container = ['run', '--detach', '--restart=always', 'busybox'];
    await lab.host(1).docker(...container, 'sh', '-c', 'sleep 1000 & sleep 1001');
    expect(await tracesOf(lab.claim)).not.toEqual([]);
    await lab.stop();
    expect(await tracesOf(lab.claim)).toEqual([]);
  });

  it('is nothing after a start that fails', async () => {
    const name = `sandlab-bad-${process.pid}`;
    const start = DockerLab.start({ hosts: 1, name, dockerdFlags: ['--no-such-flag'] });
    await expect(start).rejects.toThrow('unknown flag: --no-such-flag');
    const claim = { namespaces: [`${name}-sw`, `${name}-1`], cgroups: [`${name}-1`] };
    expect(await tracesOf(claim)).toEqual([]);
  });

  it.each(['SIGKILL', 'SIGINT', 'SIGTERM'] as const)(
    'is nothing soon after %s to its owner',
    async signal => {
      const lab = fileURLToPath(new URL('../support/docker-lab.js', import.meta.url));
      const program = `const { DockerLab } = await import(${JSON.stringify(lab)});
      const lab = await DockerLab.start({ hosts: 1 });
      await lab.startEtcd();
      console.log(JSON.stringify(lab.claim));
      setInterval(() => {}, 1000);`;
      const owner = spawn(process.execPath, ['--input-type=module', '--eval', program], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      let text = '';
      owner.stdout.on('data', chunk => {
        text += chunk;
      });
      await until(() => text.endsWith('\n'), { timeoutMs: 20_000, what: 'the lab is up' });
      const claim = JSON.parse(text) as Claim;
      owner.kill(signal);
      const clean = async () => {
        const left = await tracesOf(claim);
        if (left.length > 0) throw new Error(left.join(', '));
        return true;
      };
      await until(clean, { timeoutMs: 10_000, what: 'the guardian has swept' });
      const etcdGone = () => !readdirSync('/dev/shm').some(name => name.startsWith(`sandetcd-${owner.pid}-`));
      await until(etcdGone, { what: 'its etcd directory is gone' });
    },
  );
});
