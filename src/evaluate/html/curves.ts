import type { LossPoint, ReportData, ReportStage } from './data.ts';
import { duration, percent } from './format.ts';
import { type ChartPoint, lineChart, logAxis, type Series, timeAxis } from './line-chart.ts';
import type { Markup } from './markup.ts';

const stageTones = ['warm', 'cool', 'plum', 'ink'];
const scoreTones = ['ink', 'plum', 'warm', 'cool', 'good', 'bad'];
const drawnPoints = 240;
const hoverPoints = 48;
/** Smaller losses are drawn as this one. */
const smallestLoss = 1e-8;

/** The means of at most `buckets` runs of neighbouring points. */
function thin(points: readonly LossPoint[], buckets: number): LossPoint[] {
  const size = Math.ceil(points.length / buckets);
  return Array.from({ length: Math.ceil(points.length / Math.max(size, 1)) }, (_, index) => {
    const run = points.slice(index * size, (index + 1) * size);
    const mean = (read: (point: LossPoint) => number): number => run.reduce((sum, point) => sum + read(point), 0) / run.length;
    return { step: Math.round(mean(({ step }) => step)), seconds: mean(({ seconds }) => seconds), loss: mean(({ loss }) => loss) };
  });
}

/** The geometric mean of the losses around each step, over a 30th of the stage: on a logarithmic axis no single loss bends it. */
function smooth(points: readonly LossPoint[]): LossPoint[] {
  const reach = Math.floor(points.length / 60);
  const sums = [0];
  for (const { loss } of points) sums.push((sums.at(-1) ?? 0) + Math.log(Math.max(loss, smallestLoss)));
  return points.map((point, index) => {
    // the window shrinks towards both ends so that it stays centred
    const side = Math.min(reach, index, points.length - 1 - index);
    const total = (sums[index + side + 1] ?? 0) - (sums[index - side] ?? 0);
    return { ...point, loss: Math.exp(total / (2 * side + 1)) };
  });
}

/** The losses of all stages over time, on a logarithmic axis: every stage smoothed, with the raw losses faint behind it. */
export function lossChart(stages: readonly ReportStage[], seconds: number): Markup {
  const at = ({ seconds, loss }: LossPoint): ChartPoint => ({ x: seconds, y: loss });
  const series = stages.flatMap(({ name, losses }, index): Series[] => {
    const tone = stageTones[index % stageTones.length] ?? 'ink';
    const drawn = thin(smooth(losses), drawnPoints);
    const every = Math.ceil(drawn.length / hoverPoints);
    const titled = drawn.map((point, place) => {
      const title = `${name}, step ${point.step}, ${duration(point.seconds)}: loss ${point.loss.toPrecision(3)}`;
      return place % every === every - 1 || place === drawn.length - 1 ? { ...at(point), title } : at(point);
    });
    return [
      { name: `${name}, each step`, tone, look: 'faint', points: thin(losses, drawnPoints).map(at) },
      { name, tone, look: 'line', points: titled },
    ];
  });
  const ends = stages.map(({ name, losses }) => {
    const smoothed = smooth(losses);
    return `${name} from ${losses[0]?.loss.toPrecision(2) ?? 'nothing'} to ${smoothed.at(-1)?.loss.toPrecision(2) ?? 'nothing'}`;
  });
  const marks = stages.flatMap(({ name, losses: [first] }) => (first ? [{ at: first.seconds, label: name }] : []));
  const drawnLosses = series.flatMap(({ points }) => points.map(({ y }) => y));
  return lineChart({
    description: `Line chart of the training loss: ${ends.join('; ')}.`,
    x: timeAxis(seconds, 'time of training'),
    y: logAxis(drawnLosses, 'loss, logarithmic'),
    series,
    marks: marks.slice(1),
  });
}

/** The shares of right answers by question type over time. */
export function accuracyChart({ curve, scores, stages }: ReportData, seconds: number): Markup {
  const names = scores.map(({ name }) => name).filter((name) => curve.some((point) => name in point.scores));
  const series = names.map((name, index): Series => {
    const points = curve.flatMap(({ seconds, scores }): ChartPoint[] => {
      const share = scores[name];
      return share === undefined ? [] : [{ x: seconds, y: share, title: `${name} after ${duration(seconds)}: ${percent(share)}` }];
    });
    return { name, tone: scoreTones[index % scoreTones.length] ?? 'ink', look: 'dotted', points };
  });
  const ends = series.map(({ name, points }) => `${name} ${percent(points[0]?.y ?? 0)} to ${percent(points.at(-1)?.y ?? 0)}`);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((at) => ({ at, label: `${100 * at}\u00a0%` }));
  return lineChart({
    description: `Line chart of the share of right answers during training: ${ends.join('; ')}.`,
    x: timeAxis(seconds, 'time of training'),
    y: { label: 'right answers', from: 0, to: 1, scale: 'linear', ticks },
    series,
    marks: stages.flatMap(({ name, losses: [first] }) => (first ? [{ at: first.seconds, label: name }] : [])).slice(1),
  });
}
