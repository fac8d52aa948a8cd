// Prints by how many times 64 MB this process has grown while large tensors come and go.
import { full } from '../../src/tensor/create.ts';
import { keepFreedMemory, memory, trimMemory } from '../../src/tensor/device.ts';
import type { Tensor } from '../../src/tensor/tensor.ts';

const megabytes = (count: number): Tensor => full([count << 18], 1);
megabytes(1).free();
const before = memory().rssBytes;
const found: Record<string, number> = {};
const note = (when: string): void => {
  found[when] = Math.abs(Math.round((memory().rssBytes - before) / (64 << 20)));
};

keepFreedMemory(true);
megabytes(128).free();
note('freed');
const other = megabytes(100);
note('other');
other.free();
const larger = megabytes(256);
note('larger');
larger.free();
note('freedToo');
trimMemory();
note('trimmed');
megabytes(128).free();
note('again');
keepFreedMemory(false);
note('noLongerKept');
process.stdout.write(JSON.stringify(found));
