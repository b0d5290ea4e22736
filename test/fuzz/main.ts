/** `make fuzz`: COUNT requests (default 100,000) drawn from SEED (default: the time). Exit status 1 when anything was found. */
import { Campaign, type Report } from './campaign.js';
import { CORPUS } from './corpus.js';

const count = Number(process.env['COUNT'] || 100_000);
const seed = Number(process.env['SEED'] || Date.now() % 1_000_000_000);

const SHOWN = 20;
const RSS_GROWTH_MB = 80; // code that became hot, and what the collector keeps for later
const FD_GROWTH = 10;

/** What is wrong as a whole. */
function verdict({ findings, descriptors, rssMegabytes }: Report): string[] {
  const wrong = findings.map(({ request, why }) => `${why}\n    ${JSON.stringify(request).slice(0, 600)}`);
  if (descriptors.after > descriptors.before + FD_GROWTH) wrong.push('descriptors leak');
  if (rssMegabytes.after > rssMegabytes.before + RSS_GROWTH_MB) wrong.push('memory grows');
  return wrong;
}

function shown(report: Report): string {
  const { sent, seconds, statuses, descriptors: fd, rssMegabytes: rss } = report;
  const byStatus = [...statuses]
    .sort(([a], [b]) => a - b)
    .map(([status, n]) => `${status || 'closed'}: ${n}`);
  return [
    `${sent} requests in ${seconds.toFixed(0)} s (${(sent / seconds).toFixed(0)}/s), seed ${seed}`,
    `answers       ${byStatus.join('  ')}`,
    `descriptors   ${fd.before} before, ${fd.after} after`,
    `resident      ${rss.before} MB before, ${rss.after} MB after`,
    `findings      ${report.findings.length}`,
  ].join('\n');
}

await using campaign = await Campaign.open();
const report = await campaign.run(count, seed, CORPUS);
console.log(shown(report));
const wrong = verdict(report);
for (const each of wrong.slice(0, SHOWN)) console.log(`- ${each}`);
process.exitCode = wrong.length > 0 ? 1 : 0;
