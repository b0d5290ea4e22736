/** Which program is measured: the agent as the packages have it. */
import { fileURLToPath } from 'node:url';
import { stop } from 'esbuild';
import { makeBundle } from '../packaging/bundle.js';

const DIST = new URL('../', import.meta.url);
const BUNDLE = new URL('../../.build/bench-agent', import.meta.url); // from dist/bench

let program: Promise<string> | undefined;

/** Bundled once a run, from what was compiled. A profile is of the compiled files themselves, by whose names it can be read. */
export const agentProgram = (isProfiled: boolean): Promise<string> => {
  program ??= isProfiled ? Promise.resolve(fileURLToPath(new URL('daemon/main.js', DIST))) : bundled();
  return program;
};

async function bundled(): Promise<string> {
  const directory = fileURLToPath(BUNDLE);
  await makeBundle(directory);
  await stop(); // its service would stay, and wake up while others are measured
  return `${directory}/dist/daemon/main.js`;
}
