/* Which version answers how much, as a bar with its figures. `shares`: ten-thousandths by version. */
import { html } from "../lib/html.js";

const colourOf = (index) => `split-${index % 3}`;

export function Split({ shares, isWide }) {
  const given = Object.entries(shares).filter(([name]) => name && name !== "null");
  if (!given.length) return "–";
  const words = given.map(([name, share]) => `${name} ${share / 100} %`).join(", ");
  return html`<span class=${isWide ? "split wide" : "split"}>
    <span class="split-bar" role="img" aria-label=${words}>
      ${given.map(([name, share], index) => share > 0 && html`<span key=${name} class=${colourOf(index)} style=${{ width: `${share / 100}%` }} />`)}
    </span>
    <span class="split-words">
      ${given.map(([name, share], index) => html`<span key=${name}>
        <span class=${`swatch ${colourOf(index)}`} aria-hidden="true" />${" "}${name} <b>${share / 100} %</b>
      </span>`)}
    </span>
  </span>`;
}
