/* Cordon, uncordon and drain a node. */
import { part } from "../lib/api.js";
import { html } from "../lib/html.js";
import { SCOPE_HINTS } from "../lib/words.js";
import { OrderButton } from "../parts/button.js";

const DRAIN_S = 600;

export function NodeButtons({ node, canOperate, tabIndex }) {
  const path = `/v1/nodes/${part(node.node_id)}`;
  const shared = { tabIndex, isDisabled: !canOperate, title: canOperate ? undefined : SCOPE_HINTS.operate };
  const isOut = node.health === "cordoned" || node.health === "draining";
  return html`<span class="row-orders">
    ${isOut
      ? html`<${OrderButton} ...${shared} path=${`${path}/uncordon`} label=${`Uncordon ${node.host}`} done=${`${node.host} takes work again`}>Uncordon<//>`
      : html`<${OrderButton} ...${shared} path=${`${path}/cordon`} label=${`Cordon ${node.host}`} done=${`${node.host} takes no new work`}>Cordon<//>`}
    ${node.health !== "draining" && html`<${OrderButton}
      ...${shared}
      isBad
      path=${`${path}/drain`}
      label=${`Drain ${node.host}`}
      ask=${drainQuestion(node)}
      done=${`${node.host} is being drained`}
    >Drain<//>`}
  </span>`;
}

function drainQuestion(node) {
  const held = node.jobs.length ? `It holds ${node.jobs.join(", ")}. ` : "";
  return {
    title: `Drain ${node.host}?`,
    text: `${held}Its jobs get their grace, and go back to their queues with their checkpoints. It takes no new work.`,
    verb: "Drain it",
    isBad: true,
    field: { label: "Seconds until what still runs is ended", value: String(DRAIN_S), isRequired: true },
    bodyOf: (seconds) => ({ deadline_s: Number(seconds) || DRAIN_S }),
  };
}
