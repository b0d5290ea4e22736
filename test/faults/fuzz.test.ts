/** A short campaign of `make fuzz`: everything that it has found, and some requests more. */
import { Campaign } from '../fuzz/campaign.js';
import { CORPUS } from '../fuzz/corpus.js';

it('hostile requests to both doors are answered, and the agent keeps nothing of them', async () => {
  await using campaign = await Campaign.open();
  const { findings, descriptors } = await campaign.run(1_500, 20_261, CORPUS);
  expect(findings).toEqual([]);
  expect(descriptors.after).toBeLessThan(descriptors.before + 10);
}, 180_000);
