import { NativeError } from '../errors.ts';
import type { Device } from './device.ts';
import { arrayFor, type DType, dtypeBytes, dtypeCode, dtypeName } from './dtype.ts';
import { type Handle, native, type Scalar, type TypedArray } from './native.ts';
import * as ops from './ops.generated.ts';
import type { Generator } from './random.ts';
import { Scope } from './scope.ts';

/** Nested arrays of numbers, as deep as the tensor's rank. */
export type Nested = number | readonly Nested[];
/** One dimension or several; negative ones count from the last. */
export type Dims = number | readonly number[];

/** What the garbage collector frees for tensors that no scope owns. */
const collected = new FinalizationRegistry<Handle>((handle) => native.free(handle));

const wrap = (handle: Handle): Tensor => new Tensor(handle);

/**
 * An n-dimensional array in libtorch, with PyTorch's semantics: broadcasting, dtype promotion, views, autograd. A method whose name
 * ends in `_` writes in place and returns its tensor. Misuse throws NativeError.
 */
export class Tensor {
  /** The addon's name for this tensor. */
  readonly handle: Handle;
  #shape: readonly number[] | undefined;
  #owner: Scope | undefined;
  #registered = false;
  #freed = false;

  /** Wraps a handle that the addon just made; see `create.ts` for making tensors. */
  constructor(handle: Handle) {
    if (typeof handle !== 'number')
      throw new NativeError('a Tensor is made by an operator or by tensor(), zeros(), …, not by its constructor');
    this.handle = handle;
    Scope.adopt(this);
  }

  // ── facts ──

