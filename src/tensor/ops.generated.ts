// Made by scripts/generate-ops.ts from the operator schemas of libtorch; do not edit.
import { type GeneratorHandle, type Handle, type Scalar, operator } from './native.ts';

/** `aten::abs(Tensor self) -> Tensor` */
export const abs = operator<(self: Handle) => Handle>('aten::abs', '');

/** `aten::acos(Tensor self) -> Tensor` */
export const acos = operator<(self: Handle) => Handle>('aten::acos', '');

/** `aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor` */
export const addScalar = operator<(self: Handle, other: Scalar, alpha?: Scalar) => Handle>('aten::add', 'Scalar');

/** `aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor` */
export const addTensor = operator<(self: Handle, other: Handle, alpha?: Scalar) => Handle>('aten::add', 'Tensor');

/** `aten::add_.Scalar(Tensor(a!) self, Scalar other, Scalar alpha=1) -> Tensor(a!)` */
export const add_Scalar = operator<(self: Handle, other: Scalar, alpha?: Scalar) => void>('aten::add_', 'Scalar');

/** `aten::add_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)` */
export const add_Tensor = operator<(self: Handle, other: Handle, alpha?: Scalar) => void>('aten::add_', 'Tensor');

/** `aten::addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor` */
export const addcmul = operator<(self: Handle, tensor1: Handle, tensor2: Handle, value?: Scalar) => Handle>('aten::addcmul', '');

/** `aten::addcmul_(Tensor(a!) self, Tensor tensor1, Tensor tensor2, *, Scalar value=1) -> Tensor(a!)` */
export const addcmul_ = operator<(self: Handle, tensor1: Handle, tensor2: Handle, value?: Scalar) => void>('aten::addcmul_', '');

/** `aten::addmm(Tensor self, Tensor mat1, Tensor mat2, *, Scalar beta=1, Scalar alpha=1) -> Tensor` */
export const addmm = operator<(self: Handle, mat1: Handle, mat2: Handle, beta?: Scalar, alpha?: Scalar) => Handle>('aten::addmm', '');

/** `aten::all(Tensor self) -> Tensor` */
export const all = operator<(self: Handle) => Handle>('aten::all', '');

/** `aten::all.dim(Tensor self, int dim, bool keepdim=False) -> Tensor` */
export const allDim = operator<(self: Handle, dim: number, keepdim?: boolean) => Handle>('aten::all', 'dim');

/** `aten::amax(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor` */
export const amax = operator<(self: Handle, dim?: readonly number[] | number, keepdim?: boolean) => Handle>('aten::amax', '');

/** `aten::amin(Tensor self, int[1] dim=[], bool keepdim=False) -> Tensor` */
export const amin = operator<(self: Handle, dim?: readonly number[] | number, keepdim?: boolean) => Handle>('aten::amin', '');

/** `aten::any(Tensor self) -> Tensor` */
export const any = operator<(self: Handle) => Handle>('aten::any', '');

/** `aten::any.dim(Tensor self, int dim, bool keepdim=False) -> Tensor` */
export const anyDim = operator<(self: Handle, dim: number, keepdim?: boolean) => Handle>('aten::any', 'dim');

/** `aten::arange.start_step(Scalar start, Scalar end, Scalar step=1, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor` */
export const arangeStartStep = operator<(start: Scalar, end: Scalar, step?: Scalar, dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null) => Handle>('aten::arange', 'start_step');

/** `aten::argmax(Tensor self, int? dim=None, bool keepdim=False) -> Tensor` */
export const argmax = operator<(self: Handle, dim?: number | null, keepdim?: boolean) => Handle>('aten::argmax', '');

/** `aten::argmin(Tensor self, int? dim=None, bool keepdim=False) -> Tensor` */
export const argmin = operator<(self: Handle, dim?: number | null, keepdim?: boolean) => Handle>('aten::argmin', '');

/** `aten::argsort.stable(Tensor self, *, bool stable, int dim=-1, bool descending=False) -> Tensor` */
export const argsortStable = operator<(self: Handle, stable: boolean, dim?: number, descending?: boolean) => Handle>('aten::argsort', 'stable');

/** `aten::bernoulli_.float(Tensor(a!) self, float p=0.5, *, Generator? generator=None) -> Tensor(a!)` */
export const bernoulli_Float = operator<(self: Handle, p?: number, generator?: GeneratorHandle | null) => void>('aten::bernoulli_', 'float');

/** `aten::bmm(Tensor self, Tensor mat2) -> Tensor` */
export const bmm = operator<(self: Handle, mat2: Handle) => Handle>('aten::bmm', '');

/** `aten::cat(Tensor[] tensors, int dim=0) -> Tensor` */
export const cat = operator<(tensors: readonly Handle[], dim?: number) => Handle>('aten::cat', '');

/** `aten::ceil(Tensor self) -> Tensor` */
export const ceil = operator<(self: Handle) => Handle>('aten::ceil', '');

/** `aten::clamp(Tensor self, Scalar? min=None, Scalar? max=None) -> Tensor` */
export const clamp = operator<(self: Handle, min?: Scalar | null, max?: Scalar | null) => Handle>('aten::clamp', '');

/** `aten::clamp_(Tensor(a!) self, Scalar? min=None, Scalar? max=None) -> Tensor(a!)` */
export const clamp_ = operator<(self: Handle, min?: Scalar | null, max?: Scalar | null) => void>('aten::clamp_', '');

/** `aten::clone(Tensor self, *, MemoryFormat? memory_format=None) -> Tensor` */
export const clone = operator<(self: Handle, memoryFormat?: number | null) => Handle>('aten::clone', '');

