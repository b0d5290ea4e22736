/** Settings of an overlay namespace that netlink does not tell about. */
import { closeSync, openSync, readSync, writeFileSync } from 'node:fs';
import { makeWritable } from './netlink/socket.js';
import { inside, type Netns } from './netns.js';
import type { Repair } from './types.js';

interface Setting {
  readonly path: string;
  readonly wanted: '0' | '1';
  /** What it is when it is not so. */
  readonly fault: Repair;
  /**
   * Reading it takes the kernel's rtnl lock, 15 ms where others churn namespaces. A file that may be read every second
   * instead: it changes at once with what a change of the setting brings.
   */
  readonly trace?: string;
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
    trace: '/proc/thread-self/net/if_inet6', // the namespace's addresses, those on trial too
  },
];

/** Long enough for what is asked of a file: a digit, or whether the first lines are as they were. */
const content = Buffer.alloc(4_096);

interface Open {
  readonly fd: number;
  /** Of the trace, where there is one. */
  readonly trace: number | undefined;
  /** What that said. */
  traced: string;
}

/** Those of one namespace, held open: each is then one read away, from wherever the thread is. */
export class Settings implements Disposable {
  readonly #netns: Netns;
  readonly #home: Netns;
  readonly #open = new Map<Setting, Open>();

  constructor(netns: Netns, home: Netns) {
    this.#netns = netns;
    this.#home = home;
    try {
      this.#openPresent();
    } catch (error) {
      this[Symbol.dispose](); // where descriptors have run out, none is to be lost
      throw error;
    }
  }

  /** Whether somebody may have changed one of those that were there at the last look. Waits for nobody. */
  get hasNews(): boolean {
    return [...this.#open].some(([setting, open]) => {
      if (open.trace === undefined) return !this.#isRight(setting);
      const before = open.traced;
      open.traced = textOf(open.trace);
      return open.traced !== before;
    });
  }

  /** What is not as it should be. */
  faults(): Repair[] {
    return this.#wrong().map(({ fault }) => fault);
  }

  /** Sets what is not as it should be, and says what that was. */
  mend(): Repair[] {
    const wrong = this.#wrong();
    if (wrong.length === 0) return [];
    inside(this.#netns, this.#home, () => {
      for (const { path, wanted } of wrong) writeSetting(path, wanted);
    });
    return wrong.map(({ fault }) => fault);
  }

  #wrong(): Setting[] {
    if (this.#open.size < SETTINGS.length) this.#openPresent();
    return SETTINGS.filter(setting => !this.#isRight(setting));
  }

  /** What this kernel has not cannot be wrong. */
  #isRight(setting: Setting): boolean {
    const open = this.#open.get(setting);
    if (!open) return true;
    try {
      return textOf(open.fd).startsWith(setting.wanted);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      // Its module was unloaded. Loaded again it has another file.
      this.#open.delete(setting);
      close(open);
      return true;
    }
  }

  /** Without br_netfilter or IPv6 there is nothing to set, and no file; either may be loaded later. */
  #openPresent(): void {
    inside(this.#netns, this.#home, () => {
      for (const setting of SETTINGS) {
        const fd = this.#open.has(setting) ? undefined : openIfPresent(setting.path);
        if (fd === undefined) continue;
        try {
          const trace = setting.trace === undefined ? undefined : openSync(setting.trace, 'r');
          const traced = trace === undefined ? '' : textOf(trace);
          this.#open.set(setting, { fd, trace, traced });
        } catch (error) {
          closeSync(fd); // where descriptors have run out
          throw error;
        }
      }
    });
  }

  [Symbol.dispose](): void {
    for (const open of this.#open.values()) close(open);
    this.#open.clear();
  }
}

/** One walk through /proc: each costs a tenth of a millisecond. */
function openIfPresent(path: string): number | undefined {
  try {
    return openSync(path, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

const textOf = (fd: number) => content.toString('latin1', 0, readSync(fd, content, 0, content.length, 0));

function close({ fd, trace }: Open): void {
  closeSync(fd);
  if (trace !== undefined) closeSync(trace);
}

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
