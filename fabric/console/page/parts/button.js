/* A button that gives an order: `path` is what it posts, `ask` what it asks first. While its order is under way it is disabled, and so
   is every other button on the page that would give the same order. */
import { useCell } from "../lib/cell.js";
import { html } from "../lib/html.js";
import { confirmed, order, underWay } from "../lib/order.js";

export function OrderButton({ path, body, ask, done, label, title, isBad, isDisabled, tabIndex, after, children }) {
  const isUnderWay = useCell(underWay).has(path);
  const press = async (event) => {
    event.stopPropagation();
    let given = body;
    if (ask) {
      const answer = await confirmed(ask);
      if (answer === null) return;
      if (ask.field) given = ask.bodyOf(answer);
    }
    const answer = await order(path, { body: given, done });
    if (answer && after) after(answer);
  };
  return html`<button
    type="button"
    class=${isBad ? "button bad" : "button"}
    aria-label=${label}
    title=${title}
    tabindex=${tabIndex}
    disabled=${isDisabled || isUnderWay}
    aria-busy=${isUnderWay}
    onClick=${press}
  >
    ${children}
  </button>`;
}