/** `aten::constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor` */
export const constantPadNd = operator<(self: Handle, pad: readonly number[], value?: Scalar) => Handle>('aten::constant_pad_nd', '');

/** `aten::contiguous(Tensor(a) self, *, MemoryFormat memory_format=0) -> Tensor(a)` */
export const contiguous = operator<(self: Handle, memoryFormat?: number) => Handle>('aten::contiguous', '');

/** `aten::conv1d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[1] stride=[1], SymInt[1] padding=[0], SymInt[1] dilation=[1], SymInt groups=1) -> Tensor` */
export const conv1d = operator<(input: Handle, weight: Handle, bias?: Handle | null, stride?: readonly number[] | number, padding?: readonly number[] | number, dilation?: readonly number[] | number, groups?: number) => Handle>('aten::conv1d', '');

/** `aten::conv2d(Tensor input, Tensor weight, Tensor? bias=None, SymInt[2] stride=[1, 1], SymInt[2] padding=[0, 0], SymInt[2] dilation=[1, 1], SymInt groups=1) -> Tensor` */
export const conv2d = operator<(input: Handle, weight: Handle, bias?: Handle | null, stride?: readonly number[] | number, padding?: readonly number[] | number, dilation?: readonly number[] | number, groups?: number) => Handle>('aten::conv2d', '');

/** `aten::copy_(Tensor(a!) self, Tensor src, bool non_blocking=False) -> Tensor(a!)` */
export const copy_ = operator<(self: Handle, src: Handle, nonBlocking?: boolean) => void>('aten::copy_', '');

/** `aten::cos(Tensor self) -> Tensor` */
export const cos = operator<(self: Handle) => Handle>('aten::cos', '');

/** `aten::cumsum(Tensor self, int dim, *, ScalarType? dtype=None) -> Tensor` */
export const cumsum = operator<(self: Handle, dim: number, dtype?: number | null) => Handle>('aten::cumsum', '');

/** `aten::detach(Tensor(a) self) -> Tensor(a)` */
export const detach = operator<(self: Handle) => Handle>('aten::detach', '');

/** `aten::div.Scalar(Tensor self, Scalar other) -> Tensor` */
export const divScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::div', 'Scalar');

/** `aten::div.Tensor(Tensor self, Tensor other) -> Tensor` */
export const divTensor = operator<(self: Handle, other: Handle) => Handle>('aten::div', 'Tensor');

/** `aten::div_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)` */
export const div_Scalar = operator<(self: Handle, other: Scalar) => void>('aten::div_', 'Scalar');

/** `aten::div_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)` */
export const div_Tensor = operator<(self: Handle, other: Handle) => void>('aten::div_', 'Tensor');

/** `aten::div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode) -> Tensor` */
export const divTensorMode = operator<(self: Handle, other: Handle, roundingMode: string | null) => Handle>('aten::div', 'Tensor_mode');

/** `aten::dropout(Tensor input, float p, bool train) -> Tensor` */
export const dropout = operator<(input: Handle, p: number, train: boolean) => Handle>('aten::dropout', '');

/** `aten::embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor` */
export const embedding = operator<(weight: Handle, indices: Handle, paddingIdx?: number, scaleGradByFreq?: boolean, sparse?: boolean) => Handle>('aten::embedding', '');

/** `aten::empty.memory_format(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None) -> Tensor` */
export const emptyMemoryFormat = operator<(size: readonly number[], dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null, memoryFormat?: number | null) => Handle>('aten::empty', 'memory_format');

/** `aten::eq.Scalar(Tensor self, Scalar other) -> Tensor` */
export const eqScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::eq', 'Scalar');

/** `aten::eq.Tensor(Tensor self, Tensor other) -> Tensor` */
export const eqTensor = operator<(self: Handle, other: Handle) => Handle>('aten::eq', 'Tensor');

/** `aten::equal(Tensor self, Tensor other) -> bool` */
export const equal = operator<(self: Handle, other: Handle) => boolean>('aten::equal', '');

/** `aten::erf(Tensor self) -> Tensor` */
export const erf = operator<(self: Handle) => Handle>('aten::erf', '');

/** `aten::exp(Tensor self) -> Tensor` */
export const exp = operator<(self: Handle) => Handle>('aten::exp', '');

/** `aten::expand(Tensor(a) self, SymInt[] size, *, bool implicit=False) -> Tensor(a)` */
export const expand = operator<(self: Handle, size: readonly number[], implicit?: boolean) => Handle>('aten::expand', '');

/** `aten::fill_.Scalar(Tensor(a!) self, Scalar value) -> Tensor(a!)` */
export const fill_Scalar = operator<(self: Handle, value: Scalar) => void>('aten::fill_', 'Scalar');

/** `aten::flatten.using_ints(Tensor(a) self, int start_dim=0, int end_dim=-1) -> Tensor(a)` */
export const flattenUsingInts = operator<(self: Handle, startDim?: number, endDim?: number) => Handle>('aten::flatten', 'using_ints');

/** `aten::flip(Tensor self, int[] dims) -> Tensor` */
export const flip = operator<(self: Handle, dims: readonly number[]) => Handle>('aten::flip', '');

/** `aten::floor(Tensor self) -> Tensor` */
export const floor = operator<(self: Handle) => Handle>('aten::floor', '');

/** `aten::full(SymInt[] size, Scalar fill_value, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor` */
export const full = operator<(size: readonly number[], fillValue: Scalar, dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null) => Handle>('aten::full', '');

/** `aten::gather(Tensor self, int dim, Tensor index, *, bool sparse_grad=False) -> Tensor` */
export const gather = operator<(self: Handle, dim: number, index: Handle, sparseGrad?: boolean) => Handle>('aten::gather', '');

