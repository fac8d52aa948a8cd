import { CheckpointError } from '../errors.ts';

/** What a pickle may use: functions by "module.name", and what a persistent id stands for. */
interface PickleTrust {
  readonly globals: ReadonlyMap<string, (...args: readonly unknown[]) => unknown>;
  persistent(id: unknown): unknown;
}

class Global {
  readonly name: string;
  readonly call: (...args: readonly unknown[]) => unknown;

  constructor(name: string, call: (...args: readonly unknown[]) => unknown) {
    this.name = name;
    this.call = call;
  }
}

const mark = Symbol('mark');
const hint =
  'a pickle can run any program, so nothing is read but tensors; where you trust the file, load it in Python and save the tensors with safetensors';

/** The name of a class or function that a pickle handed on without calling it. */
export const globalName = (value: unknown): string | undefined => (value instanceof Global ? value.name : undefined);

/**
 * The value of a Python pickle (protocol 2 to 5, https://docs.python.org/3/library/pickletools.html), of which nothing is run: a class or
 * function that `trust` does not list is refused by name. Tuples and lists are arrays, dictionaries are maps. Throws CheckpointError.
 */
export const unpickle = (bytes: Buffer, path: string, trust: PickleTrust): unknown => unpickleAt(bytes, 0, path, trust).value;

/** The value of a pickle that begins at byte `start`, with others behind it, and where it ends. Throws CheckpointError. */
export function unpickleAt(
  bytes: Buffer,
  start: number,
  path: string,
  { globals, persistent }: PickleTrust,
): { value: unknown; end: number } {
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = start;
  const fail: (what: string) => never = (what) => {
    throw new CheckpointError(`${path}: ${what}`, { hint });
  };
  const take = (count: number): Buffer => {
    if (count > bytes.length - at) return fail(`its pickle is cut short: byte ${at + count} is needed, it has ${bytes.length}`);
    at += count;
    return bytes.subarray(at - count, at);
  };
  const line = (): string => {
    const end = bytes.indexOf(0x0a, at);
    const text = take((end < 0 ? bytes.length + 1 : end) - at).toString('utf8');
    at++;
    return text;
  };
  const pop = (): unknown => (stack.length > 0 ? stack.pop() : fail('its pickle takes from an empty stack'));
  const top = (): unknown => (stack.length > 0 ? stack.at(-1) : fail('its pickle takes from an empty stack'));
  const popMark = (): unknown[] => {
    const from = stack.lastIndexOf(mark);
    if (from < 0) return fail('its pickle has no mark where it needs one');
    const items = stack.splice(from);
    return items.slice(1);
  };
  const text = (value: unknown): string =>
    typeof value === 'string' ? value : fail('its pickle names a class by something else than text');
  const find = (module: string, name: string): Global => {
    const call = globals.get(`${module}.${name}`);
    return call ? new Global(`${module}.${name}`, call) : fail(`uses ${module}.${name}, which tensors do not need`);
  };
  const recall = (index: number): unknown =>
    memo.has(index) ? memo.get(index) : fail(`its pickle recalls ${index}, which it never stored`);
  const put = (items: readonly unknown[]): void => {
    const target = top();
    if (!(target instanceof Map) || items.length % 2 !== 0) fail('its pickle sets items of something else than a dictionary');
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  };
  const append = (items: readonly unknown[]): void => {
    const target = top();
    if (!Array.isArray(target)) fail('its pickle appends to something else than a list');
    target.push(...items);
  };
  const tuple = (count: number): void => {
    const items = Array.from({ length: count }, pop);
    stack.push(items.reverse());
  };
  const long = (count: number): number => {
    let value = 0n;
    for (const [i, byte] of take(count).entries()) value |= BigInt(byte) << BigInt(8 * i);
    return Number(BigInt.asIntN(8 * count, value));
  };
  const reduce = (): void => {
    const args = pop();
    const target = pop();
    if (!(target instanceof Global) || !Array.isArray(args)) fail('its pickle calls something else than a function');
    stack.push(target.call(...args));
  };
  // `state_dict` hangs the versions of its modules on the dictionary; nothing reads them.
  const build = (): void => {
    pop();
    if (!(top() instanceof Map)) fail('its pickle sets attributes of something else than a dictionary');
  };
  const operations: Readonly<Record<number, () => unknown>> = {
    128: () => take(1), // PROTO
    149: () => take(8), // FRAME
    40: () => stack.push(mark),
    48: pop,
    78: () => stack.push(null),
    136: () => stack.push(true),
    137: () => stack.push(false),
    74: () => stack.push(take(4).readInt32LE()),
    75: () => stack.push(take(1).readUInt8()),
    77: () => stack.push(take(2).readUInt16LE()),
    138: () => stack.push(long(take(1).readUInt8())),
    71: () => stack.push(take(8).readDoubleBE()),
    88: () => stack.push(take(take(4).readUInt32LE()).toString('utf8')),
    140: () => stack.push(take(take(1).readUInt8()).toString('utf8')),
    125: () => stack.push(new Map()),
    93: () => stack.push([]),
    41: () => stack.push([]),
    116: () => stack.push(popMark()),
    133: () => tuple(1),
    134: () => tuple(2),
    135: () => tuple(3),
    97: () => append([pop()]),
    101: () => append(popMark()),
    115: () => put([pop(), pop()].reverse()),
    117: () => put(popMark()),
    113: () => memo.set(take(1).readUInt8(), top()),
    114: () => memo.set(take(4).readUInt32LE(), top()),
    148: () => memo.set(memo.size, top()),
    104: () => stack.push(recall(take(1).readUInt8())),
    106: () => stack.push(recall(take(4).readUInt32LE())),
    99: () => stack.push(find(line(), line())),
    147: () => {
      const [name, module] = [text(pop()), text(pop())];
      stack.push(find(module, name));
    },
    81: () => stack.push(persistent(pop())),
    82: reduce,
    98: build,
  };
  for (;;) {
    const code = take(1).readUInt8();
    if (code === 0x2e) return { value: pop(), end: at };
    const operation = operations[code];
    if (!operation) fail(`its pickle has the instruction 0x${code.toString(16).padStart(2, '0')}, which tensors do not need`);
    operation?.();
  }
}
