/**
 * The only native boundary: system calls through koffi. Types are anonymous, because koffi's named types are
 * process-wide and a second loading of this file would be refused. setns and unshare concern the calling thread
 * alone, which is why all of this is called from the one kernel worker.
 */
import koffi from 'koffi';
import { KernelError } from '../../model/errors.js';
import type { IpAddress } from '../../model/scalars.js';
import {
  AF_INET,
  AF_NETLINK,
  CLONE_NEWNET,
  EADDRNOTAVAIL,
  EAGAIN,
  ENOBUFS,
  IP_BIND_ADDRESS_NO_PORT,
  MNT_DETACH,
  MS_BIND,
  MS_NODEV,
  MS_NOEXEC,
  MS_NOSUID,
  MS_REMOUNT,
  MSG_DONTWAIT,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NETLINK_LISTEN_ALL_NSID,
  NETLINK_ROUTE,
  NS_GET_NSTYPE,
  SO_RCVBUFFORCE,
  SOCK_RAW_CLOEXEC,
  SOCK_RAW_CLOEXEC_NONBLOCK,
  SOCK_STREAM_CLOEXEC_NONBLOCK,
  SOL_IP,
  SOL_NETLINK,
  SOL_SOCKET,
  SYS_SCHED_GETATTR,
  SYS_SCHED_SETATTR,
} from './constants.js';

const libc = koffi.load('libc.so.6');
const calls = {
  socket: libc.func('socket', 'int', ['int', 'int', 'int']),
  bind: libc.func('bind', 'int', ['int', 'void *', 'uint32_t']),
  getsockname: libc.func('getsockname', 'int', ['int', 'void *', 'void *']),
  setsockopt: libc.func('setsockopt', 'int', ['int', 'int', 'int', 'void *', 'uint32_t']),
  send: libc.func('send', 'intptr_t', ['int', 'void *', 'size_t', 'int']),
  recv: libc.func('recv', 'intptr_t', ['int', 'void *', 'size_t', 'int']),
  close: libc.func('close', 'int', ['int']),
  setns: libc.func('setns', 'int', ['int', 'int']),
  unshare: libc.func('unshare', 'int', ['int']),
  mount: libc.func('mount', 'int', ['str', 'str', 'str', 'ulong', 'void *']),
  umount2: libc.func('umount2', 'int', ['str', 'int']),
  ioctl: libc.func('ioctl', 'int', ['int', 'ulong']),
  syscall: libc.func('syscall', 'long', ['long', 'int', 'void *', 'ulong', 'ulong']),
};

const RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024; // chosen: the errors of a whole batch, with their texts
const names = new Map(Object.entries(koffi.os.errno).map(([name, number]) => [number as number, name]));

/** Name of an error number: 17 → EEXIST. */
export const errnoName = (errno: number) => names.get(errno) ?? `errno ${errno}`;

function check(result: number, call: string, facts: Record<string, unknown> = {}): number {
  if (result >= 0) return result;
  const errno = koffi.errno();
  throw new KernelError(`${call} is refused by the kernel: ${errnoName(errno)}`, { errno, call, ...facts });
}

function setOption(fd: number, level: number, option: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check(calls.setsockopt(fd, level, option, bytes, 4), 'setsockopt', { option });
}

/** Fills a struct sched_attr (sched_getattr(2), which C libraries have had since 2025). False: refused. */
export const callSchedGetattr = (thread: number, into: Buffer): boolean =>
  calls.syscall(SYS_SCHED_GETATTR, thread, into, into.length, 0) === 0;
/** False: refused. */
export const callSchedSetattr = (thread: number, attributes: Buffer): boolean =>
  calls.syscall(SYS_SCHED_SETATTR, thread, attributes, 0, 0) === 0;

/** A route netlink socket that stays in the namespace of the calling thread. Close it with `closeFd`. */
export function openRouteSocket(): number {
  const fd = boundRouteSocket(SOCK_RAW_CLOEXEC, []);
  setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER_BYTES);
  setOption(fd, SOL_NETLINK, NETLINK_CAP_ACK, 1);
  setOption(fd, SOL_NETLINK, NETLINK_EXT_ACK, 1);
  setOption(fd, SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
  return fd;
}

/**
 * A socket with what is announced to `groups` in the namespace of the calling thread. Any thread may read it, and never
 * waits (EAGAIN). Close it with `closeFd`.
 */
export const openAnnouncements = (groups: readonly number[]) =>
  boundRouteSocket(SOCK_RAW_CLOEXEC_NONBLOCK, groups);