/** `aten::ge.Scalar(Tensor self, Scalar other) -> Tensor` */
export const geScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::ge', 'Scalar');

/** `aten::ge.Tensor(Tensor self, Tensor other) -> Tensor` */
export const geTensor = operator<(self: Handle, other: Handle) => Handle>('aten::ge', 'Tensor');

/** `aten::gelu(Tensor self, *, str approximate="none") -> Tensor` */
export const gelu = operator<(self: Handle, approximate?: string) => Handle>('aten::gelu', '');

/** `aten::gt.Scalar(Tensor self, Scalar other) -> Tensor` */
export const gtScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::gt', 'Scalar');

/** `aten::gt.Tensor(Tensor self, Tensor other) -> Tensor` */
export const gtTensor = operator<(self: Handle, other: Handle) => Handle>('aten::gt', 'Tensor');

/** `aten::index_add(Tensor self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor` */
export const indexAdd = operator<(self: Handle, dim: number, index: Handle, source: Handle, alpha?: Scalar) => Handle>('aten::index_add', '');

/** `aten::index_add_(Tensor(a!) self, int dim, Tensor index, Tensor source, *, Scalar alpha=1) -> Tensor(a!)` */
export const indexAdd_ = operator<(self: Handle, dim: number, index: Handle, source: Handle, alpha?: Scalar) => void>('aten::index_add_', '');

/** `aten::index_copy(Tensor self, int dim, Tensor index, Tensor source) -> Tensor` */
export const indexCopy = operator<(self: Handle, dim: number, index: Handle, source: Handle) => Handle>('aten::index_copy', '');

/** `aten::index_copy_(Tensor(a!) self, int dim, Tensor index, Tensor source) -> Tensor(a!)` */
export const indexCopy_ = operator<(self: Handle, dim: number, index: Handle, source: Handle) => void>('aten::index_copy_', '');

/** `aten::index_select(Tensor self, int dim, Tensor index) -> Tensor` */
export const indexSelect = operator<(self: Handle, dim: number, index: Handle) => Handle>('aten::index_select', '');

/** `aten::is_nonzero(Tensor self) -> bool` */
export const isNonzero = operator<(self: Handle) => boolean>('aten::is_nonzero', '');

/** `aten::isfinite(Tensor self) -> Tensor` */
export const isfinite = operator<(self: Handle) => Handle>('aten::isfinite', '');

/** `aten::isnan(Tensor self) -> Tensor` */
export const isnan = operator<(self: Handle) => Handle>('aten::isnan', '');

/** `aten::layer_norm(Tensor input, SymInt[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1.0000000000000001e-05, bool cudnn_enable=True) -> Tensor` */
export const layerNorm = operator<(input: Handle, normalizedShape: readonly number[], weight?: Handle | null, bias?: Handle | null, eps?: number, cudnnEnable?: boolean) => Handle>('aten::layer_norm', '');

/** `aten::le.Scalar(Tensor self, Scalar other) -> Tensor` */
export const leScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::le', 'Scalar');

/** `aten::le.Tensor(Tensor self, Tensor other) -> Tensor` */
export const leTensor = operator<(self: Handle, other: Handle) => Handle>('aten::le', 'Tensor');

/** `aten::lerp.Scalar(Tensor self, Tensor end, Scalar weight) -> Tensor` */
export const lerpScalar = operator<(self: Handle, end: Handle, weight: Scalar) => Handle>('aten::lerp', 'Scalar');

/** `aten::lerp_.Scalar(Tensor(a!) self, Tensor end, Scalar weight) -> Tensor(a!)` */
export const lerp_Scalar = operator<(self: Handle, end: Handle, weight: Scalar) => void>('aten::lerp_', 'Scalar');

/** `aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor` */
export const linalgVectorNorm = operator<(self: Handle, ord?: Scalar, dim?: readonly number[] | number | null, keepdim?: boolean, dtype?: number | null) => Handle>('aten::linalg_vector_norm', '');

/** `aten::log(Tensor self) -> Tensor` */
export const log = operator<(self: Handle) => Handle>('aten::log', '');

/** `aten::log1p(Tensor self) -> Tensor` */
export const log1p = operator<(self: Handle) => Handle>('aten::log1p', '');

/** `aten::log_softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor` */
export const logSoftmaxInt = operator<(self: Handle, dim: number, dtype?: number | null) => Handle>('aten::log_softmax', 'int');

/** `aten::logical_and(Tensor self, Tensor other) -> Tensor` */
export const logicalAnd = operator<(self: Handle, other: Handle) => Handle>('aten::logical_and', '');

/** `aten::logical_not(Tensor self) -> Tensor` */
export const logicalNot = operator<(self: Handle) => Handle>('aten::logical_not', '');

/** `aten::logical_or(Tensor self, Tensor other) -> Tensor` */
export const logicalOr = operator<(self: Handle, other: Handle) => Handle>('aten::logical_or', '');

/** `aten::logsumexp(Tensor self, int[1] dim, bool keepdim=False) -> Tensor` */
export const logsumexp = operator<(self: Handle, dim: readonly number[] | number, keepdim?: boolean) => Handle>('aten::logsumexp', '');

/** `aten::lt.Scalar(Tensor self, Scalar other) -> Tensor` */
export const ltScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::lt', 'Scalar');

/** `aten::lt.Tensor(Tensor self, Tensor other) -> Tensor` */
export const ltTensor = operator<(self: Handle, other: Handle) => Handle>('aten::lt', 'Tensor');

/** `aten::masked_fill.Scalar(Tensor self, Tensor mask, Scalar value) -> Tensor` */
export const maskedFillScalar = operator<(self: Handle, mask: Handle, value: Scalar) => Handle>('aten::masked_fill', 'Scalar');

