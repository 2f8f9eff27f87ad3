/* The frame around every view: the way between them, who is here, what is wrong with the connection. */
import { ask } from "./lib/api.js";
import { useCell } from "./lib/cell.js";
import { followEvents, overview } from "./lib/events.js";
import { html, useEffect, useRef } from "./lib/html.js";
import { route } from "./lib/route.js";
import { session } from "./lib/session.js";
import { Banner } from "./parts/banner.js";
import { later } from "./parts/later.js";
import { Notices, Question } from "./parts/question.js";
import { Empty } from "./parts/signs.js";
import { TokenField } from "./parts/token_field.js";
import { TopBar } from "./parts/top_bar.js";
import { Pools } from "./views/pools.js";

/** A view's name in the address, its title, the panel it belongs to. What is not in `overview.panels` is not there. */
export const VIEWS = [
  ["pools", "Pools"],
  ["timeline", "Timeline"],
  ["queue", "Queue"],
  ["tasks", "Tasks"],
  ["models", "Models"],
  ["policy", "Policy"],
  ["usage", "Usage"],
];
const SHOWN = {
  pools: Pools,
  timeline: later(() => import("./views/timeline.js"), "Timeline"),
  queue: later(() => import("./views/queue.js"), "Queue"),
  job: later(() => import("./views/job.js"), "Job"),
  tasks: later(() => import("./views/tasks.js"), "Tasks"),
  models: later(() => import("./views/models.js"), "Models"),
  policy: later(() => import("./views/policy.js"), "Policy"),
  usage: later(() => import("./views/usage.js"), "Usage"),
};
/** Of these, one alone has a view of its own. */
const ALONE = {
  tasks: later(() => import("./views/task.js"), "Task"),
  models: later(() => import("./views/model.js"), "Model"),
};
/** By then the first view stands; the others' code is there before somebody goes to them, and before the console may be away. */
const OTHERS_AFTER_MS = 1_500;

export function App() {
  const { token, refused } = useCell(session);
  if (!token) return html`<${TokenField} refused=${refused} />`;
  return html`<${Open} key=${token} />`;
}

function Open() {
  const form = useCell(overview);
  const { view, name } = useCell(route);
  const main = useRef(null);
  const first = useRef(true);
  useEffect(() => {
    ask("/v1/console/overview").then(overview.set, () => {});
    setTimeout(() => [...Object.values(SHOWN), ...Object.values(ALONE)].forEach((each) => each.bring?.()), OTHERS_AFTER_MS);
    return followEvents();
  }, []);
  useEffect(() => {
    const title = VIEWS.find(([key]) => key === view)?.[1] ?? "Job";
    document.title = `${name || title} · ${form?.name ?? "tierfabric"}`;
  }, [view, name, form?.name]);
  useEffect(() => {
    if (!first.current) main.current.focus({ preventScroll: true }); // a new view is read from its beginning
    first.current = false;
    scrollTo(0, 0);
  }, [view, name]);
  const panel = view === "job" ? "queue" : view;
  const isThere = !form || form.panels.includes(panel);
  const View = (name && ALONE[view]) || SHOWN[view];
  return html`
    <a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <${TopBar} form=${form} views=${VIEWS} current=${panel} />
    <${Banner} form=${form} />
    <main id="main" class=${`view ${view}${name ? " one" : ""}`} ref=${main} tabindex="-1">
      ${View && isThere
        ? html`<${View} key=${`${view}/${name}`} name=${name} />`
        : html`<${Empty} title="There is nothing here">This fabric has no part that this page shows. <a href="#/pools">Go to the pools</a><//>`}
    </main>
    <${Notices} />
    <${Question} />
  `;
}
