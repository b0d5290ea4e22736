/** Requests that were answered wrongly once, each with what was wrong: they are sent in every run of the tests. */
import type { FuzzRequest } from './templates.js';

export const CORPUS: readonly (FuzzRequest & { readonly once: string })[] = [];