/** `aten::masked_fill_.Scalar(Tensor(a!) self, Tensor mask, Scalar value) -> Tensor(a!)` */
export const maskedFill_Scalar = operator<(self: Handle, mask: Handle, value: Scalar) => void>('aten::masked_fill_', 'Scalar');

/** `aten::masked_select(Tensor self, Tensor mask) -> Tensor` */
export const maskedSelect = operator<(self: Handle, mask: Handle) => Handle>('aten::masked_select', '');

/** `aten::matmul(Tensor self, Tensor other) -> Tensor` */
export const matmul = operator<(self: Handle, other: Handle) => Handle>('aten::matmul', '');

/** `aten::max.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)` */
export const maxDim = operator<(self: Handle, dim: number, keepdim?: boolean) => [Handle, Handle]>('aten::max', 'dim');

/** `aten::maximum(Tensor self, Tensor other) -> Tensor` */
export const maximum = operator<(self: Handle, other: Handle) => Handle>('aten::maximum', '');

/** `aten::mean(Tensor self, *, ScalarType? dtype=None) -> Tensor` */
export const mean = operator<(self: Handle, dtype?: number | null) => Handle>('aten::mean', '');

/** `aten::mean.dim(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor` */
export const meanDim = operator<(self: Handle, dim: readonly number[] | number | null, keepdim?: boolean, dtype?: number | null) => Handle>('aten::mean', 'dim');

/** `aten::min.dim(Tensor self, int dim, bool keepdim=False) -> (Tensor values, Tensor indices)` */
export const minDim = operator<(self: Handle, dim: number, keepdim?: boolean) => [Handle, Handle]>('aten::min', 'dim');

/** `aten::minimum(Tensor self, Tensor other) -> Tensor` */
export const minimum = operator<(self: Handle, other: Handle) => Handle>('aten::minimum', '');

/** `aten::mm(Tensor self, Tensor mat2) -> Tensor` */
export const mm = operator<(self: Handle, mat2: Handle) => Handle>('aten::mm', '');

/** `aten::mul.Scalar(Tensor self, Scalar other) -> Tensor` */
export const mulScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::mul', 'Scalar');

/** `aten::mul.Tensor(Tensor self, Tensor other) -> Tensor` */
export const mulTensor = operator<(self: Handle, other: Handle) => Handle>('aten::mul', 'Tensor');

/** `aten::mul_.Scalar(Tensor(a!) self, Scalar other) -> Tensor(a!)` */
export const mul_Scalar = operator<(self: Handle, other: Scalar) => void>('aten::mul_', 'Scalar');

/** `aten::mul_.Tensor(Tensor(a!) self, Tensor other) -> Tensor(a!)` */
export const mul_Tensor = operator<(self: Handle, other: Handle) => void>('aten::mul_', 'Tensor');

/** `aten::multinomial(Tensor self, SymInt num_samples, bool replacement=False, *, Generator? generator=None) -> Tensor` */
export const multinomial = operator<(self: Handle, numSamples: number, replacement?: boolean, generator?: GeneratorHandle | null) => Handle>('aten::multinomial', '');

/** `aten::mv(Tensor self, Tensor vec) -> Tensor` */
export const mv = operator<(self: Handle, vec: Handle) => Handle>('aten::mv', '');

/** `aten::narrow(Tensor(a) self, int dim, SymInt start, SymInt length) -> Tensor(a)` */
export const narrow = operator<(self: Handle, dim: number, start: number, length: number) => Handle>('aten::narrow', '');

/** `aten::ne.Scalar(Tensor self, Scalar other) -> Tensor` */
export const neScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::ne', 'Scalar');

/** `aten::ne.Tensor(Tensor self, Tensor other) -> Tensor` */
export const neTensor = operator<(self: Handle, other: Handle) => Handle>('aten::ne', 'Tensor');

/** `aten::neg(Tensor self) -> Tensor` */
export const neg = operator<(self: Handle) => Handle>('aten::neg', '');

/** `aten::nonzero(Tensor self) -> Tensor` */
export const nonzero = operator<(self: Handle) => Handle>('aten::nonzero', '');

/** `aten::normal_(Tensor(a!) self, float mean=0., float std=1., *, Generator? generator=None) -> Tensor(a!)` */
export const normal_ = operator<(self: Handle, mean?: number, std?: number, generator?: GeneratorHandle | null) => void>('aten::normal_', '');

/** `aten::one_hot(Tensor self, int num_classes=-1) -> Tensor` */
export const oneHot = operator<(self: Handle, numClasses?: number) => Handle>('aten::one_hot', '');

/** `aten::permute(Tensor(a) self, int[] dims) -> Tensor(a)` */
export const permute = operator<(self: Handle, dims: readonly number[]) => Handle>('aten::permute', '');

/** `aten::pixel_shuffle(Tensor self, int upscale_factor) -> Tensor` */
export const pixelShuffle = operator<(self: Handle, upscaleFactor: number) => Handle>('aten::pixel_shuffle', '');

/** `aten::pixel_unshuffle(Tensor self, int downscale_factor) -> Tensor` */
export const pixelUnshuffle = operator<(self: Handle, downscaleFactor: number) => Handle>('aten::pixel_unshuffle', '');

/** `aten::pow.Scalar(Scalar self, Tensor exponent) -> Tensor` */
export const powScalar = operator<(self: Scalar, exponent: Handle) => Handle>('aten::pow', 'Scalar');

/** `aten::pow.Tensor_Scalar(Tensor self, Scalar exponent) -> Tensor` */
export const powTensorScalar = operator<(self: Handle, exponent: Scalar) => Handle>('aten::pow', 'Tensor_Scalar');

