/** Who has a VNI on this host that we cannot have: looked for only when the kernel has refused it. */
import { ConflictError } from '../model/errors.js';
import type { NetnsPath } from '../model/scalars.js';
import { linksOf } from './endpoint.js';
import type { Conn } from './netlink/conn.js';
import { connIn, listNetnsFiles, Netns } from './netns.js';
import type { WantedNetwork } from './types.js';

/** Where `ip netns` keeps namespaces; those of processes without a name are not looked into. */
const NAMED = '/run/netns';

/** Runs `work`; when another VXLAN has the VNI the error says which. */
export async function namingHolder<T>(
  { home, host }: { readonly home: Netns; readonly host: Conn },
  wanted: WantedNetwork,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ConflictError) || error.facts['vni'] !== wanted.vni) throw error;
    const holder = holderIn(host, "the host's namespace", wanted) ?? holderInNamed(home, wanted);
    if (holder === undefined) throw error;
    throw new ConflictError(
      `VNI ${wanted.vni} on UDP port ${wanted.port} is used by ${holder}, not by network ${wanted.networkId}; delete that interface, or give the network another VNI`,
      { ...error.facts, cause: error, holder },
    );
  }
}

function holderInNamed(home: Netns, wanted: WantedNetwork): string | undefined {
  const own = wanted.netns.slice(0, wanted.netns.lastIndexOf('/'));
  for (const path of new Set([own, NAMED].flatMap(directory => listNetnsFiles(directory, '')))) {
    const holder = path === wanted.netns ? undefined : holderAt(path, home, wanted);
    if (holder !== undefined) return holder;
  }
  return undefined;
}

function holderAt(path: NetnsPath, home: Netns, wanted: WantedNetwork): string | undefined {
  using netns = Netns.find(path);
  if (!netns) return undefined;
  using conn = connIn(netns, home);
  return holderIn(conn, `namespace ${path}`, wanted);
}

function holderIn(conn: Conn, where: string, { vni, port }: WantedNetwork): string | undefined {
  const link = linksOf(conn).find(({ vxlan }) => vxlan?.vni === vni && vxlan.port === port);
  return link && `interface ${link.name} (index ${link.index}) in ${where}`;
}
