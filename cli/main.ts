#!/usr/bin/env node
/** sand-agent-cli: operators type it, scripts parse its default lines. */
import { runProgram } from './program.js';

process.exitCode = await runProgram(process.argv.slice(2));