/** `aten::pow.Tensor_Tensor(Tensor self, Tensor exponent) -> Tensor` */
export const powTensorTensor = operator<(self: Handle, exponent: Handle) => Handle>('aten::pow', 'Tensor_Tensor');

/** `aten::prod.dim_int(Tensor self, int dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor` */
export const prodDimInt = operator<(self: Handle, dim: number, keepdim?: boolean, dtype?: number | null) => Handle>('aten::prod', 'dim_int');

/** `aten::randint.generator(SymInt high, SymInt[] size, *, Generator? generator, ScalarType? dtype=4, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor` */
export const randintGenerator = operator<(high: number, size: readonly number[], generator: GeneratorHandle | null, dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null) => Handle>('aten::randint', 'generator');

/** `aten::randperm.generator(SymInt n, *, Generator? generator, ScalarType? dtype=4, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor` */
export const randpermGenerator = operator<(n: number, generator: GeneratorHandle | null, dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null) => Handle>('aten::randperm', 'generator');

/** `aten::reciprocal(Tensor self) -> Tensor` */
export const reciprocal = operator<(self: Handle) => Handle>('aten::reciprocal', '');

/** `aten::relu(Tensor self) -> Tensor` */
export const relu = operator<(self: Handle) => Handle>('aten::relu', '');

/** `aten::remainder.Scalar(Tensor self, Scalar other) -> Tensor` */
export const remainderScalar = operator<(self: Handle, other: Scalar) => Handle>('aten::remainder', 'Scalar');

/** `aten::repeat(Tensor self, SymInt[] repeats) -> Tensor` */
export const repeat = operator<(self: Handle, repeats: readonly number[]) => Handle>('aten::repeat', '');

/** `aten::repeat_interleave.self_int(Tensor self, SymInt repeats, int? dim=None, *, SymInt? output_size=None) -> Tensor` */
export const repeatInterleaveSelfInt = operator<(self: Handle, repeats: number, dim?: number | null, outputSize?: number | null) => Handle>('aten::repeat_interleave', 'self_int');

/** `aten::reshape(Tensor(a) self, SymInt[] shape) -> Tensor(a)` */
export const reshape = operator<(self: Handle, shape: readonly number[]) => Handle>('aten::reshape', '');

/** `aten::roll(Tensor self, SymInt[1] shifts, int[1] dims=[]) -> Tensor` */
export const roll = operator<(self: Handle, shifts: readonly number[] | number, dims?: readonly number[] | number) => Handle>('aten::roll', '');

/** `aten::round(Tensor self) -> Tensor` */
export const round = operator<(self: Handle) => Handle>('aten::round', '');

/** `aten::rsqrt(Tensor self) -> Tensor` */
export const rsqrt = operator<(self: Handle) => Handle>('aten::rsqrt', '');

/** `aten::scatter.src(Tensor self, int dim, Tensor index, Tensor src) -> Tensor` */
export const scatterSrc = operator<(self: Handle, dim: number, index: Handle, src: Handle) => Handle>('aten::scatter', 'src');

/** `aten::scatter.value(Tensor self, int dim, Tensor index, Scalar value) -> Tensor` */
export const scatterValue = operator<(self: Handle, dim: number, index: Handle, value: Scalar) => Handle>('aten::scatter', 'value');

/** `aten::scatter_.value(Tensor(a!) self, int dim, Tensor index, Scalar value) -> Tensor(a!)` */
export const scatter_Value = operator<(self: Handle, dim: number, index: Handle, value: Scalar) => void>('aten::scatter_', 'value');

/** `aten::scatter_add(Tensor self, int dim, Tensor index, Tensor src) -> Tensor` */
export const scatterAdd = operator<(self: Handle, dim: number, index: Handle, src: Handle) => Handle>('aten::scatter_add', '');

/** `aten::select.int(Tensor(a) self, int dim, SymInt index) -> Tensor(a)` */
export const selectInt = operator<(self: Handle, dim: number, index: number) => Handle>('aten::select', 'int');

/** `aten::sigmoid(Tensor self) -> Tensor` */
export const sigmoid = operator<(self: Handle) => Handle>('aten::sigmoid', '');

/** `aten::sign(Tensor self) -> Tensor` */
export const sign = operator<(self: Handle) => Handle>('aten::sign', '');

/** `aten::silu(Tensor self) -> Tensor` */
export const silu = operator<(self: Handle) => Handle>('aten::silu', '');

/** `aten::sin(Tensor self) -> Tensor` */
export const sin = operator<(self: Handle) => Handle>('aten::sin', '');

/** `aten::slice.Tensor(Tensor(a) self, int dim=0, SymInt? start=None, SymInt? end=None, SymInt step=1) -> Tensor(a)` */
export const sliceTensor = operator<(self: Handle, dim?: number, start?: number | null, end?: number | null, step?: number) => Handle>('aten::slice', 'Tensor');

/** `aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None) -> Tensor` */
export const softmaxInt = operator<(self: Handle, dim: number, dtype?: number | null) => Handle>('aten::softmax', 'int');

/** `aten::softplus(Tensor self, Scalar beta=1, Scalar threshold=20) -> Tensor` */
export const softplus = operator<(self: Handle, beta?: Scalar, threshold?: Scalar) => Handle>('aten::softplus', '');

/** `aten::sort.stable(Tensor self, *, bool? stable, int dim=-1, bool descending=False) -> (Tensor values, Tensor indices)` */
export const sortStable = operator<(self: Handle, stable: boolean | null, dim?: number, descending?: boolean) => [Handle, Handle]>('aten::sort', 'stable');

