/* What narrows a list: a search field that waits until typing pauses, a choice, and chips that show how many there are of each. */
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { count } from "../lib/format.js";

const PAUSE_MS = 180;

export function Search({ label, value, onChange, placeholder = label }) {
  const [typed, setTyped] = useState(value);
  const timer = useRef(null);
  useEffect(() => setTyped(value), [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const type = (event) => {
    const text = event.target.value;
    setTyped(text);
    clearTimeout(timer.current);
    timer.current = setTimeout(() => onChange(text), PAUSE_MS);
  };
  return html`<input type="search" class="search" aria-label=${label} placeholder=${placeholder} value=${typed} onInput=${type} />`;
}

export function Choice({ label, value, choices, onChange, none }) {
  return html`<select class="choice" aria-label=${label} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${none && html`<option value="">${none}</option>`}
    ${choices.map((choice) => html`<option key=${choice} value=${choice} selected=${choice === value}>${choice}</option>`)}
  </select>`;
}

/** `chips`: `[{value, name, num}]`; one is pressed, or none. */
export function Chips({ label, value, chips, onChange }) {
  return html`<div class="chips" role="group" aria-label=${label}>
    ${chips.map((chip) => html`<button
      key=${chip.value}
      type="button"
      class="chip"
      aria-pressed=${chip.value === value}
      onClick=${() => onChange(chip.value === value ? "" : chip.value)}
    >
      ${chip.name}${chip.num !== undefined && html` <span class="chip-count">${count(chip.num)}</span>`}
    </button>`)}
  </div>`;
}

/** A few ways to see the same thing; one is always chosen. */
export function Switch({ label, value, choices, onChange }) {
  return html`<div class="switch" role="group" aria-label=${label}>
    ${choices.map(([key, name]) => html`<button
      key=${key}
      type="button"
      aria-pressed=${key === value}
      onClick=${() => onChange(key)}
    >
      ${name}
    </button>`)}
  </div>`;
}
