/* What stands under the bar when something is wrong with the fabric: it is gone, or a part of it does not answer. */
import { useCell } from "../lib/cell.js";
import { useNow } from "../lib/clock.js";
import { connection } from "../lib/events.js";
import { duration } from "../lib/format.js";
import { html } from "../lib/html.js";

export function Banner({ form }) {
  const { state, since, why } = useCell(connection);
  useNow(1);
  if (state === "gone") {
    return html`<div class="banner bad" role="alert">
      <b>${why ? `The fabric says: ${why}.` : "The fabric does not answer."}</b>${" "}
      ${form ? html`What stands here is ${duration((performance.now() - since) / 1000)} old. The` : "The"} page goes on by itself as soon as it is back.${" "}
      <span class="faint">If it is down: <code>fabric up</code></span>
    </div>`;
  }
  if (form?.api_problem) {
    return html`<div class="banner" role="status">
      <b>The scheduler's API does not answer</b> (${form.api_problem}). What stands here is read from the journal; orders are not taken now.
    </div>`;
  }
  return null;
}
