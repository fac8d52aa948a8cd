import { CheckpointError } from '../errors.ts';
import { type DType, dtypeBytes } from './dtype.ts';
import { MappedFile } from './mapped-file.ts';
import { globalName, unpickle, unpickleAt } from './pickle.ts';
import type { WeightSource } from './safetensors.ts';
import { zipEntries } from './zip.ts';

const storages: Readonly<Record<string, DType>> = {
  DoubleStorage: 'float64',
  FloatStorage: 'float32',
  HalfStorage: 'float16',
  BFloat16Storage: 'bfloat16',
  LongStorage: 'int64',
  IntStorage: 'int32',
  ShortStorage: 'int16',
  CharStorage: 'int8',
  ByteStorage: 'uint8',
  BoolStorage: 'bool',
};

class Stored {
  readonly dtype: DType;
  /** Shape of the elements as they lie in the file, which `axes` puts in the tensor's order. */
  readonly lying: readonly number[];
  readonly shape: readonly number[];
  readonly axes: readonly number[] | undefined;
  readonly #storage: Storage;
  readonly #first: number;

  constructor(storage: Storage, first: number, shape: readonly number[], strides: readonly number[]) {
    // The widest stride outside: a transposed matrix lies in the file as it was before.
    const order = shape.map((_, i) => i).sort((a, b) => (strides[b] ?? 0) - (strides[a] ?? 0) || a - b);
    this.lying = order.map((i) => shape[i] ?? 0);
    this.axes = order.every((axis, i) => axis === i) ? undefined : order.map((_, i) => order.indexOf(i));
    this.shape = shape;
    this.dtype = storage.dtype;
    this.#storage = storage;
    this.#first = first;
  }

  /** Where its first element lies in the file. */
  get offset(): number {
    return this.#storage.offset + this.#first * dtypeBytes(this.dtype);
  }
}

class Storage {
  readonly dtype: DType;
  /** In the file; before PyTorch 1.6 known only behind the pickle. */
  offset: number;
  readonly elements: number;

  constructor(dtype: DType, offset: number, elements: number) {
    this.dtype = dtype;
    this.offset = offset;
    this.elements = elements;
  }
}

const whole = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;
const wholes = (value: unknown): value is number[] => Array.isArray(value) && value.every(whole);

/** What files from before PyTorch 1.6 begin with: a pickle of this number. */
const oldMagic = Buffer.from('80028a0a6cfc9c46f9206aa850192e', 'hex');
const oldProtocol = 1001;
/** The pickles of such a file, which stand before its numbers, are not longer. */
const oldPickleBytes = 1 << 26;

/** Whether the elements lie without gap or overlap, in whatever order of the dimensions. */
function dense(shape: readonly number[], strides: readonly number[]): boolean {
  const dims = shape.map((size, i) => ({ size, stride: strides[i] ?? 0 })).filter(({ size }) => size !== 1);
  dims.sort((a, b) => a.stride - b.stride);
  let next = 1;
  return dims.every(({ size, stride }) => {
    const fits = stride === next;
    next *= size;
    return fits;
  });
}

/**
 * Opens what `torch.save` wrote of a dictionary of tensors (`pytorch_model.bin`, `.pth`, `.pt`; also by PyTorch before 1.6), without running any of
 * it; tensors are memory-mapped. Throws CheckpointError for a damaged file, and for one that holds anything else than tensors.
 */
