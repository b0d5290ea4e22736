/** An HTTP answer on a bare socket: to a CONNECT that is refused, and to what is no HTTP. */
import { STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import { InvalidError } from '../model/errors.js';
import { errorAnswer } from './app.js';

export interface Refusal {
  readonly status: number;
  readonly body: object;
}

const LINGER_MS = 2_000; // chosen: a client on this line has read the answer by then

/** Answers and ends the connection. What the client still sends is read: unread bytes would reset the answer away. */
export function refuse(socket: Socket, { status, body }: Refusal): void {
  const text = JSON.stringify(body);
  const head = [
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? 'Refused'}`,
    'Content-Type: application/json; charset=utf-8',
    `Content-Length: ${Buffer.byteLength(text)}`,
    'Connection: close',
  ];
  socket.end(`${head.join('\r\n')}\r\n\r\n${text}`);
  socket.resume();
  const linger = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(linger));
}

const STATUS_OF_CODE: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/** For a server's `clientError`: what came is no HTTP request, or too long a one. */
export function refuseMalformed(error: NodeJS.ErrnoException, socket: Socket): void {
  const { code = '', message } = error;
  const status = STATUS_OF_CODE[code] ?? (code.startsWith('HPE_') ? 400 : undefined);
  // A line on which something was answered may have an answer under way.
  if (status === undefined || !socket.writable || socket.bytesWritten > 0) return void socket.destroy();
  const refused = new InvalidError(`This is no HTTP request that is understood here (${message})`, {
    field: 'request',
  });
  socket.on('error', () => undefined);
  refuse(socket, { ...errorAnswer(refused), status });
}
