import { describe, expect, test } from 'vitest';
import { NativeError, ShapeError, TinyLlavaError } from '../../src/errors.ts';
import { arange, cat, full, indices, ones, randint, randn, randperm, stack, tensor, where, zeros } from '../../src/tensor/create.ts';
import { liveTensors } from '../../src/tensor/device.ts';
import { Generator, manualSeed } from '../../src/tensor/random.ts';
import { outliving, Scope } from '../../src/tensor/scope.ts';
import { sizes } from '../../src/tensor/sizes.ts';
import { Tensor } from '../../src/tensor/tensor.ts';

describe('data in and out', () => {
  test('nested arrays keep their shape and values', () => {
    const x = tensor([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(x.shape).toEqual([2, 3]);
    expect(x.dtype).toBe('float32');
    expect(x.toList()).toEqual([
      [1, 2, 3],
      [4, 5, 6],
    ]);
    expect(x.t().toList()).toEqual([
      [1, 4],
      [2, 5],
      [3, 6],
    ]);
  });

  test.each([
    [new Float64Array([1.5, -2]), 'float64'],
    [new BigInt64Array([1n, -(2n ** 60n)]), 'int64'],
    [new Int32Array([1, -2]), 'int32'],
    [new Int16Array([1, -2]), 'int16'],
    [new Int8Array([1, -2]), 'int8'],
    [new Uint8Array([1, 200]), 'uint8'],
  ])('%s comes back bit for bit', (data, dtype) => {
    const x = tensor(data);
    expect(x.dtype).toBe(dtype);
    expect(x.toArray()).toEqual(data);
  });

  test('half precision comes out as float32', () => {
    expect(tensor([1, 0.333251953125], { dtype: 'float16' }).toArray()).toEqual(new Float32Array([1, 0.333251953125]));
    expect(tensor([1, 257], { dtype: 'bfloat16' }).toArray()).toEqual(new Float32Array([1, 256]));
  });

  test('a bool tensor is made of 0 and 1', () => {
    const x = tensor([0, 1, 5], { dtype: 'bool' });
    expect(x.dtype).toBe('bool');
    expect(x.logicalNot().toList()).toEqual([1, 0, 0]);
  });

  test('a copy of a view follows the view, not the memory', () => {
    const x = arange(6, undefined, { dtype: 'float32' }).view(2, 3);
    expect(x.transpose(0, 1).toArray()).toEqual(new Float32Array([0, 3, 1, 4, 2, 5]));
    expect(x.slice(1, 0, 3, 2).toList()).toEqual([
      [0, 2],
      [3, 5],
    ]);
  });

  test('lengths that do not fit are refused', () => {
    expect(() => tensor([[1, 2], [3]])).toThrow(ShapeError);
    expect(() => tensor(new Float32Array(5), { shape: [2, 3] })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: 5 values do not fill a tensor of shape [2, 3]]`,
    );
  });
});

describe('arithmetic', () => {
  test('a whole number keeps an integer dtype and a fraction does not', () => {
    const x = tensor(new Int32Array([1, 2]));
    expect(x.add(2).dtype).toBe('int32');
    expect(x.mul(0.5).toList()).toEqual([0.5, 1]);
    expect(x.div(2).toList()).toEqual([0.5, 1]);
  });

  test('values broadcast as in PyTorch', () => {
    const x = tensor([[1], [2]]);
    expect(x.add(tensor([10, 20])).toList()).toEqual([
      [11, 21],
      [12, 22],
    ]);
    expect(x.sub(tensor([1]), { alpha: 2 }).toList()).toEqual([[-1], [0]]);
  });

  test('in-place methods change the tensor and return it', () => {
    const x = ones([2]);
    const y = x
      .add_(2)
      .mul_(tensor([1, 2]))
      .sub_(1)
      .div_(2);
    expect(y).toBe(x);
    expect(x.toList()).toEqual([1, 2.5]);
    expect(x.zero_().fill_(3).clamp_({ max: 2 }).toList()).toEqual([2, 2]);
    expect(x.copy_(tensor(new Int32Array([7, 8]))).toList()).toEqual([7, 8]);
  });

  test('reductions take one dimension, several or none', () => {
    const x = arange(24, undefined, { dtype: 'float32' }).view(2, 3, 4);
    expect(x.sum().item()).toBe(276);
    expect(x.mean([1, 2]).toList()).toEqual([5.5, 17.5]);
    expect(x.amax(-1, { keepDim: true }).shape).toEqual([2, 3, 1]);
    expect(x.argmax(2).select(0, 0).toList()).toEqual([3, 3, 3]);
    expect(x.variance(2, { correction: 0 }).select(0, 0).toList()).toEqual([1.25, 1.25, 1.25]);
  });

  test('indexing picks and places rows', () => {
    const x = arange(6, undefined, { dtype: 'float32' }).view(3, 2);
    expect(x.indexSelect(0, indices([2, 0])).toList()).toEqual([
      [4, 5],
      [0, 1],
    ]);
    expect(
      zeros([3, 2])
        .indexCopy(0, indices([1]), tensor([[7, 8]]))
        .toList(),
    ).toEqual([
      [0, 0],
      [7, 8],
      [0, 0],
    ]);
    expect(where(x.gt(2), x, 0).sum().item()).toBe(12);
    const [values, at] = tensor([3, 9, 5]).topk(2);
    expect([values.toList(), at.toList()]).toEqual([
      [9, 5],
      [1, 2],
    ]);
  });

  test('tensors join and part', () => {
    const x = tensor([1, 2]);
    expect(stack([x, x]).shape).toEqual([2, 2]);
    const [a, b] = cat([x, tensor([3])]).split([1, 2]);
    expect([a?.toList(), b?.toList()]).toEqual([[1], [2, 3]]);
  });
});

describe('random numbers', () => {
  test('the same seed gives the same numbers', () => {
    expect(randn([4], { generator: new Generator(7) }).equal(randn([4], { generator: new Generator(7) }))).toBe(true);
    expect(randperm(50, { generator: new Generator(1) }).equal(randperm(50, { generator: new Generator(2) }))).toBe(false);
    const drawn = randint(3, 5, [100], { generator: new Generator(1) });
    expect([drawn.amin().item(), drawn.amax().item()]).toEqual([3, 4]);
  });

  test('a saved state goes on where it was', () => {
    const generator = new Generator(3);
    randn([5], { generator });
    const { state } = generator;
    const next = randn([5], { generator });
    const other = new Generator(99);
    other.state = state;
    expect(randn([5], { generator: other }).equal(next)).toBe(true);
  });

  test('the default generator is seeded apart', () => {
    manualSeed(5);
    const first = randn([3]);
    manualSeed(5);
    expect(randn([3]).equal(first)).toBe(true);
  });
});

describe('lifetimes', () => {
  test('a scope frees what was made in it, but for what is kept', () => {
    const before = liveTensors();
    let kept: Tensor;
    {
      using outer = new Scope();
      {
        using inner = new Scope();
        const a = ones([2]);
        kept = inner.keep(a.add(a));
      }
      expect(liveTensors()).toBe(before + 1);
      expect(kept.toList()).toEqual([2, 2]);
      outer.keep(kept);
    }
    expect(kept.sum().item()).toBe(4);
    kept.free();
    expect(kept.freed).toBe(true);
  });

  test('what is made outside all scopes outlives them', () => {
    using _scope = new Scope();
    const made = outliving(() => zeros([1]));
    expect(made.owner).toBeUndefined();
    made.free();
  });

  test('an await inside a scope is found out', () => {
    const outer = new Scope();
    const inner = new Scope();
    expect(() => outer[Symbol.dispose]()).toThrow(TinyLlavaError);
    inner[Symbol.dispose]();
    outer[Symbol.dispose]();
  });

  test('the garbage collector frees what nobody owns', async () => {
    const { setFlagsFromString } = await import('node:v8');
    setFlagsFromString('--expose-gc');
    const collect = (await import('node:vm')).runInNewContext('gc') as () => void;
    const before = liveTensors();
    for (let i = 0; i < 1000; i++) zeros([1000]);
    for (let i = 0; i < 20 && liveTensors() > before; i++) {
      collect();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    expect(liveTensors()).toBeLessThan(before + 1000);
  });
});

describe('misuse throws', () => {
  test('a freed tensor is named as such', () => {
    const x = zeros([1]);
    x.free();
    x.free();
    expect(() => x.add(1)).toThrowErrorMatchingInlineSnapshot(`[NativeError: aten::add.Scalar: argument \`self\`: the tensor was freed]`);
    expect(() => x.shape).toThrowErrorMatchingInlineSnapshot(`[NativeError: shape: the tensor was freed]`);
  });

  test('a reused slot does not answer to an old handle', () => {
    const old = zeros([1]);
    old.free();
    const slot = zeros([1]);
    expect(() => old.item()).toThrow('freed');
    slot.free();
  });

  test.each([
    ['a string', 'x'],
    ['an object', {}],
    ['null', null],
    ['undefined', undefined],
    ['a symbol', Symbol('x')],
  ])('%s is not a number to add', (_, other) => {
    expect(() => zeros([1]).add(other as unknown as number)).toThrow(NativeError);
  });

  test('an invented handle is not a tensor', () => {
    for (const handle of [0, 1, -1, 0.5, 1e300, Number.NaN, 2 ** 53])
      expect(() => new Tensor(handle as Tensor['handle']).shape).toThrow(NativeError);
  });

  test('libtorch explains itself without a C++ backtrace', () => {
    const refused = () => zeros([2, 3]).matmul(zeros([2, 3]));
    expect(refused).toThrow('mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)');
    expect(refused).not.toThrow('frame #');
    expect(() => full([2], 1).view(3)).toThrowErrorMatchingInlineSnapshot(
      `[NativeError: aten::view: shape '[3]' is invalid for input of size 2]`,
    );
  });

  test('sizes names the dimension that does not fit', () => {
    expect(sizes(zeros([2, 3]), 'B C', { C: 3 })).toEqual([2, 3]);
    expect(() => sizes(zeros([2, 3]), 'B T C', { C: 4 })).toThrowErrorMatchingInlineSnapshot(
      `[ShapeError: expected [B, T, C=4], got [2, 3]]`,
    );
  });
});
