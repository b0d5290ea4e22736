/** The operations of an agent, each from a clean host to a clean host, with what its caller does when the agent dies. */
import { CrashDocker } from './crash-docker.js';
import type { CrashWorld } from './crash-world.js';
import type { TestNetns } from './netns.js';

export interface Operation {
  readonly name: string;
  /** Gives the operation, ready to be done once, and what clears up behind it. */
  prepare(world: CrashWorld): Promise<Prepared>;
}

export interface Prepared {
  /** What goes wrong before, with the agent's steps uncounted. */
  damage?(): Promise<unknown>;
  /** May lose its agent at any moment; the caller's own reaction to that is part of it. */
  run(): Promise<unknown>;
  /** The user's, when all is said and done: then nothing must be left. */
  clear(): Promise<unknown>;
}

/** An endpoint on the other host, for whom what happens here are entries in its tables. */
async function withPeer(world: CrashWorld, network: string): Promise<() => Promise<unknown>> {
  const netns = await world.netns();
  const { body, status } = await world.bee.endpoint(network, netns.path);
  if (status !== 201) throw new Error(JSON.stringify(body));
  return async () => {
    await world.bee.api.delete(`/endpoints/${body.endpoint.id}`);
    await world.removeNetns(netns);
  };
}

const dockerNetwork = async (docker: CrashDocker) => {
  const network = await docker.createNetwork('shop');
  if (!network) throw new Error('The network could not be made');
  return network;
};

const dockerNetworkCreate: Operation = {
  name: 'docker network create',
  prepare: async world => {
    const docker = new CrashDocker(world);
    let network: Awaited<ReturnType<CrashDocker['createNetwork']>>;
    return {
      run: async () => {
        network = await docker.createNetwork('shop');
      },
      clear: async () => {
        network ??= await dockerNetwork(docker); // the user tries again
        await docker.removeNetwork(network);
      },
    };
  },
};

const dockerNetworkRemove: Operation = {
  name: 'docker network rm',
  prepare: async world => {
    const docker = new CrashDocker(world);
    const network = await dockerNetwork(docker);
    return { run: () => docker.removeNetwork(network), clear: async () => undefined };
  },
};

const dockerRun = (
  name: string,
  fate: 'survives' | 'dies with the agent',
  place: 'first' | 'second' = 'first',
): Operation => ({
  name,
  prepare: async world => {
    const docker = new CrashDocker(world);
    const network = await dockerNetwork(docker);
    const clearPeer = await withPeer(world, network.PoolID);
    const keeper = place === 'second' ? await docker.run(network) : undefined;
    let container: Awaited<ReturnType<CrashDocker['run']>>;
    return {
      run: async () => {
        container = await new CrashDocker(world, fate).run(network);
      },
      clear: async () => {
        for (const each of [container, keeper]) if (each) await docker.remove(each);
        await clearPeer();
        await docker.removeNetwork(network);
      },
    };
  },
});

const dockerRemove: Operation = {
  name: 'docker rm',
  prepare: async world => {
    const docker = new CrashDocker(world);
    const network = await dockerNetwork(docker);
    const clearPeer = await withPeer(world, network.PoolID);
    const container = await docker.run(network);
    if (!container) throw new Error('The container could not be started');
    return {
      run: () => docker.remove(container),
      clear: async () => {
        await clearPeer();
        await docker.removeNetwork(network);
      },
    };
  },
};

/** A client of the API tries a request that died once more. */
async function persist<T>(world: CrashWorld, request: () => Promise<T>): Promise<T> {
  await world.revived();
  return request().catch(async () => {
    await world.revived();
    return request();
  });
}

const apiNetwork = async (world: CrashWorld): Promise<string> =>
  JSON.parse((await world.api('POST', '/networks', { name: 'shop' })).text).network.id;

/** All that the cluster has, whoever made it. */
async function clearAll(world: CrashWorld): Promise<void> {
  for (const { id } of JSON.parse((await world.api('GET', '/networks')).text).networks) {
    await world.api('DELETE', `/networks/${id}?force=true`);
  }
}

const activated = (network: string, { path }: TestNetns) => ({
  network_id: network,
  activate: true,
  activate_params: { ns_handle_path: path },
});

const networkCreate: Operation = {
  name: 'network-create',
  prepare: async world => ({
    run: () => persist(world, () => apiNetwork(world)),
    clear: () => clearAll(world),
  }),
};

