/** A reason why set-up cannot go on that its user can mend: what is wrong, and the fix. */
export class SetupFailure extends Error {
  /**
   * @param {string} message
   * @param {string} fix
   */
  constructor(message, fix) {
    super(message);
    this.name = 'SetupFailure';
    this.fix = fix;
  }
}

/** The one line, with its fix below, that is printed for a SetupFailure; other errors keep their stack. @param {unknown} error */
export function describeFailure(error) {
  if (error instanceof SetupFailure) return `${error.message}\n  fix: ${error.fix}`;
  if (error instanceof Error && 'code' in error) {
    if (error.code === 'ENOSPC' || error.code === 'EDQUOT')
      return `the disk is full (${error.message})\n  fix: free some space and run this again`;
    if (error.code === 'EACCES' || error.code === 'EPERM' || error.code === 'EROFS') {
      return `no permission to write (${error.message})\n  fix: make the folder writable, or set TINYLLAVA_CACHE to one that is`;
    }
  }
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
