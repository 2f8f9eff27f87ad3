/* What lies under the pointer, in words. */
import { now } from "../lib/clock.js";
import { duration, moment } from "../lib/format.js";
import { html } from "../lib/html.js";
import { BARS, MARKS, plural } from "../lib/words.js";

const WIDTH = 260;

export function TimelineTip({ tip }) {
  const left = Math.max(0, Math.min(tip.x + 14, tip.width - WIDTH));
  const how = tip.isMark ? MARKS[tip.kind]?.name : BARS[tip.state]?.name;
  return html`<div class="tip" style=${{ left: `${left}px`, top: `${tip.y + 16}px`, width: `${WIDTH}px` }}>
    <b class="clip">${tip.num > 1 ? plural(tip.num, tip.isMark ? "mark" : "lease") : tip.name || "a task"}</b>
    <span>${how}${tip.user && html` · ${tip.user}`}</span>
    <span class="faint">${tip.host}</span>
    <span class="faint">${moment(tip.from, now())}${!tip.isMark && html` to ${tip.state === "running" ? "now" : moment(tip.to, now())}, ${duration(tip.to - tip.from)}`}</span>
    ${tip.num > 1 && !tip.isMark && html`<span class="faint">click to zoom in</span>`}
  </div>`;
}
