/** Settings of an overlay namespace that netlink does not tell about. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { makeWritable } from './netlink/socket.js';
import { inside, type Netns } from './netns.js';
import type { Repair } from './types.js';

export interface Setting {
  readonly path: string;
  readonly wanted: '0' | '1';
  /** What it is when it is not so. */
  readonly fault: Repair;
}

const nfCall = (name: string): Setting => ({
  path: `/proc/sys/net/bridge/${name}`,
  wanted: '0',
  fault: `${name}: on, wanted off`,
});

const SETTINGS: readonly Setting[] = [
  // Takes packets between containers out of the host's packet filter: 13 to 20 % of throughput.
  nfCall('bridge-nf-call-iptables'),
  nfCall('bridge-nf-call-ip6tables'),
  nfCall('bridge-nf-call-arptables'),
  // None: an interface that comes up with one tells all ports, some 10 ms of kernel time where there are 500 of them.
  {
    path: '/proc/sys/net/ipv6/conf/all/addr_gen_mode',
    wanted: '1',
    fault: 'IPv6 link-local addresses: on, wanted off',
  },
];

/** Those that this kernel has: without br_netfilter or IPv6 there is nothing to set, and no file. */
export const presentSettings = () => SETTINGS.filter(({ path }) => existsSync(path));

/** Sets what is not as it should be, and says what that was. */
export const applySettings = (netns: Netns, home: Netns): Repair[] =>
  inside(netns, home, () => {
    const wrong = presentSettings().filter(isWrong);
    for (const { path, wanted } of wrong) writeSetting(path, wanted);
    return wrong.map(({ fault }) => fault);
  });

/** What is not as it should be. */
export const wrongSettings = (netns: Netns, home: Netns): Repair[] =>
  inside(netns, home, () =>
    presentSettings()
      .filter(isWrong)
      .map(({ fault }) => fault),
  );

const isWrong = ({ path, wanted }: Setting) => !readFileSync(path, 'latin1').startsWith(wanted);

/** In a managed plugin /proc/sys is a read-only mount of its own. */
function writeSetting(path: string, value: string): void {
  try {
    writeFileSync(path, value);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EROFS') throw error;
    makeWritable('/proc/sys');
    writeFileSync(path, value);
  }
}
