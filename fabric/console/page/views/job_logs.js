/* A job's output as it is written. Each request waits at the fabric until there is more; only the end of a long output is kept here. */
import { fetched, part } from "../lib/api.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { Problem, Section } from "../parts/signs.js";

const KEPT_CHARS = 200_000;
const WAIT_S = 20;
const RETRY_MS = 2000;

export function JobLogs({ job }) {
  const [log, setLog] = useState({ text: "", isCut: false, isFinal: false, problem: null });
  const [isFollowing, setFollowing] = useState(true);
  const box = useRef(null);
  useEffect(() => follow(job.id, setLog), [job.id]);
  useEffect(() => {
    if (isFollowing && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log.text, isFollowing]);
  const scroll = () => setFollowing(box.current.scrollHeight - box.current.scrollTop - box.current.clientHeight < 24);
  const aside = log.isFinal ? html`<span class="faint">complete</span>` : html`<span class="live live"><span class="live-dot" aria-hidden="true" />live</span>`;
  const cut = log.isCut && html`<span class="faint block">… the beginning is in "fabric logs"</span>`;
  const none = html`<span class="faint">${log.isFinal ? "It wrote nothing." : "Nothing was written yet."}</span>`;
  return html`<${Section} id="logs" title="Output" aside=${aside}>
    <${Problem} problem=${log.problem} what="The output" />
    <pre class="log" ref=${box} tabindex="0" role="log" aria-label="Output" aria-live="off" onScroll=${scroll}>${cut}${log.text || none}</pre>
  <//>`;
}

/** Asks on from where the last answer ended. Returns what stops it. */
function follow(id, setLog) {
  const stop = new AbortController();
  const decoder = new TextDecoder();
  (async () => {
    for (let offset = 0; !stop.signal.aborted; ) {
      try {
        const response = await fetched(`/v1/jobs/${part(id)}/logs?offset=${offset}&wait_s=${WAIT_S}`, { signal: stop.signal });
        const added = decoder.decode(await response.arrayBuffer(), { stream: true });
        const isFinal = response.headers.get("x-fabric-final") === "true";
        offset = Number(response.headers.get("x-fabric-next-offset") ?? offset);
        setLog((log) => {
          const text = log.text + added;
          return { text: text.slice(-KEPT_CHARS), isCut: log.isCut || text.length > KEPT_CHARS, isFinal, problem: null };
        });
        if (isFinal) return;
      } catch (problem) {
        if (stop.signal.aborted || problem.name === "AbortError") return;
        setLog((log) => ({ ...log, problem }));
        if (!problem.isGone) return;
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  })();
  return () => stop.abort();
}
