/** One thing that happened: `event` names its kind, the other fields are its facts. */
export interface LogEvent {
  readonly event: string;
  readonly [fact: string]: unknown;
}

/** Where the library reports to. It is silent unless given one. */
export type Log = (event: LogEvent) => void;

/** The log of callers who want none. */
export const silent: Log = () => {};
