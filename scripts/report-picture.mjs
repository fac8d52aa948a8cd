// Takes the picture of a report for the README: node scripts/report-picture.mjs runs/quickstart/report.html docs/images/report.png
// Needs Chromium: CHROMIUM names it, else `chromium` is looked for.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import sharp from 'sharp';

const [page, picture] = process.argv.slice(2);
if (page === undefined || picture === undefined) {
  console.error('usage: node scripts/report-picture.mjs REPORT.html PICTURE.png');
  process.exit(2);
}
const [width, height] = [1180, 1400];
const folder = mkdtempSync(join(tmpdir(), 'report-picture-'));
try {
  const shot = join(folder, 'shot.png');
  const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
  const safe = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  const flags = [
    `--user-data-dir=${join(folder, 'profile')}`,
    `--screenshot=${shot}`,
    `--window-size=${width},${height}`,
    '--force-device-scale-factor=2',
  ];
  execFileSync(
    process.env['CHROMIUM'] ?? 'chromium',
    ['--headless', '--disable-gpu', '--hide-scrollbars', ...safe, ...quiet, ...flags, pathToFileURL(resolve(page)).href],
    { stdio: 'ignore' },
  );
  mkdirSync(dirname(picture), { recursive: true });
  const { size } = await sharp(shot).resize(1180).png({ palette: true, colours: 64, effort: 10 }).toFile(picture);
  console.log(`${picture}: ${(size / 1000).toFixed(0)} kB`);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
