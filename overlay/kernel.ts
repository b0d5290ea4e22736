/**
 * The kernel, from the main thread. rtnetlink may hold a caller for 200 ms when others churn namespaces, so all of
 * it happens in one worker thread, and nothing here waits but for its messages.
 */
import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { ConflictError, InvalidError, KernelError, NotFoundError } from '../model/errors.js';
import type { Logger } from '../model/log.js';
import type { IfName, IpAddress, NetnsPath } from '../model/scalars.js';
import { KnownUnderlay } from './known-underlay.js';
import type { CrossedError, WorkerAnswer, WorkerNews, WorkerRequest } from './netlink/worker.js';
import { requireNsfs } from './netns-file.js';
import type {
  BarePort,
  Inspection,
  OverlayPlace,
  PlugResult,
  PortChange,
  ReconcileReport,
  TcpRoute,
  Underlay,
  WantedNetwork,
  WantedPort,
} from './types.js';

/** Chosen, for who has many calls: the worker never waits for the next one, and others have their turn soon. */
export const CALLS_AT_ONCE = 4;
/**
 * Of what the kernel's thread has just made and mostly needs no more. V8's own limit is four times that, which it comes to
 * use in some minutes of changes, step by step: memory that seems to leak, for nothing that could be measured.
 */
const YOUNG_MB = 12;
const ANSWER_WITHIN_MS = 5_000; // chosen: ten times what the kernel was seen to take under churn

type CrossedResult = { readonly ifName: IfName } | { readonly error: CrossedError };

/** A descriptor, which all threads of the process share. */
type Opened = { readonly fd: number };

/** Where the work is done: a worker thread, or what speaks like one (`netlink/worker.ts`). */
export interface KernelThread {
  on(event: 'message', listener: (message: WorkerAnswer | WorkerNews) => void): unknown;
  on(event: 'error', listener: (error: Error) => void): unknown;
  on(event: 'exit', listener: () => void): unknown;
  postMessage(request: WorkerRequest): void;
  terminate(): Promise<number>;
}

interface Pending {
  resolve(value: unknown): void;
  reject(error: Error): void;
  readonly timer: NodeJS.Timeout;
}

export interface KernelOptions {
  readonly log: Logger;
  /** The namespace that plays the host, so that tests have many hosts in one process; default: the process's own. */
  readonly hostNetns?: NetnsPath;
  /** Where the host's /run is mounted here; default: at /run. */
  readonly hostRun?: string | undefined;
  /** Default: a worker thread of this process. */
  readonly thread?: () => KernelThread;
}

