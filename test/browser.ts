import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

/** The name of the browser of this machine, if it has one. */
export const chromium = ['chromium', 'chromium-browser', 'google-chrome'].find((name) => spawnSync(name, ['--version']).status === 0);

type Facts = Readonly<Record<string, unknown>>;

interface Message {
  readonly id?: number;
  readonly method?: string;
  readonly params?: Facts;
  readonly result?: Facts;
  readonly error?: { readonly message: string };
}

/** How a page is looked at. */
interface View {
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
}

/** A page of a browser without a window, spoken to in the DevTools protocol through a pipe. */
export class Page implements AsyncDisposable {
  /** What was written to the console, and errors that nobody caught. */
  readonly complaints: string[] = [];
  /** The addresses that were asked for. */
  readonly requests: string[] = [];
  readonly #browser: ChildProcess;
  readonly #profile = mkdtempSync(join(tmpdir(), 'browser-'));
  readonly #waiting = new Map<number, (message: Message) => void>();
  #session: unknown;
  #asked = 0;
  #loaded: (() => void) | undefined;

  private constructor() {
    const quiet = ['--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic'];
    const flags = ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', `--user-data-dir=${this.#profile}`];
    const stdio = ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] as const;
    this.#browser = spawn(chromium ?? 'chromium', [...quiet, ...flags, '--remote-debugging-pipe'], { stdio: [...stdio] });
    let rest = '';
    (this.#browser.stdio[4] as Readable).setEncoding('utf8').on('data', (text: string) => {
      const messages = (rest + text).split('\0');
      rest = messages.pop() ?? '';
      for (const message of messages) this.#take(JSON.parse(message) as Message);
    });
  }

  /** Opens an address and waits until it is loaded. */
  static async open(url: string, { width = 1180, height = 900, dark = false }: View = {}): Promise<Page> {
    const page = new Page();
    const { targetId } = await page.#ask('Target.createTarget', { url: 'about:blank' });
    page.#session = (await page.#ask('Target.attachToTarget', { targetId, flatten: true }))['sessionId'];
    for (const domain of ['Page', 'Runtime', 'Log', 'Network']) await page.#ask(`${domain}.enable`);
    await page.#ask('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false });
    await page.#ask('Emulation.setEmulatedMedia', { features: [{ name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' }] });
    const loaded = new Promise<void>((resolve) => {
      page.#loaded = resolve;
    });
    await page.#ask('Page.navigate', { url });
    await loaded;
    return page;
  }

  /** The value of an expression of the page, waited for where it is a promise. */
  async value<Value>(expression: string): Promise<Value> {
    const { result, exceptionDetails } = await this.#ask('Runtime.evaluate', { expression, awaitPromise: true, returnByValue: true });
    if (exceptionDetails) throw new Error(`${expression}: ${JSON.stringify(exceptionDetails)}`);
    return (result as { value: Value }).value;
  }

  /** Waits until an expression of the page is true. */
  async until(expression: string): Promise<void> {
    while (!(await this.value<boolean>(expression))) await delay(20);
  }

  /** Puts the pointer on a place of the window. */
  async point(x: number, y: number): Promise<void> {
    await this.#ask('Input.dispatchMouseEvent', { type: 'mouseMoved', x, y });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const over = once(this.#browser, 'exit');
    this.#session = undefined;
    void this.#ask('Browser.close');
    await over;
    rmSync(this.#profile, { recursive: true, force: true, maxRetries: 10 });
  }

  #ask(method: string, params: Facts = {}): Promise<Facts> {
    const id = ++this.#asked;
    (this.#browser.stdio[3] as Writable).write(`${JSON.stringify({ id, method, params, sessionId: this.#session })}\0`);
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, ({ result = {}, error }) => (error ? reject(new Error(`${method}: ${error.message}`)) : resolve(result)));
    });
  }

  #take(message: Message): void {
    const { id, method, params = {} } = message;
    if (id !== undefined) this.#waiting.get(id)?.(message);
    if (method === 'Page.loadEventFired') this.#loaded?.();
    if (method === 'Network.requestWillBeSent') this.requests.push((params['request'] as { url: string }).url);
    if (method !== undefined && ['Runtime.consoleAPICalled', 'Runtime.exceptionThrown', 'Log.entryAdded'].includes(method))
      this.complaints.push(JSON.stringify(params));
  }
}
