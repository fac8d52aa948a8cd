/** A reason why set-up cannot go on that its user can mend: what is wrong, and the fix; or several of them at once. */
export class SetupFailure extends Error {
  /**
   * @param {string} message
   * @param {string} fix
   * @param {readonly SetupFailure[]} several
   */
  constructor(message, fix, several = []) {
    super(message);
    this.name = 'SetupFailure';
    this.fix = fix;
    this.several = several;
  }
}

/** Runs all checks, then throws what failed: a machine that lacks three things is told so once. @param {readonly (() => unknown)[]} checks */
export function requireAll(checks) {
  /** @type {SetupFailure[]} */
  const failures = [];
  for (const check of checks) {
    try {
      check();
    } catch (error) {
      if (!(error instanceof SetupFailure)) throw error;
      failures.push(...(error.several.length > 0 ? error.several : [error]));
    }
  }
  const [first] = failures;
  if (first === undefined) return;
  throw failures.length === 1 ? first : new SetupFailure(`${failures.length} things are missing`, '', failures);
}

const full = 'free some space and run this again';
const unusable = 'make the folder writable, or set TINYLLAVA_CACHE to one that is (for what clones share), and run this again';

/** What is printed for an error: a failure with its fix, a refusal of the file system as such, and of a bug its stack. @param {unknown} error @returns {string} */
export function describeFailure(error) {
  if (error instanceof SetupFailure) {
    if (error.several.length === 0) return `${error.message}\n  fix: ${error.fix}`;
    return [error.message, ...error.several.map((one) => `- ${describeFailure(one)}`)].join('\n');
  }
  if (!(error instanceof Error)) return String(error);
  if (!('code' in error && 'syscall' in error)) return error.stack ?? error.message;
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT') return `the disk is full (${error.message})\n  fix: ${full}`;
  return `a file or folder cannot be used (${error.message})\n  fix: ${unusable}`;
}
