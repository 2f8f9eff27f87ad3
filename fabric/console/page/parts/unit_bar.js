/* What a tier's or a flavor's units do, as one bar: by tasks, by jobs, idle, broken. */
import { count } from "../lib/format.js";
import { html } from "../lib/html.js";

export const USES = [
  ["leased", "held by jobs"],
  ["used", "used by tasks"],
  ["idle", "idle"],
  ["broken", "out of use"],
];

export function UnitBar({ of, isWide }) {
  const total = Math.max(of.units ?? 0, USES.reduce((sum, [key]) => sum + (of[key] ?? 0), 0), 1e-9);
  const words = USES.filter(([key]) => of[key]).map(([key, name]) => `${count(of[key], 1)} ${name}`);
  return html`<div class=${isWide ? "units wide" : "units"} role="img" aria-label=${`of ${count(of.units, 1)}: ${words.join(", ") || "nothing"}`}>
    ${USES.map(([key]) => of[key] > 0 && html`<span key=${key} class=${`units-${key}`} style=${{ width: `${(100 * of[key]) / total}%` }} />`)}
  </div>`;
}

export function UnitLegend() {
  return html`<div class="unit-legend">
    ${USES.map(([key, name]) => html`<span key=${key}><span class=${`swatch units-${key}`} aria-hidden="true" /> ${name}</span>`)}
  </div>`;
}
