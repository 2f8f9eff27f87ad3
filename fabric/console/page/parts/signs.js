/* The small signs: a job's state, a tier, a twin, a figure with its name, what is empty, what went wrong. */
import { html } from "../lib/html.js";
import { STATES } from "../lib/words.js";

export function State({ state }) {
  const { sign, name } = STATES[state] ?? { sign: "?", name: state };
  return html`<span class=${`state ${STATES[state] ? state.toLowerCase() : ""}`}><span aria-hidden="true">${sign}</span> ${name}</span>`;
}

/** The first tiers have colours of their own; others take grey. */
export const tierClass = (tier) => (["hot", "warm", "cold"].includes(tier) ? tier : "other");

export function Tier({ tier }) {
  return html`<span class=${`tier ${tierClass(tier)}`}>${tier}</span>`;
}

export const Twin = ({ isTwin }) => isTwin && html`<span class="twin" title="stands for hardware that is not here">twin</span>`;

export function Figure({ name, value, note, isBad }) {
  return html`<div class="figure">
    <dt>${name}</dt>
    <dd class=${isBad ? "bad" : ""}>${value}</dd>
    ${note && html`<dd class="note">${note}</dd>`}
  </div>`;
}

export function Fact({ name, children }) {
  return html`<div class="fact"><dt>${name}</dt><dd>${children}</dd></div>`;
}

export function Empty({ title, children }) {
  return html`<div class="empty"><p class="empty-title">${title}</p>${children && html`<p>${children}</p>`}</div>`;
}

/** An answer that was no answer; nothing where the fabric is gone, as the banner tells that. */
export function Problem({ problem, what = "This" }) {
  if (!problem || problem.isGone || problem.status === 401) return null;
  return html`<div class="problem" role="alert">
    <strong>${what} cannot be shown.</strong> ${problem.message}${problem.hint && html` <span class="faint">${problem.hint}</span>`}
  </div>`;
}

/** `isMain`: it is all that the view has. */
export function Section({ title, aside, children, id, isMain }) {
  const heading = isMain ? html`<h1 id=${id}>${title}</h1>` : html`<h2 id=${id}>${title}</h2>`;
  return html`<section class="section" aria-labelledby=${id}>
    <header class="section-head">${heading}${aside && html`<div class="aside">${aside}</div>`}</header>
    ${children}
  </section>`;
}

/** Grey lines where an answer will stand, as high as it will be. */
export function Waiting({ lines = 3 }) {
  return html`<div class="waiting" aria-busy="true" role="status" aria-label="Loading">
    ${Array.from({ length: lines }, () => html`<div class="waiting-line" />`)}
  </div>`;
}
