/** How a route answers. */
import type { ServerResponse } from 'node:http';

export function answer(response: ServerResponse, body: object, status = 200): void {
  const text = JSON.stringify(body);
  const length = Buffer.byteLength(text);
  response.writeHead(status, { 'Content-Type': 'application/json; charset=utf-8', 'Content-Length': length });
  response.end(text);
}

export function answerNothing(response: ServerResponse): void {
  response.writeHead(204);
  response.end();
}
