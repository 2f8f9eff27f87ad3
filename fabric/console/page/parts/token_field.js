/* Where a token is pasted: nothing of the fabric is shown without one. */
import { html, useState } from "../lib/html.js";
import { beginSession } from "../lib/session.js";

export function TokenField({ refused }) {
  const [typed, setTyped] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (typed.trim()) beginSession(typed.trim());
  };
  return html`<main class="door">
    <form class="card" onSubmit=${submit}>
      <h1>tierfabric</h1>
      ${refused
        ? html`<p class="problem" role="alert">${refused}</p>`
        : html`<p>This page needs a token of the fabric.</p>`}
      <label class="field">
        <span>Token</span>
        <input
          type="password"
          name="token"
          autocomplete="off"
          spellcheck=${false}
          placeholder="tf_…"
          value=${typed}
          onInput=${(event) => setTyped(event.target.value)}
          autofocus
        />
      </label>
      <button type="submit" class="button strong" disabled=${!typed.trim()}>Open</button>
      <p class="faint">
        On the machine of the fabric, <code>fabric console</code> opens this page with a token.
        <span class="block">For somebody else an admin makes one: <code>fabric token create --user ann --scope read</code></span>
      </p>
    </form>
  </main>`;
}