  get shape(): readonly number[] {
    this.#shape ??= native.shape(this.handle);
    return this.#shape;
  }
  get rank(): number {
    return this.shape.length;
  }
  /** How many elements it has. */
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }
  get dtype(): DType {
    return dtypeName(native.dtype(this.handle));
  }
  get device(): Device {
    return native.device(this.handle) as Device;
  }
  get bytes(): number {
    return this.numel * dtypeBytes(this.dtype);
  }
  get strides(): readonly number[] {
    return native.strides(this.handle);
  }
  get isContiguous(): boolean {
    return native.isContiguous(this.handle);
  }
  /** The size of one dimension; negative ones count from the last. */
  size(dim: number): number {
    const size = this.shape.at(dim);
    if (size === undefined) throw new NativeError(`size(${dim}) of a tensor of rank ${this.rank}`);
    return size;
  }

  // ── lifetime ──

  /** The scope that will free this tensor. */
  get owner(): Scope | undefined {
    return this.#owner;
  }
  get freed(): boolean {
    return this.#freed;
  }
  /** Called by Scope alone: who frees this tensor from now on; nobody means the garbage collector. */
  own(scope: Scope | undefined): void {
    this.#owner = scope;
    if (scope !== undefined || this.#registered) return;
    native.account(this.handle); // throws for what is no handle, which must not be freed later
    collected.register(this, this.handle, this);
    this.#registered = true;
  }
  /** Gives the memory back now. Using the tensor afterwards throws; freeing twice does nothing. */
  free(): void {
    if (!this.#freed) native.free(this.disown());
  }
  /** Marks this tensor as freed and hands its slot to the caller, who frees it: a scope does so for many at once. */
  disown(): Handle {
    this.#freed = true;
    this.#owner = undefined;
    if (this.#registered) collected.unregister(this);
    return this.handle;
  }
  /** A second Tensor over the same values, owned by the innermost open scope. */
  alias(): Tensor {
    return new Tensor(native.alias(this.handle));
  }

  // ── data out ──

  /** The only value of a tensor with one element. */
  item(): number {
    return Number(ops._localScalarDense(this.handle));
  }
  /** A flat copy in row-major order; float16 and bfloat16 come as Float32Array, int64 as BigInt64Array, bool as Uint8Array. */
  toArray(): Exclude<TypedArray, Uint16Array | Uint8ClampedArray> {
    const dtype = this.dtype;
    if (dtype === 'float16' || dtype === 'bfloat16') {
      using _scope = new Scope();
      return this.cast('float32').toArray();
    }
    const data = arrayFor(dtype, this.numel);
    native.toData(this.handle, data);
    return data;
  }
  /** Plain numbers in nested arrays. */
  toList(): Nested {
    const flat = Array.from(this.toArray() as ArrayLike<number | bigint>, Number);
    const nest = (dim: number, from: number, count: number): Nested => {
      if (dim === this.rank) return flat[from] ?? Number.NaN;
      const size = this.shape[dim] ?? 0;
      const stride = size === 0 ? 0 : count / size;
      return Array.from({ length: size }, (_, i) => nest(dim + 1, from + i * stride, stride));
    };
    return nest(0, 0, flat.length);
  }
  toString(): string {
    return this.#freed
      ? 'Tensor(freed)'
      : `Tensor([${this.shape.join(', ')}], ${this.dtype}${this.device === 'cpu' ? '' : `, ${this.device}`})`;
  }
  [Symbol.for('nodejs.util.inspect.custom')](): string {
    return this.toString();
  }

  // ── arithmetic ──

  add(other: Tensor | Scalar, options?: { alpha?: number }): Tensor {
    return new Tensor(
      other instanceof Tensor
        ? ops.addTensor(this.handle, other.handle, options?.alpha)
        : ops.addScalar(this.handle, other, options?.alpha),
    );
  }
  sub(other: Tensor | Scalar, options?: { alpha?: number }): Tensor {
    return new Tensor(
      other instanceof Tensor
        ? ops.subTensor(this.handle, other.handle, options?.alpha)
        : ops.subScalar(this.handle, other, options?.alpha),
    );
  }
  mul(other: Tensor | Scalar): Tensor {
    return new Tensor(other instanceof Tensor ? ops.mulTensor(this.handle, other.handle) : ops.mulScalar(this.handle, other));
  }
  div(other: Tensor | Scalar): Tensor {
    return new Tensor(other instanceof Tensor ? ops.divTensor(this.handle, other.handle) : ops.divScalar(this.handle, other));
  }
  pow(exponent: Tensor | Scalar): Tensor {
    return new Tensor(
      exponent instanceof Tensor ? ops.powTensorTensor(this.handle, exponent.handle) : ops.powTensorScalar(this.handle, exponent),
    );
  }
  remainder(divisor: Scalar): Tensor {
    return wrap(ops.remainderScalar(this.handle, divisor));
  }
  maximum(other: Tensor): Tensor {
    return wrap(ops.maximum(this.handle, other.handle));
  }
  minimum(other: Tensor): Tensor {
    return wrap(ops.minimum(this.handle, other.handle));
  }
  /** this + value · a · b. */
  addcmul(a: Tensor, b: Tensor, value = 1): Tensor {
    return wrap(ops.addcmul(this.handle, a.handle, b.handle, value));
  }
  /** (1 - weight) · this + weight · end. */
  lerp(end: Tensor, weight: number): Tensor {
    return wrap(ops.lerpScalar(this.handle, end.handle, weight));
  }
  clamp({ min, max }: { min?: number; max?: number }): Tensor {
    return wrap(ops.clamp(this.handle, min ?? null, max ?? null));
  }
  neg(): Tensor {
    return wrap(ops.neg(this.handle));
  }
  abs(): Tensor {
    return wrap(ops.abs(this.handle));
  }
  sign(): Tensor {
    return wrap(ops.sign(this.handle));
  }
  exp(): Tensor {
    return wrap(ops.exp(this.handle));
  }
  log(): Tensor {
    return wrap(ops.log(this.handle));
  }
  log1p(): Tensor {
    return wrap(ops.log1p(this.handle));
  }
  sqrt(): Tensor {
    return wrap(ops.sqrt(this.handle));
  }
  rsqrt(): Tensor {
    return wrap(ops.rsqrt(this.handle));
  }
  square(): Tensor {
    return wrap(ops.square(this.handle));
  }
  reciprocal(): Tensor {
    return wrap(ops.reciprocal(this.handle));
  }
  sin(): Tensor {
    return wrap(ops.sin(this.handle));
  }
  cos(): Tensor {
    return wrap(ops.cos(this.handle));
  }
  tanh(): Tensor {
    return wrap(ops.tanh(this.handle));
  }
  sigmoid(): Tensor {
    return wrap(ops.sigmoid(this.handle));
  }
  erf(): Tensor {
    return wrap(ops.erf(this.handle));
  }
  floor(): Tensor {
    return wrap(ops.floor(this.handle));
  }
  ceil(): Tensor {
    return wrap(ops.ceil(this.handle));
  }
  round(): Tensor {
    return wrap(ops.round(this.handle));
  }

  // ── comparison and logic: bool tensors ──

  eq(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.eqTensor(this.handle, other.handle) : ops.eqScalar(this.handle, other));
  }
  ne(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.neTensor(this.handle, other.handle) : ops.neScalar(this.handle, other));
  }
  lt(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.ltTensor(this.handle, other.handle) : ops.ltScalar(this.handle, other));
  }
  le(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.leTensor(this.handle, other.handle) : ops.leScalar(this.handle, other));
  }
  gt(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.gtTensor(this.handle, other.handle) : ops.gtScalar(this.handle, other));
  }
  ge(other: Tensor | Scalar): Tensor {
    return wrap(other instanceof Tensor ? ops.geTensor(this.handle, other.handle) : ops.geScalar(this.handle, other));
  }
  logicalAnd(other: Tensor): Tensor {
    return wrap(ops.logicalAnd(this.handle, other.handle));
  }
  logicalOr(other: Tensor): Tensor {
    return wrap(ops.logicalOr(this.handle, other.handle));
  }
  logicalNot(): Tensor {
    return wrap(ops.logicalNot(this.handle));
  }
  isfinite(): Tensor {
    return wrap(ops.isfinite(this.handle));
  }
  isnan(): Tensor {
    return wrap(ops.isnan(this.handle));
  }
  /** True when shape and every value are the same. */
  equal(other: Tensor): boolean {
    return ops.equal(this.handle, other.handle);
  }

  // ── in place ──

  add_(other: Tensor | Scalar, options?: { alpha?: number }): this {
    if (other instanceof Tensor) ops.add_Tensor(this.handle, other.handle, options?.alpha);
    else ops.add_Scalar(this.handle, other, options?.alpha);
    return this;
  }
  sub_(other: Tensor | Scalar, options?: { alpha?: number }): this {
    if (other instanceof Tensor) ops.sub_Tensor(this.handle, other.handle, options?.alpha);
    else ops.sub_Scalar(this.handle, other, options?.alpha);
    return this;
  }
  mul_(other: Tensor | Scalar): this {
    if (other instanceof Tensor) ops.mul_Tensor(this.handle, other.handle);
    else ops.mul_Scalar(this.handle, other);
    return this;
  }
  div_(other: Tensor | Scalar): this {
    if (other instanceof Tensor) ops.div_Tensor(this.handle, other.handle);
    else ops.div_Scalar(this.handle, other);
    return this;
  }
  /** Takes over the values of a tensor that broadcasts to this one, converting dtype and device. */
  copy_(source: Tensor): this {
    ops.copy_(this.handle, source.handle);
    return this;
  }
  fill_(value: Scalar): this {
    ops.fill_Scalar(this.handle, value);
    return this;
  }
  zero_(): this {
    ops.zero_(this.handle);
    return this;
  }
  lerp_(end: Tensor, weight: number): this {
    ops.lerp_Scalar(this.handle, end.handle, weight);
    return this;
  }
  clamp_({ min, max }: { min?: number; max?: number }): this {
    ops.clamp_(this.handle, min ?? null, max ?? null);
    return this;
  }
  normal_({ mean = 0, std = 1, generator }: { mean?: number; std?: number; generator?: Generator } = {}): this {
    ops.normal_(this.handle, mean, std, generator?.handle ?? null);
    return this;
  }
  uniform_({ from = 0, to = 1, generator }: { from?: number; to?: number; generator?: Generator } = {}): this {
    ops.uniform_(this.handle, from, to, generator?.handle ?? null);
    return this;
  }
  /** Each value becomes 1 with the given probability, else 0. */
  bernoulli_(probability: number, { generator }: { generator?: Generator } = {}): this {
    ops.bernoulli_Float(this.handle, probability, generator?.handle ?? null);
    return this;
  }
  maskedFill_(mask: Tensor, value: Scalar): this {
    ops.maskedFill_Scalar(this.handle, mask.handle, value);
    return this;
  }
  indexCopy_(dim: number, index: Tensor, source: Tensor): this {
    ops.indexCopy_(this.handle, dim, index.handle, source.handle);
    return this;
  }
  indexAdd_(dim: number, index: Tensor, source: Tensor): this {
    ops.indexAdd_(this.handle, dim, index.handle, source.handle);
    return this;
  }

  // ── views and layout ──

  /** The same values in another shape without copying; -1 stands for what is left. */
  view(...shape: readonly number[]): Tensor {
    return new Tensor(ops.view(this.handle, shape));
  }
  /** As `view`, copying where the layout asks for it. */
  reshape(...shape: readonly number[]): Tensor {
    return new Tensor(ops.reshape(this.handle, shape));
  }
  transpose(a: number, b: number): Tensor {
    return new Tensor(ops.transposeInt(this.handle, a, b));
  }
  /** The transpose of a matrix. */
  t(): Tensor {
    return wrap(ops.t(this.handle));
  }
  permute(...dims: readonly number[]): Tensor {
    return wrap(ops.permute(this.handle, dims));
  }
  unsqueeze(dim: number): Tensor {
    return wrap(ops.unsqueeze(this.handle, dim));
  }
  squeeze(dim: number): Tensor {
    return wrap(ops.squeezeDim(this.handle, dim));
  }
  flatten(from = 0, to = -1): Tensor {
    return wrap(ops.flattenUsingInts(this.handle, from, to));
  }
  expand(...shape: readonly number[]): Tensor {
    return wrap(ops.expand(this.handle, shape));
  }
  narrow(dim: number, start: number, length: number): Tensor {
    return wrap(ops.narrow(this.handle, dim, start, length));
  }
  slice(dim: number, start: number, end: number, step = 1): Tensor {
    return wrap(ops.sliceTensor(this.handle, dim, start, end, step));
  }
  select(dim: number, index: number): Tensor {
    return wrap(ops.selectInt(this.handle, dim, index));
  }
  split(sizes: readonly number[], dim = 0): Tensor[] {
    return ops.splitWithSizes(this.handle, sizes, dim).map(wrap);
  }
  unbind(dim = 0): Tensor[] {
    return ops.unbindInt(this.handle, dim).map(wrap);
  }
  contiguous(): Tensor {
    return wrap(ops.contiguous(this.handle));
  }
  clone(): Tensor {
    return wrap(ops.clone(this.handle));
  }
  repeat(...times: readonly number[]): Tensor {
    return wrap(ops.repeat(this.handle, times));
  }
  repeatInterleave(times: number, dim: number): Tensor {
    return wrap(ops.repeatInterleaveSelfInt(this.handle, times, dim));
  }
  flip(...dims: readonly number[]): Tensor {
    return wrap(ops.flip(this.handle, dims));
  }
  roll(shifts: number, dim: number): Tensor {
    return wrap(ops.roll(this.handle, shifts, dim));
  }
  tril(diagonal = 0): Tensor {
    return wrap(ops.tril(this.handle, diagonal));
  }
  triu(diagonal = 0): Tensor {
    return wrap(ops.triu(this.handle, diagonal));
  }
  /** Another dtype or device; the tensor itself, aliased, where nothing changes. */
  to({ dtype, device }: { dtype?: DType; device?: Device }): Tensor {
    return wrap(ops.toDtypeLayout(this.handle, dtype && dtypeCode(dtype), null, device ?? null));
  }
  cast(dtype: DType): Tensor {
    return wrap(ops.toDtypeLayout(this.handle, dtypeCode(dtype)));
  }

  // ── products ──

  matmul(other: Tensor): Tensor {
    return new Tensor(ops.matmul(this.handle, other.handle));
  }
  mm(other: Tensor): Tensor {
    return wrap(ops.mm(this.handle, other.handle));
  }
  bmm(other: Tensor): Tensor {
    return wrap(ops.bmm(this.handle, other.handle));
  }

  // ── reductions ──

  sum(dims?: Dims, { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(dims === undefined ? ops.sum(this.handle) : ops.sumDimIntList(this.handle, dims, keepDim));
  }
  mean(dims?: Dims, { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(dims === undefined ? ops.mean(this.handle) : ops.meanDim(this.handle, dims, keepDim));
  }
  variance(dims: Dims, { keepDim = false, correction = 1 }: { keepDim?: boolean; correction?: number } = {}): Tensor {
    return wrap(ops.varCorrection(this.handle, dims, correction, keepDim));
  }
  std(dims: Dims, { keepDim = false, correction = 1 }: { keepDim?: boolean; correction?: number } = {}): Tensor {
    return wrap(ops.stdCorrection(this.handle, dims, correction, keepDim));
  }
  amax(dims: Dims = [], { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(ops.amax(this.handle, dims, keepDim));
  }
  amin(dims: Dims = [], { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(ops.amin(this.handle, dims, keepDim));
  }
  argmax(dim: number, { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(ops.argmax(this.handle, dim, keepDim));
  }
  argmin(dim: number, { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(ops.argmin(this.handle, dim, keepDim));
  }
  all(): Tensor {
    return wrap(ops.all(this.handle));
  }
  any(): Tensor {
    return wrap(ops.any(this.handle));
  }
  /** The 2-norm of all values. */
  norm(): Tensor {
    return wrap(ops.linalgVectorNorm(this.handle));
  }
  cumsum(dim: number): Tensor {
    return wrap(ops.cumsum(this.handle, dim));
  }
  logsumexp(dims: Dims, { keepDim = false }: { keepDim?: boolean } = {}): Tensor {
    return wrap(ops.logsumexp(this.handle, dims, keepDim));
  }
  softmax(dim: number): Tensor {
    return wrap(ops.softmaxInt(this.handle, dim));
  }
  logSoftmax(dim: number): Tensor {
    return wrap(ops.logSoftmaxInt(this.handle, dim));
  }
  /** The k largest values and where they are. */
  topk(k: number, dim = -1): [values: Tensor, indices: Tensor] {
    const [values, indices] = ops.topk(this.handle, k, dim);
    return [wrap(values), wrap(indices)];
  }
  /** A stable sort, and where each value was. */
  sort(dim = -1, { descending = false }: { descending?: boolean } = {}): [values: Tensor, indices: Tensor] {
    const [values, indices] = ops.sortStable(this.handle, true, dim, descending);
    return [wrap(values), wrap(indices)];
  }
  /** Draws indices with probabilities in proportion to the values of each row. */
  multinomial(count: number, { replacement = false, generator }: { replacement?: boolean; generator?: Generator } = {}): Tensor {
    return wrap(ops.multinomial(this.handle, count, replacement, generator?.handle ?? null));
  }

  // ── indexing: `index` tensors are int64 ──

  indexSelect(dim: number, index: Tensor): Tensor {
    return wrap(ops.indexSelect(this.handle, dim, index.handle));
  }
  gather(dim: number, index: Tensor): Tensor {
    return wrap(ops.gather(this.handle, dim, index.handle));
  }
  scatter(dim: number, index: Tensor, source: Tensor | Scalar): Tensor {
    return wrap(
      source instanceof Tensor
        ? ops.scatterSrc(this.handle, dim, index.handle, source.handle)
        : ops.scatterValue(this.handle, dim, index.handle, source),
    );
  }
  indexAdd(dim: number, index: Tensor, source: Tensor): Tensor {
    return wrap(ops.indexAdd(this.handle, dim, index.handle, source.handle));
  }
  indexCopy(dim: number, index: Tensor, source: Tensor): Tensor {
    return wrap(ops.indexCopy(this.handle, dim, index.handle, source.handle));
  }
  maskedFill(mask: Tensor, value: Scalar): Tensor {
    return wrap(ops.maskedFillScalar(this.handle, mask.handle, value));
  }
  maskedSelect(mask: Tensor): Tensor {
    return wrap(ops.maskedSelect(this.handle, mask.handle));
  }
  /** The indices [K, rank] of the values that are not zero. */
  nonzero(): Tensor {
    return wrap(ops.nonzero(this.handle));
  }

  // ── autograd ──

  get requiresGrad(): boolean {
    return native.requiresGrad(this.handle);
  }
  requiresGrad_(on = true): this {
    native.setRequiresGrad(this.handle, on);
    return this;
  }
  get isLeaf(): boolean {
    return native.isLeaf(this.handle);
  }
  /** The gradient that backward passes have added up here, owned by the innermost open scope. */
  get grad(): Tensor | undefined {
    const gradient = native.grad(this.handle);
    return gradient === null ? undefined : new Tensor(gradient);
  }
  set grad(gradient: Tensor | undefined) {
    native.setGrad(this.handle, gradient?.handle ?? null);
  }
  /** Adds the gradients of this tensor (one value, unless `gradient` is given) to the leaves that it was computed from. */
  backward(gradient?: Tensor): void {
    native.backward(this.handle, gradient?.handle ?? null);
  }
  /** The same values, cut off from the graph. */
  detach(): Tensor {
    return wrap(ops.detach(this.handle));
  }
}