/** The first of its network on this host, or one that is made bare while etcd has its transaction. */
const endpointCreate = (name: string, place: 'first' | 'second'): Operation => ({
  name,
  prepare: async world => {
    const network = await apiNetwork(world);
    const clearPeer = await withPeer(world, network);
    const [keeper, netns] = [await world.netns(), await world.netns()];
    if (place === 'second') await world.api('POST', '/endpoints', activated(network, keeper));
    return {
      run: () => persist(world, () => world.api('POST', '/endpoints', activated(network, netns))),
      clear: async () => {
        await clearPeer();
        await clearAll(world);
        for (const each of [keeper, netns]) await world.removeNetns(each);
      },
    };
  },
});

/** Its interface gets another name than the record said at first, and the record has to follow. */
const endpointCreateUnderAnotherName: Operation = {
  name: 'endpoint-create where the name is taken',
  prepare: async world => {
    const network = await apiNetwork(world);
    const netns = await world.netns();
    await netns.ip('link add sand0 type bridge');
    return {
      run: () => persist(world, () => world.api('POST', '/endpoints', activated(network, netns))),
      clear: async () => {
        await clearAll(world);
        await world.removeNetns(netns);
      },
    };
  },
};

/** An endpoint in a network of two hosts, and what takes it away. */
const removal = (name: string, path: (ids: { network: string; endpoint: string }) => string): Operation => ({
  name,
  prepare: async world => {
    const network = await apiNetwork(world);
    const clearPeer = await withPeer(world, network);
    const netns = await world.netns();
    const answer = await world.api('POST', '/endpoints', activated(network, netns));
    const { id: endpoint } = JSON.parse(answer.text).endpoint;
    return {
      run: () => persist(world, () => world.api('DELETE', path({ network, endpoint }))),
      clear: async () => {
        await clearPeer();
        await clearAll(world);
        await world.removeNetns(netns);
      },
    };
  },
});

/** The kernel's part is done while etcd says nothing: whoever asked is not answered, and does not come again. */
const removalInSilence: Operation = {
  name: 'endpoint-delete while etcd is silent',
  prepare: async world => {
    const { etcd } = world.cluster;
    const network = await apiNetwork(world);
    const netns = await world.netns();
    const answer = await world.api('POST', '/endpoints', activated(network, netns));
    const { id } = JSON.parse(answer.text).endpoint;
    return {
      run: async () => {
        etcd.pause();
        await world.api('DELETE', `/endpoints/${id}`).catch(() => undefined);
        etcd.resume();
        await world.revived();
      },
      clear: async () => {
        await clearAll(world);
        await world.removeNetns(netns);
      },
    };
  },
};

/** A start that has something to do of every kind: what a killed agent, a lost container and a lost namespace leave. */
const agentStart: Operation = {
  name: 'the start itself',
  prepare: async world => {
    const docker = new CrashDocker(world);
    const bound = await dockerNetwork(docker);
    const [container, living] = [await docker.run(bound), await docker.run(bound)];
    await world.untilSandboxesKnown(2);
    const network = JSON.parse((await world.api('POST', '/networks', {})).text).network.id;
    const [gone, kept] = [await world.netns(), await world.netns()];
    for (const netns of [gone, kept]) await world.api('POST', '/endpoints', activated(network, netns));
    const clearPeer = await withPeer(world, network);
    if (!container || !living) throw new Error('The containers could not be started');
    return {
      damage: async () => {
        await world.kill();
        await clearPeer();
        for (const netns of [container.sandbox, gone]) await world.removeNetns(netns);
        await kept.ip('link delete sand0');
        await world.leaveStaleFile();
      },
      run: () => world.start(),
      clear: async () => {
        await docker.remove(living);
        await docker.removeNetwork(bound);
        await clearAll(world);
        await world.removeNetns(kept);
      },
    };
  },
};

export const OPERATIONS: readonly Operation[] = [
  agentStart,
  dockerNetworkCreate,
  dockerRun('docker run', 'survives'),
  dockerRun('docker run, with a dockerd that dies, too', 'dies with the agent'),
  dockerRun('docker run in a network that is here', 'survives', 'second'),
  dockerRemove,
  dockerNetworkRemove,
  networkCreate,
  endpointCreate('endpoint-create', 'first'),
  endpointCreate('endpoint-create in a network that is here', 'second'),
  endpointCreateUnderAnotherName,
  removal('endpoint-delete', ({ endpoint }) => `/endpoints/${endpoint}`),
  removalInSilence,
  removal('network-delete --force', ({ network }) => `/networks/${network}?force=true`),
];
