/** Many tunnels at once, each with a word of its own: `flood-main.js HOST PORT PATH COUNT`; prints a FloodReport. */
import { RawClient } from './raw-client.js';
import { until } from './until.js';

export interface FloodReport {
  /** Open at the same time. */
  readonly opened: number;
  /** Those that got back their own word, and no other. */
  readonly right: number;
  /** Ended in order. */
  readonly ended: number;
  readonly errors: readonly string[];
}

const PATIENCE = { timeoutMs: 60_000, everyMs: 5 };
const [host = '', port, path = '', count] = process.argv.slice(2);
const clients = Array.from({ length: Number(count) }, () =>
  RawClient.to({ host, port: Number(port) }).request(path),
);
const errors: string[] = [];
const attempt = async (step: Promise<unknown>) => {
  await step.catch(error => errors.push(String(error)));
};

await attempt(
  until(() => clients.every(({ text, closed }) => text.endsWith('\r\n\r\n') || closed), PATIENCE),
);
const opened = clients.filter(({ text, closed }) => text.startsWith('HTTP/1.1 200 ') && !closed).length;
for (const [index, { socket }] of clients.entries()) socket.write(`word ${index}`);
const isRight = (client: RawClient, index: number) => client.text.endsWith(`\r\n\r\nword ${index}`);
await attempt(
  until(() => clients.every((client, index) => isRight(client, index) || client.closed), PATIENCE),
);
const right = clients.filter(isRight).length;
for (const { socket } of clients) socket.end();
await attempt(until(() => clients.every(({ closed }) => closed), PATIENCE));
const ended = clients.filter(client => client.ended && !client.error).length;
errors.push(...clients.flatMap(({ error }) => error?.message ?? []).slice(0, 5));
process.stdout.write(JSON.stringify({ opened, right, ended, errors } satisfies FloodReport));
