/* Figures as people read them. What is not known is a dash, never a zero. */

export const NONE = "–";

const isKnown = (value) => typeof value === "number" && Number.isFinite(value);

/** `850 ms`, `12 s`, `5 m 3 s`, `2 h 4 m`, `3 d 4 h` */
export function duration(seconds) {
  if (!isKnown(seconds)) return NONE;
  const s = Math.max(0, seconds);
  if (s < 0.001) return s === 0 ? "0 s" : `${significant(s * 1e6)} µs`;
  if (s < 1) return `${significant(s * 1000)} ms`;
  if (s < 10) return `${significant(s, 2)} s`;
  const whole = Math.floor(s);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return pair(whole, 60, "m", 1, "s");
  if (whole < 86400) return pair(whole, 3600, "h", 60, "m");
  return pair(whole, 86400, "d", 3600, "h");
}

/** As short as it can be said, for narrow columns: `12s`, `5m`, `2h04m`, `3d4h` */
export function brief(seconds) {
  if (!isKnown(seconds)) return NONE;
  const whole = Math.floor(Math.max(0, seconds));
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m`;
  if (whole < 86400) return `${Math.floor(whole / 3600)}h${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")}m`;
  return `${Math.floor(whole / 86400)}d${Math.floor((whole % 86400) / 3600)}h`;
}

function pair(whole, big, bigName, small, smallName) {
  const rest = Math.floor((whole % big) / small);
  return `${Math.floor(whole / big)} ${bigName}${rest ? ` ${rest} ${smallName}` : ""}`;
}

/** `5 m 3 s ago`, `in 2 h`, `now` */
export function ago(then_s, now_s) {
  if (!isKnown(then_s)) return NONE;
  if (Math.abs(now_s - then_s) < 1) return "now";
  return then_s <= now_s ? `${duration(now_s - then_s)} ago` : `in ${duration(then_s - now_s)}`;
}

/** A moment in the reader's time zone: `14:03:22`, with its day where that is not `now_s`'s. */
export function moment(then_s, now_s = then_s) {
  if (!isKnown(then_s)) return NONE;
  const then = new Date(then_s * 1000);
  const time = [then.getHours(), then.getMinutes(), then.getSeconds()].map((each) => String(each).padStart(2, "0")).join(":");
  if (new Date(now_s * 1000).toDateString() === then.toDateString()) return time;
  return `${then.toLocaleDateString("en", { day: "numeric", month: "short" })} ${time}`;
}

export function usd(value) {
  if (!isKnown(value)) return NONE;
  const size = Math.abs(value);
  if (size === 0) return "$0";
  if (size < 0.1) return `$${significant(value, 2)}`;
  return `$${value.toLocaleString("en", { minimumFractionDigits: size < 1000 ? 2 : 0, maximumFractionDigits: size < 1000 ? 2 : 0 })}`;
}

export function percent(fraction, digits = 0) {
  return isKnown(fraction) ? `${(100 * fraction).toFixed(digits)} %` : NONE;
}

export function count(value, digits = 0) {
  return isKnown(value) ? value.toLocaleString("en", { maximumFractionDigits: digits }) : NONE;
}

/** With as many decimals in every row, so that the points stand under each other. */
export function fixed(value, digits) {
  return isKnown(value) ? value.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : NONE;
}

export function bytes(value) {
  if (!isKnown(value)) return NONE;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let size = value;
  let unit = 0;
  while (Math.abs(size) >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit++;
  }
  return `${significant(size)} ${units[unit]}`;
}

/** `1.23 TFLOP/s` and the like */
export function scaled(value, unit) {
  if (!isKnown(value)) return NONE;
  const steps = [[1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]];
  const [size, letter] = steps.find(([step]) => Math.abs(value) >= step) ?? [1, ""];
  return `${significant(value / size)} ${letter}${unit}`;
}

export function significant(value, digits = 3) {
  if (!isKnown(value)) return NONE;
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value))));
  return Number(value.toFixed(Math.min(places, 12))).toLocaleString("en", { maximumFractionDigits: 12 });
}

/** One standard deviation of a logarithm, as a factor: `×1.3` */
export function band(logSd) {
  return isKnown(logSd) ? `×${significant(Math.exp(Math.min(logSd, 10)), 2)}` : "";
}

export const shortId = (id) => (typeof id === "string" ? id.slice(-8) : NONE);
