/* The fabric's time. The browser's own clock may be wrong by hours, and may be set while the page is open: it is never asked.
   Every answer brings `now_s`; between two answers the browser's monotonic counter goes on from there. */
import { useEffect, useState } from "./html.js";

const SLACK_S = 0.25;
let heard_s = null;
let heardAt_ms = 0;

export function hear(now_s, took_ms = 0) {
  if (typeof now_s !== "number") return;
  const at_s = now_s + took_ms / 2000;
  // An answer that took long says less than one that came at once: keep what is known while the two agree.
  if (heard_s === null || Math.abs(at_s - now()) > SLACK_S + took_ms / 2000) {
    heard_s = at_s;
    heardAt_ms = performance.now();
  }
}

export function now() {
  return heard_s === null ? Date.now() / 1000 : heard_s + (performance.now() - heardAt_ms) / 1000;
}

/** The time in seconds, drawn anew every `every_s`. */
export function useNow(every_s = 1) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const timer = setInterval(() => document.hidden || redraw((count) => count + 1), every_s * 1000);
    return () => clearInterval(timer);
  }, [every_s]);
  return now();
}
