import assert from 'node:assert/strict';
import test from 'node:test';
import { summary } from './summary.js';

test('the first sentence that is no heading', () => {
  assert.equal(summary('a.md', '# A\n\nOne. Two.'), 'a.md: One.');
});

test('an empty file', () => {
  assert.equal(summary('a.md', ''), 'a.md: (empty)');
});
