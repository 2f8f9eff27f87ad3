/* The dialog that asks before something is destroyed, and the lines that tell what became of an order. */
import { useCell } from "../lib/cell.js";
import { html, useId, useLayoutEffect, useRef, useState } from "../lib/html.js";
import { dismiss, notices, question } from "../lib/order.js";

export function Question() {
  const asked = useCell(question);
  return asked && html`<${Dialog} key=${asked.title} asked=${asked} />`;
}

function Dialog({ asked }) {
  const dialog = useRef(null);
  const id = useId();
  const [value, setValue] = useState(asked.field?.value ?? "");
  useLayoutEffect(() => dialog.current.showModal(), []);
  const close = (answer) => {
    question.set(null);
    asked.resolve(answer);
  };
  const submit = (event) => {
    event.preventDefault();
    close(asked.field ? value : true);
  };
  return html`<dialog ref=${dialog} class="dialog" aria-labelledby=${`${id}t`} onCancel=${() => close(null)}>
    <form method="dialog" onSubmit=${submit}>
      <h2 id=${`${id}t`}>${asked.title}</h2>
      ${asked.text && html`<p>${asked.text}</p>`}
      ${asked.field && html`<label class="field">
        <span>${asked.field.label}</span>
        <input value=${value} list=${`${id}l`} required=${asked.field.isRequired} onInput=${(event) => setValue(event.target.value)} />
        <datalist id=${`${id}l`}>${(asked.field.choices ?? []).map((choice) => html`<option value=${choice} />`)}</datalist>
        ${asked.field.hint && html`<small>${asked.field.hint}</small>`}
      </label>`}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick=${() => close(null)}>Leave it</button>
        <button type="submit" class=${asked.isBad ? "button bad strong" : "button strong"} autofocus=${!asked.field}>${asked.verb}</button>
      </div>
    </form>
  </dialog>`;
}

export function Notices() {
  const told = useCell(notices);
  return html`<div class="notices" role="status" aria-live="polite">
    ${told.map((notice) => html`<div key=${notice.key} class=${notice.isBad ? "notice bad" : "notice"}>
      <span>${notice.isBad ? "✕" : "✓"} ${notice.text}</span>
      <button type="button" class="bare" aria-label="Dismiss" onClick=${() => dismiss(notice.key)}>×</button>
    </div>`)}
  </div>`;
}