export function openTorchFile(path: string): WeightSource {
  const fail = (what: string, cause?: unknown): never => {
    throw new CheckpointError(`${path}: ${what}`, {
      hint: 'the file is damaged or holds more than tensors; fetch or save it again',
      cause,
    });
  };
  let file: MappedFile;
  try {
    file = new MappedFile(path);
  } catch (cause) {
    if (cause instanceof CheckpointError) throw cause;
    return fail('cannot be read', cause);
  }
  const { bytes } = file;
  const read = (offset: number, length: number): Buffer => (length > 0 ? file.read(offset, length) : Buffer.alloc(0));
  const old = bytes >= oldMagic.length && read(0, oldMagic.length).equals(oldMagic);
  const entries = old ? new Map<string, never>() : zipEntries(read, path, bytes);
  const pickleName = old ? '' : ([...entries.keys()].find((name) => name.endsWith('/data.pkl')) ?? fail('no data.pkl in it'));
  const root = pickleName.slice(0, -'data.pkl'.length);
  const content = (name: string): { offset: number; bytes: number } => {
    const entry = entries.get(root + name) ?? fail(`no ${name} in it`);
    return entry.stored ? entry : fail(`${name} is compressed`);
  };
  const text = (name: string): Buffer => {
    const entry = content(name);
    return read(entry.offset, entry.bytes);
  };
  if (entries.has(`${root}byteorder`) && text('byteorder').toString() !== 'little') return fail('written on a big-endian machine');

  const oldStorages = new Map<string, Storage>();
  const persistent = (id: unknown): Storage => {
    const [kind, type, key, , elements] = Array.isArray(id) ? (id as unknown[]) : [];
    const name = globalName(type)?.replace(/^torch\./, '');
    const dtype = name === undefined ? undefined : storages[name];
    if (kind !== 'storage' || !dtype || typeof key !== 'string' || !whole(elements))
      return fail('a storage is not described as torch.save does');
    if (old) {
      const storage = oldStorages.get(key) ?? new Storage(dtype, 0, elements);
      oldStorages.set(key, storage);
      return storage.dtype === dtype && storage.elements === elements ? storage : fail(`storage ${key} is described in two ways`);
    }
    const entry = content(`data/${key}`);
    if (entry.bytes !== elements * dtypeBytes(dtype)) {
      return fail(`data/${key} holds ${entry.bytes} bytes, ${elements} x ${dtype} need ${elements * dtypeBytes(dtype)}`);
    }
    return new Storage(dtype, entry.offset, elements);
  };
  const rebuild = (storage: unknown, first: unknown, shape: unknown, strides: unknown): Stored => {
    if (!(storage instanceof Storage) || !whole(first) || !wholes(shape) || !wholes(strides) || strides.length !== shape.length)
      return fail('a tensor is not described as torch.save does');
    const count = shape.reduce((product, size) => product * size, 1);
    if (count > 0 && !dense(shape, strides))
      return fail(`a tensor [${shape.join(', ')}] has the strides [${strides.join(', ')}], and so gaps or overlaps`);
    if (first + count > storage.elements)
      return fail(`a tensor [${shape.join(', ')}] at ${first} does not fit into its storage of ${storage.elements}`);
    return new Stored(storage, first, shape, strides);
  };
  const globals = new Map<string, (...args: readonly unknown[]) => unknown>([
    ['collections.OrderedDict', (...items) => (items.length === 0 ? new Map() : fail('a dictionary is not described as torch.save does'))],
    ['torch._utils._rebuild_tensor_v2', rebuild],
    ['torch._utils._rebuild_parameter', (tensor) => tensor],
    ...Object.keys(storages).map((name): [string, () => never] => [`torch.${name}`, () => fail(`calls torch.${name}`)]),
  ]);
  /** Four pickles (a magic number, the protocol, the machine, the dictionary), a list of the storages, then each with its length before it. */
  const oldDictionary = (): unknown => {
    const head = read(0, Math.min(bytes, oldPickleBytes));
    const plain = { globals: new Map(), persistent: () => fail('a storage stands outside the dictionary') };
    const protocol = unpickleAt(head, oldMagic.length, path, plain);
    const machine = unpickleAt(head, protocol.end, path, plain);
    if (protocol.value !== oldProtocol) return fail(`written by another protocol than ${oldProtocol}`);
    if (!(machine.value instanceof Map) || machine.value.get('little_endian') !== true) return fail('written on a big-endian machine');
    const dictionary = unpickleAt(head, machine.end, path, { globals, persistent });
    const keys = unpickleAt(head, dictionary.end, path, plain);
    let at = keys.end;
    for (const key of Array.isArray(keys.value) ? keys.value : fail('no list of storages in it')) {
      const storage = oldStorages.get(String(key)) ?? fail(`storage ${String(key)} belongs to no tensor`);
      const length = at + 8 <= bytes ? Number(read(at, 8).readBigInt64LE()) : fail('cut short');
      if (length !== storage.elements) return fail(`storage ${String(key)} holds ${length} elements, ${storage.elements} were said`);
      storage.offset = at + 8;
      at += 8 + length * dtypeBytes(storage.dtype);
    }
    if (at > bytes) return fail(`cut short: ${at} bytes are needed, it has ${bytes}`);
    if ([...oldStorages.values()].some(({ offset }) => offset === 0)) return fail('a tensor has no storage');
    return dictionary.value;
  };
  const dictionary = old ? oldDictionary() : unpickle(text('data.pkl'), path, { globals, persistent });
  if (!(dictionary instanceof Map)) return fail('holds something else than a dictionary of tensors');
  const stored = new Map<string, Stored>();
  for (const [name, value] of dictionary as Map<unknown, unknown>) {
    if (typeof name !== 'string') return fail('a tensor has a name that is not text');
    if (!(value instanceof Stored)) return fail(`"${name}" is not a tensor`);
    stored.set(name, value);
  }
  const find = (name: string): Stored => {
    const found = stored.get(name);
    if (!found) throw new CheckpointError(`${path}: no tensor "${name}"`);
    return found;
  };
  return {
    path,
    names: [...stored.keys()],
    shape: (name) => find(name).shape,
    dtype: (name) => find(name).dtype,
    tensor: (name, memory) => {
      const { dtype, lying, axes, offset } = find(name);
      if (!axes) return file.tensor(offset, lying, dtype, memory);
      const mapped = file.tensor(offset, lying, dtype, memory && 'own');
      const view = mapped.permute(...axes);
      const turned = view.contiguous();
      view.free();
      mapped.free();
      return turned;
    },
  };
}