function boundRouteSocket(type: number, groups: readonly number[]): number {
  const fd = check(calls.socket(AF_NETLINK, type, NETLINK_ROUTE), 'socket');
  const address = Buffer.alloc(12); // struct sockaddr_nl: the kernel chooses the port id
  address.writeUInt16LE(AF_NETLINK);
  address.writeUInt32LE(maskOf(groups), 8);
  try {
    check(calls.bind(fd, address, address.length), 'bind');
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  return fd;
}

/** Of groups of linux/rtnetlink.h, which are those below 33. */
const maskOf = (groups: readonly number[]) => groups.reduce((mask, group) => mask | (1 << (group - 1)), 0);

/**
 * A TCP socket that stays in the namespace of the calling thread, bound to an IPv4 address and no port; undefined
 * when no interface there has the address. Close it with `closeFd`.
 */
export function openTcpSocket(address: IpAddress): number | undefined {
  const fd = check(calls.socket(AF_INET, SOCK_STREAM_CLOEXEC_NONBLOCK, 0), 'socket');
  try {
    // The port is chosen at connect, by both ends: else 28,000 connections, ended ones among them, would be the limit.
    setOption(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    const name = Buffer.alloc(16); // struct sockaddr_in: port 0
    name.writeUInt16LE(AF_INET);
    name.set(address.split('.').map(Number), 4);
    if (calls.bind(fd, name, name.length) === 0) return fd;
    const absent = koffi.errno() === EADDRNOTAVAIL;
    if (!absent) check(-1, 'bind', { address });
  } catch (error) {
    closeFd(fd);
    throw error;
  }
  closeFd(fd);
  return undefined;
}

export const send = (fd: number, bytes: Uint8Array) => check(calls.send(fd, bytes, bytes.length, 0), 'send');

/** The same on a thread of libuv's pool, for requests that the kernel holds for tens of milliseconds. */
export function sendSlowly(fd: number, bytes: Uint8Array): Promise<void> {
  return new Promise((resolve, reject) => {
    calls.send.async(fd, bytes, bytes.length, 0, (error: unknown, result: number) => {
      if (error) reject(error);
      else if (result < 0) reject(new KernelError('send is refused by the kernel', { call: 'send' }));
      else resolve();
    });
  });
}

/** Bytes received into `into`; blocks. */
export const receive = (fd: number, into: Uint8Array) => check(calls.recv(fd, into, into.length, 0), 'recv');

/**
 * For `subscribe`: struct sockaddr_nl of the socket itself, with groups of linux/rtnetlink.h.
 * A bind of a socket that is bound exchanges all of its groups at once, where setsockopt would take one after the other.
 */
export function membership(fd: number, groups: readonly number[]): Buffer {
  const address = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeInt32LE(address.length);
  check(calls.getsockname(fd, address, length), 'getsockname');
  address.writeUInt32LE(maskOf(groups), 8);
  return address;
}

/** From now on notifications of the membership's groups are queued, and no others. */
export const subscribe = (fd: number, address: Buffer) =>
  check(calls.bind(fd, address, address.length), 'bind');

/** Notifications of all namespaces that have a number in the socket's own come, too. */
export const listenEverywhere = (fd: number) => setOption(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, 1);

/** Bytes of what is queued, 'nothing', or 'overflow': more came than the socket could hold. Never blocks. */
export function receiveQueued(fd: number, into: Uint8Array): number | 'nothing' | 'overflow' {
  const got = calls.recv(fd, into, into.length, MSG_DONTWAIT);
  if (got >= 0) return got;
  const errno = koffi.errno();
  if (errno === EAGAIN) return 'nothing';
  if (errno === ENOBUFS) return 'overflow';
  return check(-1, 'recv');
}

export const closeFd = (fd: number): void => {
  calls.close(fd);
};

/** @throws KernelError EINVAL: the file is no network namespace. */
export const enterNetns = (fd: number) => check(calls.setns(fd, CLONE_NEWNET), 'setns');
/** Whether an open file of nsfs is a network namespace, and not one of mounts, processes or the like. */
export const isNetns = (fd: number) => calls.ioctl(fd, NS_GET_NSTYPE) === CLONE_NEWNET;
export const unshareNetns = () => check(calls.unshare(CLONE_NEWNET), 'unshare');
export const bindMount = (from: string, to: string) =>
  check(calls.mount(from, to, 'none', MS_BIND, null), 'mount', { path: to });
/** Takes the read-only flag from this mount, in this mount namespace alone. */
export const makeWritable = (path: string) =>
  check(
    calls.mount('none', path, null, MS_REMOUNT | MS_BIND | MS_NOSUID | MS_NODEV | MS_NOEXEC, null),
    'mount',
    {
      path,
    },
  );
/** False when nothing is mounted there. */
export const unmount = (path: string): boolean => calls.umount2(path, MNT_DETACH) === 0;
