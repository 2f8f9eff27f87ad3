/* Policy: the document in force, every version before it, and what another one would have done. */
import { useCell } from "../lib/cell.js";
import { useNow } from "../lib/clock.js";
import { overview } from "../lib/events.js";
import { ago, moment } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { SCOPE_HINTS } from "../lib/words.js";
import { OrderButton } from "../parts/button.js";
import { Empty, Problem, Section, Waiting } from "../parts/signs.js";
import { WhatIf } from "./what_if.js";

export function Policy() {
  const scopes = useCell(overview)?.who.scopes ?? [];
  const { data: policy, problem, reload } = useLoad("/v1/policy", { every_s: 15 });
  const { data: history, reload: reloadHistory } = useLoad("/v1/policy/history", { every_s: 15 });
  const [shown, setShown] = useState(null);
  if (!policy) return problem ? html`<${Problem} problem=${problem} what="The policy" />` : html`<${Waiting} lines=${10} />`;
  const versions = history?.versions ?? [];
  const one = versions.find((each) => each.version === shown) ?? policy;
  const isOld = one.version !== policy.version;
  const after = () => {
    setShown(null);
    reload();
    reloadHistory();
  };
  return html`<h1 class="unseen">Policy</h1><div class="columns policy-columns">
    <${Section} id="document" title=${isOld ? `Version ${one.version}` : "In force"} aside=${html`<${About} one=${one} />`}>
      ${one.document
        ? html`<pre class="document" tabindex="0" aria-label="The document">${textOf(one.document)}</pre>`
        : html`<${Empty} title="No policy was applied yet">All jobs are alike. Apply one: <code>fabric policy apply policy.yaml</code><//>`}
      ${isOld && html`<div class="section-foot">
        <button type="button" class="button" onClick=${() => setShown(null)}>Back to the one in force</button>
        <${OrderButton}
          path="/v1/policy/rollback"
          body=${{ version: one.version }}
          isDisabled=${!scopes.includes("admin")}
          title=${scopes.includes("admin") ? undefined : SCOPE_HINTS.admin}
          ask=${{ title: `Apply version ${one.version} anew?`, text: "It is in force at once, for every job that waits.", verb: "Apply it" }}
          done=${(answer) => `Version ${answer.version} is in force`}
          after=${after}
        >Apply it anew<//>
      </div>`}
    <//>
    <${History} versions=${versions} current=${policy.version} shown=${one.version} onShow=${setShown} />
  </div>
  <${WhatIf} inForce=${textOf(policy.document)} />`;
}

const textOf = (document) => (typeof document === "string" ? document : document ? JSON.stringify(document, null, 2) : "");

function About({ one }) {
  const now_s = useNow(30);
  return html`<span class="faint">version ${one.version}${one.by && html`, by ${one.by}`}, ${ago(one.applied_s, now_s)}</span>`;
}

function History({ versions, current, shown, onShow }) {
  const now_s = useNow(30);
  return html`<${Section} id="history" title="History">
    ${versions.length === 0 && html`<p class="faint">No version yet.</p>`}
    <ul class="versions">
      ${versions.map((each) => html`<li key=${each.version}>
        <button type="button" aria-pressed=${each.version === shown} onClick=${() => onShow(each.version)}>
          <b>${each.version}</b><span>${each.by}</span>
          <time title=${moment(each.applied_s, now_s)}>${ago(each.applied_s, now_s)}</time>
          ${each.version === current && html`<span class="alias">in force</span>`}
        </button>
      </li>`)}
    </ul>
  <//>`;
}
