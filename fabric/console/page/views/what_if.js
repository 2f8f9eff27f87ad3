/* What if: another policy over the jobs of the last hours, in the simulator, beside the one in force. */
import { ask, part } from "../lib/api.js";
import { count, duration, percent, significant, usd } from "../lib/format.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { plural } from "../lib/words.js";
import { PlainTable } from "../parts/plain_table.js";
import { Problem, Section } from "../parts/signs.js";
import { Choice } from "../parts/filters.js";

const ASK_MS = 700;
const hours = (value) => duration(value === null || value === undefined ? null : 3600 * value);

/** Key, name, words, whether less is better. */
const FIGURES = [
  ["jct_h", "mean completion time", hours, true],
  ["jct_p99_h", "99th percentile", hours, true],
  ["makespan_s", "makespan", duration, true],
  ["cost_usd", "cost", usd, true],
  ["utilisation_frac", "utilisation", (value) => percent(value, 1), false],
  ["misses", "deadlines missed", count, true],
  ["restarts", "restarts", count, true],
];

/** Why jobs were not replayed, as `fabric/what_if_form.py` says it. */
const LEFT_OUT = {
  not_succeeded: "did not succeed, or not yet",
  unknown_queue: "are of a queue that one of the policies does not have",
  no_room: "would not fit on the nodes",
  too_many: "came before the newest that are replayed",
};

export function WhatIf({ inForce }) {
  const [text, setText] = useState("");
  const [since, setSince] = useState("24h");
  const [run, setRun] = useState(null);
  const [problem, setProblem] = useState(null);
  const stop = useRef(null);
  useEffect(() => () => stop.current?.abort(), []);
  const end = () => {
    stop.current?.abort();
    setRun(null);
  };
  const start = async (event) => {
    event.preventDefault();
    stop.current = new AbortController();
    setProblem(null);
    setRun({ state: "running", progress: 0 });
    try {
      await follow(text, since, setRun, stop.current.signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      setRun(null);
      setProblem(error);
    }
  };
  const isRunning = run?.state === "running";
  const aside = html`<span class="faint">replays the last jobs under another policy, in the simulator; nothing is applied</span>`;
  return html`<${Section} id="whatif" title="What if" aside=${aside}>
    <div class="whatif-columns"><form class="whatif" onSubmit=${start}>
      <label class="field">
        <span>Another policy</span>
        <textarea
          rows="12"
          spellcheck=${false}
          placeholder="apiVersion: scheduling.example.com/v1 …"
          value=${text}
          onInput=${(event) => setText(event.target.value)}
        />
      </label>
      <div class="whatif-buttons">
        <button type="submit" class="button strong" disabled=${!text.trim() || isRunning} aria-busy=${isRunning}>Replay</button>
        ${isRunning && html`<button type="button" class="button" onClick=${end}>Stop</button>`}
        <${Choice} label="Jobs of the last" value=${since} choices=${["1h", "6h", "24h", "7d"]} onChange=${setSince} />
        <button type="button" class="button" disabled=${!inForce} onClick=${() => setText(inForce)}>Begin with the one in force</button>
      </div>
      <${Problem} problem=${problem} what="The replay" />
    </form>
    <div aria-live="polite">${run && html`<${Outcome} run=${run} />`}</div></div>
  <//>`;
}

/** Whoever stops it, or goes elsewhere, ends it in the fabric, too: it keeps others from theirs. */
async function follow(text, since, setRun, signal) {
  const { id } = await ask("/v1/policy/what-if", { method: "POST", body: { document: text, since } });
  const path = `/v1/policy/what-if/${part(id)}`;
  try {
    for (;;) {
      signal.throwIfAborted();
      const run = await ask(path, { signal });
      setRun(run);
      if (run.state !== "running") return;
      await new Promise((resolve) => setTimeout(resolve, ASK_MS));
    }
  } catch (error) {
    if (error.name === "AbortError") ask(`${path}/cancel`, { method: "POST", body: {} }).catch(() => {});
    throw error;
  }
}

function Outcome({ run }) {
  if (run.state === "failed") {
    const { message, hint } = run.error ?? {};
    return html`<p class="problem" role="alert"><strong>The replay failed.</strong> ${message} <span class="faint">${hint}</span></p>`;
  }
  if (run.state === "running") {
    return html`<progress max="1" value=${run.progress ?? undefined} aria-label="Replay" />
      <span class="faint progress-text">${percent(run.progress)} replayed</span>`;
  }
  return html`<p>${plural(run.jobs, "job")} of ${duration(run.since_s)}, replayed under both.</p>
  <${PlainTable}
    caption="Both policies over the same jobs"
    rows=${FIGURES}
    keyOf=${([key]) => key}
    columns=${[
      { key: "what", title: html`<span class="unseen">figure</span>`, isHeader: true, cell: ([, name]) => name },
      { key: "current", title: "in force", align: "right", cell: ([key, , words]) => words(run.current[key]) },
      { key: "proposed", title: "the other", align: "right", cell: ([key, , words]) => html`<b>${words(run.proposed[key])}</b>` },
      {
        key: "change", title: "change", align: "right",
        cell: ([key, , , isLessBetter]) => html`<${Change} from=${run.current[key]} to=${run.proposed[key]} isLessBetter=${isLessBetter} />`,
      },
    ]}
  />
  <${Aside} run=${run} />`;
}

function Aside({ run }) {
  const whys = Object.entries(run.left_out_why ?? {}).map(([why, num]) => `${count(num)} ${LEFT_OUT[why] ?? why}`);
  return html`
    ${run.recorded && html`<p class="faint">As it went: mean completion time ${hours(run.recorded.jct_h)}, makespan ${duration(run.recorded.makespan_s)}.</p>`}
    ${run.left_out > 0 && html`<p class="faint">Left out ${plural(run.left_out, "job")}: ${whys.join(", ")}.</p>`}
  `;
}

function Change({ from, to, isLessBetter }) {
  if (!from || to === null || to === undefined) return from === to ? html`<span class="faint">the same</span>` : "";
  const change = to / from - 1;
  if (Math.abs(change) < 0.0005) return html`<span class="faint">the same</span>`;
  const isBetter = change < 0 === isLessBetter;
  return html`<span class=${isBetter ? "good" : "bad"}>${change < 0 ? "−" : "+"}${significant(100 * Math.abs(change), 2)} % ${isBetter ? "better" : "worse"}</span>`;
}
