// A cantrip without a model: summarises the files of the folder that the intent names, as in `Summarise docs/`.
import { list } from 'cantrip:guest/list-dir@0.1.0';
import { read } from 'cantrip:guest/read-file@0.1.0';
import { log } from 'cantrip:guest/log@0.1.0';
import { summary } from './summary.js';

// A gate that fails throws; what run throws is the guest's failure.
export function run(intent) {
  const folder = intent.trim().split(/\s+/).pop().replace(/\/+$/, '');
  const files = list(folder).filter((entry) => entry.kind === 'file' && entry.name.endsWith('.md'));
  const lines = files.map(({ name }) => summary(name, read(`${folder}/${name}`, undefined, undefined)));
  log('info', `${lines.length} files read`);
  return JSON.stringify(lines.join('\n'));
}
