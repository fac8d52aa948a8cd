/** Extra facts of an error: `hint` is the fix in one sentence, `cause` the error underneath. */
export interface ErrorDetails {
  readonly hint?: string;
  readonly cause?: unknown;
}

/** The base of every error that this package throws on purpose. The message says what is wrong, `hint` how to mend it. */
export class TinyLlavaError extends Error {
  override readonly name: string = 'TinyLlavaError';
  readonly hint: string | undefined;

  constructor(message: string, { hint, cause }: ErrorDetails = {}) {
    super(message, cause === undefined ? undefined : { cause });
    this.hint = hint;
  }
}

/** A recipe, option or config.json that says something impossible. */
export class ConfigError extends TinyLlavaError {
  override readonly name: string = 'ConfigError';
}

/** A name or an option that the caller has given and that does not exist or does not fit; the command line ends with 2 for it. */
export class UsageError extends ConfigError {
  override readonly name = 'UsageError';
}

/** A tensor whose rank or sizes are not the ones that are needed. */
export class ShapeError extends TinyLlavaError {
  override readonly name = 'ShapeError';
}

/** Whether the system refused something: a file that is not there, a disk that is full. */
export const isSystemError = (error: unknown): error is NodeJS.ErrnoException => error instanceof Error && 'syscall' in error;

/** Weights that are missing, unexpected, mis-shaped or unreadable. */
export class CheckpointError extends TinyLlavaError {
  override readonly name = 'CheckpointError';
}

/** A model of the hub that cannot be had, from there or from the cache. */
export class HubError extends TinyLlavaError {
  override readonly name = 'HubError';
}

/** Conversations, images or benchmark files that cannot be used as they are. */
export class DataError extends TinyLlavaError {
  override readonly name = 'DataError';
}

/** The addon or libtorch refused a call. */
export class NativeError extends TinyLlavaError {
  override readonly name = 'NativeError';
}
