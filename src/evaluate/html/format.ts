/** A share as a percentage with one digit, such as `97.3 %` (the space does not break); 100.0 only when nothing is missing. */
export function percent(share: number): string {
  return `${percentNumber(share)}\u00a0%`;
}

/** `percent` without its sign. */
export function percentNumber(share: number): string {
  const tenths = Math.round(share * 1000);
  return ((tenths === 1000 && share < 1 ? 999 : tenths) / 10).toFixed(1);
}

/** A whole number in groups of three, such as `9,673`. */
export function count(value: number): string {
  return value.toLocaleString('en-US');
}

/** A large number in three digits, such as `1.21 M`. */
export function short(value: number): string {
  if (value >= 1e9) return `${(value / 1e9).toPrecision(3)} B`;
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  return value >= 1e4 ? `${(value / 1e3).toPrecision(3)} k` : count(value);
}

/** Seconds as people say them, such as `4 min 05 s`. */
export function duration(seconds: number): string {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return hours > 0 ? `${hours} h ${String(minutes).padStart(2, '0')} min` : `${minutes} min ${String(rest).padStart(2, '0')} s`;
}