/** `aten::split_with_sizes(Tensor(a -> *) self, SymInt[] split_sizes, int dim=0) -> Tensor(a)[]` */
export const splitWithSizes = operator<(self: Handle, splitSizes: readonly number[], dim?: number) => Handle[]>('aten::split_with_sizes', '');

/** `aten::sqrt(Tensor self) -> Tensor` */
export const sqrt = operator<(self: Handle) => Handle>('aten::sqrt', '');

/** `aten::square(Tensor self) -> Tensor` */
export const square = operator<(self: Handle) => Handle>('aten::square', '');

/** `aten::squeeze.dim(Tensor(a) self, int dim) -> Tensor(a)` */
export const squeezeDim = operator<(self: Handle, dim: number) => Handle>('aten::squeeze', 'dim');

/** `aten::stack(Tensor[] tensors, int dim=0) -> Tensor` */
export const stack = operator<(tensors: readonly Handle[], dim?: number) => Handle>('aten::stack', '');

/** `aten::std.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor` */
export const stdCorrection = operator<(self: Handle, dim?: readonly number[] | number | null, correction?: Scalar | null, keepdim?: boolean) => Handle>('aten::std', 'correction');

/** `aten::sub.Scalar(Tensor self, Scalar other, Scalar alpha=1) -> Tensor` */
export const subScalar = operator<(self: Handle, other: Scalar, alpha?: Scalar) => Handle>('aten::sub', 'Scalar');

/** `aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1) -> Tensor` */
export const subTensor = operator<(self: Handle, other: Handle, alpha?: Scalar) => Handle>('aten::sub', 'Tensor');

/** `aten::sub_.Scalar(Tensor(a!) self, Scalar other, Scalar alpha=1) -> Tensor(a!)` */
export const sub_Scalar = operator<(self: Handle, other: Scalar, alpha?: Scalar) => void>('aten::sub_', 'Scalar');

/** `aten::sub_.Tensor(Tensor(a!) self, Tensor other, *, Scalar alpha=1) -> Tensor(a!)` */
export const sub_Tensor = operator<(self: Handle, other: Handle, alpha?: Scalar) => void>('aten::sub_', 'Tensor');

/** `aten::sum(Tensor self, *, ScalarType? dtype=None) -> Tensor` */
export const sum = operator<(self: Handle, dtype?: number | null) => Handle>('aten::sum', '');

/** `aten::sum.dim_IntList(Tensor self, int[1]? dim, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor` */
export const sumDimIntList = operator<(self: Handle, dim: readonly number[] | number | null, keepdim?: boolean, dtype?: number | null) => Handle>('aten::sum', 'dim_IntList');

/** `aten::t(Tensor(a) self) -> Tensor(a)` */
export const t = operator<(self: Handle) => Handle>('aten::t', '');

/** `aten::tan(Tensor self) -> Tensor` */
export const tan = operator<(self: Handle) => Handle>('aten::tan', '');

/** `aten::tanh(Tensor self) -> Tensor` */
export const tanh = operator<(self: Handle) => Handle>('aten::tanh', '');

/** `aten::to.dtype_layout(Tensor(a) self, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, bool non_blocking=False, bool copy=False, MemoryFormat? memory_format=None) -> Tensor(a)` */
export const toDtypeLayout = operator<(self: Handle, dtype?: number | null, layout?: number | null, device?: string | null, pinMemory?: boolean | null, nonBlocking?: boolean, copy?: boolean, memoryFormat?: number | null) => Handle>('aten::to', 'dtype_layout');

/** `aten::topk(Tensor self, SymInt k, int dim=-1, bool largest=True, bool sorted=True) -> (Tensor values, Tensor indices)` */
export const topk = operator<(self: Handle, k: number, dim?: number, largest?: boolean, sorted?: boolean) => [Handle, Handle]>('aten::topk', '');

/** `aten::transpose.int(Tensor(a) self, int dim0, int dim1) -> Tensor(a)` */
export const transposeInt = operator<(self: Handle, dim0: number, dim1: number) => Handle>('aten::transpose', 'int');

/** `aten::tril(Tensor self, SymInt diagonal=0) -> Tensor` */
export const tril = operator<(self: Handle, diagonal?: number) => Handle>('aten::tril', '');

/** `aten::triu(Tensor self, SymInt diagonal=0) -> Tensor` */
export const triu = operator<(self: Handle, diagonal?: number) => Handle>('aten::triu', '');

/** `aten::unbind.int(Tensor(a -> *) self, int dim=0) -> Tensor(a)[]` */
export const unbindInt = operator<(self: Handle, dim?: number) => Handle[]>('aten::unbind', 'int');

/** `aten::uniform_(Tensor(a!) self, float from=0., float to=1., *, Generator? generator=None) -> Tensor(a!)` */
export const uniform_ = operator<(self: Handle, from?: number, to?: number, generator?: GeneratorHandle | null) => void>('aten::uniform_', '');

/** `aten::unsqueeze(Tensor(a) self, int dim) -> Tensor(a)` */
export const unsqueeze = operator<(self: Handle, dim: number) => Handle>('aten::unsqueeze', '');

/** `aten::var.correction(Tensor self, int[1]? dim=None, *, Scalar? correction=None, bool keepdim=False) -> Tensor` */
export const varCorrection = operator<(self: Handle, dim?: readonly number[] | number | null, correction?: Scalar | null, keepdim?: boolean) => Handle>('aten::var', 'correction');

/** `aten::view(Tensor(a) self, SymInt[] size) -> Tensor(a)` */
export const view = operator<(self: Handle, size: readonly number[]) => Handle>('aten::view', '');

