/* What the colours, the hatching and the signs of a timeline mean. */
import { html } from "../lib/html.js";
import { BARS, MARKS } from "../lib/words.js";

export function TimelineLegend() {
  return html`<div class="timeline-legend">
    ${Object.entries(BARS).map(([state, { name, pattern }]) => html`<span key=${state}><span class=${`swatch bar-${state} ${pattern}`} aria-hidden="true" /> ${name}</span>`)}
    ${Object.entries(MARKS).map(([kind, { name, sign }]) => html`<span key=${kind}><span class=${`mark-${kind}`} aria-hidden="true">${sign}</span> ${name}</span>`)}
  </div>`;
}