/** Every call throws KernelError when the kernel refuses, or does not answer within 5 s. */
export class Kernel implements AsyncDisposable {
  readonly #options: KernelOptions;
  readonly #pending = new Map<number, Pending>();
  readonly #underlay = new KnownUnderlay({
    find: vtep => this.#call('underlay', vtep) as Promise<Underlay>,
    openNews: () => this.#call('openUnderlayNews') as Promise<Opened>,
  });
  #worker: KernelThread | undefined;
  #next = 0;
  #onChange: (netns: NetnsPath) => void = () => undefined;

  private constructor(options: KernelOptions) {
    this.#options = options;
  }

  /** Answers when its thread does. */
  static async start(options: KernelOptions): Promise<Kernel> {
    const kernel = Kernel.begin(options);
    await kernel.started();
    return kernel;
  }

  /** The same at once: its thread loads its libraries meanwhile. Calls wait for it. */
  static begin(options: KernelOptions): Kernel {
    const kernel = new Kernel(options);
    kernel.#running();
    return kernel;
  }

  async started(): Promise<void> {
    await this.#call('listNamespaces', '/nonexistent', '');
  }

  /**
   * The interface that has the VTEP address; without asking the thread, as long as no link or address has changed.
   * @throws NotFoundError when none has.
   */
  underlay(vtep: IpAddress): Promise<Underlay> {
    return this.#underlay.of(vtep);
  }

  /** Makes the host's part of a network as wanted, whatever there is. */
  reconcile(wanted: WantedNetwork): Promise<ReconcileReport> {
    return this.#call('reconcile', wanted) as Promise<ReconcileReport>;
  }

  /** What `reconcile` would find, without touching anything. */
  inspect(wanted: WantedNetwork): Promise<Inspection> {
    return this.#call('inspect', wanted) as Promise<Inspection>;
  }

  /** Registers who is told that others may have changed something in an overlay that was reconciled before. */
  onChange(listener: (netns: NetnsPath) => void): void {
    this.#onChange = listener;
  }

  /**
   * Makes the veth pairs of ports that come (a pair that is there and whole is kept) and takes those that go out of
   * use: down, without their name; the kernel's slow removal follows by itself. Answers in the order of `plug`.
   */
  async changePorts({ netns, mtu }: OverlayPlace, change: PortChange): Promise<PlugResult[]> {
    const results = (await this.#call('changePorts', { netns, mtu }, change)) as CrossedResult[];
    return results.map(result => ('ifName' in result ? result : { error: errorFrom(result.error) }));
  }

  /**
   * Makes a port's pair ahead of its endpoint's record: nothing passes and the target has no address until `changePorts`
   * finishes it. For networks of bridges. Where something stands in the way nothing is made, and `changePorts` says what.
   */
  async makeBare({ netns, mtu }: OverlayPlace, port: BarePort): Promise<void> {
    await this.#call('makeBare', { netns, mtu }, port);
  }

  /**
   * Asked before anything is written for an endpoint in there, and without waiting for the worker. A namespace of another
   * kind than network is found when the interface is made.
   * @throws InvalidError: `path` is no namespace. UnavailableError: its file system does not answer.
   */
  requireNamespace(path: NetnsPath): Promise<void> {
    return requireNsfs(path, this.#options.hostRun);
  }

  /**
   * A TCP socket inside the namespace, bound to its address `from`, for `new Socket({ fd })`; undefined when the
   * namespace is gone or has no such address, as that of a process id that was given again. The caller closes it.
   */
  async openTcpSocket(path: NetnsPath, route: TcpRoute): Promise<number | undefined> {
    const opened = (await this.#call('openTcpSocket', path, route)) as Opened | undefined;
    return opened?.fd;
  }

  /** Remote endpoints that came or changed, and that went; each packed by `packPeers`. */
  async applyPeers(netns: NetnsPath, change: { set: Uint8Array; remove: Uint8Array }): Promise<void> {
    await this.#call('applyPeers', netns, change);
  }

  /** The network leaves no trace on the host. */
  async removeNetwork(netns: NetnsPath): Promise<void> {
    await this.#call('removeNetwork', netns);
  }

  listNamespaces(directory: string, prefix: string): Promise<NetnsPath[]> {
    return this.#call('listNamespaces', directory, prefix) as Promise<NetnsPath[]>;
  }

  /** Interfaces in the host's own namespace. */
  listHostLinks(): Promise<IfName[]> {
    return this.#call('listHostLinks') as Promise<IfName[]>;
  }

  /** Ports of the bridge of an overlay namespace. */
  listPorts(netns: NetnsPath): Promise<IfName[]> {
    return this.#call('listPorts', netns) as Promise<IfName[]>;
  }

  /** What the interfaces of ports are called where they are, in the order of `ports`; undefined: there is none. */
  namesOfTargets(netns: NetnsPath, ports: readonly WantedPort[]): Promise<(IfName | undefined)[]> {
    return this.#call('namesOfTargets', netns, ports) as Promise<(IfName | undefined)[]>;
  }

  #call(call: string, ...args: readonly unknown[]): Promise<unknown> {
    const worker = this.#running();
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(id);
        reject(
          new KernelError(`The kernel did not answer ${call} within ${ANSWER_WITHIN_MS / 1000} s`, { call }),
        );
      }, ANSWER_WITHIN_MS);
      this.#pending.set(id, { resolve, reject, timer });
      worker.postMessage({ id, call, args });
    });
  }

  #running(): KernelThread {
    if (this.#worker) return this.#worker;
    const worker = this.#options.thread?.() ?? this.#newWorker();
    worker.on('message', message => this.#heard(message));
    worker.on('error', error => this.#ended(worker, error));
    worker.on('exit', () => this.#ended(worker, new Error('the kernel worker ended')));
    this.#worker = worker;
    return worker;
  }

  #newWorker(): Worker {
    const { hostNetns, hostRun } = this.#options;
    return new Worker(new URL('./netlink/worker.js', import.meta.url), {
      workerData: { hostNetns, hostRun },
      resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB },
    });
  }

  #heard(message: WorkerAnswer | WorkerNews): void {
    if ('changed' in message) this.#onChange(message.changed);
    else this.#answered(message);
  }

  #answered(answer: WorkerAnswer): void {
    const pending = this.#pending.get(answer.id);
    if (!pending) {
      discard(answer);
      return;
    }
    this.#pending.delete(answer.id);
    clearTimeout(pending.timer);
    if ('error' in answer) pending.reject(errorFrom(answer.error));
    else pending.resolve(answer.result);
  }

  /** The next call starts another: a new thread begins in the host's namespace. */
  #ended(worker: KernelThread, cause: Error): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    this.#options.log.warn('kernel worker ended, another takes over', { err: cause.message });
    for (const [id, { reject, timer }] of this.#pending) {
      this.#pending.delete(id);
      clearTimeout(timer);
      reject(new KernelError('The kernel worker ended; the reconcile finishes its work', { cause }));
    }
  }

  /** Touches no kernel object. Namespaces that the worker held open would live on with the process. */
  async [Symbol.asyncDispose](): Promise<void> {
    using _ = this.#underlay;
    if (!this.#worker) return;
    await this.#call('close').catch(() => undefined);
    const worker = this.#worker;
    this.#worker = undefined;
    await worker?.terminate();
  }
}

/** Nobody waits for it any more. */
function discard(answer: WorkerAnswer): void {
  const { fd } = ('result' in answer && (answer.result as Partial<Opened>)) || {};
  if (fd !== undefined) closeSync(fd);
}

const CLASSES = { ConflictError, InvalidError, KernelError, NotFoundError };

function errorFrom({ name, message, facts }: CrossedError): Error {
  const known = CLASSES[name as keyof typeof CLASSES] ?? KernelError;
  return new known(message, { ...facts });
}
