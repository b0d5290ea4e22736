import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { getPriority, release } from 'node:os';
import koffi from 'koffi';
import { Kernel } from '../../overlay/kernel.js';
import { LogBook } from '../support/log-book.js';
import { until } from '../support/until.js';

// Since Linux 6.12 an ordinary thread has a time slice; before, the kernel says 0.
const [major = 0, minor = 0] = release().split('.').map(Number);
const knowsSlices = major > 6 || (major === 6 && minor >= 12);
const SHORT = 100_000;

const syscall = koffi.load('libc.so.6').func('syscall', 'long', ['long', 'int', 'void *', 'ulong', 'ulong']);
/** Policy, nice value and nanoseconds of a thread, as sched_getattr(2) has them. */
function schedulingOf(thread: number) {
  const attributes = Buffer.alloc(48);
  const number = process.arch === 'x64' ? 315 : 275;
  expect(syscall(number, thread, attributes, attributes.length, 0)).toBe(0);
  const [policy, nice] = [attributes.readUInt32LE(4), attributes.readInt32LE(16)];
  return { policy, nice, slice: Number(attributes.readBigUInt64LE(24)) };
}
const threads = () => readdirSync('/proc/self/task').map(Number);

let kernel: Kernel;
let before: Set<number>;
let child: ChildProcess | undefined;
beforeEach(async () => {
  before = new Set(threads());
  kernel = await Kernel.start({ log: new LogBook() });
});
afterEach(async () => {
  child?.kill('SIGKILL');
  await kernel[Symbol.asyncDispose]();
});

describe('askForShortTurns()', () => {
  it('is done for the main and the kernel’s thread, which stay ordinary ones, and for no other and no child', async () => {
    const usual = schedulingOf(1).slice;
    const wanted = { policy: 0, nice: getPriority(), slice: knowsSlices ? SHORT : 0 };
    expect(schedulingOf(process.pid)).toEqual(wanted);
    const added = threads().filter(thread => !before.has(thread));
    expect(added.map(schedulingOf)).toContainEqual(wanted);
    expect(added.filter(thread => schedulingOf(thread).slice !== usual)).toHaveLength(knowsSlices ? 1 : 0);
    child = spawn('sleep', ['60']);
    await once(child, 'spawn');
    await until(() => schedulingOf(child?.pid ?? 0).slice === usual, {
      what: 'the child has the usual slice',
    });
  });
});