/** `aten::where.Scalar(Tensor condition, Scalar self, Scalar other) -> Tensor` */
export const whereScalar = operator<(condition: Handle, self: Scalar, other: Scalar) => Handle>('aten::where', 'Scalar');

/** `aten::where.ScalarOther(Tensor condition, Tensor self, Scalar other) -> Tensor` */
export const whereScalarOther = operator<(condition: Handle, self: Handle, other: Scalar) => Handle>('aten::where', 'ScalarOther');

/** `aten::where.ScalarSelf(Tensor condition, Scalar self, Tensor other) -> Tensor` */
export const whereScalarSelf = operator<(condition: Handle, self: Scalar, other: Handle) => Handle>('aten::where', 'ScalarSelf');

/** `aten::where.self(Tensor condition, Tensor self, Tensor other) -> Tensor` */
export const whereSelf = operator<(condition: Handle, self: Handle, other: Handle) => Handle>('aten::where', 'self');

/** `aten::zero_(Tensor(a!) self) -> Tensor(a!)` */
export const zero_ = operator<(self: Handle) => void>('aten::zero_', '');

/** `aten::_foreach_add_.List(Tensor(a!)[] self, Tensor[] other, *, Scalar alpha=1) -> ()` */
export const _foreachAdd_List = operator<(self: readonly Handle[], other: readonly Handle[], alpha?: Scalar) => void>('aten::_foreach_add_', 'List');

/** `aten::_foreach_mul_.Scalar(Tensor(a!)[] self, Scalar scalar) -> ()` */
export const _foreachMul_Scalar = operator<(self: readonly Handle[], scalar: Scalar) => void>('aten::_foreach_mul_', 'Scalar');

/** `aten::_foreach_mul_.Tensor(Tensor(a!)[] self, Tensor other) -> ()` */
export const _foreachMul_Tensor = operator<(self: readonly Handle[], other: Handle) => void>('aten::_foreach_mul_', 'Tensor');

/** `aten::_foreach_norm.Scalar(Tensor[] self, Scalar ord=2, ScalarType? dtype=None) -> Tensor[]` */
export const _foreachNormScalar = operator<(self: readonly Handle[], ord?: Scalar, dtype?: number | null) => Handle[]>('aten::_foreach_norm', 'Scalar');

/** `aten::_fused_adamw_(Tensor(a!)[] self, Tensor(b!)[] grads, Tensor(c!)[] exp_avgs, Tensor(d!)[] exp_avg_sqs, Tensor(e!)[] max_exp_avg_sqs, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, bool amsgrad, bool maximize, Tensor? grad_scale=None, Tensor? found_inf=None) -> ()` */
export const _fusedAdamw_ = operator<(self: readonly Handle[], grads: readonly Handle[], expAvgs: readonly Handle[], expAvgSqs: readonly Handle[], maxExpAvgSqs: readonly Handle[], stateSteps: readonly Handle[], lr: number, beta1: number, beta2: number, weightDecay: number, eps: number, amsgrad: boolean, maximize: boolean, gradScale?: Handle | null, foundInf?: Handle | null) => void>('aten::_fused_adamw_', '');

/** `aten::_int_mm(Tensor self, Tensor mat2) -> Tensor` */
export const _intMm = operator<(self: Handle, mat2: Handle) => Handle>('aten::_int_mm', '');

/** `aten::_local_scalar_dense(Tensor self) -> Scalar` */
export const _localScalarDense = operator<(self: Handle) => Scalar>('aten::_local_scalar_dense', '');

/** `aten::_upsample_bicubic2d_aa(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor` */
export const _upsampleBicubic2dAa = operator<(self: Handle, outputSize: readonly number[] | number, alignCorners: boolean, scalesH?: number | null, scalesW?: number | null) => Handle>('aten::_upsample_bicubic2d_aa', '');

/** `aten::_upsample_bilinear2d_aa(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor` */
export const _upsampleBilinear2dAa = operator<(self: Handle, outputSize: readonly number[] | number, alignCorners: boolean, scalesH?: number | null, scalesW?: number | null) => Handle>('aten::_upsample_bilinear2d_aa', '');

/** `aten::_upsample_lanczos2d_aa(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor` */
export const _upsampleLanczos2dAa = operator<(self: Handle, outputSize: readonly number[] | number, alignCorners: boolean, scalesH?: number | null, scalesW?: number | null) => Handle>('aten::_upsample_lanczos2d_aa', '');

/** `aten::_weight_int4pack_mm_for_cpu(Tensor self, Tensor mat2, int qGroupSize, Tensor qScaleAndZeros) -> Tensor` */
export const _weightInt4packMmForCpu = operator<(self: Handle, mat2: Handle, qGroupSize: number, qScaleAndZeros: Handle) => Handle>('aten::_weight_int4pack_mm_for_cpu', '');

/** `aten::_weight_int8pack_mm(Tensor self, Tensor mat2, Tensor scales) -> Tensor` */
export const _weightInt8packMm = operator<(self: Handle, mat2: Handle, scales: Handle) => Handle>('aten::_weight_int8pack_mm', '');

/** `aten::cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=1, SymInt ignore_index=-100, float label_smoothing=0.) -> Tensor` */
export const crossEntropyLoss = operator<(self: Handle, target: Handle, weight?: Handle | null, reduction?: number, ignoreIndex?: number, labelSmoothing?: number) => Handle>('aten::cross_entropy_loss', '');

/** `aten::upsample_bicubic2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor` */
export const upsampleBicubic2d = operator<(self: Handle, outputSize: readonly number[] | number, alignCorners: boolean, scalesH?: number | null, scalesW?: number | null) => Handle>('aten::upsample_bicubic2d', '');

