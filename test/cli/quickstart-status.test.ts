import { expect, test } from 'vitest';
import { fitFields, StatusLine, wrap } from '../../src/cli/quickstart/status-line.ts';

function screen(facts: { isTTY?: boolean; columns?: number }): {
  readonly text: () => string;
  readonly line: StatusLine;
  readonly wait: (ms: number) => void;
} {
  let [text, now] = ['', 0];
  const write = (more: string): void => {
    text += more;
  };
  const line = new StatusLine({ ...facts, write }, () => now);
  const wait = (ms: number): void => {
    now += ms;
  };
  return { text: () => text, line, wait };
}

test('fields are dropped from the end until the line fits', () => {
  const fields = ['align    52 %', 'loss 0.231', '18 s left', '14.2 k tokens/s'];
  expect(fitFields(fields, 79)).toBe('align    52 %  loss 0.231  18 s left  14.2 k tokens/s');
  expect(fitFields(fields, 39)).toBe('align    52 %  loss 0.231  18 s left');
  expect(fitFields(fields, 8)).toBe('align   ');
});

test('long sentences break between words, and a word longer than the line stays whole', () => {
  expect(wrap('the model is in runs/quickstart/checkpoint now', 20, '  ')).toBe('the model is in\n  runs/quickstart/checkpoint\n  now');
});

test('a terminal sees one line that changes, ten times a second at most', () => {
  const { text, line, wait } = screen({ isTTY: true, columns: 40 });
  for (const share of ['1 %', '2 %', '3 %']) {
    line.update(['align', share]);
    wait(60);
  }
  line.finish(['align', 'done']);
  expect(text()).toBe('\r\x1b[2Kalign  1 %\r\x1b[2Kalign  3 %\r\x1b[2Kalign  done\n');
});

test('what is written after a line that still changes begins a new one', () => {
  const { text, line } = screen({ isTTY: true, columns: 40 });
  {
    using open = line;
    open.update(['align', '1 %']);
  }
  expect(text()).toBe('\r\x1b[2Kalign  1 %\n');
  line[Symbol.dispose]();
  expect(text()).toBe('\r\x1b[2Kalign  1 %\n');
});

test('a pipe gets whole lines without control characters, one in fifteen seconds', () => {
  const { text, line, wait } = screen({});
  for (let second = 0; second < 32; second++) {
    line.update(['align', `${second} s`]);
    wait(1000);
  }
  line.finish(['align', 'done']);
  line.say('what it says');
  expect(text()).toBe('align  15 s\nalign  30 s\nalign  done\nwhat it says\n');
});
