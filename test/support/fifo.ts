import { execFileSync } from 'node:child_process';

/** A named pipe: who opens it for reading waits for a writer. */
export const mkfifoSync = (path: string) => execFileSync('mkfifo', [path]);