/** `aten::upsample_bilinear2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor` */
export const upsampleBilinear2d = operator<(self: Handle, outputSize: readonly number[] | number, alignCorners: boolean, scalesH?: number | null, scalesW?: number | null) => Handle>('aten::upsample_bilinear2d', '');

/** `tinyllava::adamw_(Tensor(a!) parameter, Tensor(b!)? master, Tensor(c!)? compensation, Tensor gradient, Tensor(d!) mean, Tensor(e!) square, float learning_rate, float beta1, float beta2, float eps, float weight_decay, int step, float scale, int noise) -> ()` */
export const adamw_ = operator<(parameter: Handle, master: Handle | null, compensation: Handle | null, gradient: Handle, mean: Handle, square: Handle, learningRate: number, beta1: number, beta2: number, eps: number, weightDecay: number, step: number, scale: number, noise: number) => void>('tinyllava::adamw_', '');

/** `tinyllava::adamw_8bit_(Tensor(a!) parameter, Tensor(b!)? master, Tensor(c!)? compensation, Tensor gradient, Tensor(d!) mean, Tensor(e!) mean_scale, Tensor(f!) square, Tensor(g!) square_scale, float learning_rate, float beta1, float beta2, float eps, float weight_decay, int step, float scale, int noise) -> ()` */
export const adamw8bit_ = operator<(parameter: Handle, master: Handle | null, compensation: Handle | null, gradient: Handle, mean: Handle, meanScale: Handle, square: Handle, squareScale: Handle, learningRate: number, beta1: number, beta2: number, eps: number, weightDecay: number, step: number, scale: number, noise: number) => void>('tinyllava::adamw_8bit_', '');

/** `tinyllava::append_(Tensor(a!) key_room, Tensor(b!) value_room, Tensor keys, Tensor values, int position) -> ()` */
export const append_ = operator<(keyRoom: Handle, valueRoom: Handle, keys: Handle, values: Handle, position: number) => void>('tinyllava::append_', '');

/** `tinyllava::cached_attention(Tensor q, Tensor keys, Tensor values, int length, float scale, int? window=None, float softcap=0.) -> Tensor` */
export const cachedAttention = operator<(q: Handle, keys: Handle, values: Handle, length: number, scale: number, window?: number | null, softcap?: number) => Handle>('tinyllava::cached_attention', '');

/** `tinyllava::dequantize(Tensor codes, Tensor[] scales, int columns) -> Tensor` */
export const dequantize = operator<(codes: Handle, scales: readonly Handle[], columns: number) => Handle>('tinyllava::dequantize', '');

/** `tinyllava::join_halves(Tensor upper, Tensor lower) -> Tensor` */
export const joinHalves = operator<(upper: Handle, lower: Handle) => Handle>('tinyllava::join_halves', '');

/** `tinyllava::linear(Tensor x, Tensor weight, Tensor? bias=None) -> Tensor` */
export const linear = operator<(x: Handle, weight: Handle, bias?: Handle | null) => Handle>('tinyllava::linear', '');

/** `tinyllava::linear_cross_entropy(Tensor hidden, Tensor weight, Tensor? bias, Tensor labels, int chunk) -> Tensor` */
export const linearCrossEntropy = operator<(hidden: Handle, weight: Handle, bias: Handle | null, labels: Handle, chunk: number) => Handle>('tinyllava::linear_cross_entropy', '');

/** `tinyllava::packed_attention(Tensor q, Tensor k, Tensor v, int[] lengths, int[] key_lengths, bool causal, float scale, int? window=None, float softcap=0.) -> Tensor` */
export const packedAttention = operator<(q: Handle, k: Handle, v: Handle, lengths: readonly number[], keyLengths: readonly number[], causal: boolean, scale: number, window?: number | null, softcap?: number) => Handle>('tinyllava::packed_attention', '');

/** `tinyllava::quantize_nf4(Tensor weight) -> (Tensor, Tensor)` */
export const quantizeNf4 = operator<(weight: Handle) => [Handle, Handle]>('tinyllava::quantize_nf4', '');

/** `tinyllava::quantized_linear(Tensor x, Tensor codes, Tensor[] scales, Tensor? bias) -> Tensor` */
export const quantizedLinear = operator<(x: Handle, codes: Handle, scales: readonly Handle[], bias: Handle | null) => Handle>('tinyllava::quantized_linear', '');

/** `tinyllava::rms_norm(Tensor x, Tensor weight, float eps) -> Tensor` */
export const rmsNorm = operator<(x: Handle, weight: Handle, eps: number) => Handle>('tinyllava::rms_norm', '');

/** `tinyllava::rope(Tensor x, Tensor cos, Tensor sin) -> Tensor` */
export const rope = operator<(x: Handle, cos: Handle, sin: Handle) => Handle>('tinyllava::rope', '');

/** `tinyllava::round_stochastic_(Tensor(a!) to, Tensor value, int noise) -> ()` */
export const roundStochastic_ = operator<(to: Handle, value: Handle, noise: number) => void>('tinyllava::round_stochastic_', '');

/** `tinyllava::sigmoid_unit(Tensor x, Tensor? up, str form) -> Tensor` */
export const sigmoidUnit = operator<(x: Handle, up: Handle | null, form: string) => Handle>('tinyllava::sigmoid_unit', '');

/** `tinyllava::split_halves_(Tensor(a!) upper, Tensor(b!) lower, Tensor value) -> ()` */
export const splitHalves_ = operator<(upper: Handle, lower: Handle, value: Handle) => void>('tinyllava::split_halves_', '');

/** `tinyllava::square_sum(Tensor[] tensors) -> float` */
export const squareSum = operator<(tensors: readonly Handle[]) => number>('tinyllava::square_sum', '');
