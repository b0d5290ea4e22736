/** Sends one request to the agent as it is, and says what is wrong with the answer. */
import { Agent, request } from 'node:http';
import type { FuzzRequest } from './templates.js';

export interface FuzzAnswer {
  readonly status: number;
  readonly text: string;
}

const ANSWER_WITHIN_MS = 20_000; // the plugin's own deadline is 12 s

/** Kept open, as dockerd and clients keep theirs: what one request leaves on a connection meets the next one. */
const connections = new Agent({ keepAlive: true });

/** For a look at what the agent still holds. */
export const hangUp = () => connections.destroy();

/** Undefined: the connection was closed without an answer. */
export function send(
  socketPath: string,
  { method, path, body }: FuzzRequest,
): Promise<FuzzAnswer | undefined> {
  return new Promise((resolve, reject) => {
    const headers = body === undefined ? {} : { 'Content-Length': Buffer.byteLength(body) };
    // As its bytes: node's own client refuses other letters than those of Latin-1.
    const bytes = Buffer.from(path).toString('latin1');
    const outgoing = request({ socketPath, method, path: bytes, headers, agent: connections });
    const late = setTimeout(() => {
      outgoing.destroy();
      reject(new Error(`no answer within ${ANSWER_WITHIN_MS / 1_000} s`));
    }, ANSWER_WITHIN_MS);
    const settle = (answer: FuzzAnswer | undefined) => {
      clearTimeout(late);
      resolve(answer);
    };
    outgoing.on('error', () => settle(undefined));
    // A tunnel that was opened: nothing is sent through it.
    outgoing.on('connect', (incoming, socket) => {
      socket.destroy();
      settle({ status: incoming.statusCode ?? 0, text: '' });
    });
    outgoing.on('response', incoming => {
      const chunks: Buffer[] = [];
      incoming.on('data', chunk => chunks.push(chunk));
      incoming.on('error', () => settle(undefined));
      incoming.on('end', () =>
        settle({ status: incoming.statusCode ?? 0, text: Buffer.concat(chunks).toString() }),
      );
    });
    outgoing.end(body);
  });
}

/** What an exception of JavaScript looks like, which is never an answer. */
const DEFECT =
  /TypeError|RangeError|ReferenceError|Cannot (read|set|convert)|is not (a function|iterable|defined)|undefined|\.js:\d+|at .*\(node:/;

/** Why the answer must not be; undefined when it may. */
export function objection(request: FuzzRequest, answer: FuzzAnswer | undefined): string | undefined {
  if (!answer)
    return request.method === 'CONNECT' || isUnsendable(request)
      ? undefined
      : 'the connection was closed without an answer';
  const { status, text } = answer;
  const allowed = request.method === 'CONNECT' ? [502, 503, 504] : [503];
  if (status >= 500 && !allowed.includes(status)) return `status ${status}: ${text.slice(0, 300)}`;
  const said = errorIn(request, answer);
  if (said !== undefined && DEFECT.test(withoutEcho(said, request)))
    return `the error is an exception: ${said.slice(0, 300)}`;
  if (request.door === 'plugin' && ![200, 400, 404, 405, 431].includes(status))
    return `status ${status} to Docker`;
  if (status >= 400 && status !== 431 && said === undefined && request.method !== 'HEAD' && text !== '')
    return `status ${status} without an error: ${text.slice(0, 200)}`;
  return undefined;
}

/** Node's own parser refuses what is no HTTP by closing. */
const isUnsendable = ({ path }: FuzzRequest) => /[^\x21-\x7e]/.test(path);

function errorIn({ door }: FuzzRequest, { text }: FuzzAnswer): string | undefined {
  try {
    const body = JSON.parse(text) as { Err?: unknown; error?: unknown };
    const said = door === 'plugin' ? body.Err : body.error;
    return typeof said === 'string' && said !== '' ? said : undefined;
  } catch {
    return undefined;
  }
}

/** An error quotes what it refuses. */
const withoutEcho = (said: string, { path, body = '' }: FuzzRequest) =>
  DEFECT.test(path) || DEFECT.test(body) ? '' : said;
