/** What has to be there before anything is started: told as one line each, not as a stack trace later. */
import { access, constants } from 'node:fs/promises';
import { join } from 'node:path';

/** Program → what installs it on Debian. */
const PACKAGES = {
  bridge: 'iproute2',
  containerd: 'docker.io',
  docker: 'docker.io',
  dockerd: 'docker.io',
  etcd: 'etcd-server',
  ip: 'iproute2',
  iperf3: 'iperf3',
  iptables: 'iptables',
  nsenter: 'util-linux',
  ping: 'iputils-ping',
  unshare: 'util-linux',
} as const;
export type Program = keyof typeof PACKAGES;

const BUSYBOX = '/bin/busybox';

/** One line for each thing that lacks; empty when all is there. */
export async function missing(
  programs: readonly Program[],
  also: { readonly busybox?: boolean } = {},
): Promise<string[]> {
  const lines: string[] = [];
  if (process.platform !== 'linux') lines.push('this needs Linux: namespaces and VXLAN are its own');
  else if (process.getuid?.() !== 0) lines.push('this needs root: try sudo');
  for (const program of programs) {
    if (await hasProgram(program)) continue;
    lines.push(`${program} is not installed: apt-get install ${PACKAGES[program]}`);
  }
  if (also.busybox && !(await isExecutable(BUSYBOX))) {
    lines.push(`${BUSYBOX} is not installed: apt-get install busybox-static`);
  }
  return lines;
}

export async function hasProgram(program: string): Promise<boolean> {
  const directories = (process.env['PATH'] ?? '').split(':');
  const found = await Promise.all(directories.map(each => isExecutable(join(each, program))));
  return found.includes(true);
}

const isExecutable = (path: string) =>
  access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
