/* The roofline of a job's task, where its profile is known. */
import { part } from "../lib/api.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { Roofline } from "../parts/roofline.js";
import { Section } from "../parts/signs.js";

export function JobRoofline({ job }) {
  const { data } = useLoad(`/v1/jobs/${part(job.id)}/profile`);
  if (!data?.lines?.length) return null;
  return html`<${Section} id="roofline" title="Its profile"><${Roofline} lines=${data.lines} of=${job.name} /><//>`;
}
