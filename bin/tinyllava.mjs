#!/usr/bin/env node
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const main = new URL('../dist/cli/main.js', import.meta.url);
const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
if (major < 20 || (major === 20 && minor < 19)) {
  console.error(`tinyllava: Node ${process.versions.node} is too old\n  fix: install Node 20.19 or later (https://nodejs.org)`);
  process.exitCode = 1;
} else if (existsSync(main)) {
  await import(main.href);
} else {
  console.error(`tinyllava: not compiled: ${fileURLToPath(main)} is missing\n  fix: run \`npm run build\``);
  process.exitCode = 1;
}
