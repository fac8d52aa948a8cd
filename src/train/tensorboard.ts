import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';

const polynomial = 0x82f63b78;
const table = Uint32Array.from({ length: 256 }, (_, byte) => {
  let word = byte;
  for (let bit = 0; bit < 8; bit++) word = word & 1 ? (word >>> 1) ^ polynomial : word >>> 1;
  return word;
});

/** CRC-32C (Castagnoli), rotated and shifted as records of TensorFlow want it. */
function maskedCrc(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ (table[(crc ^ byte) & 0xff] ?? 0);
  crc = ~crc >>> 0;
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

function varint(value: number): number[] {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return [...bytes, rest];
    bytes.push((rest % 128) | 128);
  }
}

// The three kinds of protobuf fields that events use.
const number = (field: number, value: number): Buffer => Buffer.from([...varint(field << 3), ...varint(value)]);
const block = (field: number, content: Uint8Array): Buffer =>
  Buffer.concat([Buffer.from([...varint((field << 3) | 2), ...varint(content.length)]), content]);
function float(field: number, value: number, bytes: 4 | 8): Buffer {
  const content = Buffer.alloc(1 + bytes);
  content[0] = (field << 3) | (bytes === 8 ? 1 : 5);
  if (bytes === 8) content.writeDoubleLE(value, 1);
  else content.writeFloatLE(value, 1);
  return content;
}

/** A record of a TFRecord file: length, its checksum, contents, theirs. */
function record(content: Buffer): Buffer {
  const framed = Buffer.alloc(content.length + 16);
  framed.writeBigUInt64LE(BigInt(content.length), 0);
  framed.writeUInt32LE(maskedCrc(framed.subarray(0, 8)), 8);
  content.copy(framed, 12);
  framed.writeUInt32LE(maskedCrc(content), 12 + content.length);
  return framed;
}

/** Scalars of one step. `time` in seconds since 1970. */
export interface ScalarEvent {
  readonly time: number;
  readonly step: number;
  readonly scalars: Readonly<Record<string, number>>;
}

/** Bytes of an event as tensorflow/core/util/event.proto describes it. */
function eventBytes({ time, step, scalars }: ScalarEvent): Buffer {
  const values = Object.entries(scalars).map(([tag, value]) => block(1, Buffer.concat([block(1, Buffer.from(tag)), float(2, value, 4)])));
  return record(Buffer.concat([float(1, time, 8), number(2, step), block(5, Buffer.concat(values))]));
}

/** A file of scalars that TensorBoard shows. */
export class EventFile {
  readonly #file: number;

  /** Begins a file in the folder; `time` in seconds since 1970. */
  constructor(folder: string, time: number) {
    mkdirSync(folder, { recursive: true });
    this.#file = openSync(join(folder, `events.out.tfevents.${String(Math.floor(time)).padStart(10, '0')}.tinyllava`), 'w');
    this.#write(record(Buffer.concat([float(1, time, 8), block(3, Buffer.from('brain.Event:2'))])));
  }

  add(event: ScalarEvent): void {
    this.#write(eventBytes(event));
  }

  close(): void {
    closeSync(this.#file);
  }

  #write(bytes: Buffer): void {
    for (let at = 0; at < bytes.length; ) at += writeSync(this.#file, bytes, at);
  }
}
