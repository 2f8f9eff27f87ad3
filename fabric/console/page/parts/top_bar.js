/* The bar at the top: the fabric's name, the way to every view, whether the page is live, who is here. */
import { useCell } from "../lib/cell.js";
import { connection } from "../lib/events.js";
import { count, usd } from "../lib/format.js";
import { html, useEffect, useRef } from "../lib/html.js";
import { to } from "../lib/route.js";
import { endSession } from "../lib/session.js";
import { theme, turnTheme } from "../lib/theme.js";

const SUN = "M8 5a3 3 0 1 0 0 6 3 3 0 0 0 0-6zM8 1v1.5M8 13.5V15M1 8h1.5M13.5 8H15M3 3l1 1M12 12l1 1M13 3l-1 1M4 12l-1 1";
const MOON = "M13.5 9.6A6 6 0 0 1 6.4 2.5a6 6 0 1 0 7.1 7.1z";
const LEAVE = "M6.5 2.5h-4v11h4M10 5l3 3-3 3M13 8H6";
const LIVE = { live: "live", connecting: "connecting", gone: "not connected" };

export function TopBar({ form, views, current }) {
  const { state } = useCell(connection);
  const look = useCell(theme);
  const other = look === "dark" ? "Light colours" : "Dark colours";
  const waiting = form?.jobs.PENDING;
  const nav = useRef(null);
  useEffect(() => nav.current.querySelector("[aria-current]")?.scrollIntoView({ inline: "nearest", block: "nearest" }), [current]);
  return html`<header class="top">
    <a class="brand" href="#/pools">
      <svg viewBox="0 0 16 16" width="18" height="18" aria-hidden="true">
        <rect x="1" y="2" width="14" height="3" rx="1" class="fill-hot" />
        <rect x="1" y="6.5" width="10" height="3" rx="1" class="fill-warm" />
        <rect x="1" y="11" width="6" height="3" rx="1" class="fill-cold" />
      </svg>
      <b>${form?.name ?? "tierfabric"}</b>
    </a>
    <nav aria-label="Views" ref=${nav}>
      ${views.filter(([key]) => !form || form.panels.includes(key)).map(([key, title]) => html`<a key=${key} href=${to(key)} aria-current=${key === current ? "page" : undefined}>
        ${title}${key === "queue" && waiting > 0 && html` <span class="nav-count" title="waiting">${count(waiting)}</span>`}
      </a>`)}
    </nav>
    <div class="top-right">
      ${form && html`<span class="top-cost" title=${`of it ${usd(form.idle_usd_per_h)} idle`}><b>${usd(form.usd_per_h)}</b> / h</span>`}
      <span class=${`live ${state}`}><span class="live-dot" aria-hidden="true" />${LIVE[state]}</span>
      ${form && html`<span class="who" title=${`may: ${form.who.scopes.join(", ")}`}>${form.who.user}</span>`}
      <button type="button" class="bare" onClick=${turnTheme} aria-label=${other} title=${other}>
        <${Icon} path=${look === "dark" ? SUN : MOON} />
      </button>
      <button type="button" class="bare leave" onClick=${endSession} aria-label="Forget the token" title="Forget the token"><${Icon} path=${LEAVE} /></button>
    </div>
  </header>`;
}

function Icon({ path }) {
  return html`<svg viewBox="0 0 16 16" width="16" height="16" aria-hidden="true">
    <path d=${path} fill="none" stroke="currentColor" stroke-width="1.4" stroke-linecap="round" stroke-linejoin="round" />
  </svg>`;
}
