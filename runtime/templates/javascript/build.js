// Called by `cantrip-runtime build`: node build.js OUTPUT
import { writeFile } from 'node:fs/promises';
import { componentize } from '@bytecodealliance/componentize-js';

// Nothing of WASI is asked for: clocks, randomness and output come from the engine as far as the runtime gives them.
const { component } = await componentize({
  sourcePath: 'guest.js',
  witPath: 'wit',
  worldName: 'guest',
  disableFeatures: ['http', 'fetch-event'],
});
await writeFile(process.argv[2], component);
